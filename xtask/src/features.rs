//! Determines from the arguments of a command which cargo features and libraries it needs.

use std::{ffi::OsStr, fs, path::Path};

/// Returns the value of an option, given as `--name value` or `--name=value`. If it is given more
/// than once, the last one counts.
fn value<'a>(arguments: &[&'a str], name: &str) -> Option<&'a str> {
    let options = || arguments.iter().take_while(|&&argument| argument != "--");
    let separate =
        options().zip(options().skip(1)).filter(|(key, _)| **key == name).map(|(_, value)| *value);
    let joined = options().filter_map(|argument| argument.strip_prefix(name)?.strip_prefix('='));
    joined.chain(separate).last()
}

/// The engine and the device that a command runs on.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Engine {
    backend: Option<String>,
    device: Option<String>,
}

impl Engine {
    /// Reads the options `--backend` and `--device` from the arguments or, if missing there, from
    /// the file of options that `--resume` or `--config` names.
    pub fn of(arguments: &[&str]) -> Self {
        let typed = |name| value(arguments, name).map(str::to_owned);
        let (backend, device) = (typed("--backend"), typed("--device"));
        let file = ["--resume", "--config"].iter().find_map(|name| value(arguments, name));
        let saved = file.map(Path::new).map(Self::saved).unwrap_or_default();
        if backend.is_some() && backend != saved.backend {
            // The device in the file is for another engine.
            return Self { backend, device };
        }
        Self { backend: saved.backend, device: device.or(saved.device) }
    }

    /// Reads a file of options, or that in the folder of a run. If it cannot be read, returns no
    /// values; `alexnet` reports the error.
    fn saved(path: &Path) -> Self {
        let file = if path.is_dir() { path.join("args.toml") } else { path.to_owned() };
        let text = fs::read_to_string(file).unwrap_or_default();
        let value = |key: &str| {
            // Lines `key = "value"`; these values contain no escapes.
            text.lines()
                .find_map(|line| {
                    let (name, rest) = line.split_once('=')?;
                    let mut parts = rest.split(['"', '\'']);
                    (name.trim() == key && parts.next()?.trim().is_empty()).then(|| parts.next())?
                })
                .map(str::to_owned)
        };
        Self { backend: value("backend"), device: value("device") }
    }

    /// Returns whether the engine is `tch`.
    pub fn is_tch(&self) -> bool {
        self.backend.as_deref() == Some("tch")
    }

    /// Returns whether the device is an NVIDIA GPU.
    pub fn is_on_cuda(&self) -> bool {
        self.device.as_deref().is_some_and(|device| device.starts_with("cuda"))
    }

    /// Returns the cargo features for the GPU of the engine `candle`. Other engines need none;
    /// libtorch includes its GPU support.
    pub fn gpu_features(&self) -> Vec<&'static str> {
        match self.device.as_deref() {
            _ if self.backend.as_deref() != Some("candle") => vec![],
            Some("metal") => vec!["metal"],
            _ if self.is_on_cuda() => vec!["cuda"],
            _ => vec![],
        }
    }
}

/// Returns whether a command of `alexnet` uses all available engines.
pub fn uses_all_engines(command: &OsStr) -> bool {
    command == "parity" || command == "doctor"
}

/// Returns whether a command starts several processes, which needs MPI.
pub fn starts_ranks(arguments: &[&str]) -> bool {
    value(arguments, "--ranks").is_some()
}

/// Returns whether a command of `alexnet` reports MPI if it is available.
pub fn reports_mpi(command: &OsStr) -> bool {
    command == "doctor"
}

/// The package that cannot be built without MPI.
const MPI_PACKAGE: &str = "alexnet-collective-mpi";

/// Returns the features of all packages that link libtorch or MPI, as a value of cargo's
/// `--features`.
fn linked(has_mpi: bool) -> &'static str {
    if has_mpi {
        "alexnet-cli/tch,alexnet-benches/tch,alexnet-cli/mpi"
    } else {
        "alexnet-cli/tch,alexnet-benches/tch"
    }
}

