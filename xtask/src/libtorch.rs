//! `cargo xtask libtorch`: fetches libtorch to the user's cache, from the packages of PyTorch for Python.
//!
//! pip downloads the wheels, a script unpacks what a C++ program needs (`unpack.py`). All of it happens in a folder beside the
//! place, which is renamed at the end: what is there is whole. A lock lets a second task wait for the first.

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

/// How to go on without pip.
const BY_HAND: &str = "or unpack the official archive of libtorch from pytorch.org (C++, this version) and set LIBTORCH to its folder";

/// Environment variables, for `alexnet_libtorch`.
pub fn variable(name: &str) -> Option<OsString> {
    env::var_os(name)
}

/// What pip has to download.
#[derive(Debug, PartialEq)]
struct Download {
    packages: &'static [&'static str],
    /// Whether the packages that these require are needed too.
    requirements: bool,
    fetched_mb: u32,
    disk_mb: u32,
}

impl Download {
    /// What this operating system and processor need.
    ///
    /// # Errors
    /// When no package has it, with what to do instead.
    fn of(os: &str, arch: &str, build: Build) -> Result<Self, String> {
        // The runtime and CUPTI are named by the libraries for the processor too (see `unpack.py`).
        const LINUX: &[&str] = &["torch", "nvidia-cuda-runtime==13.0.*", "nvidia-cuda-cupti==13.0.*"];
        let download = |packages, fetched_mb, disk_mb| {
            Ok(Self { packages, requirements: build == Build::Cuda, fetched_mb, disk_mb })
        };
        match (os, arch, build) {
            ("linux", "x86_64", Build::Cpu) => download(LINUX, 540, 490),
            ("linux", "aarch64", Build::Cpu) => download(LINUX, 440, 360),
            ("linux", "x86_64" | "aarch64", Build::Cuda) => download(&["torch"], 2740, 3850),
            ("macos", "aarch64", Build::Cpu) => download(&["torch"], 111, 390),
            ("macos", _, Build::Cuda) => Err("there is no CUDA on macOS; leave out `--cuda`".into()),
            ("windows", ..) => Err(format!(
                "this task does not know Windows; unpack the official archive of libtorch {VERSION} from pytorch.org (C++, \
                 release), set LIBTORCH to its folder and add its lib\\ to PATH"
            )),
            _ => Err(format!(
                "libtorch {VERSION} is not published for {os} on {arch}; build it from source and set LIBTORCH to its folder, \
                 or use the engines `cpu` and `candle`"
            )),
        }
    }

    /// Room on the disk at the worst moment: pip copies what it has fetched, and unpacking has the wheels beside it.
    fn needed_mb(&self) -> u32 {
        self.fetched_mb + self.fetched_mb.max(self.disk_mb)
    }
}

/// The libtorch to compile with, for those who ask for it: fetched unless it is here.
///
/// # Errors
/// When a variable names one of no use, or it cannot be fetched.
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

/// Fills the cache, unless it is full.
///
/// # Errors
/// With the next step.
pub fn fetch(build: Build) -> Result<(), String> {
    let cache = cache::folder(&variable)
        .ok_or("no variable tells where your cache folder is; set HOME (on Windows LOCALAPPDATA)")?;
    if told_complete(&cache, build) {
        return Ok(());
    }
    let download = Download::of(env::consts::OS, env::consts::ARCH, build)?;
    let python = python(&variable);
    check_pip(python)?;
    fs::create_dir_all(&cache).map_err(|error| cannot("create", &cache, &error))?;
    let _lock = lock(&cache.join("lock"))?;
    // Another task may have fetched it while we waited.
    if told_complete(&cache, build) {
        return Ok(());
    }
    let copy = cache::copy(&cache, build);
    if let (true, Err(cause)) = (copy.exists(), cache::check(&copy)) {
        eprintln!("the libtorch in {} cannot be used: {cause}", copy.display());
    }
    eprintln!(
        "fetching libtorch {VERSION} for {}: about {} MB with pip, to {}, where it takes about {} MB",
        if build == Build::Cpu { "the processor" } else { "NVIDIA GPUs" },
        download.fetched_mb,
        copy.display(),
        download.disk_mb
    );
    let staging = copy.with_file_name(format!("libtorch-{VERSION}-{build}.part"));
    let fetched = clear(&staging)
        .and_then(|()| fetch_to(&staging, python, &download, build))
        .and_then(|()| clear(&copy))
        .and_then(|()| fs::rename(&staging, &copy).map_err(|error| cannot("rename", &staging, &error)));
    if fetched.is_err() {
        // Half of it is of no use, and large.
        let _ = fs::remove_dir_all(&staging);
    }
    fetched?;
    eprintln!("libtorch {VERSION} is in {}", copy.display());
    Ok(())
}

