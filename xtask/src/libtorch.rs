//! `cargo xtask libtorch`: downloads libtorch to the user's cache, from PyTorch's packages for
//! Python.
//!
//! pip downloads the wheels, and the script `unpack.py` unpacks the files that a C++ program needs.
//! Both work in a temporary folder, which is renamed at the end, so a copy in the cache is always
//! complete. A file lock makes a second task wait for the first.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use alexnet_libtorch::{
    Libtorch, Problem, Source, VERSION,
    cache::{self, Build},
    find, manifest, python,
};

const UNPACK: &str = include_str!("unpack.py");

/// The alternative if pip cannot be used.
const BY_HAND: &str = "or unpack the official archive of libtorch from pytorch.org (C++, this version) and set LIBTORCH to its folder";

/// Returns the value of an environment variable, for the functions of `alexnet_libtorch`.
pub fn variable(name: &str) -> Option<OsString> {
    env::var_os(name)
}

/// The packages that pip downloads.
#[derive(Debug, PartialEq)]
struct Download {
    packages: &'static [&'static str],
    /// Whether the dependencies of these packages are needed too.
    requirements: bool,
    /// The size of the download.
    fetched_mb: u32,
    /// The size of the unpacked libtorch.
    disk_mb: u32,
}

impl Download {
    /// Returns the download for an operating system and processor.
    ///
    /// # Errors
    /// If there is no package for it. The message names an alternative.
    fn of(os: &str, arch: &str, build: Build) -> Result<Self, String> {
        // The libraries for the CPU are linked with the CUDA runtime and CUPTI too (see
        // `unpack.py`).
        const LINUX: &[&str] =
            &["torch", "nvidia-cuda-runtime==13.0.*", "nvidia-cuda-cupti==13.0.*"];
        let download = |packages, fetched_mb, disk_mb| {
            Ok(Self { packages, requirements: build == Build::Cuda, fetched_mb, disk_mb })
        };
        match (os, arch, build) {
            ("linux", "x86_64", Build::Cpu) => download(LINUX, 540, 490),
            ("linux", "aarch64", Build::Cpu) => download(LINUX, 440, 360),
            ("linux", "x86_64" | "aarch64", Build::Cuda) => download(&["torch"], 2740, 3850),
            ("macos", "aarch64", Build::Cpu) => download(&["torch"], 111, 390),
            ("macos", _, Build::Cuda) => {
                Err("there is no CUDA on macOS; leave out `--cuda`".into())
            }
            ("windows", ..) => Err(format!(
                "this task does not support Windows; unpack the official archive of libtorch {VERSION} from pytorch.org (C++, \
                 release), set LIBTORCH to its folder and add its lib\\ to PATH"
            )),
            _ => Err(format!(
                "libtorch {VERSION} is not published for {os} on {arch}; build it from source and set LIBTORCH to its folder, \
                 or use the engines `cpu` and `candle`"
            )),
        }
    }

    /// Returns the largest disk space that is needed at any time: the downloaded wheels and, in
    /// addition, pip's copy of them or the unpacked files.
    fn needed_mb(&self) -> u32 {
        self.fetched_mb + self.fetched_mb.max(self.disk_mb)
    }
}

/// Returns the libtorch to link with. Downloads it if it is missing.
///
/// # Errors
/// If a variable names a libtorch that cannot be used, or it cannot be downloaded.
pub fn ensure(build: Build) -> Result<Libtorch, String> {
    let missing = match find(&variable) {
        Ok(found) => match found.source {
            Source::Cache(Build::Cpu) if build == Build::Cuda => build,
            _ => return Ok(found),
        },
        Err(Problem::Unusable { source: Source::Cache(broken), .. }) => broken,
        Err(problem) if problem.is_fixed_by_fetching() => build,
        Err(problem) => return Err(problem.to_string()),
    };
    fetch(missing)?;
    find(&variable).map_err(|problem| problem.to_string())
}

/// Downloads libtorch to the cache, unless the cache has a complete copy.
///
/// # Errors
/// If it cannot be downloaded or unpacked. The message names the next step.
pub fn fetch(build: Build) -> Result<(), String> {
    let cache = cache::folder(&variable)
        .ok_or("your cache folder is unknown; set HOME (on Windows LOCALAPPDATA)")?;
    if note_complete(&cache, build) {
        return Ok(());
    }
    let download = Download::of(env::consts::OS, env::consts::ARCH, build)?;
    let python = python(&variable);
    check_pip(python)?;
    fs::create_dir_all(&cache).map_err(|error| cannot("create", &cache, &error))?;
    let _lock = lock(&cache.join("lock"))?;
    // Another task may have downloaded it while this one waited for the lock.
    if note_complete(&cache, build) {
        return Ok(());
    }
    let copy = cache::copy(&cache, build);
    if let (true, Err(cause)) = (copy.exists(), cache::check(&copy)) {
        eprintln!("the libtorch in {} cannot be used: {cause}", copy.display());
    }
    eprintln!(
        "downloading libtorch {VERSION} for {}: about {} MB with pip, to {}, where it takes about {} MB",
        if build == Build::Cpu { "the processor" } else { "NVIDIA GPUs" },
        download.fetched_mb,
        copy.display(),
        download.disk_mb
    );
    let staging = copy.with_file_name(format!("libtorch-{VERSION}-{build}.part"));
    let fetched = clear(&staging)
        .and_then(|()| fetch_to(&staging, python, &download, build))
        .and_then(|()| clear(&copy))
        .and_then(|()| {
            fs::rename(&staging, &copy).map_err(|error| cannot("rename", &staging, &error))
        });
    if fetched.is_err() {
        // The incomplete files are large and cannot be used.
        let _ = fs::remove_dir_all(&staging);
    }
    fetched?;
    eprintln!("libtorch {VERSION} is in {}", copy.display());
    Ok(())
}

