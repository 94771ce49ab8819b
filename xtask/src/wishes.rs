//! What the arguments of a command ask of the build.

/// The value of an option, given as `--name value` or `--name=value`; of the last, if it is there more than once.
fn value<'a>(arguments: &[&'a str], name: &str) -> Option<&'a str> {
    let options = || arguments.iter().take_while(|&&argument| argument != "--");
    let apart = options().zip(options().skip(1)).filter(|(key, _)| **key == name).map(|(_, value)| *value);
    let joined = options().filter_map(|argument| argument.strip_prefix(name)?.strip_prefix('='));
    joined.chain(apart).last()
}

/// Whether a command is to run on libtorch.
pub fn tch(arguments: &[&str]) -> bool {
    value(arguments, "--backend") == Some("tch")
}

/// Whether it is to run on an NVIDIA GPU, by whichever engine.
pub fn cuda(arguments: &[&str]) -> bool {
    value(arguments, "--device").is_some_and(|device| device.starts_with("cuda"))
}

/// The cargo features that the command line needs beside its default ones. `libtorch` says whether it can be linked: then it
/// always is, so that one build serves all commands and nothing is compiled again when engines alternate.
pub fn features(arguments: &[&str], libtorch: bool) -> Vec<&'static str> {
    let candle = value(arguments, "--backend") == Some("candle");
    let metal = value(arguments, "--device") == Some("metal");
    let wanted = [("tch", libtorch), ("cuda", candle && cuda(arguments)), ("metal", candle && metal)];
    wanted.into_iter().filter(|(_, wanted)| *wanted).map(|(feature, _)| feature).collect()
}

/// The feature `tch` of all packages that have it, for cargo.
pub const ALL_WITH_TCH: &str = "alexnet-cli/tch,alexnet-benches/tch";

/// How cargo is to test what `arguments` ask for: all packages, or those that they name, with libtorch where it can be.
pub fn tests(arguments: &[&str]) -> Vec<&'static str> {
    let packages = packages(arguments);
    if packages.is_empty() {
        return vec!["test", "--workspace", "--features", ALL_WITH_TCH];
    }
    let concerned =
        |feature: &&str| packages.iter().any(|package| feature.split('/').next() == Some(package));
    let features = ALL_WITH_TCH.split(',').filter(concerned).flat_map(|feature| ["--features", feature]);
    ["test"].into_iter().chain(features).collect()
}

/// Whether these tests are linked with libtorch.
pub fn tests_need_libtorch(arguments: &[&str]) -> bool {
    tests(arguments).contains(&"--features") || packages(arguments).contains(&"alexnet-backend-tch")
}

/// The packages that arguments of `cargo test` name with `-p`; none means all.
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

    fn words(line: &str) -> Vec<&str> {
        line.split_whitespace().collect()
    }

    #[test]
    fn libtorch_is_linked_if_it_can_be() {
        for line in ["", "--backend tch", "--backend=cpu --device cpu", "--backend candle"] {
            assert_eq!(features(&words(line), true), ["tch"], "{line}");
            assert!(features(&words(line), false).is_empty(), "{line}");
        }
    }

    #[test]
    fn the_engine_tch_is_asked_for_by_its_option_alone() {
        for line in
            ["--backend tch", "--backend=tch", "--epochs 3 --backend tch -j 2", "--backend cpu --backend tch"]
        {
            assert!(tch(&words(line)), "{line}");
        }
        for line in
            ["", "tch", "--data tch", "--backend cpu", "--backend", "--backends tch", "-- --backend tch"]
        {
            assert!(!tch(&words(line)), "{line}");
        }
    }

    #[test]
    fn gpus_of_candle_are_features_and_those_of_libtorch_are_not() {
        for device in ["--device cuda", "--device=cuda:1"] {
            assert_eq!(features(&words(&format!("--backend candle {device}")), false), ["cuda"]);
            assert_eq!(features(&words(&format!("{device} --backend=candle")), true), ["tch", "cuda"]);
            assert_eq!(features(&words(&format!("--backend tch {device}")), true), ["tch"]);
            assert!(features(&words(device), false).is_empty());
            assert!(cuda(&words(device)));
        }
        assert_eq!(features(&words("--backend candle --device metal"), false), ["metal"]);
        assert!(!cuda(&words("--backend candle --device metal")));
    }

    #[test]
    fn tests_are_linked_with_libtorch_where_they_can_be() {
        let all = ["test", "--workspace", "--features", "alexnet-cli/tch,alexnet-benches/tch"];
        assert_eq!(tests(&words("topology -- --nocapture")), all);
        assert!(tests_need_libtorch(&[]));
        assert_eq!(tests(&words("-p alexnet-core topology")), ["test"]);
        assert!(!tests_need_libtorch(&words("-p alexnet-core topology")));
        let cli = words("-p alexnet-core -p alexnet-cli");
        assert_eq!(tests(&cli), ["test", "--features", "alexnet-cli/tch"]);
        assert!(tests_need_libtorch(&cli));
        assert_eq!(tests(&words("--package=alexnet-backend-tch")), ["test"]);
        assert!(tests_need_libtorch(&words("--package=alexnet-backend-tch")));
    }

    #[test]
    fn packages_are_listed_however_they_are_given() {
        assert_eq!(packages(&words("-p a topology --package b --package=c -- -p d")), ["a", "b", "c"]);
        assert!(packages(&words("topology")).is_empty());
    }
}
