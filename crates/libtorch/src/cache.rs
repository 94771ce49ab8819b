//! The project's own copies of libtorch, in the cache folder of the user: one a version and build, so that several checkouts
//! share them and an update never meets an old one.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::{Cause, VERSION, Variable, manifest, version};

/// What libtorch was built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// The host's processors alone.
    Cpu,
    /// NVIDIA GPUs as well.
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

/// The folder of all copies: `alexnet` in the user's cache folder. None if no variable tells where that is.
pub fn folder(variable: Variable) -> Option<PathBuf> {
    let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let user = if cfg!(target_os = "windows") {
        path("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        path("HOME").map(|home| home.join("Library").join("Caches"))
    } else {
        // The XDG specification has relative paths ignored.
        let cache = path("XDG_CACHE_HOME").filter(|path| path.is_absolute());
        cache.or_else(|| path("HOME").map(|home| home.join(".cache")))
    };
    user.map(|user| user.join("alexnet"))
}

/// The folder of one copy in [`folder`]. It holds the folder `torch` ([`libtorch`]), what that needs beside it, and the
/// [`manifest`].
pub fn copy(folder: &Path, build: Build) -> PathBuf {
    folder.join(format!("libtorch-{VERSION}-{build}"))
}

/// What `LIBTORCH` has to name for that copy: the folder with `include` and `lib`. The libraries look for NVIDIA's in
/// `../../nvidia`, as in the packages they come from.
pub fn libtorch(copy: &Path) -> PathBuf {
    copy.join("torch")
}

/// Whether a copy is whole and of the right version; its version.
///
/// # Errors
/// What is wrong with it.
pub fn check(copy: &Path) -> Result<String, Cause> {
    manifest::check(copy)?;
    version::of(&libtorch(copy))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(variables: &[(&str, &str)]) -> Option<PathBuf> {
        folder(&|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_cache_is_where_the_system_keeps_such_things() {
        assert_eq!(cache(&[("HOME", "/home/a")]), Some("/home/a/.cache/alexnet".into()));
        assert_eq!(cache(&[("HOME", "/home/a"), ("XDG_CACHE_HOME", "/c")]), Some("/c/alexnet".into()));
        for useless in ["", "relative"] {
            let found = cache(&[("HOME", "/home/a"), ("XDG_CACHE_HOME", useless)]);
            assert_eq!(found, Some("/home/a/.cache/alexnet".into()));
        }
    }

    #[test]
    fn without_a_home_there_is_no_cache() {
        assert_eq!(cache(&[]), None);
    }
}
