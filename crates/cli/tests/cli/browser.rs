//! The page of `alexnet serve` in Chromium. The test is skipped without Chromium, Node.js and the
//! packages that `cargo xtask browser` installs, unless `ALEXNET_REQUIRE_BROWSER` is set.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::{CLASSES, TestDir};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../serve/tests/browser/page.test.mjs");

/// The names of Chromium, as in `xtask/src/browser.rs`.
const BROWSERS: [&str; 4] =
    ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// What the script needs.
struct Browser {
    chromium: PathBuf,
    /// The folder with `node_modules`.
    packages: PathBuf,
}

impl Browser {
    /// Finds Chromium, Node.js and the packages that `cargo xtask browser` installs.
    ///
    /// # Errors
    /// The name of what is missing.
    fn find() -> Result<Self, &'static str> {
        let chromium = match env::var_os("ALEXNET_CHROMIUM") {
            Some(path) => Some(path.into()).filter(|path: &PathBuf| path.exists()),
            None => BROWSERS.into_iter().find_map(on_path),
        };
        let packages = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("browser");
        let installed = packages.join("node_modules/.package-lock.json").exists();
        on_path("node").ok_or("Node.js")?;
        let chromium = chromium.ok_or("Chromium")?;
        installed.then_some(Self { chromium, packages }).ok_or("playwright-core")
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// A running server. It is killed when it is dropped.
struct Server {
    process: Child,
    url: String,
}

impl Server {
    fn start(dir: &TestDir, weights: &str) -> Self {
        let mut process = dir
            .command(&["serve", "--weights", weights, "--port", "0"])
            .stdout(Stdio::piped())
            .stderr(fs::File::create(dir.file("log")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim_end().rsplit(' ').next().unwrap().to_owned();
        assert!(url.starts_with("http://127.0.0.1:"), "{line}");
        Self { process, url }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_page_works_in_a_browser() {
    let browser = match Browser::find() {
        Ok(browser) => browser,
        Err(missing) if env::var_os("ALEXNET_REQUIRE_BROWSER").is_some() => {
            panic!("{missing} is missing; run `cargo xtask browser`")
        }
        Err(missing) => {
            println!("skipped: no browser ({missing} is missing)");
            return;
        }
    };
    let dir = TestDir::with_flowers(10);
    // So few steps do not train well, but the classes differ between images.
    let train = ["train", "--data", "flowers", "--run-dir", "run", "--epochs", "3", "-b", "8"];
    dir.succeeds(&train);
    let weights = "run/weights/best.safetensors";

    fs::create_dir(dir.file("images")).unwrap();
    for class in CLASSES {
        for number in 1..=2 {
            let name = format!("{class}_{number:04}.jpg");
            let from = dir.file("flowers").join(class).join(&name);
            fs::copy(from, dir.file("images").join(name)).unwrap();
        }
    }
    let predict = ["predict", "images", "--weights", weights, "--format", "csv", "--topk", "5"];
    fs::write(dir.file("images/expected.csv"), dir.succeeds(&predict)).unwrap();

    let mut server = Server::start(&dir, weights);
    let output = Command::new("node")
        .arg(SCRIPT)
        .arg(&server.url)
        .arg(dir.file("images"))
        .arg(server.process.id().to_string())
        .env("ALEXNET_CHROMIUM", browser.chromium)
        .env("ALEXNET_NODE_PACKAGES", browser.packages)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let log = fs::read_to_string(dir.file("log")).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}\nthe log of the server:\n{log}");
    // The script stopped the server with SIGTERM.
    #[cfg(unix)]
    assert_eq!(server.process.wait().unwrap().code(), Some(0), "{log}");
}
