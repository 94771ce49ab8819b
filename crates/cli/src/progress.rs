//! Progress of long work: one line that is redrawn on a terminal, or a new line every few seconds
//! if stderr is not a terminal.

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use console::Term;
use indicatif::{ProgressBar, ProgressStyle};

use crate::columns::{shorten, width};

/// Time between two lines if lines cannot be redrawn.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// If there is room for fewer columns, no bar is drawn.
const SHORTEST_BAR: usize = 8;
const LONGEST_BAR: usize = 40;

/// The line that is drawn on the terminal now. Other output must not be written into it.
static DRAWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Calls `write`, which writes complete lines to the terminal, while the progress line is hidden.
pub fn without_progress<T>(write: impl FnOnce() -> T) -> T {
    let drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match drawn {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// A progress line. Dropping it removes it from the terminal.
pub struct Line {
    /// Hidden if stderr is not a terminal, or the terminal cannot redraw a line (`TERM=dumb`).
    bar: ProgressBar,
    last: Mutex<Instant>,
}

impl Line {
    /// Creates the line. It becomes visible with the first call of [`Line::show`].
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

    /// Shows `title`, a bar for `done` of `total`, and `details`.
    pub fn show(&self, title: &str, done: u64, total: u64, details: &str) {
        if !self.bar.is_hidden() {
            let columns = usize::from(Term::stderr().size().1);
            self.bar.set_message(drawn(title, done as f64 / total.max(1) as f64, details, columns));
            return;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= LINE_EVERY {
            note!("{title} {details}");
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

/// Formats a progress line. It leaves the last column of the terminal free, because some terminals
/// wrap the line when that column is written. The bar takes the remaining columns; if they are too
/// few, it is left out.
fn drawn(title: &str, share: f64, details: &str, columns: usize) -> String {
    let columns = columns.saturating_sub(1);
    let room =
        columns.saturating_sub(width(title) + width(details) + " [] ".len()).min(LONGEST_BAR);
    if room < SHORTEST_BAR {
        return shorten(&format!("{title} {details}"), columns);
    }
    let full = (room as f64 * share.clamp(0.0, 1.0)) as usize;
    let head = if full < room { ">" } else { "" };
    format!("{title} [{:room$}] {details}", "=".repeat(full) + head)
}

/// Formats a time as minutes and seconds, `2:05`, or with hours, `1:02:05`.
pub fn clock(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

/// Progress of work whose parts take equally long, with the time left.
struct Work {
    title: String,
    line: Line,
    /// When progress was first reported, and how much was done then.
    started: OnceLock<(Instant, u64)>,
}

impl Work {
    fn new(title: &str) -> Self {
        Self { title: title.to_owned(), line: Line::new(), started: OnceLock::new() }
    }

    /// Shows that `done` of `total` are done. `details` receives the speed per second; the time
    /// left is appended to its text.
    fn at(&self, done: u64, total: u64, details: impl FnOnce(f64) -> String) {
        let (start, before) = *self.started.get_or_init(|| (Instant::now(), done));
        let speed = done.saturating_sub(before) as f64 / start.elapsed().as_secs_f64();
        let mut details = details(speed);
        if speed > 0.0 && speed.is_finite() {
            details += &format!(", {} left", clock(total.saturating_sub(done) as f64 / speed));
        }
        self.line.show(&self.title, done, total, &details);
    }
}

/// Progress counted in bytes.
pub struct Bytes(Work);

impl Bytes {
    /// Creates the progress line.
    pub fn new(title: &str) -> Self {
        Self(Work::new(title))
    }

    /// Shows that `done` of `total` bytes are done.
    pub fn at(&self, done: u64, total: u64) {
        let mb = |bytes: f64| bytes / 1e6;
        self.0.at(done, total, |speed| {
            format!("{:.1} of {:.1} MB, {:.1} MB/s", mb(done as f64), mb(total as f64), mb(speed))
        });
    }

    /// Removes the line from the terminal.
    pub fn finish(self) {}
}

/// Progress counted in items.
pub struct Items(Work);

impl Items {
    /// Creates the progress line.
    pub fn new(title: &str) -> Self {
        Self(Work::new(title))
    }

    /// Shows that `done` of `total` items are done.
    pub fn at(&self, done: usize, total: usize) {
        self.0.at(done as u64, total as u64, |_| format!("{done}/{total}"));
    }

    /// Removes the line from the terminal.
    pub fn finish(self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_shorter_than_the_terminal() {
        let titles = [
            "",
            "epoch 12/60",
            "unpacking /home/me/Downloads/雛菊/flower_photos_of_a_long_name.tgz",
        ];
        for details in ["", "3/4", "103/103 loss 0.123, 1234.5 images/s, 1:02:05 left"] {
            for title in titles {
                for columns in 1..200 {
                    for share in [-1.0, 0.0, 0.3, 1.0, 7.0, f64::NAN] {
                        let line = drawn(title, share, details, columns);
                        assert!(width(&line) < columns, "{columns}: {line}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_bar_shows_the_share_and_is_left_out_first() {
        assert_eq!(
            drawn("epoch 1/2", 0.5, "5/10", 80),
            format!("epoch 1/2 [{:40}] 5/10", "=".repeat(20) + ">")
        );
        assert_eq!(drawn("epoch 1/2", 1.0, "9/9", 30), "epoch 1/2 [=============] 9/9");
        assert_eq!(drawn("epoch 1/2", 1.0, "9/9", 20), "epoch 1/2 9/9");
        assert_eq!(drawn("epoch 1/2", 1.0, "9/9", 10), "epoch 1/…");
    }

    #[test]
    fn times_are_formatted() {
        for (seconds, text) in [(0.4, "0:00"), (59.6, "1:00"), (125.0, "2:05"), (3725.0, "1:02:05")]
        {
            assert_eq!(clock(seconds), text);
        }
    }
}
