//! `cargo xtask mpi`: finds what the feature `mpi` needs, for training on several processes, and
//! installs it: an MPI library with its compiler wrapper `mpicc` and its launcher `mpirun`, and
//! libclang.
//!
//! The build script of the crate `mpi-sys` compiles C with `mpicc` and makes bindings with bindgen,
//! which loads libclang. Both are searched here, so that what is missing is reported before the build
//! starts. bindgen looks for libclang in more places; the variable LIBCLANG_PATH names any other.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt, fs,
    path::{Path, PathBuf},
};

use crate::system::{self, first_line};

/// The folders in which libclang is searched, up to [`DEPTH`] levels deep.
const FOLDERS: [&str; 7] = [
    "/usr/local/lib64",
    "/usr/local/lib",
    "/usr/lib64",
    "/usr/lib",
    // macOS
    "/usr/local/opt/llvm/lib",
    "/Library/Developer/CommandLineTools/usr/lib",
    "/Applications/Xcode.app/Contents/Developer/Toolchains/XcodeDefault.xctoolchain/usr/lib",
];

/// Reaches such folders as `/usr/lib/llvm-14/lib` and `/usr/lib/x86_64-linux-gnu`.
const DEPTH: usize = 2;

/// How to install without this task.
const BY_HAND: &str = "install an MPI library (such as Open MPI) with `mpicc` and `mpirun`, and libclang (or set LIBCLANG_PATH to its folder)";

/// An MPI library and libclang.
#[derive(Debug, PartialEq)]
pub struct Mpi {
    /// The version of `mpirun`.
    version: String,
    /// The folder of libclang.
    libclang: PathBuf,
}

/// A part of what the feature `mpi` needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part {
    Compiler,
    Launcher,
    Libclang,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            // Debian's `mpicc` and the header are in different packages.
            Part::Compiler => "`mpicc` with mpi.h",
            Part::Launcher => "`mpirun`",
            Part::Libclang => "libclang",
        }
    }

    /// Returns the environment variable with the path of this part. If it is set, the build uses no
    /// other.
    fn variable(self) -> Option<&'static str> {
        match self {
            Part::Compiler => Some("MPICC"),
            Part::Launcher => None,
            Part::Libclang => Some("LIBCLANG_PATH"),
        }
    }
}

/// Why the feature `mpi` cannot be used.
#[derive(Debug, PartialEq)]
pub enum Problem {
    /// These parts are not installed.
    Missing(Vec<Part>),
    /// The variable of this part has a value where the part is not found.
    Variable(Part, OsString),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(parts) => {
                write!(f, "missing: {}; run `cargo xtask mpi`, or {BY_HAND}", names(parts))
            }
            Self::Variable(part, value) => write!(
                f,
                "{} is {}, but {} is not found there; correct or unset it",
                part.variable().unwrap_or_default(),
                value.display(),
                part.name()
            ),
        }
    }
}

fn names(parts: &[Part]) -> String {
    parts.iter().map(|part| part.name()).collect::<Vec<_>>().join(", ")
}

/// Finds the MPI library and libclang that a build with the feature `mpi` uses.
///
/// # Errors
/// If a part is missing. The message names it and the next step.
pub fn find() -> Result<Mpi, Problem> {
    let variable = |name: &str| env::var_os(name);
    Machine { variable: &variable, output: &system::output, folders: &FOLDERS.map(Path::new) }
        .find()
}

/// Returns whether tests can use MPI. If not, prints that they are skipped, unless `is_required` is
/// true or the variable ALEXNET_REQUIRE_MPI is 1.
///
/// # Errors
/// If MPI is required but a part is missing.
pub fn is_usable_in_tests(is_required: bool) -> Result<bool, String> {
    let variable = env::var_os("ALEXNET_REQUIRE_MPI");
    is_used(find(), is_required || variable.is_some_and(|value| value == "1"))
}

fn is_used(found: Result<Mpi, Problem>, is_required: bool) -> Result<bool, String> {
    match found {
        Ok(_) => Ok(true),
        Err(problem) if is_required => Err(format!("the tests need MPI; {problem}")),
        Err(_) => {
            eprintln!("skipped: no MPI (install it with `cargo xtask mpi`)");
            Ok(false)
        }
    }
}

/// Installs what is missing, and prints what is there.
///
/// # Errors
/// If something cannot be installed. The message names the next step.
pub fn install() -> Result<(), String> {
    let mut found = find();
    if let Err(Problem::Missing(parts)) = &found {
        if !system::has_apt() {
            return Err(format!("missing: {}; {BY_HAND}", names(parts)));
        }
        system::install_debian_packages(&packages(parts), BY_HAND)?;
        found = find();
    }
    let Mpi { version, libclang } = found.map_err(|problem| match problem {
        Problem::Missing(parts) => {
            format!(
                "the packages are installed, but not found: {}; is /usr/bin in PATH?",
                names(&parts)
            )
        }
        problem @ Problem::Variable(..) => problem.to_string(),
    })?;
    eprintln!("{version}; libclang in {}", libclang.display());
    Ok(())
}

