//! `alexnet man`: writes manual pages.

use std::path::PathBuf;

use alexnet::core::{Error, files::create_folders, text::shown_path};
use anyhow::Result;
use clap::{Command, builder::Resettable};

/// Write a manual page for each command, such as alexnet.1 and alexnet-train.1
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Folder for the pages, such as ~/.local/share/man/man1
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Runs the command. `program` has all commands and options.
///
/// # Errors
/// If a page cannot be written.
pub fn run(args: &Args, program: Command) -> Result<()> {
    let folder = &args.folder;
    create_folders(folder)?;
    // The pages do not depend on the processor, of which the long version tells.
    let program = program.long_version(Resettable::Reset);
    clap_mangen::generate_to(program, folder).map_err(Error::io("write", folder))?;
    say!("{}", shown_path(&folder.join("alexnet.1")))
}
