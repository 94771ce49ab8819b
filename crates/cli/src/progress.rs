//! Progress of what takes a while, on the terminal; nothing where there is none.

use indicatif::{ProgressBar, ProgressStyle};

fn bar(title: &str, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::no_length().with_style(style.progress_chars("=> ")).with_prefix(title.to_owned())
}

/// Bytes of a file.
pub struct Bytes(ProgressBar);

impl Bytes {
    /// Begins.
    pub fn new(title: &str) -> Self {
        Self(bar(title, "{prefix} [{bar:30}] {bytes}/{total_bytes} {binary_bytes_per_sec}, {eta} left"))
    }

    /// So many are done.
    pub fn at(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }

    /// Leaves the terminal clean.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// Things, one by one.
pub struct Items(ProgressBar);

impl Items {
    /// Begins.
    pub fn new(title: &str) -> Self {
        Self(bar(title, "{prefix} [{bar:30}] {pos}/{len}, {eta} left"))
    }

    /// So many are done.
    pub fn at(&self, done: usize, total: usize) {
        self.0.set_length(total as u64);
        self.0.set_position(done as u64);
    }

    /// Leaves the terminal clean.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}