/// Returns the arguments of cargo for all packages, with the features that link libtorch or MPI.
/// Without MPI, the package that needs it is excluded.
pub fn all_packages(has_mpi: bool) -> Vec<&'static str> {
    let mut arguments = vec!["--workspace"];
    if !has_mpi {
        arguments.extend(["--exclude", MPI_PACKAGE]);
    }
    arguments.extend(["--features", linked(has_mpi)]);
    arguments
}

/// Returns the arguments of cargo to test all packages, or those that `arguments` name, with the
/// features that link libtorch or MPI.
pub fn tests(arguments: &[&str], has_mpi: bool) -> Vec<&'static str> {
    let packages = packages(arguments);
    if packages.is_empty() {
        return [vec!["test"], all_packages(has_mpi)].concat();
    }
    let is_tested =
        |feature: &&str| packages.iter().any(|package| feature.split('/').next() == Some(package));
    let features = linked(has_mpi).split(',').filter(is_tested);
    ["test"].into_iter().chain(features.flat_map(|feature| ["--features", feature])).collect()
}

/// Returns whether these tests are linked with libtorch.
pub fn tests_need_libtorch(arguments: &[&str]) -> bool {
    tests(arguments, false).contains(&"--features")
        || packages(arguments).contains(&"alexnet-backend-tch")
}

/// Returns whether these tests use MPI if it is available.
pub fn tests_use_mpi(arguments: &[&str]) -> bool {
    tests(arguments, true) != tests(arguments, false) || tests_need_mpi(arguments)
}

/// Returns whether these tests cannot be built without MPI.
pub fn tests_need_mpi(arguments: &[&str]) -> bool {
    packages(arguments).contains(&MPI_PACKAGE)
}

