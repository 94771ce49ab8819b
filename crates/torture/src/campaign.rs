//! Tests one parser with mutated files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::{
    memory,
    mutate::Mutator,
    panics,
    targets::{Environment, Outcome, Target, checked},
};

/// The maximum number of mutated files with a new result that are mutated again.
const MAX_ADDED: usize = 500;

/// The time limit for one file, which has at most 256 KiB.
const SLOW: Duration = Duration::from_secs(20);

/// The results of a campaign.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// The number of files tried.
    pub tried: u64,
    /// The number of files that the parser accepted.
    pub read: u64,
    /// The number of different messages and kinds of success.
    pub kinds: usize,
    /// Seconds of processor time.
    pub seconds: f64,
    /// The peak memory of this process while it read a file, in bytes.
    pub memory: u64,
    /// The longest time for a file, in seconds.
    pub slowest: f64,
    /// The panics that the parser converted to errors, with their numbers.
    pub caught: BTreeMap<String, u64>,
    /// The faults, with their numbers.
    pub faults: BTreeMap<String, u64>,
}

/// The test of a parser with mutated files.
pub struct Campaign<'a> {
    target: &'a Target,
    environment: Environment,
    /// The folder for files that show a fault.
    out: Option<&'a Path>,
    corpus: Vec<Vec<u8>>,
    rng: ChaCha8Rng,
    kinds: BTreeSet<String>,
    /// The results so far.
    pub report: Report,
    _folder: TempDir,
}

impl<'a> Campaign<'a> {
    /// Creates a campaign. All mutations depend only on `seed`.
    ///
    /// # Panics
    /// When a temporary folder cannot be created.
    pub fn new(
        target: &'a Target,
        seed: u64,
        program: Option<PathBuf>,
        out: Option<&'a Path>,
    ) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        Self {
            target,
            environment: Environment { folder: folder.path().to_owned(), program },
            out,
            corpus: target.seeds.clone(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            kinds: BTreeSet::new(),
            report: Report::default(),
            _folder: folder,
        }
    }

    /// Tries the valid files.
    pub fn seeds(&mut self) {
        for seed in &self.target.seeds {
            self.try_file(seed);
        }
    }

    /// Tries one mutated file.
    pub fn step(&mut self) {
        let mut bytes =
            Mutator { corpus: &self.corpus, words: self.target.words }.mutate(&mut self.rng);
        if let Some(repair) = self.target.repair
            && self.rng.random_ratio(3, 4)
        {
            repair(&mut bytes);
        }
        if self.try_file(&bytes) && self.corpus.len() < self.target.seeds.len() + MAX_ADDED {
            self.corpus.push(bytes);
        }
    }

    /// Tries a file. Returns whether its result is new.
    fn try_file(&mut self, bytes: &[u8]) -> bool {
        if let Some(out) = self.out {
            // If the process dies, this file is the cause.
            fs::write(self.current_file(out), bytes)
                .expect("the folder of this run can be written to");
        }
        memory::reset_peak();
        let start = Instant::now();
        let watched = panics::watch(|| checked((self.target.run)(bytes, &self.environment)));
        let time = start.elapsed();
        let report = &mut self.report;
        report.tried += 1;
        report.memory = report.memory.max(memory::peak().unwrap_or(0));
        report.slowest = report.slowest.max(time.as_secs_f64());

        let mut faults = Vec::new();
        let kind = match watched.returned {
            None => {
                faults
                    .push(format!("panics: {}", watched.panics.last().map_or("", String::as_str)));
                String::new()
            }
            Some(Outcome::Wrong(what)) => {
                faults.push(what);
                String::new()
            }
            Some(Outcome::Read(what)) => {
                report.read += 1;
                what
            }
            Some(Outcome::Refused(message)) => without_values(&message),
        };
        if time > SLOW {
            faults.push(format!("takes more than {} s", SLOW.as_secs()));
        }
        let caught = if faults.is_empty() { watched.panics } else { vec![] };
        for location in caught {
            self.save(&location, "caught", bytes);
            *self.report.caught.entry(location).or_default() += 1;
        }
        for fault in faults {
            self.save(&fault, "fault", bytes);
            *self.report.faults.entry(fault).or_default() += 1;
        }
        let new = self.kinds.insert(kind);
        self.report.kinds = self.kinds.len();
        new
    }

