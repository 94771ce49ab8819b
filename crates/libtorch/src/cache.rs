//! The project's copies of libtorch in the cache folder of the user. There is one per version and
//! build, so that several checkouts share them and an update does not use an old copy.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::{Cause, VERSION, Variable, manifest, version};

/// The build of libtorch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// For CPUs only.
    Cpu,
    /// For CPUs and NVIDIA GPUs.
    Cuda,
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        })
    }
}

/// Returns the folder of all copies, `alexnet` in the user's cache folder; `None` if no environment
/// variable defines that folder.
pub fn folder(variable: Variable) -> Option<PathBuf> {
    let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let user = if cfg!(target_os = "windows") {
        path("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        path("HOME").map(|home| home.join("Library").join("Caches"))
    } else {
        // The XDG specification says that relative paths are ignored.
        let cache = path("XDG_CACHE_HOME").filter(|path| path.is_absolute());
        cache.or_else(|| path("HOME").map(|home| home.join(".cache")))
    };
    user.map(|user| user.join("alexnet"))
}

/// Returns the folder of one copy in [`folder`]. It contains the folder `torch` ([`libtorch`]),
/// further libraries that it needs, and the [`manifest`].
pub fn copy(folder: &Path, build: Build) -> PathBuf {
    folder.join(format!("libtorch-{VERSION}-{build}"))
}

/// Returns the value of `LIBTORCH` for a copy: its folder with `include` and `lib`. The libraries
/// search for NVIDIA's libraries in `../../nvidia`, as in the packages that they are from.
pub fn libtorch(copy: &Path) -> PathBuf {
    copy.join("torch")
}

/// Checks that a copy is complete and has the right version. Returns the version.
///
/// # Errors
/// The reason why it cannot be used.
pub fn check(copy: &Path) -> Result<String, Cause> {
    manifest::check(copy)?;
    version::of(&libtorch(copy))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(variables: &[(&str, &str)]) -> Option<PathBuf> {
        folder(&|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
        })
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_cache_is_in_the_users_cache_folder() {
        assert_eq!(cache(&[("HOME", "/home/a")]), Some("/home/a/.cache/alexnet".into()));
        assert_eq!(
            cache(&[("HOME", "/home/a"), ("XDG_CACHE_HOME", "/c")]),
            Some("/c/alexnet".into())
        );
        for invalid in ["", "relative"] {
            let found = cache(&[("HOME", "/home/a"), ("XDG_CACHE_HOME", invalid)]);
            assert_eq!(found, Some("/home/a/.cache/alexnet".into()));
        }
    }

    #[test]
    fn without_a_home_folder_there_is_no_cache() {
        assert_eq!(cache(&[]), None);
    }
}