/// Returns whether the cache has a complete copy, and prints its path. A copy for GPUs also works
/// on CPUs.
fn note_complete(cache: &Path, build: Build) -> bool {
    for copy in [Build::Cuda, build].map(|build| cache::copy(cache, build)) {
        if let Ok(version) = cache::check(&copy) {
            eprintln!("libtorch {version} is complete in {}", copy.display());
            return true;
        }
    }
    false
}

/// Downloads and unpacks to `staging`, which must not exist.
fn fetch_to(staging: &Path, python: &str, download: &Download, build: Build) -> Result<(), String> {
    let wheels = staging.join("wheels");
    fs::create_dir_all(&wheels).map_err(|error| cannot("create", &wheels, &error))?;

    // The wheels are not installed, so they need not match the Python that runs pip; any recent
    // version works.
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "download", "--disable-pip-version-check", "--only-binary=:all:"]);
    pip.args(["--python-version", "3.12"]).arg("--dest").arg(&wheels);
    if !download.requirements {
        pip.arg("--no-deps");
    }
    pip.args(download.packages.iter().map(|package| match *package {
        "torch" => format!("torch=={VERSION}"),
        other => other.to_owned(),
    }));
    // pip's temporary files are as large as the download, and the default folder for them may be in
    // memory.
    pip.env("TMPDIR", staging);
    run(pip).map_err(|cause| {
        format!(
            "pip could not download libtorch ({cause}; its message is above). If the network failed, try again, {BY_HAND}. \
             If the disk is full, free {} MB in {}. If pip is too old, run `{python} -m pip install --upgrade pip`",
            download.needed_mb(),
            staging.parent().unwrap_or(staging).display()
        )
    })?;

    eprintln!("unpacking the headers and libraries");
    let mut unpack = Command::new(python);
    unpack.args(["-c", UNPACK]).arg(&wheels).arg(staging).arg(build.to_string());
    run(unpack).map_err(|cause| {
        format!(
            "cannot unpack libtorch to {} ({cause}); if the disk is full, free {} MB there and try again",
            staging.display(),
            download.needed_mb()
        )
    })?;
    clear(&wheels)?;

    let torch = cache::libtorch(staging);
    let write = |file: PathBuf, text: String| {
        fs::write(&file, text).map_err(|error| cannot("write", &file, &error))
    };
    write(torch.join("build-version"), format!("{VERSION}+{build}\n"))?;
    if build == Build::Cpu && cfg!(target_os = "linux") {
        // The libtorch.so of PyTorch is linked with the libraries for GPUs; this linker script
        // replaces it.
        write(torch.join("lib").join("libtorch.so"), "INPUT(libtorch_cpu.so)\n".into())?;
    }
    manifest::write(staging).map_err(|error| cannot("list", staging, &error))
}

/// Runs a command with its output on stderr. The error is its exit status, or why it could not be
/// started.
fn run(mut command: Command) -> Result<(), String> {
    match command.stdin(Stdio::null()).stdout(io::stderr()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(status.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Checks that Python and pip are installed.
fn check_pip(python: &str) -> Result<(), String> {
    let missing = |what: &str, package: &str| {
        format!(
            "{what}, and pip is needed to download libtorch; install it (Debian and Ubuntu: `apt install {package}`), {BY_HAND}"
        )
    };
    match Command::new(python).args(["-m", "pip", "--version"]).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(_) => Err(missing(&format!("{python} has no pip"), "python3-pip")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(missing(&format!("there is no {python} in PATH"), "python3-pip"))
        }
        Err(error) => Err(format!("cannot run {python}: {error}")),
    }
}

/// Waits until no other task downloads. The system releases the lock when its process ends, even if
/// the process is killed.
fn lock(path: &Path) -> Result<File, String> {
    let file = File::create(path).map_err(|error| cannot("create", path, &error))?;
    if file.try_lock().is_err() {
        eprintln!("waiting for another task that downloads libtorch");
        file.lock().map_err(|error| cannot("lock", path, &error))?;
    }
    Ok(file)
}

/// Removes a folder, if it exists.
fn clear(folder: &Path) -> Result<(), String> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(cannot("remove", folder, &error))
        }
        _ => Ok(()),
    }
}

fn cannot(verb: &str, path: &Path, error: &io::Error) -> String {
    format!("cannot {verb} {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_system_gets_its_packages_or_an_error_with_an_alternative() {
        let cpu = Download::of("linux", "x86_64", Build::Cpu).unwrap();
        assert!(cpu.packages.contains(&"nvidia-cuda-cupti==13.0.*") && !cpu.requirements);
        assert!(Download::of("linux", "aarch64", Build::Cuda).unwrap().requirements);
        assert_eq!(Download::of("macos", "aarch64", Build::Cpu).unwrap().packages, ["torch"]);
        for (os, arch, build, next) in [
            ("macos", "aarch64", Build::Cuda, "leave out `--cuda`"),
            ("macos", "x86_64", Build::Cpu, "set LIBTORCH"),
            ("windows", "x86_64", Build::Cpu, "set LIBTORCH"),
            ("linux", "riscv64", Build::Cpu, "set LIBTORCH"),
        ] {
            let error = Download::of(os, arch, build).unwrap_err();
            assert!(error.contains(next), "{error}");
        }
    }
}
