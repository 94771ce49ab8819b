//! The reasons why libtorch cannot be used, with messages that name the next step.

use std::{error, fmt, path::PathBuf};

use crate::{Source, VERSION, cache::Build, manifest};

/// Why there is no libtorch to build with. The message names the folder, the cause and the next
/// step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// No variable names one, and the cache is empty.
    NotFound {
        /// The folder of all copies; `None` if the user has no cache folder.
        cache: Option<PathBuf>,
    },
    /// There is a libtorch, but it cannot be used.
    Unusable {
        /// How it was found.
        source: Source,
        /// Its folder.
        folder: PathBuf,
        /// The reason.
        cause: Cause,
    },
    /// `LIBTORCH_USE_PYTORCH` is set, but Python has no PyTorch.
    NoPyTorch {
        /// The command that was run.
        python: &'static str,
        /// Its error message.
        answer: String,
    },
}

/// The reason why a folder cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// This file is missing.
    Missing(PathBuf),
    /// The list of the files is missing or truncated.
    Manifest,
    /// A file has the wrong size.
    Size {
        /// The file, relative to the folder.
        file: PathBuf,
        /// The expected size in bytes.
        expected: u64,
        /// The actual size in bytes.
        found: u64,
    },
    /// It has another version, which is this one.
    Version(String),
}

impl Problem {
    /// Whether `cargo xtask libtorch` fixes it. It does, unless an environment variable has
    /// priority over the cache.
    pub fn is_fixed_by_fetching(&self) -> bool {
        matches!(
            self,
            Self::NotFound { cache: Some(_) } | Self::Unusable { source: Source::Cache(_), .. }
        )
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(file) => write!(f, "{} is missing", file.display()),
            Self::Manifest => write!(f, "{} is missing or truncated", manifest::FILE),
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
                "there is no libtorch, and no environment variable defines your cache folder; set LIBTORCH to a folder that has \
                 the include/ and lib/ of libtorch {VERSION}, or HOME so that `cargo xtask libtorch` can fetch it"
            ),
            Self::Unusable { source, folder, cause } => {
                let folder = folder.display();
                match source {
                    Source::Cache(Build::Cpu) => {
                        write!(
                            f,
                            "the libtorch in {folder} cannot be used: {cause}; `cargo xtask libtorch` fetches it again"
                        )
                    }
                    Source::Cache(Build::Cuda) => write!(
                        f,
                        "the libtorch in {folder} cannot be used: {cause}; `cargo xtask libtorch` with its option for CUDA fetches it again"
                    ),
                    Source::Libtorch => write!(
                        f,
                        "LIBTORCH is {folder}, which cannot be used: {cause}; set it to a folder that has the include/ and \
                         lib/ of libtorch {VERSION}, or unset it and run `cargo xtask libtorch`"
                    ),
                    Source::PyTorch => write!(
                        f,
                        "LIBTORCH_USE_PYTORCH selects {folder}, which cannot be used: {cause}; install torch {VERSION} \
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
