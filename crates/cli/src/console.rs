//! Prints what the library reports: notes, progress, and the next step after an error.
//!
//! The library does not know the command line. This module adds to its notes and errors the option
//! or command that changes the outcome.

use alexnet::{
    Error, Note, Observer, Work,
    core::{Error as CoreError, text::shown_path},
    data::Error as DataError,
};

use crate::progress::{Bytes, Items};

/// Prints notes to stderr and draws progress as one line.
#[derive(Default)]
pub struct Console {
    /// The title and the progress line of the current work.
    bar: Option<(String, Bar)>,
    /// Whether the command has `--split`.
    has_split: bool,
}

enum Bar {
    Bytes(Bytes),
    Items(Items),
}

impl Console {
    /// Creates a console for a command that has `--split`.
    pub fn with_split() -> Self {
        Self { has_split: true, ..Self::default() }
    }

    /// Removes the progress line from the terminal.
    pub fn clear(&mut self) {
        self.bar = None;
    }

    /// Returns the end of a note's sentence: the option or command that changes what was assumed.
    /// Returns an empty string for notes that no option or command changes.
    fn hint(&self, note: &Note) -> String {
        match note {
            Note::UsingDrawnFlowers { .. } => {
                ". `cargo xtask data fetch` downloads the flower photos (229 MB)".into()
            }
            Note::SplitAsTheRun { new: 1.., .. } | Note::ImagesUsed { split_now: true, .. }
                if self.has_split =>
            {
                "; `--split all` uses all images".into()
            }
            Note::ImagesUsed { used, all, .. } if self.has_split && used < all => {
                "; `--split all` uses all images".into()
            }
            Note::Weights { note: alexnet::interchange::Note::SameShapes { other }, .. } => {
                format!(
                    "; if the file is of that variant, convert it with `convert --variant {other}`"
                )
            }
            Note::ShareUnused { .. } => "; leave `--val-fraction` out".into(),
            Note::EndedEarly { .. } => "; to continue, resume with a larger `--patience`".into(),
            Note::NothingLeft { .. } => "; to continue, use a larger number for `--epochs`".into(),
            _ => String::new(),
        }
    }
}

impl Observer for Console {
    fn note(&mut self, note: Note) {
        match note {
            Note::TakenFromWeights { path, mean, std, resize_crop, exif_orientation } => {
                let colors = |[r, g, b]: [f32; 3]| format!("{r},{g},{b}");
                let options = [
                    mean.map(|mean| format!("--mean {}", colors(mean))),
                    std.map(|std| format!("--std {}", colors(std))),
                    resize_crop.map(|side| format!("--val-resize-crop {side}")),
                    exif_orientation
                        .map(|orientation| format!("--exif-orientation {}", orientation.name())),
                ];
                let options: Vec<String> = options.into_iter().flatten().collect();
                note!("taken from {}: `{}`", shown_path(&path), options.join(" "));
            }
            note => note!("{note}{}", self.hint(&note)),
        }
    }

