//! Notes and progress, sent to the program that uses the library while the library works.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use alexnet_data::loader::Loader;
use serde::{Deserialize, Serialize};

use crate::note::Note;

/// Receives notes and progress. Every method has a default that does nothing, and `()` is an
/// observer.
pub trait Observer: Send {
    /// Reports something that was assumed, left out or replaced.
    fn note(&mut self, note: Note) {
        let _ = note;
    }

    /// Reports progress: `done` of `total` units of `work`. The work has ended when they are equal.
    fn progress(&mut self, work: Work<'_>, done: u64, total: u64) {
        let _ = (work, done, total);
    }
}

impl Observer for () {}

/// Work with progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work<'a> {
    /// An archive is unpacked; counted in bytes.
    Unpacking(&'a Path),
    /// Flowers are drawn to this folder; counted in images.
    Drawing(&'a Path),
    /// The images are checked before training; counted in images.
    LookingAtImages,
    /// Weights are evaluated on images; counted in images.
    Evaluating,
    /// The activations of images are computed; counted in images.
    Indexing,
}

/// Lets several threads report the progress of work that they share.
pub(crate) fn shared<'a>(
    observer: &'a mut dyn Observer,
    work: Work<'a>,
) -> impl Fn(usize, usize) + Sync + 'a {
    let observer = Mutex::new(observer);
    move |done, total| {
        let mut observer = observer.lock().unwrap_or_else(PoisonError::into_inner);
        observer.progress(work, done as u64, total as u64);
    }
}

/// The images that a loader left out or found damaged, with the reason.
#[derive(Serialize, Deserialize)]
pub(crate) struct LoaderNotes {
    pub skipped: Vec<(PathBuf, String)>,
    pub damaged: Vec<(PathBuf, String)>,
}

impl LoaderNotes {
    /// Returns those of a loader.
    pub fn of(loader: &Loader) -> Self {
        Self { skipped: loader.skipped(), damaged: loader.notes() }
    }
}

/// Sends each note about an image once.
#[derive(Default)]
pub(crate) struct ImageNotes {
    noted: BTreeSet<PathBuf>,
}

impl ImageNotes {
    /// Sends the notes that were not sent before.
    pub fn send(&mut self, notes: LoaderNotes, observer: &mut dyn Observer) {
        for (path, reason) in self.unseen(notes.skipped) {
            observer.note(Note::LeftOut { path, reason });
        }
        for (path, what) in self.unseen(notes.damaged) {
            observer.note(Note::Damaged { path, what });
        }
    }

    fn unseen(&mut self, found: Vec<(PathBuf, String)>) -> Vec<(PathBuf, String)> {
        found.into_iter().filter(|(path, _)| self.noted.insert(path.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_image_is_noted_once_in_any_order() {
        let image = |name: &str| (PathBuf::from(name), "truncated".to_owned());
        let mut notes = ImageNotes::default();
        assert_eq!(notes.unseen(vec![image("m.jpg")]), [image("m.jpg")]);
        let found = vec![image("a.jpg"), image("m.jpg"), image("z.jpg")];
        assert_eq!(notes.unseen(found.clone()), [image("a.jpg"), image("z.jpg")]);
        assert_eq!(notes.unseen(found), []);
    }
}
