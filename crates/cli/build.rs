//! Makes the binaries find libtorch at run time in the folder that it was linked from, if the
//! engine `tch` is built. Passes on the git commit, for `--version`.

use std::{env, path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Some(commit) = commit() {
        println!("cargo::rustc-env=ALEXNET_COMMIT={commit}");
    }
    let Some(folder) = env::var_os("DEP_ALEXNET_LIBTORCH_LIB") else { return };
    for argument in alexnet_libtorch::linker_arguments(Path::new(&folder)) {
        println!("cargo::rustc-link-arg={argument}");
    }
}

/// Returns the commit of this source tree; `None` if it is not a git repository.
fn commit() -> Option<String> {
    // A repository that only contains this source tree has other commits.
    if git(&["rev-parse", "--show-prefix"])? != "crates/cli/" {
        return None;
    }
    // Each commit and checkout changes this file. A missing file would always count as changed.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(&log).exists() {
        println!("cargo::rerun-if-changed={log}");
    }
    git(&["rev-parse", "--short", "HEAD"])
}

/// Returns the output of git, or `None` if it is not installed or fails.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