/// Returns the packages that arguments of `cargo test` name with `-p`; an empty list means all
/// packages.
fn packages<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    let mut packages = Vec::new();
    let mut rest = arguments.iter().take_while(|&&argument| argument != "--");
    while let Some(argument) = rest.next() {
        let joined = ["--package=", "-p="].iter().find_map(|name| argument.strip_prefix(name));
        if let Some(package) = joined {
            packages.push(package);
        } else if ["--package", "-p"].contains(argument) {
            packages.extend(rest.next());
        }
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Vec<&str> {
        line.split_whitespace().collect()
    }

    #[test]
    fn the_engine_tch_is_chosen_only_by_its_option() {
        for line in [
            "--backend tch",
            "--backend=tch",
            "--epochs 3 --backend tch -j 2",
            "--backend cpu --backend tch",
        ] {
            assert!(Engine::of(&split(line)).is_tch(), "{line}");
        }
        for line in [
            "",
            "tch",
            "--data tch",
            "--backend cpu",
            "--backend",
            "--backends tch",
            "-- --backend tch",
        ] {
            assert!(!Engine::of(&split(line)).is_tch(), "{line}");
        }
    }

    #[test]
    fn only_candle_needs_a_feature_for_gpus() {
        let features = |line: &str| Engine::of(&split(line)).gpu_features();
        for device in ["--device cuda", "--device=cuda:1"] {
            assert_eq!(features(&format!("--backend candle {device}")), ["cuda"]);
            assert_eq!(features(&format!("{device} --backend=candle")), ["cuda"]);
            assert!(features(&format!("--backend tch {device}")).is_empty());
            assert!(features(device).is_empty());
            assert!(Engine::of(&split(device)).is_on_cuda());
        }
        assert_eq!(features("--backend candle --device metal"), ["metal"]);
        assert!(features("--backend candle --device cpu").is_empty());
        assert!(!Engine::of(&split("--backend candle --device metal")).is_on_cuda());
    }

    #[test]
    fn the_engine_of_a_run_is_read_from_its_options() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().to_str().unwrap();
        let of = |more: &str| {
            let line = format!("--resume {run} {more}");
            let Engine { backend, device } = Engine::of(&split(&line));
            [backend, device].map(Option::unwrap_or_default)
        };
        assert_eq!(of(""), ["", ""]);
        let text = "# crc32 0\nbackend = \"tch\"\ndevice = \"cuda:1\"\nlr = 0.1\nopt = \"sgd\"\n";
        fs::write(folder.path().join("args.toml"), text).unwrap();
        assert_eq!(of(""), ["tch", "cuda:1"]);
        assert_eq!(of("--device cpu"), ["tch", "cpu"]);
        assert_eq!(of("--backend candle"), ["candle", ""]);
        assert_eq!(of("--backend=tch"), ["tch", "cuda:1"]);
        let file = format!("{run}/mine.toml");
        let config = |text: &str| {
            fs::write(&file, text).unwrap();
            Engine::of(&["--config", &file]).is_tch()
        };
        for text in
            ["backend='tch'", "lr = 1\n  backend = \"tch\"  # as before", "backend = \"tch\"\r\n"]
        {
            assert!(config(text), "{text}");
        }
        for text in [
            "",
            "backend = tch",
            "# backend = \"tch\"",
            "data = \"tch\"",
            "backend = \"cpu\" # \"tch\"",
        ] {
            assert!(!config(text), "{text}");
        }
    }

    #[test]
    fn only_the_option_for_ranks_needs_mpi() {
        for line in ["--ranks 4", "--ranks=4", "--backend tch --ranks 2 --epochs 3"] {
            assert!(starts_ranks(&split(line)), "{line}");
        }
        for line in ["", "ranks 4", "--ranks", "--ranks-per-host 4", "-- --ranks 4"] {
            assert!(!starts_ranks(&split(line)), "{line}");
        }
        assert!(reports_mpi(OsStr::new("doctor")));
        assert!(!reports_mpi(OsStr::new("train")));
    }

    #[test]
    fn tests_of_packages_with_the_feature_tch_use_it() {
        let all = split(
            "test --workspace --exclude alexnet-collective-mpi \
             --features alexnet-cli/tch,alexnet-benches/tch",
        );
        assert_eq!(tests(&split("topology -- --nocapture"), false), all);
        assert!(tests_need_libtorch(&[]));
        for has_mpi in [false, true] {
            assert_eq!(tests(&split("-p alexnet-core topology"), has_mpi), ["test"]);
            assert_eq!(tests(&split("--package=alexnet-backend-tch"), has_mpi), ["test"]);
            let benches = split("test --features alexnet-benches/tch");
            assert_eq!(tests(&split("-p alexnet-benches"), has_mpi), benches);
        }
        assert!(!tests_need_libtorch(&split("-p alexnet-core topology")));
        assert!(tests_need_libtorch(&split("--package=alexnet-backend-tch")));
        let cli = split("-p alexnet-core -p alexnet-cli");
        assert_eq!(tests(&cli, false), split("test --features alexnet-cli/tch"));
        assert!(tests_need_libtorch(&cli));
    }

    #[test]
    fn tests_use_mpi_if_it_is_available() {
        let all = split(
            "test --workspace --features alexnet-cli/tch,alexnet-benches/tch,alexnet-cli/mpi",
        );
        assert_eq!(tests(&split("ranks"), true), all);
        let cli = split("-p alexnet-cli ranks");
        let features = split("test --features alexnet-cli/tch --features alexnet-cli/mpi");
        assert_eq!(tests(&cli, true), features);
        let package = split("-p alexnet-collective-mpi");
        assert_eq!(tests(&package, true), ["test"]);
        assert!(!tests_need_libtorch(&package));
        for (arguments, uses, needs) in
            [(vec![], true, false), (cli, true, false), (package, true, true)]
        {
            assert_eq!(tests_use_mpi(&arguments), uses);
            assert_eq!(tests_need_mpi(&arguments), needs);
        }
        for other in ["-p alexnet-core", "-p alexnet-benches", "-p alexnet-backend-tch"] {
            assert!(!tests_use_mpi(&split(other)), "{other}");
        }
    }

    #[test]
    fn packages_are_found_in_all_forms_of_the_option() {
        assert_eq!(
            packages(&split("-p a topology --package b --package=c -- -p d")),
            ["a", "b", "c"]
        );
        assert!(packages(&split("topology")).is_empty());
    }
}