/// Returns the Debian packages with the missing parts.
fn packages(missing: &[Part]) -> Vec<&'static str> {
    let mut packages = Vec::new();
    // `mpicc` and `mpirun` must belong to the same MPI library.
    if missing.contains(&Part::Compiler) || missing.contains(&Part::Launcher) {
        packages.extend(["openmpi-bin", "libopenmpi-dev"]);
    }
    if missing.contains(&Part::Libclang) {
        packages.push("libclang-dev");
    }
    packages
}

/// A machine on which MPI and libclang are searched.
struct Machine<'a> {
    /// Returns the value of an environment variable.
    variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// Returns the output of a program, or `None` if it cannot be run or fails.
    output: &'a dyn Fn(&OsStr, &[&str]) -> Option<String>,
    /// The folders in which libclang is searched, up to [`DEPTH`] levels deep.
    folders: &'a [&'a Path],
}

impl Machine<'_> {
    fn find(&self) -> Result<Mpi, Problem> {
        let (compiles, version, libclang) =
            (self.compiles_mpi(), self.version_of_launcher(), self.libclang());
        if let (true, Some(version), Some(libclang)) = (compiles, &version, &libclang) {
            return Ok(Mpi { version: version.clone(), libclang: libclang.clone() });
        }
        let parts = [
            (Part::Compiler, compiles),
            (Part::Launcher, version.is_some()),
            (Part::Libclang, libclang.is_some()),
        ];
        let missing: Vec<_> =
            parts.into_iter().filter(|(_, is_found)| !is_found).map(|(part, _)| part).collect();
        let wrong = missing
            .iter()
            .find_map(|part| Some(Problem::Variable(*part, (self.variable)(part.variable()?)?)));
        Err(wrong.unwrap_or(Problem::Missing(missing)))
    }

    /// Returns whether the compiler wrapper can be run and finds the header of MPI.
    fn compiles_mpi(&self) -> bool {
        let compiler = (self.variable)("MPICC").unwrap_or_else(|| "mpicc".into());
        (self.output)(&compiler, &["-E", "-include", "mpi.h", "-x", "c", "/dev/null"]).is_some()
    }

    /// Returns the first line of `mpirun --version`.
    fn version_of_launcher(&self) -> Option<String> {
        (self.output)("mpirun".as_ref(), &["--version"]).map(|text| first_line(&text).to_owned())
    }

    /// Returns the folder of libclang.
    fn libclang(&self) -> Option<PathBuf> {
        if let Some(path) = (self.variable)("LIBCLANG_PATH") {
            let path = Path::new(&path);
            return search(if is_libclang(path) { path.parent()? } else { path }, 0);
        }
        self.folders.iter().find_map(|folder| search(folder, DEPTH))
    }
}

/// Returns the first folder that contains libclang: `folder`, or one that is at most `depth` levels
/// below it.
fn search(folder: &Path, depth: usize) -> Option<PathBuf> {
    let entries: Vec<_> = fs::read_dir(folder).ok()?.flatten().collect();
    if entries.iter().any(|entry| is_libclang(&entry.path())) {
        return Some(folder.to_owned());
    }
    let is_file = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_file());
    let below = (depth > 0).then(|| entries.iter().filter(|entry| !is_file(entry)));
    below.into_iter().flatten().find_map(|entry| search(&entry.path(), depth - 1))
}

