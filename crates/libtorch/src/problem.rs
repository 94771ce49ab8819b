//! What stands between a user and libtorch, in words that say what to do next.

use std::{error, fmt, path::PathBuf};

use crate::{Source, VERSION, cache::Build, manifest};

/// Why there is no libtorch to build with. Displayed, it names the place, the cause and the next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Nobody names one and the cache is empty.
    NotFound {
        /// The folder of all copies; none if the user has no cache folder.
        cache: Option<PathBuf>,
    },
    /// There is one, but it cannot be used.
    Unusable {
        /// Who names it.
        source: Source,
        /// The folder that is named.
        folder: PathBuf,
        /// What is wrong with it.
        cause: Cause,
    },
    /// `LIBTORCH_USE_PYTORCH` is set, but Python has no PyTorch.
    NoPyTorch {
        /// The command that was asked.
        python: &'static str,
        /// Its answer.
        answer: String,
    },
}

/// What is wrong with a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// This file is not there.
    Missing(PathBuf),
    /// The list of the files that should be there is not, or was cut.
    Manifest,
    /// A file was cut, or overwritten.
    Size {
        /// The file, from the folder.
        file: PathBuf,
        /// Bytes that it should have.
        expected: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// It is another version, this one.
    Version(String),
}

impl Problem {
    /// Whether `cargo xtask libtorch` mends it, which is so unless a variable stands in the way.
    pub fn is_mended_by_fetching(&self) -> bool {
        matches!(self, Self::NotFound { cache: Some(_) } | Self::Unusable { source: Source::Cache(_), .. })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(file) => write!(f, "{} is missing", file.display()),
            Self::Manifest => write!(f, "{} is missing or was cut", manifest::FILE),
            Self::Size { file, expected, found } => {
                write!(f, "{} has {found} bytes instead of {expected}", file.display())
            }
            Self::Version(found) => write!(f, "it is version {found}, but {VERSION} is needed"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { cache: Some(cache) } => write!(
                f,
                "there is no libtorch {VERSION} in {}; `cargo xtask libtorch` fetches it, or set LIBTORCH to a folder that \
                 has its include/ and lib/",
                cache.display()
            ),
            Self::NotFound { cache: None } => write!(
                f,
                "there is no libtorch, and no variable tells where your cache folder is; set LIBTORCH to a folder that has \
                 the include/ and lib/ of libtorch {VERSION}, or HOME so that `cargo xtask libtorch` can fetch it"
            ),
            Self::Unusable { source, folder, cause } => {
                let folder = folder.display();
                match source {
                    Source::Cache(Build::Cpu) => {
                        write!(
                            f,
                            "the libtorch in {folder} cannot be used: {cause}; `cargo xtask libtorch` fetches it anew"
                        )
                    }
                    Source::Cache(Build::Cuda) => write!(
                        f,
                        "the libtorch in {folder} cannot be used: {cause}; `cargo xtask libtorch --cuda` fetches it anew"
                    ),
                    Source::Libtorch => write!(
                        f,
                        "LIBTORCH is {folder}, which cannot be used: {cause}; set it to a folder that has the include/ and \
                         lib/ of libtorch {VERSION}, or unset it and run `cargo xtask libtorch`"
                    ),
                    Source::PyTorch => write!(
                        f,
                        "LIBTORCH_USE_PYTORCH leads to {folder}, which cannot be used: {cause}; install torch {VERSION} \
                         there, or unset it and run `cargo xtask libtorch`"
                    ),
                }
            }
            Self::NoPyTorch { python, answer } => write!(
                f,
                "LIBTORCH_USE_PYTORCH is set, but {python} has no PyTorch ({answer}); install torch {VERSION} there, or unset \
                 it and run `cargo xtask libtorch`"
            ),
        }
    }
}

impl error::Error for Problem {}
