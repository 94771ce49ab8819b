//! No mutated file makes a parser panic, break its promises or hang. `ALEXNET_TORTURE=10` tries ten times as many.

use alexnet_torture::{
    campaign::Campaign,
    factor,
    targets::{self, Outcome, Place},
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
    // Mutations that all fail alike, or files that are all read, would show nothing.
    assert!(report.kinds > 3 && report.tried > report.read, "{report:#?}");
}

macro_rules! parsers {
    ($($name:ident)*) => {
        $(#[test] fn $name() { mutate(stringify!($name)) })*

        #[test]
        fn every_parser_is_here() {
            let here = [$(stringify!($name)),*];
            let missing: Vec<_> = targets::all().into_iter().filter(|target| !target.needs_program).map(|target| target.name).filter(|name| !here.contains(name)).collect();
            assert!(missing.is_empty(), "{missing:?}");
        }
    };
}

parsers! { jpeg png gif webp bmp tiff pnm pth pickle whole_pth safetensors weights checkpoint progress classes split tgz tar zip }

/// Without sound files that are read, mutations would test refusals alone. Small weights files are refused for their shapes.
#[test]
fn sound_files_are_read() {
    for target in targets::all().iter().filter(|target| !target.needs_program) {
        let folder = TempDir::new().unwrap();
        let place = Place { folder: folder.path().to_owned(), program: None };
        let outcomes: Vec<Outcome> = target.seeds.iter().map(|seed| (target.run)(seed, &place)).collect();
        let read = outcomes.iter().filter(|outcome| match outcome {
            Outcome::Read(_) => true,
            Outcome::Refused(message) => message.contains("fit no known AlexNet variant"),
            Outcome::Wrong(_) => false,
        });
        let (read, all) = (read.count(), outcomes.len());
        assert!(2 * read > all, "{}: {read} of {all}: {outcomes:?}", target.name);
    }
}
