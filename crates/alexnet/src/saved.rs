//! The configuration of a run in its folder: all settings are in `args.toml`; those that decide the
//! weights are also in the checkpoint.

use alexnet_core::{files::read_text, text::shown};
use alexnet_data::loader::Loader;
use serde::{Deserialize, Serialize};
use toml::Table;

use crate::{
    EngineConfig, Error, Result, TrainConfig,
    run_folder::{Marks, RunFolder},
};

/// Settings that a resume may change, in addition to the engine.
const FREE: [&str; 4] = ["data", "epochs", "on-bad-image", "patience"];

/// The largest file of settings, in bytes. Real ones have a few hundred.
pub const MAX_BYTES: u64 = 1 << 20;

/// The start of `args.toml`, followed by the checksum of all lines after the first. At the end of
/// the file, the checksum would be lost when the file is truncated.
const SEAL: &str = "# crc32 ";

/// The rest of the first line, for readers.
const ABOUT_THE_SEAL: &str = " of all below; to resume the run, this file must be as it was written; a new run takes any copy";

/// The content of `args.toml`.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    engine: EngineConfig,
    #[serde(flatten)]
    config: &'a TrainConfig,
}

/// Returns all settings as the text of an `args.toml` without its first line.
///
/// # Errors
/// [`Error::Unsaveable`].
pub(crate) fn text(config: &TrainConfig) -> Result<String> {
    let written = Written { engine: config.engine, config };
    toml::to_string(&written).map_err(|error| Error::Unsaveable { reason: error.to_string() })
}

/// Checks that the saved text is read back as the same settings. Otherwise the run could not be
/// resumed.
///
/// # Errors
/// [`Error::Unsaveable`] when it is not the same.
pub(crate) fn check(config: &TrainConfig) -> Result<()> {
    let written = text(config)?;
    let read = text(&parse(&written).map_err(|reason| Error::Unsaveable { reason })?)?;
    let differing = written.lines().zip(read.lines()).find(|(written, read)| written != read);
    if let Some((written, read)) = differing {
        return Err(Error::Unsaveable { reason: format!("`{written}` would be read as `{read}`") });
    }
    match written.len() == read.len() {
        true => Ok(()),
        false => Err(Error::Unsaveable { reason: "some would not be saved".into() }),
    }
}

/// The settings in the text of an `args.toml`; settings that are not in it have their defaults.
pub(crate) fn parse(text: &str) -> Result<TrainConfig, String> {
    let first_line = |error: toml::de::Error| shown(error.message()).to_string();
    let mut settings: Table = text.parse().map_err(first_line)?;
    let mut engine = Table::new();
    for key in ["backend", "device", "isa", "convolution", "precision"] {
        engine.extend(settings.remove_entry(key));
    }
    let engine = EngineConfig::deserialize(engine).map_err(first_line)?;
    let mut config =
        TrainConfig { engine, ..TrainConfig::deserialize(settings.clone()).map_err(first_line)? };
    // Every known setting appears in the text that is written again.
    let known = Table::try_from(&config).map_err(|error| error.to_string())?;
    if let Some(key) = settings.keys().find(|key| !known.contains_key(*key)) {
        return Err(format!("there is no setting `{}`", shown(key)));
    }
    if !settings.contains_key("weight-decay") {
        config.weight_decay = config.opt.weight_decay();
    }
    config.check().map_err(|error| error.to_string())?;
    Ok(config)
}

/// Writes `args.toml`.
///
/// # Errors
/// When the settings cannot be saved, or writing fails.
pub(crate) fn write(config: &TrainConfig, folder: &RunFolder) -> Result<()> {
    Ok(folder.write("args.toml", sealed(&text(config)?).as_bytes())?)
}

/// Reads `args.toml`, and whether it has a checksum; files of earlier versions have none.
///
/// # Errors
/// [`Error::RunFile`] when it is damaged, or has an unknown setting.
pub(crate) fn read(folder: &RunFolder) -> Result<(TrainConfig, bool)> {
    let path = folder.args();
    let text = read_text(&path, MAX_BYTES)?;
    let refuse = |reason: String| Error::RunFile { path: path.clone(), reason };
    let Some((settings, is_sealed)) = unsealed(&text) else {
        return Err(refuse("has changed since it was written".into()));
    };
    if settings.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Err(refuse("has no settings, so it is damaged".into()));
    }
    let config = parse(settings).map_err(|reason| refuse(format!("is damaged: {reason}")))?;
    Ok((config, is_sealed))
}

/// What a checkpoint stores about the other files of the run.
///
/// # Errors
/// As [`check`].
pub(crate) fn marks(config: &TrainConfig, loader: &Loader) -> Result<Marks> {
    Ok(Marks {
        options: Some(decisive(config)?),
        split: Some(loader.dataset().checksum()),
        order: loader.storage_order(),
    })
}

