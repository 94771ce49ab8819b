//! Progress of what takes a while: a line that is drawn again and again on a terminal, a new line every few seconds elsewhere.

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use console::Term;
use indicatif::{ProgressBar, ProgressStyle};

use crate::columns::{shorten, width};

/// Time between two lines where none can be drawn again.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// A bar of fewer columns says nothing.
const SHORTEST_BAR: usize = 8;
const LONGEST_BAR: usize = 40;

/// The line on the terminal, which others must not write into.
static DRAWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Does `write`, which writes whole lines to the terminal, while no progress is drawn there.
pub fn beside<T>(write: impl FnOnce() -> T) -> T {
    let drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match drawn {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// A line about work under way. It leaves the terminal clean when it is dropped.
pub struct Line {
    /// Hidden where there is no terminal, or one that cannot go back in its line (`TERM=dumb`).
    bar: ProgressBar,
    last: Mutex<Instant>,
}

impl Line {
    /// Begins.
    pub fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
            bar.set_style(style);
        }
        if !bar.is_hidden() {
            *DRAWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
        }
        Self { bar, last: Mutex::new(Instant::now()) }
    }

    /// Now `done` of `total` are done of what `title` names; `words` follow.
    pub fn show(&self, title: &str, done: u64, total: u64, words: &str) {
        if !self.bar.is_hidden() {
            let columns = usize::from(Term::stderr().size().1);
            self.bar.set_message(drawn(title, done as f64 / total.max(1) as f64, words, columns));
            return;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= LINE_EVERY {
            note!("{title} {words}");
            *last = Instant::now();
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        DRAWN.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// A line shorter than the terminal, which would go on in the next one when the last column is written; the bar takes what room
/// there is.
fn drawn(title: &str, share: f64, words: &str, columns: usize) -> String {
    let columns = columns.saturating_sub(1);
    let room = columns.saturating_sub(width(title) + width(words) + " [] ".len()).min(LONGEST_BAR);
    if room < SHORTEST_BAR {
        return shorten(&format!("{title} {words}"), columns);
    }
    let full = (room as f64 * share.clamp(0.0, 1.0)) as usize;
    let head = if full < room { ">" } else { "" };
    format!("{title} [{:room$}] {words}", "=".repeat(full) + head)
}

/// `2:05`, `1:02:05`.
pub fn clock(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// Work of which every piece takes as long.
struct Work {
    title: String,
    line: Line,
    /// When it began, and what was done then.
    begun: OnceLock<(Instant, u64)>,
}

impl Work {
    fn new(title: &str) -> Self {
        Self { title: title.to_owned(), line: Line::new(), begun: OnceLock::new() }
    }

    /// `words` are followed by the pace, for which they get what was done in a second.
    fn at(&self, done: u64, total: u64, words: impl FnOnce(f64) -> String) {
        let (start, before) = *self.begun.get_or_init(|| (Instant::now(), done));
        let pace = done.saturating_sub(before) as f64 / start.elapsed().as_secs_f64();
        let mut words = words(pace);
        if pace > 0.0 && pace.is_finite() {
            words += &format!(", {} left", clock(total.saturating_sub(done) as f64 / pace));
        }
        self.line.show(&self.title, done, total, &words);
    }
}

/// Bytes of a file.
pub struct Bytes(Work);

impl Bytes {
    /// Begins.
    pub fn new(title: &str) -> Self {
        Self(Work::new(title))
    }

    /// So many are done.
    pub fn at(&self, done: u64, total: u64) {
        let mb = |bytes: f64| bytes / 1e6;
        self.0.at(done, total, |pace| {
            format!("{:.1} of {:.1} MB, {:.1} MB/s", mb(done as f64), mb(total as f64), mb(pace))
        });
    }

    /// Leaves the terminal clean.
    pub fn finish(self) {}
}

/// Things, one by one.
pub struct Items(Work);

impl Items {
    /// Begins.
    pub fn new(title: &str) -> Self {
        Self(Work::new(title))
    }

    /// So many are done.
    pub fn at(&self, done: usize, total: usize) {
        self.0.at(done as u64, total as u64, |_| format!("{done}/{total}"));
    }

    /// Leaves the terminal clean.
    pub fn finish(self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_reaches_the_end_of_the_terminal() {
        let titles =
            ["", "epoch 12/60", "unpacking /home/me/Downloads/雛菊/flower_photos_of_a_long_name.tgz"];
        for words in ["", "3/4", "103/103 loss 0.123, 1234.5 images/s, 1:02:05 left"] {
            for title in titles {
                for columns in 1..200 {
                    for share in [-1.0, 0.0, 0.3, 1.0, 7.0, f64::NAN] {
                        let line = drawn(title, share, words, columns);
                        assert!(width(&line) < columns, "{columns}: {line}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_bar_is_as_long_as_what_is_done_and_goes_first() {
        assert_eq!(
            drawn("epoch 1/2", 0.5, "5/10", 80),
            format!("epoch 1/2 [{:40}] 5/10", "=".repeat(20) + ">")
        );
        assert_eq!(drawn("epoch 1/2", 1.0, "9/9", 30), "epoch 1/2 [=============] 9/9");
        assert_eq!(drawn("epoch 1/2", 1.0, "9/9", 20), "epoch 1/2 9/9");
        assert_eq!(drawn("epoch 1/2", 1.0, "9/9", 10), "epoch 1/…");
    }

    #[test]
    fn time_is_read_off_a_clock() {
        for (seconds, text) in [(0.4, "0:00"), (59.6, "1:00"), (125.0, "2:05"), (3725.0, "1:02:05")] {
            assert_eq!(clock(seconds), text);
        }
    }
}
