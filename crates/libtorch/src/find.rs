//! The search: what the user names, else the project's cache.

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

/// A libtorch that is whole and of the right version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Libtorch {
    /// Who named it.
    pub source: Source,
    /// The folder with `include` and `lib`, absolute.
    pub folder: PathBuf,
    /// Such as `2.13.0+cpu`.
    pub version: String,
}

impl Libtorch {
    /// Whether it can compute on NVIDIA GPUs.
    pub fn has_cuda(&self) -> bool {
        self.folder.join("lib").join(library("torch_cuda")).exists()
    }
}

/// Where a libtorch comes from, in the order of the search. An installation of PyTorch that is asked for goes first because
/// torch-sys, which compiles against what we find, asks in this order too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `LIBTORCH_USE_PYTORCH` is set: the PyTorch of [`python`].
    PyTorch,
    /// `LIBTORCH` names the folder.
    Libtorch,
    /// The project's [`cache`].
    Cache(Build),
}

/// Looks for libtorch where `LIBTORCH_USE_PYTORCH`, `LIBTORCH` and the cache lead, in this order. What a variable names is
/// not passed over if it is of no use: that would hide a mistake. In the cache a build for GPUs goes first, since it
/// computes on processors too.
///
/// # Errors
/// When there is none, or none that can be used.
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
        let Some(copy) = cache.as_ref().map(|folder| cache::copy(folder, build)).filter(|copy| copy.exists())
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

/// What a variable leads to: nobody listed its files, so only the ones that matter are looked for.
fn named(source: Source, folder: PathBuf, variable: Variable) -> Result<Libtorch, Problem> {
    // Distributions keep headers and libraries apart; PyTorch does not.
    let part = |name: &str| match variable(name) {
        Some(part) if source == Source::Libtorch => absolute(part.into()),
        _ => folder.clone(),
    };
    let lib = part("LIBTORCH_LIB").join("lib");
    let mut needed = vec![part("LIBTORCH_INCLUDE").join("include/torch/csrc/api/include/torch/torch.h")];
    needed.extend(["torch", "torch_cpu", "c10"].map(|name| lib.join(library(name))));
    let missing = needed.into_iter().find(|file| !file.exists());
    let version = match missing {
        Some(file) => Err(Cause::Missing(file.strip_prefix(&folder).map(Path::to_owned).unwrap_or(file))),
        None => version::of(&folder),
    };
    let version = match version {
        Err(Cause::Version(found)) if variable("LIBTORCH_BYPASS_VERSION_CHECK").is_some() => Ok(found),
        other => other,
    };
    match version {
        Ok(version) => Ok(Libtorch { source, folder, version }),
        Err(cause) => Err(Problem::Unusable { source, folder, cause }),
    }
}

/// The folder of the PyTorch that `python` would import; found without importing it, which takes seconds.
fn pytorch(python: &'static str) -> Result<PathBuf, Problem> {
    const FOLDER: &str =
        "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])";
    let problem = |answer: String| Problem::NoPyTorch { python, answer };
    let output =
        Command::new(python).args(["-c", FOLDER]).output().map_err(|error| problem(error.to_string()))?;
    let [out, err] =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).trim().to_owned());
    if output.status.success() {
        return Ok(absolute(out.into()));
    }
    // `find_spec` gives None for what is not installed, and None has no such attribute.
    let last = err.lines().last().unwrap_or_default();
    Err(problem(if last.contains("NoneType") { "torch is not installed".into() } else { last.to_owned() }))
}

/// The Python that torch-sys asks: the one of a virtual environment that is active, else the system's.
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

