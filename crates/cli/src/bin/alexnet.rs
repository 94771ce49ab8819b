//! The command line without libtorch.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    alexnet_cli::main()
}