    /// Saves the first file that shows a fault or a caught panic.
    fn save(&self, what: &str, kind: &str, bytes: &[u8]) {
        let known = self.report.caught.contains_key(what) || self.report.faults.contains_key(what);
        if let (Some(out), false) = (self.out, known) {
            let name =
                format!("{}-{kind}-{:08x}", self.target.name, crc32fast::hash(what.as_bytes()));
            fs::write(out.join(name), bytes).expect("the folder of this run can be written to");
        }
    }

    /// Returns the path of the file that is being tried.
    fn current_file(&self, out: &Path) -> PathBuf {
        current_file(out, self.target.name)
    }
}

/// Returns the path of the file that a parser is trying.
pub fn current_file(out: &Path, target: &str) -> PathBuf {
    out.join(format!(".{target}.now"))
}

/// Removes numbers and quoted text from a message, so that messages with equal causes are equal.
fn without_values(message: &str) -> String {
    let mut kind = String::new();
    let mut quoted = false;
    for letter in message.chars() {
        match letter {
            '`' | '"' => quoted = !quoted,
            _ if quoted || letter.is_ascii_digit() => {}
            _ => kind.push(letter),
        }
        if kind.len() > 160 {
            break;
        }
    }
    kind
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(run: fn(&[u8], &Environment) -> Outcome) -> Target {
        Target {
            name: "test",
            seeds: vec![b"sound 12".to_vec()],
            words: &[b"bad"],
            repair: None,
            run,
            needs_program: false,
            few: 0,
        }
    }

    fn ran(run: fn(&[u8], &Environment) -> Outcome, out: Option<&Path>) -> Report {
        let target = target(run);
        let mut campaign = Campaign::new(&target, 3, None, out);
        campaign.seeds();
        (0..2000).for_each(|_| campaign.step());
        campaign.report
    }

    #[test]
    fn a_panic_is_reported_and_its_file_saved() {
        let folder = TempDir::new().unwrap();
        let report = ran(
            |bytes, _| {
                assert!(!bytes.starts_with(b"bad"), "injected");
                Outcome::Read(String::new())
            },
            Some(folder.path()),
        );
        let (fault, times) = report.faults.first_key_value().unwrap();
        assert!(fault.ends_with(": injected") && *times > 1, "{report:?}");
        let saved: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        let file =
            saved.iter().find(|path| path.to_string_lossy().contains("test-fault-")).unwrap();
        assert!(fs::read(file).unwrap().starts_with(b"bad"));
    }

    #[test]
    fn a_caught_panic_is_no_fault_but_a_wrong_outcome_is() {
        let report = ran(
            |bytes, _| match std::panic::catch_unwind(|| {
                assert!(!bytes.starts_with(b"bad"), "injected")
            }) {
                Err(_) => Outcome::Refused("it failed inside".into()),
                Ok(()) if bytes.is_empty() => Outcome::Wrong("an empty file is read".into()),
                Ok(()) => Outcome::Refused("x".repeat(bytes.len() * 1000)),
            },
            None,
        );
        assert!(report.caught.keys().next().unwrap().ends_with(": injected"), "{report:?}");
        assert!(report.faults.contains_key("an empty file is read"), "{report:?}");
        assert!(report.faults.keys().any(|fault| fault.starts_with("a message of ")), "{report:?}");
    }

    #[test]
    fn messages_with_equal_causes_are_one_kind() {
        assert_eq!(
            without_values("its entry `a\n1` has 12 bytes"),
            without_values("its entry `b` has 7 bytes")
        );
    }
}
