//! The command line with the engine `tch`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    alexnet_cli::main()
}
