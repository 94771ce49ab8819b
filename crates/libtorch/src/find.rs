//! Searches libtorch: in the folders that environment variables name, else in the project's cache.

use std::{
    env::consts::{DLL_PREFIX, DLL_SUFFIX},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Cause, Problem, Variable,
    cache::{self, Build},
    version,
};

/// A complete libtorch of the right version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Libtorch {
    /// How it was found.
    pub source: Source,
    /// The absolute path of the folder with `include` and `lib`.
    pub folder: PathBuf,
    /// The version, such as `2.13.0+cpu`.
    pub version: String,
}

impl Libtorch {
    /// Whether it supports NVIDIA GPUs.
    pub fn has_cuda(&self) -> bool {
        self.folder.join("lib").join(library("torch_cuda")).exists()
    }
}

/// The source of a libtorch, in the order of the search. `LIBTORCH_USE_PYTORCH` is first, as in
/// torch-sys, which compiles against the libtorch that is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `LIBTORCH_USE_PYTORCH` is set: the PyTorch of [`python`].
    PyTorch,
    /// `LIBTORCH` names the folder.
    Libtorch,
    /// The project's [`cache`].
    Cache(Build),
}

/// Searches libtorch by `LIBTORCH_USE_PYTORCH`, by `LIBTORCH` and in the cache, in this order. If a
/// variable names an unusable libtorch, this is an error, so that a mistake is not hidden. In the
/// cache, a build for GPUs is preferred, since it also supports CPUs.
///
/// # Errors
/// When there is no libtorch, or none that can be used.
pub fn find(variable: Variable) -> Result<Libtorch, Problem> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    // torch-sys uses PyTorch even if the value is empty.
    if variable("LIBTORCH_USE_PYTORCH").is_some() {
        let folder = pytorch(python(variable))?;
        return named(Source::PyTorch, folder, variable);
    }
    if let Some(folder) = set("LIBTORCH") {
        return named(Source::Libtorch, absolute(folder.into()), variable);
    }
    let cache = cache::folder(variable);
    let mut problem = Problem::NotFound { cache: cache.clone() };
    for build in [Build::Cuda, Build::Cpu] {
        let Some(copy) =
            cache.as_ref().map(|folder| cache::copy(folder, build)).filter(|copy| copy.exists())
        else {
            continue;
        };
        let source = Source::Cache(build);
        match cache::check(&copy) {
            Ok(version) => return Ok(Libtorch { source, folder: cache::libtorch(&copy), version }),
            Err(cause) => problem = Problem::Unusable { source, folder: copy, cause },
        }
    }
    Err(problem)
}

/// Checks the libtorch that a variable names. There is no list of its files, so only the most
/// important ones are checked.
fn named(source: Source, folder: PathBuf, variable: Variable) -> Result<Libtorch, Problem> {
    // Linux distributions may install headers and libraries in different folders; PyTorch does not.
    let part = |name: &str| match variable(name) {
        Some(part) if source == Source::Libtorch => absolute(part.into()),
        _ => folder.clone(),
    };
    let lib = part("LIBTORCH_LIB").join("lib");
    let mut needed =
        vec![part("LIBTORCH_INCLUDE").join("include/torch/csrc/api/include/torch/torch.h")];
    needed.extend(["torch", "torch_cpu", "c10"].map(|name| lib.join(library(name))));
    let missing = needed.into_iter().find(|file| !file.exists());
    let version = match missing {
        Some(file) => {
            Err(Cause::Missing(file.strip_prefix(&folder).map(Path::to_owned).unwrap_or(file)))
        }
        None => version::of(&folder),
    };
    let version = match version {
        Err(Cause::Version(found)) if variable("LIBTORCH_BYPASS_VERSION_CHECK").is_some() => {
            Ok(found)
        }
        other => other,
    };
    match version {
        Ok(version) => Ok(Libtorch { source, folder, version }),
        Err(cause) => Err(Problem::Unusable { source, folder, cause }),
    }
}

