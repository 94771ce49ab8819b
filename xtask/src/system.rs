//! The programs of this machine: runs them, and installs packages of Debian.

use std::{
    ffi::OsStr,
    process::{Command, Stdio},
};

/// Returns the output of a program, or `None` if it cannot be run or fails.
pub fn output(program: &OsStr, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns the first line of `PROGRAM --version`, or `None` if it cannot be run.
pub fn version(program: impl AsRef<OsStr>) -> Option<String> {
    output(program.as_ref(), &["--version"]).map(|text| first_line(&text).to_owned())
}

/// Returns the first line of a text, without white space at its ends.
pub fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim()
}

/// Returns whether this is Linux with `apt-get`.
pub fn has_apt() -> bool {
    cfg!(target_os = "linux") && version("apt-get").is_some()
}

/// Installs packages with `apt-get`. `other_way` completes the advice "run `sudo apt-get install …`,
/// or …".
///
/// # Errors
/// If this user is not root, or `apt-get` fails. The message contains the advice.
pub fn install_debian_packages(packages: &[&str], other_way: &str) -> Result<(), String> {
    let packages = packages.join(" ");
    let by_hand = format!("run `sudo apt-get install {packages}`, or {other_way}");
    if !is_root() {
        return Err(format!("{packages} must be installed by root; {by_hand}"));
    }
    eprintln!("installing {packages} with apt-get");
    // The lists of packages of a new machine are empty.
    for arguments in ["update", &format!("install --yes --no-install-recommends {packages}")] {
        let status = Command::new("apt-get")
            .arg("--quiet=2")
            .args(arguments.split(' '))
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .map_err(|error| format!("cannot run apt-get: {error}; {by_hand}"))?;
        if !status.success() {
            return Err(format!("`apt-get {arguments}` failed; {by_hand}"));
        }
    }
    Ok(())
}

fn is_root() -> bool {
    output("id".as_ref(), &["-u"]).is_some_and(|id| id.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_cannot_be_run_has_no_version() {
        let cargo = std::env::var_os("CARGO").unwrap();
        assert!(output(&cargo, &["--version", "--verbose"]).unwrap().lines().count() > 1);
        let version_line = version(&cargo).unwrap();
        assert!(version_line.starts_with("cargo ") && !version_line.contains('\n'));
        assert_eq!(output(&cargo, &["no-such-command"]), None);
        assert_eq!(version("no-such-program"), None);
    }
}
