//! `cargo xtask browser`: installs what the test of the server's page needs: Chromium, Node.js and
//! the packages of `crates/serve/tests/browser/package.json`.
//!
//! Chromium and Node.js are packages of Debian. The packages for Node.js are installed in the
//! target folder, where the test finds them.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::system::{install_debian_packages, version};

/// The folder with the list of packages for Node.js.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/serve/tests/browser");

/// The names of Chromium, in the order in which the test tries them.
const BROWSERS: [&str; 4] =
    ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// The environment variable with the path of another Chromium.
const VARIABLE: &str = "ALEXNET_CHROMIUM";

/// Installs what is missing, and prints what is there.
///
/// # Errors
/// If something cannot be installed. The message names the next step.
pub fn install(target: &Path) -> Result<(), String> {
    let mut missing = Vec::new();
    if browser().is_none() {
        if let Some(path) = env::var_os(VARIABLE) {
            let path = path.display();
            return Err(format!("{VARIABLE} is {path}, which cannot be run; correct or unset it"));
        }
        // A headless Chromium without a font draws no text.
        missing.extend(["chromium", "fonts-dejavu-core"]);
    }
    for program in ["node", "npm"] {
        if version(program).is_none() {
            missing.push(if program == "node" { "nodejs" } else { program });
        }
    }
    if !missing.is_empty() {
        let other_way =
            format!("install them in another way and set {VARIABLE} to the path of Chromium");
        install_debian_packages(&missing, &other_way)?;
    }
    let browser = browser().ok_or_else(|| {
        format!("Chromium is installed but cannot be run; set {VARIABLE} to the path of another")
    })?;
    let folder = target.join("browser");
    install_node_packages(Path::new(SOURCE), &folder)?;
    eprintln!("{browser}; packages for Node.js in {}", folder.display());
    Ok(())
}

/// Returns the version of Chromium: of the one that [`VARIABLE`] names, else of the first of
/// [`BROWSERS`] that can be run.
fn browser() -> Option<String> {
    match env::var_os(VARIABLE) {
        Some(path) => version(path),
        None => BROWSERS.into_iter().find_map(version),
    }
}

/// Installs the packages that `source` lists in `folder`, unless they are there.
fn install_node_packages(source: &Path, folder: &Path) -> Result<(), String> {
    let read = |path: PathBuf| {
        fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
    let lock = read(source.join("package-lock.json"))?;
    // npm writes the second file when it is done.
    if fs::read(folder.join("package-lock.json")).is_ok_and(|installed| installed == lock)
        && folder.join("node_modules/.package-lock.json").exists()
    {
        return Ok(());
    }
    let cannot_write = |error| format!("cannot write to {}: {error}", folder.display());
    fs::create_dir_all(folder).map_err(cannot_write)?;
    fs::write(folder.join("package.json"), read(source.join("package.json"))?)
        .map_err(cannot_write)?;
    fs::write(folder.join("package-lock.json"), lock).map_err(cannot_write)?;
    eprintln!("installing packages for Node.js in {}", folder.display());
    let status = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("cannot run npm: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`npm ci` failed in {}; is the npm registry reachable?", folder.display()))
    }
}
