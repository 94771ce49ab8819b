//! The options of a run as its folder keeps them: all of them in `args.toml`, those that decide the weights in its checkpoint too.

use alexnet_core::{
    files::read_text,
    text::{shown, shown_path},
};
use alexnet_data::dataset::Dataset;
use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use toml::Table;

use crate::{
    config::{self, FileOptions},
    engine::Choice,
    recipe::Recipe,
    run_folder::{Marks, RunFolder},
};

/// What is saved as `args.toml`: the effective options.
#[derive(Clone, Debug, Serialize)]
pub struct Saved {
    #[serde(flatten)]
    pub engine: Choice,
    #[serde(flatten)]
    pub recipe: Recipe,
}

/// What a resume may give anew, beside the engine.
const FREE: [&str; 3] = ["data", "epochs", "on-bad-image"];

/// What `args.toml` begins with, before the checksum of all below its first line. The last line would be lost with a file's end.
const SEAL: &str = "# crc32 ";

/// What follows the checksum, for people.
const ABOUT_THE_SEAL: &str =
    " of all below; `train --resume` wants this file as it was written, `train --config` takes any copy";

impl Saved {
    fn text(&self) -> Result<String> {
        toml::to_string(self).context("these options cannot be saved in a file")
    }

    /// Whether what will be saved is read back as the same options, or the run could not be resumed.
    ///
    /// # Errors
    /// When it is not.
    pub fn check(&self) -> Result<()> {
        let text = self.text()?;
        let again = Self::parse("the options of this run", &text)?.text()?;
        let differing = text.lines().zip(again.lines()).find(|(written, read)| written != read);
        if let Some((written, read)) = differing {
            bail!("these options cannot be saved in a file: `{written}` would be read as `{read}`");
        }
        ensure!(text.len() == again.len(), "these options cannot be saved in a file: some would be lost");
        Ok(())
    }

    fn parse(name: &str, text: &str) -> Result<Self> {
        let FileOptions { engine, recipe, .. } = config::parse_text(name, text)?;
        Ok(Self { engine: engine.choice_or(Choice::default()), recipe })
    }

    /// Writes `args.toml`.
    ///
    /// # Errors
    /// When the options cannot be saved, or the disk refuses.
    pub fn write(&self, folder: &RunFolder) -> Result<()> {
        Ok(folder.write("args.toml", sealed(&self.text()?).as_bytes())?)
    }

    /// Reads `args.toml`, and tells whether it carries a checksum, as those of earlier versions do not.
    ///
    /// # Errors
    /// When it is damaged, or holds what is no option.
    pub fn read(folder: &RunFolder) -> Result<(Self, bool)> {
        let path = folder.args();
        let text = read_text(&path, config::MOST)?;
        let name = shown_path(&path).to_string();
        let Some((options, is_sealed)) = unsealed(&text) else {
            bail!("{name} has changed since it was written: {NEXT}");
        };
        let table: Table = options.parse().with_context(|| format!("{name} is damaged: {NEXT}"))?;
        ensure!(!table.is_empty(), "{name} holds no option, so it is damaged: {NEXT}");
        Ok((Self::parse(&name, options)?, is_sealed))
    }

    /// What a checkpoint says of the files beside it.
    ///
    /// # Errors
    /// As [`Saved::check`].
    pub fn marks(&self, dataset: &Dataset) -> Result<Marks> {
        Ok(Marks { options: Some(self.decisive()?), split: Some(dataset.checksum()) })
    }

    /// The options that decide the weights, as TOML.
    fn decisive(&self) -> Result<String> {
        let mut table: Table = toml::to_string(&self.recipe)?.parse()?;
        FREE.iter().for_each(|key| drop(table.remove(*key)));
        Ok(toml::to_string(&table)?)
    }

    /// Compares the options that decide the weights with those that a checkpoint kept. What it did not know of is not compared.
    ///
    /// # Errors
    /// Names the first that differs.
    pub fn agree_with(&self, kept: &str) -> Result<()> {
        let ours: Table = self.decisive()?.parse()?;
        let kept: Table = kept.parse().context("the options in the checkpoint are damaged")?;
        for (key, value) in kept {
            let found = ours.get(&key);
            if found != Some(&value) {
                let found = found.map_or("left out".into(), ToString::to_string);
                bail!(
                    "the run was begun with `{}` {}, and its args.toml has it {}: {NEXT}",
                    shown(&key),
                    shown(&value.to_string()),
                    shown(&found)
                );
            }
        }
        Ok(())
    }
}

/// What to do when a run's files are not those that it was begun with.
pub const NEXT: &str = "put back the file as the run wrote it, or begin another run with `train --config`";

fn sealed(text: &str) -> String {
    format!("{SEAL}{:08x}{ABOUT_THE_SEAL}\n{text}", crc32fast::hash(text.as_bytes()))
}

/// The text below the seal, or all of one that has none, and whether it has. `None` when it has changed since.
fn unsealed(text: &str) -> Option<(&str, bool)> {
    let Some(rest) = text.strip_prefix(SEAL) else { return Some((text, false)) };
    let (line, below) = rest.split_once('\n')?;
    let found = format!("{:08x}", crc32fast::hash(below.as_bytes()));
    line.starts_with(&found).then_some((below, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_is_broken_by_any_change_below_it() {
        let text = "lr = 0.1\nopt = \"sgd\"\n";
        let whole = sealed(text);
        assert_eq!(unsealed(&whole), Some((text, true)));
        assert_eq!(unsealed(text), Some((text, false)), "of an earlier version");
        assert!(whole.parse::<Table>().is_ok(), "the seal is a comment");
        let start = whole.len() - text.len();
        for end in [SEAL.len(), start - 1, start, start + 9, whole.len() - 1] {
            assert_eq!(unsealed(&whole[..end]), None, "cut at {end}");
        }
        for (from, to) in [("sgd", "adam"), ("0.1", "0.2"), ("lr", "lR")] {
            assert_eq!(unsealed(&whole.replace(from, to)), None, "{from}");
        }
        assert_eq!(unsealed(&format!("{whole}\n")), None);
    }
}
