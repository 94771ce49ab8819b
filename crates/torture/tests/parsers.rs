//! Mutated files must not make a parser panic, hang or return a wrong result. `ALEXNET_TORTURE=10`
//! tries ten times as many files.

use alexnet_torture::{
    campaign::Campaign,
    factor,
    targets::{self, Environment, Outcome},
};
use tempfile::TempDir;

fn mutate(name: &str) {
    let target = targets::named(name).unwrap();
    let mut campaign = Campaign::new(&target, 0, None, None);
    campaign.seeds();
    for _ in 0..target.few * factor() {
        campaign.step();
    }
    let report = campaign.report;
    println!("{name}: {report:#?}");
    assert!(report.faults.is_empty(), "{report:#?}");
    // The test is only useful if there are several kinds of results, and if not all files are
    // accepted.
    assert!(report.kinds > 3 && report.tried > report.read, "{report:#?}");
}

macro_rules! parsers {
    ($($name:ident)*) => {
        $(#[test] fn $name() { mutate(stringify!($name)) })*

        #[test]
        fn every_parser_is_tested() {
            let tested = [$(stringify!($name)),*];
            let missing: Vec<_> = targets::all().into_iter().filter(|target| !target.needs_program).map(|target| target.name).filter(|name| !tested.contains(name)).collect();
            assert!(missing.is_empty(), "{missing:?}");
        }
    };
}

parsers! { jpeg png gif webp bmp tiff pnm pth pickle whole_pth safetensors weights checkpoint progress events classes split tgz tar zip shard shard_index }

/// If valid files were not accepted, mutations would only test refusals. Small weights files are
/// refused because of their shapes.
#[test]
fn valid_files_are_accepted() {
    for target in targets::all().iter().filter(|target| !target.needs_program) {
        let folder = TempDir::new().unwrap();
        let environment = Environment { folder: folder.path().to_owned(), program: None };
        let outcomes: Vec<Outcome> =
            target.seeds.iter().map(|seed| (target.run)(seed, &environment)).collect();
        let read = outcomes.iter().filter(|outcome| match outcome {
            Outcome::Read(_) => true,
            Outcome::Refused(message) => message.contains("fit no known AlexNet variant"),
            Outcome::Wrong(_) => false,
        });
        let (read, all) = (read.count(), outcomes.len());
        assert!(2 * read > all, "{}: {read} of {all}: {outcomes:?}", target.name);
    }
}