/// The settings that decide the weights, as TOML.
fn decisive(config: &TrainConfig) -> Result<String> {
    let refuse = |reason: String| Error::Unsaveable { reason };
    let text = toml::to_string(config).map_err(|error| refuse(error.to_string()))?;
    let mut table: Table =
        text.parse().map_err(|error: toml::de::Error| refuse(error.to_string()))?;
    FREE.iter().for_each(|key| drop(table.remove(*key)));
    toml::to_string(&table).map_err(|error| refuse(error.to_string()))
}

/// Compares the settings that decide the weights with those in a checkpoint. Settings that are not
/// in the checkpoint are not compared.
///
/// # Errors
/// [`Error::SettingChanged`] with the first setting that differs.
pub(crate) fn agree(config: &TrainConfig, stored: &str, folder: &RunFolder) -> Result<()> {
    let refuse = |path, reason| Error::RunFile { path, reason };
    let damaged = |error: toml::de::Error| {
        refuse(folder.checkpoint(), format!("has damaged settings: {}", shown(error.message())))
    };
    let ours: Table = decisive(config)?.parse().map_err(damaged)?;
    let stored: Table = stored.parse().map_err(damaged)?;
    // Earlier versions also stored settings that are free now.
    for (key, value) in stored.into_iter().filter(|(key, _)| !FREE.contains(&key.as_str())) {
        let found = ours.get(&key);
        if found != Some(&value) {
            let found = found.map_or("left out".into(), ToString::to_string);
            let [key, found, started_with] =
                [&key, &found, &value.to_string()].map(|text| shown(text).to_string());
            return Err(Error::SettingChanged { key, started_with, found });
        }
    }
    Ok(())
}

fn sealed(text: &str) -> String {
    format!("{SEAL}{:08x}{ABOUT_THE_SEAL}\n{text}", crc32fast::hash(text.as_bytes()))
}

/// The settings' text, and whether the file has a checksum. `None` when the text does not match its
/// checksum.
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
    fn settings_are_read_as_they_were_written_and_unknown_ones_are_refused() {
        let mut config =
            TrainConfig { seed: u64::MAX, patience: Some(3), ..TrainConfig::default() };
        config.augmentation.crop_scale = [0.25, 1.0];
        config.freeze = vec!["features".into()];
        check(&config).unwrap();
        assert_eq!(parse(&text(&config).unwrap()).unwrap(), config);
        let old = parse("opt = \"adamw\"\nbackend = \"candle\"\nmixup = 1\n").unwrap();
        assert_eq!((old.weight_decay, old.engine.backend), (0.01, crate::Engine::Candle));
        assert_eq!((old.augmentation.mixup, old.augmentation.hflip), (1.0, 0.5));
        for (text, reason) in [
            ("colour-jitter = 0.1", "there is no setting `colour-jitter`"),
            ("lr = -1", "lr cannot be -1"),
            ("epochs = \"x\"", "invalid type"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    /// The checkpoint and the settings of a run of an earlier version lack newer settings.
    #[test]
    fn a_run_of_an_earlier_version_has_the_defaults_of_newer_settings() {
        let folder = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(Some(folder.path()), &mut ()).unwrap();
        let defaults = TrainConfig::default();
        let mut earlier: Table = decisive(&defaults).unwrap().parse().unwrap();
        for newer in ["sampler", "lr-patience"] {
            assert!(earlier.remove(newer).is_some(), "{newer}");
        }
        let text = toml::to_string(&earlier).unwrap();
        assert_eq!(parse(&text).unwrap(), defaults);
        agree(&defaults, &text, &folder).unwrap();
        let changed = TrainConfig { lr: 0.5, ..defaults };
        assert!(agree(&changed, &text, &folder).is_err());
    }

    #[test]
    fn a_seal_is_broken_by_any_change_below_it() {
        let text = "lr = 0.1\nopt = \"sgd\"\n";
        let whole = sealed(text);
        assert_eq!(unsealed(&whole), Some((text, true)));
        assert_eq!(unsealed(text), Some((text, false)), "a file of an earlier version");
        assert!(whole.parse::<Table>().is_ok(), "the first line is a comment");
        let start = whole.len() - text.len();
        for end in [SEAL.len(), start - 1, start, start + 9, whole.len() - 1] {
            assert_eq!(unsealed(&whole[..end]), None, "truncated at {end}");
        }
        for (from, to) in [("sgd", "adam"), ("0.1", "0.2"), ("lr", "lR")] {
            assert_eq!(unsealed(&whole.replace(from, to)), None, "{from}");
        }
        assert_eq!(unsealed(&format!("{whole}\n")), None);
    }
}