/// Returns whether a file is the dynamic library libclang, such as `libclang.so`,
/// `libclang-14.so.1` or `libclang.dylib`.
fn is_libclang(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()?.strip_prefix("libclang"));
    // `libclang-cpp.so` is the library for programs in C++.
    let rest = name
        .unwrap_or_default()
        .trim_start_matches(|c: char| c.is_ascii_digit() || "-.".contains(c));
    // The path can be a link to a file that has been removed.
    matches!(rest.split('.').next(), Some("so" | "dylib")) && path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: &str = "mpirun (Open MPI) 4.1.4";

    /// Writes empty files, with their folders.
    fn write(root: &Path, files: &[&str]) {
        for file in files {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
    }

    /// Searches on a machine that has only these programs, each with its output, and the folder
    /// `root`.
    fn find_with(
        programs: &[(&str, &str)],
        variables: &[(&str, &Path)],
        root: &Path,
    ) -> Result<Mpi, Problem> {
        let variable = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into())
        };
        let output = |program: &OsStr, _: &[&str]| {
            programs.iter().find(|(name, _)| *name == program).map(|(_, text)| (*text).to_owned())
        };
        Machine { variable: &variable, output: &output, folders: &[root] }.find()
    }

    const PROGRAMS: [(&str, &str); 2] =
        [("mpicc", "typedef int MPI_Datatype;"), ("mpirun", "mpirun (Open MPI) 4.1.4\n\nReport")];

    #[test]
    fn each_missing_part_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let missing = |programs: &[(&str, &str)]| find_with(programs, &[], root).unwrap_err();
        let all = [Part::Compiler, Part::Launcher, Part::Libclang];
        assert_eq!(missing(&[]), Problem::Missing(all.to_vec()));
        assert_eq!(missing(&PROGRAMS[..1]), Problem::Missing(all[1..].to_vec()));
        assert_eq!(missing(&PROGRAMS), Problem::Missing(vec![Part::Libclang]));
        let message = missing(&PROGRAMS[1..]).to_string();
        assert!(
            message.starts_with(
                "missing: `mpicc` with mpi.h, libclang; run `cargo xtask mpi`, or install"
            ),
            "{message}"
        );
        write(root, &["llvm-14/lib/libclang.so"]);
        let libclang = root.join("llvm-14/lib");
        assert_eq!(find_with(&PROGRAMS, &[], root), Ok(Mpi { version: VERSION.into(), libclang }));
        assert_eq!(missing(&PROGRAMS[1..]), Problem::Missing(vec![Part::Compiler]));
    }

    #[test]
    fn variables_replace_the_search() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write(root, &["usr/libclang.so", "mine/libclang-17.so.1", "empty/libclang-cpp.so.17"]);
        let usr = root.join("usr");
        let find = |variables: &[(&str, &Path)]| find_with(&PROGRAMS, variables, &usr);
        let mine = Mpi { version: VERSION.into(), libclang: root.join("mine") };
        for path in ["mine", "mine/libclang-17.so.1"] {
            assert_eq!(find(&[("LIBCLANG_PATH", &root.join(path))]).as_ref(), Ok(&mine), "{path}");
        }
        for path in ["empty", "empty/libclang-cpp.so.17", "none"] {
            let problem = find(&[("LIBCLANG_PATH", &root.join(path))]).unwrap_err();
            let message = problem.to_string();
            assert!(message.starts_with("LIBCLANG_PATH is "), "{message}");
            assert!(message.ends_with(&format!(
                "{path}, but libclang is not found there; correct or unset it"
            )));
        }
        assert!(find(&[("MPICC", Path::new("mpicc"))]).is_ok());
        let problem = find(&[("MPICC", Path::new("/opt/mpicc"))]).unwrap_err();
        assert_eq!(problem, Problem::Variable(Part::Compiler, "/opt/mpicc".into()));
    }

    #[test]
    fn libclang_is_searched_in_folders_of_llvm_and_of_processors() {
        for (file, is_found) in [
            ("libclang.so", true),
            ("libclang.so.13", true),
            ("libclang.dylib", true),
            ("x86_64-linux-gnu/libclang-14.so.14.0.6", true),
            ("llvm-3.9/lib/libclang-3.9.so", true),
            ("a/b/c/libclang.so", false),
            ("libclang-cpp.so.14", false),
            ("libclang-cpp.dylib", false),
            ("libclang.a", false),
            ("libclangAST.so", false),
            ("libclang.socket", false),
            ("libclang-14.so/file", false),
        ] {
            let folder = tempfile::tempdir().unwrap();
            write(folder.path(), &[file, "python3/dist-packages/libc.so"]);
            let expected = folder.path().join(file).parent().unwrap().to_owned();
            assert_eq!(search(folder.path(), DEPTH), is_found.then_some(expected), "{file}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_removed_libclang_is_not_libclang() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("libclang.so");
        std::os::unix::fs::symlink(folder.path().join("libclang.so.1"), &link).unwrap();
        assert!(!is_libclang(&link));
        write(folder.path(), &["libclang.so.1"]);
        assert!(is_libclang(&link));
    }

    #[test]
    fn packages_are_those_of_the_missing_parts() {
        let mpi = ["openmpi-bin", "libopenmpi-dev"];
        assert_eq!(packages(&[Part::Compiler]), mpi);
        assert_eq!(packages(&[Part::Launcher]), mpi);
        assert_eq!(packages(&[Part::Libclang]), ["libclang-dev"]);
        assert_eq!(
            packages(&[Part::Compiler, Part::Launcher, Part::Libclang]),
            ["openmpi-bin", "libopenmpi-dev", "libclang-dev"]
        );
    }

    #[test]
    fn tests_without_mpi_fail_only_if_it_is_required() {
        let found = || Ok(Mpi { version: VERSION.into(), libclang: "/usr/lib".into() });
        let missing = || Err(Problem::Missing(vec![Part::Launcher]));
        for is_required in [false, true] {
            assert_eq!(is_used(found(), is_required), Ok(true));
        }
        assert_eq!(is_used(missing(), false), Ok(false));
        let error = is_used(missing(), true).unwrap_err();
        assert!(error.contains("missing: `mpirun`; run `cargo xtask mpi`"), "{error}");
    }
}