/// Build scripts run in other folders.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, fs};

    use super::*;
    use crate::{VERSION, manifest};

    /// A user with a cache folder and some variables.
    struct Place {
        root: tempfile::TempDir,
        variables: Vec<(&'static str, OsString)>,
    }

    impl Place {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let home = ["HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"].map(|name| (name, root.path().into()));
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

    /// What is in a folder of libtorch, made up.
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
    fn an_empty_machine_is_told_what_fetches_it() {
        let place = Place::new();
        let problem = place.find().unwrap_err();
        assert!(problem.is_mended_by_fetching());
        let text = problem.to_string();
        assert!(text.starts_with("there is no libtorch 2.13.0 in "), "{text}");
        assert!(text.contains("alexnet; `cargo xtask libtorch` fetches it"), "{text}");
        let homeless = find(&|_| None).unwrap_err();
        assert_eq!(homeless, Problem::NotFound { cache: None });
        assert!(!homeless.is_mended_by_fetching());
    }

    #[test]
    fn the_cache_is_found_and_the_build_for_gpus_goes_first() {
        let place = Place::new();
        let cpu = place.cached(Build::Cpu);
        let found = place.find().unwrap();
        assert_eq!(found.source, Source::Cache(Build::Cpu));
        assert_eq!((found.folder, found.version.as_str()), (cpu.join("torch"), "2.13.0+cpu"));
        let cuda = place.cached(Build::Cuda);
        assert_eq!(place.find().unwrap().source, Source::Cache(Build::Cuda));
        // One that is broken does not hide one that is whole.
        fs::remove_file(cuda.join(manifest::FILE)).unwrap();
        assert_eq!(place.find().unwrap().source, Source::Cache(Build::Cpu));
        fs::remove_dir_all(cpu).unwrap();
        let text = place.find().unwrap_err().to_string();
        assert!(
            text.ends_with(
                "manifest.txt is missing or was cut; `cargo xtask libtorch --cuda` fetches it anew"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_cache_cut_in_half_is_noticed() {
        let place = Place::new();
        let copy = place.cached(Build::Cpu);
        let library = copy.join("torch/lib").join(library("torch_cpu"));
        fs::write(&library, "E").unwrap();
        let problem = place.find().unwrap_err();
        assert!(problem.is_mended_by_fetching());
        let text = problem.to_string();
        assert!(text.contains("has 1 bytes instead of 3; `cargo xtask libtorch` fetches it anew"), "{text}");
        assert!(text.contains(&format!("the libtorch in {} cannot", copy.display())), "{text}");
        fs::remove_file(&library).unwrap();
        assert!(place.find().unwrap_err().to_string().contains("is missing"));
    }

    #[test]
    fn a_variable_goes_before_the_cache_even_if_it_leads_nowhere() {
        let mut place = Place::new();
        place.cached(Build::Cpu);
        let folder = place.path("own");
        place.set("LIBTORCH", &folder);
        let problem = place.find().unwrap_err();
        assert!(!problem.is_mended_by_fetching());
        let text = problem.to_string();
        assert!(text.starts_with(&format!("LIBTORCH is {}, which cannot", folder.display())), "{text}");
        assert!(text.contains("torch.h is missing") && text.contains("unset it"), "{text}");

        make(&folder, "2.13.0+cu130");
        let found = place.find().unwrap();
        assert_eq!((found.source, &found.folder), (Source::Libtorch, &folder));
        assert!(!found.has_cuda());
        fs::write(folder.join("lib").join(library("torch_cuda")), "ELF").unwrap();
        assert!(found.has_cuda());

        place.set("LIBTORCH", "");
        assert_eq!(place.find().unwrap().source, Source::Cache(Build::Cpu));
    }

    #[test]
    fn another_version_is_told_apart_unless_the_user_insists() {
        let mut place = Place::new();
        let folder = place.path("old");
        make(&folder, "2.5.1+cpu\n");
        place.set("LIBTORCH", &folder);
        let text = place.find().unwrap_err().to_string();
        assert!(text.contains("it is version 2.5.1+cpu, but 2.13.0 is needed; set it to"), "{text}");
        place.set("LIBTORCH_BYPASS_VERSION_CHECK", "1");
        assert_eq!(place.find().unwrap().version, "2.5.1+cpu");
    }

    #[test]
    fn headers_and_libraries_may_be_apart() {
        let mut place = Place::new();
        make(&place.path("all"), VERSION);
        fs::create_dir(place.path("headers")).unwrap();
        fs::create_dir(place.path("libraries")).unwrap();
        fs::rename(place.path("all/include"), place.path("headers/include")).unwrap();
        fs::rename(place.path("all/lib"), place.path("libraries/lib")).unwrap();
        place.set("LIBTORCH", place.path("all"));
        assert!(place.find().is_err());
        place.set("LIBTORCH_INCLUDE", place.path("headers"));
        place.set("LIBTORCH_LIB", place.path("libraries"));
        assert_eq!(place.find().unwrap().folder, place.path("all"));
    }

    #[test]
    fn a_pytorch_that_is_not_there_is_said_so() {
        let problem = pytorch("no-such-python").unwrap_err();
        assert!(!problem.is_mended_by_fetching());
        let text = problem.to_string();
        assert!(
            text.starts_with("LIBTORCH_USE_PYTORCH is set, but no-such-python has no PyTorch ("),
            "{text}"
        );
    }

    #[test]
    fn an_active_environment_has_its_own_python() {
        if cfg!(unix) {
            assert_eq!(python(&|_| None), "python3");
            assert_eq!(python(&|name| (name == "VIRTUAL_ENV").then(|| "/venv".into())), "python");
        }
    }
}