/// Returns the folder of the PyTorch that `python` would import. It is not imported, since that
/// takes seconds.
fn pytorch(python: &'static str) -> Result<PathBuf, Problem> {
    const FOLDER: &str =
        "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])";
    let problem = |answer: String| Problem::NoPyTorch { python, answer };
    let output = Command::new(python)
        .args(["-c", FOLDER])
        .output()
        .map_err(|error| problem(error.to_string()))?;
    let [out, err] =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).trim().to_owned());
    if output.status.success() {
        return Ok(absolute(out.into()));
    }
    // `find_spec` returns None for a package that is not installed, so the access to its attribute
    // fails.
    let last = err.lines().last().unwrap_or_default();
    Err(problem(if last.contains("NoneType") {
        "torch is not installed".into()
    } else {
        last.to_owned()
    }))
}

/// Returns the Python that torch-sys uses: that of the active virtual environment, else that of the
/// system.
pub fn python(variable: Variable) -> &'static str {
    match () {
        () if cfg!(windows) => "python.exe",
        () if variable("VIRTUAL_ENV").is_some() => "python",
        () => "python3",
    }
}

fn library(name: &str) -> String {
    format!("{DLL_PREFIX}{name}{DLL_SUFFIX}")
}

/// Makes a path absolute, since build scripts run in other folders.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, fs};

    use super::*;
    use crate::{VERSION, manifest};

    /// A test environment with a cache folder and variables.
    struct Environment {
        root: tempfile::TempDir,
        variables: Vec<(&'static str, OsString)>,
    }

    impl Environment {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let home =
                ["HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"].map(|name| (name, root.path().into()));
            Self { variables: home.to_vec(), root }
        }

        fn set(&mut self, name: &'static str, value: impl Into<OsString>) {
            self.variables.retain(|(key, _)| *key != name);
            self.variables.push((name, value.into()));
        }

        fn variable(&self, name: &str) -> Option<OsString> {
            self.variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone())
        }

        fn find(&self) -> Result<Libtorch, Problem> {
            find(&|name| self.variable(name))
        }

        fn path(&self, name: &str) -> PathBuf {
            self.root.path().join(name)
        }

        fn cached(&self, build: Build) -> PathBuf {
            let copy = cache::copy(&cache::folder(&|name| self.variable(name)).unwrap(), build);
            make(&cache::libtorch(&copy), &format!("{VERSION}+{build}"));
            manifest::write(&copy).unwrap();
            copy
        }
    }

    /// Creates the files of a fake libtorch.
    fn make(folder: &Path, version: &str) {
        let api = folder.join("include/torch/csrc/api/include/torch");
        fs::create_dir_all(&api).unwrap();
        fs::write(api.join("torch.h"), "#pragma once").unwrap();
        fs::create_dir_all(folder.join("lib")).unwrap();
        for name in ["torch", "torch_cpu", "c10"] {
            fs::write(folder.join("lib").join(library(name)), "ELF").unwrap();
        }
        fs::write(folder.join("build-version"), version).unwrap();
    }

    #[test]
    fn without_a_libtorch_the_message_says_how_to_fetch_it() {
        let environment = Environment::new();
        let problem = environment.find().unwrap_err();
        assert!(problem.is_fixed_by_fetching());
        let text = problem.to_string();
        assert!(text.starts_with("there is no libtorch 2.13.0 in "), "{text}");
        assert!(text.contains("alexnet; `cargo xtask libtorch` fetches it"), "{text}");
        let no_cache = find(&|_| None).unwrap_err();
        assert_eq!(no_cache, Problem::NotFound { cache: None });
        assert!(!no_cache.is_fixed_by_fetching());
    }

    #[test]
    fn the_cache_is_found_and_the_build_for_gpus_is_preferred() {
        let environment = Environment::new();
        let cpu = environment.cached(Build::Cpu);
        let found = environment.find().unwrap();
        assert_eq!(found.source, Source::Cache(Build::Cpu));
        assert_eq!((found.folder, found.version.as_str()), (cpu.join("torch"), "2.13.0+cpu"));
        let cuda = environment.cached(Build::Cuda);
        assert_eq!(environment.find().unwrap().source, Source::Cache(Build::Cuda));
        // A damaged copy does not hide a complete one.
        fs::remove_file(cuda.join(manifest::FILE)).unwrap();
        assert_eq!(environment.find().unwrap().source, Source::Cache(Build::Cpu));
        fs::remove_dir_all(cpu).unwrap();
        let text = environment.find().unwrap_err().to_string();
        assert!(
            text.ends_with(
                "manifest.txt is missing or truncated; `cargo xtask libtorch` with its option for CUDA fetches it again"
            ),
            "{text}"
        );
    }

    #[test]
    fn an_incomplete_copy_is_detected() {
        let environment = Environment::new();
        let copy = environment.cached(Build::Cpu);
        let library = copy.join("torch/lib").join(library("torch_cpu"));
        fs::write(&library, "E").unwrap();
        let problem = environment.find().unwrap_err();
        assert!(problem.is_fixed_by_fetching());
        let text = problem.to_string();
        assert!(
            text.contains("has 1 bytes instead of 3; `cargo xtask libtorch` fetches it again"),
            "{text}"
        );
        assert!(text.contains(&format!("the libtorch in {} cannot", copy.display())), "{text}");
        fs::remove_file(&library).unwrap();
        assert!(environment.find().unwrap_err().to_string().contains("is missing"));
    }

    #[test]
    fn a_variable_has_priority_over_the_cache_even_if_it_is_wrong() {
        let mut environment = Environment::new();
        environment.cached(Build::Cpu);
        let folder = environment.path("own");
        environment.set("LIBTORCH", &folder);
        let problem = environment.find().unwrap_err();
        assert!(!problem.is_fixed_by_fetching());
        let text = problem.to_string();
        assert!(
            text.starts_with(&format!("LIBTORCH is {}, which cannot", folder.display())),
            "{text}"
        );
        assert!(text.contains("torch.h is missing") && text.contains("unset it"), "{text}");

        make(&folder, "2.13.0+cu130");
        let found = environment.find().unwrap();
        assert_eq!((found.source, &found.folder), (Source::Libtorch, &folder));
        assert!(!found.has_cuda());
        fs::write(folder.join("lib").join(library("torch_cuda")), "ELF").unwrap();
        assert!(found.has_cuda());

        environment.set("LIBTORCH", "");
        assert_eq!(environment.find().unwrap().source, Source::Cache(Build::Cpu));
    }

    #[test]
    fn another_version_is_refused_unless_the_check_is_bypassed() {
        let mut environment = Environment::new();
        let folder = environment.path("old");
        make(&folder, "2.5.1+cpu\n");
        environment.set("LIBTORCH", &folder);
        let text = environment.find().unwrap_err().to_string();
        assert!(
            text.contains("it is version 2.5.1+cpu, but 2.13.0 is needed; set it to"),
            "{text}"
        );
        environment.set("LIBTORCH_BYPASS_VERSION_CHECK", "1");
        assert_eq!(environment.find().unwrap().version, "2.5.1+cpu");
    }

    #[test]
    fn headers_and_libraries_may_be_in_different_folders() {
        let mut environment = Environment::new();
        make(&environment.path("all"), VERSION);
        fs::create_dir(environment.path("headers")).unwrap();
        fs::create_dir(environment.path("libraries")).unwrap();
        fs::rename(environment.path("all/include"), environment.path("headers/include")).unwrap();
        fs::rename(environment.path("all/lib"), environment.path("libraries/lib")).unwrap();
        environment.set("LIBTORCH", environment.path("all"));
        assert!(environment.find().is_err());
        environment.set("LIBTORCH_INCLUDE", environment.path("headers"));
        environment.set("LIBTORCH_LIB", environment.path("libraries"));
        assert_eq!(environment.find().unwrap().folder, environment.path("all"));
    }

    #[test]
    fn a_missing_pytorch_is_reported() {
        let problem = pytorch("no-such-python").unwrap_err();
        assert!(!problem.is_fixed_by_fetching());
        let text = problem.to_string();
        assert!(
            text.starts_with("LIBTORCH_USE_PYTORCH is set, but no-such-python has no PyTorch ("),
            "{text}"
        );
    }

    #[test]
    fn an_active_virtual_environment_has_its_own_python() {
        if cfg!(unix) {
            assert_eq!(python(&|_| None), "python3");
            assert_eq!(python(&|name| (name == "VIRTUAL_ENV").then(|| "/venv".into())), "python");
        }
    }
}