/// Says so if the cache has what is asked for. A copy for GPUs serves processors too.
fn told_complete(cache: &Path, build: Build) -> bool {
    for copy in [Build::Cuda, build].map(|build| cache::copy(cache, build)) {
        if let Ok(version) = cache::check(&copy) {
            eprintln!("libtorch {version} is complete in {}", copy.display());
            return true;
        }
    }
    false
}

/// Downloads and unpacks to `staging`, which does not exist yet.
fn fetch_to(staging: &Path, python: &str, download: &Download, build: Build) -> Result<(), String> {
    let wheels = staging.join("wheels");
    fs::create_dir_all(&wheels).map_err(|error| cannot("create", &wheels, &error))?;

    // The wheels are not for the Python that runs pip, and any recent one will do.
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
    // pip's own temporary files are as large; the usual place for such may be in memory.
    pip.env("TMPDIR", staging);
    run(pip).map_err(|cause| {
        format!(
            "pip could not fetch libtorch ({cause}; its own words are above). Without a network, try again with one, {BY_HAND}. \
             With a full disk, make room for {} MB in {}. With a pip that is too old, `{python} -m pip install --upgrade pip`",
            download.needed_mb(),
            staging.parent().unwrap_or(staging).display()
        )
    })?;

    eprintln!("unpacking what a C++ program needs of it");
    let mut unpack = Command::new(python);
    unpack.args(["-c", UNPACK]).arg(&wheels).arg(staging).arg(build.to_string());
    run(unpack).map_err(|cause| {
        format!(
            "cannot unpack libtorch to {} ({cause}); with a full disk, make room for {} MB there and try again",
            staging.display(),
            download.needed_mb()
        )
    })?;
    clear(&wheels)?;

    let torch = cache::libtorch(staging);
    let write =
        |file: PathBuf, text: String| fs::write(&file, text).map_err(|error| cannot("write", &file, &error));
    write(torch.join("build-version"), format!("{VERSION}+{build}\n"))?;
    if build == Build::Cpu && cfg!(target_os = "linux") {
        // PyTorch's own would pull in the libraries for GPUs; a linker script serves as well.
        write(torch.join("lib").join("libtorch.so"), "INPUT(libtorch_cpu.so)\n".into())?;
    }
    manifest::write(staging).map_err(|error| cannot("list", staging, &error))
}

/// Runs a command whose words all go to stderr; its failure in a few words.
fn run(mut command: Command) -> Result<(), String> {
    match command.stdin(Stdio::null()).stdout(io::stderr()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(status.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether Python and pip are here, before anything is done with them.
fn check_pip(python: &str) -> Result<(), String> {
    let lack = |what: &str, package: &str| {
        format!(
            "{what}, and pip fetches libtorch; install it (Debian and Ubuntu: `apt install {package}`), {BY_HAND}"
        )
    };
    match Command::new(python).args(["-m", "pip", "--version"]).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(_) => Err(lack(&format!("{python} has no pip"), "python3-pip")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(lack(&format!("there is no {python} in PATH"), "python3-pip"))
        }
        Err(error) => Err(format!("cannot run {python}: {error}")),
    }
}

/// Waits until no other task fetches. The system lets go of the lock when its holder ends, however it ends.
fn lock(path: &Path) -> Result<File, String> {
    let file = File::create(path).map_err(|error| cannot("create", path, &error))?;
    if file.try_lock().is_err() {
        eprintln!("waiting for another task that fetches libtorch");
        file.lock().map_err(|error| cannot("lock", path, &error))?;
    }
    Ok(file)
}

/// Removes a folder, if it is there.
fn clear(folder: &Path) -> Result<(), String> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot("remove", folder, &error)),
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
    fn each_system_gets_what_is_published_for_it_or_is_told_what_to_do() {
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
