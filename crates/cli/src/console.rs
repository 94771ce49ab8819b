//! What the library tells, on the terminal: notes with the options that change what they say, progress as a line.

use alexnet::{Error, Note, Observer, Work, core::text::shown_path};

use crate::progress::{Bytes, Items};

/// Shows notes and progress.
#[derive(Default)]
pub struct Console {
    /// The work under way.
    bar: Option<(String, Bar)>,
    /// Whether the command can be told which part of a data set to take.
    takes_split: bool,
}

enum Bar {
    Bytes(Bytes),
    Items(Items),
}

impl Console {
    /// For a command that has `--split`.
    pub fn with_split() -> Self {
        Self { takes_split: true, ..Self::default() }
    }

    /// Leaves the terminal clean.
    pub fn clear(&mut self) {
        self.bar = None;
    }

    /// The option or command that changes what a note says.
    fn way(&self, note: &Note) -> String {
        match note {
            Note::UsingDrawnFlowers { .. } => ". `cargo xtask data fetch` gets the real ones (229 MB)".into(),
            Note::SplitAsTheRun { new: 1.., .. } | Note::ImagesUsed { split_now: true, .. }
                if self.takes_split =>
            {
                "; `--split all` takes all".into()
            }
            Note::ImagesUsed { used, all, .. } if self.takes_split && used < all => {
                "; `--split all` takes all".into()
            }
            Note::Weights { note: alexnet::interchange::Note::SameShapes { other }, .. } => {
                format!("; `convert --variant {other}` makes it that")
            }
            Note::NothingLeft { .. } => "; `--epochs` with a larger number goes on".into(),
            _ => String::new(),
        }
    }
}

impl Observer for Console {
    fn note(&mut self, note: Note) {
        match note {
            Note::TakenFromWeights { path, mean, std, exif_orientation } => {
                let colors = |[r, g, b]: [f32; 3]| format!("{r},{g},{b}");
                let options = [
                    mean.map(|mean| format!("--mean {}", colors(mean))),
                    std.map(|std| format!("--std {}", colors(std))),
                    exif_orientation.map(|orientation| format!("--exif-orientation {}", orientation.name())),
                ];
                let options: Vec<String> = options.into_iter().flatten().collect();
                note!("taken from {}: `{}`", shown_path(&path), options.join(" "));
            }
            note => note!("{note}{}", self.way(&note)),
        }
    }

    fn progress(&mut self, work: Work<'_>, done: u64, total: u64) {
        let title = match work {
            Work::Unpacking(path) => format!("unpacking {}", shown_path(path)),
            Work::Drawing(path) => format!("drawing {}", shown_path(path)),
            Work::LookingAtImages => "looking at the images".into(),
            Work::Evaluating => "evaluating".into(),
        };
        if self.bar.as_ref().is_none_or(|(shown, _)| *shown != title) {
            // The line of the work before is cleared first.
            self.bar = None;
            let bar = match work {
                Work::Unpacking(_) => Bar::Bytes(Bytes::new(&title)),
                _ => Bar::Items(Items::new(&title)),
            };
            self.bar = Some((title, bar));
        }
        match &self.bar {
            Some((_, Bar::Bytes(bar))) => bar.at(done, total),
            Some((_, Bar::Items(bar))) => bar.at(done as usize, total as usize),
            None => {}
        }
        if done == total {
            self.bar = None;
        }
    }
}

/// What to do when a run's files are not those that it was begun with.
const PUT_BACK: &str = ": put back the file as the run wrote it, or begin another run with `train --config`";

/// The next step after an error of the library, in the words of the command line; `takes` says whether the command has an option, by
/// its id.
pub fn next_step(error: &Error, takes: &dyn Fn(&str) -> bool) -> String {
    let if_taken = |option: &str, words: &str| match takes(option) {
        true => words.to_owned(),
        false => String::new(),
    };
    match error {
        Error::NoEngine { engine, .. } => {
            format!(". `cargo xtask train --backend {}` builds one that has it", engine.name())
        }
        Error::NoDevice { .. } => ". `alexnet doctor` says what a GPU needs".into(),
        Error::NoInstructionSet { .. } => ". Choose one with `--isa`".into(),
        Error::OnlyForCpu { .. } => "; leave `--isa` and `--convolution` out".into(),
        Error::NoImages { .. } => {
            ": name a folder with `--data`, get the flower photos with `data fetch` (229 MB), or draw \
             some with `data synth --out data/drawn_flowers`"
                .into()
        }
        Error::NoData { .. } => {
            let else_drawn = if_taken("run_dir", ", or leave it out to train on drawn flowers");
            format!(": name a folder, a .tgz, a .tar or a .zip with `--data`{else_drawn}")
        }
        Error::Unreadable { .. } => {
            "; replace or remove them (`data check` lists all), or leave them out with \
             `--on-bad-image skip`"
                .into()
        }
        Error::ImagesMoved { .. } => ": name the folder that holds them with `--data`".into(),
        Error::ImagesMissing { .. } => "; name the folder that has them all".into(),
        Error::RunHasNone { .. } => if_taken("split", ": choose another `--split`"),
        Error::NoneOfTheRun { .. } => if_taken("split", ": with `--split all` all images there are used"),
        Error::NoSuchImages { .. } => if_taken("split", "; `--split all` takes all images"),
        Error::NoWeights { .. } => ": run `train` first, or name a file with `--weights`".into(),
        Error::OtherClasses { .. } => "; name others with `--data` or `--weights`".into(),
        Error::OtherVariant { found, .. } => {
            format!("; add `--variant {found}`, or choose other weights")
        }
        Error::ReplacedLayerFrozen { .. } => "; leave it out of `--freeze`".into(),
        Error::NoPlace { .. } => "; choose one with `--run-dir`".into(),
        Error::RunExists { folder } => {
            format!("; go on with it by `--resume {}`, or choose another `--run-dir`", shown_path(folder))
        }
        Error::NotARun { .. } => "; name one that `train` made, such as runs/train".into(),
        Error::RunFile { .. } | Error::SettingChanged { .. } => PUT_BACK.into(),
        Error::CheckpointMissing { settings, .. } => format!(
            ", or begin another run with `train --config {}`, from these weights with `--weights`",
            shown_path(settings)
        ),
        Error::MoreEpochsDone { done, .. } => format!(": give `--epochs` a number from {done} on"),
        Error::StoppedByImage { folder, .. } => {
            format!("; `train --resume {}` goes on from there", shown_path(folder))
        }
        _ => String::new(),
    }
}