    fn progress(&mut self, work: Work<'_>, done: u64, total: u64) {
        let title = match work {
            Work::Unpacking(path) => format!("unpacking {}", shown_path(path)),
            Work::Drawing(path) => format!("drawing {}", shown_path(path)),
            Work::LookingAtImages => "checking the images".into(),
            Work::Evaluating => "evaluating".into(),
            Work::Indexing => "indexing the images".into(),
        };
        if self.bar.as_ref().is_none_or(|(shown, _)| *shown != title) {
            // Dropping the previous line clears it; this must happen before the next line is
            // created.
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

/// The next step when a file of a run is not as the run wrote it.
const PUT_BACK: &str =
    ": put back the file as the run wrote it, or start another run with `train --config`";

/// Returns the next step after an error of the library, as the end of the error's sentence. `takes`
/// returns whether the command has the option with a given id.
pub fn next_step(error: &Error, takes: &dyn Fn(&str) -> bool) -> String {
    let if_taken = |option: &str, text: &str| match takes(option) {
        true => text.to_owned(),
        false => String::new(),
    };
    match error {
        Error::NoEngine { engine, .. } => {
            format!(". `cargo xtask train --backend {}` builds a binary that has it", engine.name())
        }
        Error::NoDevice { .. } => ". `alexnet doctor` lists what a GPU requires".into(),
        Error::NoInstructionSet { .. } => ". Choose one with `--isa`".into(),
        Error::CannotDivide { .. } => "; leave `--parallel` out".into(),
        Error::OnlyForCpu { .. } => "; leave `--isa` and `--convolution` out".into(),
        Error::NoBf16 { .. } => "; use `--precision f32` or another `--backend`".into(),
        Error::NoImages { .. } => {
            ": name a folder with `--data`, get the flower photos with `data fetch` (229 MB), or draw \
             some with `data synth --out data/drawn_flowers`"
                .into()
        }
        Error::NoData { .. } => {
            let else_drawn = if_taken("run_dir", ", or omit `--data` to train on drawn flowers");
            format!(": name a folder, a .tgz, a .tar or a .zip with `--data`{else_drawn}")
        }
        Error::Core(CoreError::Invalid { field: "shuffle", .. }) => {
            "; name a folder of shards, pack the images with `data pack`, or start a run without `--shuffle`"
                .into()
        }
        Error::Core(CoreError::Invalid { field: "sampler", .. }) => {
            "; leave `--sampler` or `--shuffle` out".into()
        }
        Error::Unreadable { .. } => {
            "; replace or remove them (`data check` lists them all), or leave them out with \
             `--on-bad-image skip`"
                .into()
        }
        Error::ImagesMoved { .. } => ": name the folder that holds them with `--data`".into(),
        Error::OtherOrder { .. } => "; name the shards of the run with `--data`".into(),
        Error::ImagesMissing { .. } => "; name the folder that has all of them".into(),
        Error::RunHasNone { .. } => if_taken("split", ": choose another `--split`"),
        Error::NoneOfTheRun { .. } => {
            if_taken("split", "; `--split all` uses all images of the folder instead")
        }
        Error::NoSuchImages { .. } => if_taken("split", "; `--split all` uses all images"),
        Error::NoWeights { .. } => ": run `train` first, or name a file with `--weights`".into(),
        Error::OtherClasses { .. } => "; name others with `--data` or `--weights`".into(),
        Error::NoClassNamed { .. } => {
            ": name the file for these folders with `--class-names`, or leave it out".into()
        }
        Error::OtherVariant { found, .. } => {
            format!("; add `--variant {found}`, or choose other weights")
        }
        Error::ReplacedLayerFrozen { .. } => "; leave it out of `--freeze`".into(),
        Error::NoPlace { .. } => "; choose one with `--run-dir`".into(),
        Error::NoRuns { .. } => ": `train` starts one".into(),
        Error::RunExists { folder } => {
            format!("; continue it with `--resume {}`, or choose another `--run-dir`", shown_path(folder))
        }
        Error::Taken { .. } => "; choose another folder with `--run-dir`".into(),
        Error::Data(DataError::AmongImages { .. }) => if_taken("run_dir", " with `--run-dir`"),
        Error::NotARun { .. } => "; name one that `train` created, such as runs/train".into(),
        Error::RunFile { .. } | Error::SettingChanged { .. } => PUT_BACK.into(),
        Error::CheckpointMissing { settings, .. } => format!(
            ", or start another run with `train --config {}` and, from these weights, `--weights`",
            shown_path(settings)
        ),
        Error::MoreEpochsDone { done, .. } => format!(": `--epochs` must be at least {done}"),
        Error::StoppedByImage { folder, .. } => {
            format!("; `train --resume {}` continues from there", shown_path(folder))
        }
        _ => String::new(),
    }
}
