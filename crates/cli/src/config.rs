//! Options from a recipe or a file. The command line has precedence over the file, and the file
//! over the defaults.
//!
//! A file is TOML; its keys are the long names of `train`'s options. [`expand`] inserts its entries
//! before the typed arguments as `--key=value`, so that clap checks both in the same way.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use alexnet::{
    MAX_SETTINGS_BYTES, Recipe,
    core::{
        files::read_text,
        text::{shown, shown_path},
    },
};
use anyhow::{Context, Result, bail, ensure};
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches, ValueEnum, parser::ValueSource};
use toml::Value;

use crate::{options::TrainOptions, output::escaped_usage};

/// Where options come from besides the command line.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Run")]
pub struct Source {
    /// Recipe: a named set of options
    #[arg(long, value_name = "NAME", value_enum)]
    recipe: Option<Recipe>,
    /// TOML file of options, such as the args.toml of a run; options of the command line override
    /// it
    #[arg(long, value_name = "FILE", conflicts_with = "recipe")]
    config: Option<PathBuf>,
}

/// Returns the name of a value on the command line.
pub fn named(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

impl Source {
    /// Describes the source to the user: `recipe fast` or `options of FILE`.
    pub fn description(&self) -> String {
        match (&self.config, self.recipe) {
            (Some(path), _) => format!("options of {}", shown_path(path)),
            (None, recipe) => format!("recipe {}", recipe.unwrap_or_default().name()),
        }
    }

    /// Returns the name and the content of the file or recipe, if one was named.
    fn read(&self) -> Result<Option<(String, String)>> {
        if let Some(path) = &self.config {
            let file = options_file(path)?;
            return Ok(Some((
                shown_path(&file).to_string(),
                read_text(&file, MAX_SETTINGS_BYTES)?,
            )));
        }
        Ok(self
            .recipe
            .map(|recipe| (format!("the recipe {}", recipe.name()), recipe.text().to_owned())))
    }
}

/// Returns the file of options that `--config` names: `args.toml` if the path is the folder of a
/// run, otherwise the path itself.
fn options_file(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let file = path.join("args.toml");
    ensure!(
        file.is_file(),
        "{} is a folder without an args.toml; name a file of options, or a run folder",
        shown_path(path)
    );
    note!("using the options in {}", shown_path(&file));
    Ok(file)
}

fn has_option(command: &Command, name: &str) -> bool {
    command.get_arguments().any(|option| option.get_long() == Some(name))
}

/// Converts the entries of a file to arguments: pairs of the name and `--name=value`. `train` is the
/// command, some of whose options are not allowed in a file.
fn arguments(train: &Command, name: &str, text: &str) -> Result<Vec<(String, OsString)>> {
    let in_files = TrainOptions::command();
    let table: toml::Table = text.parse().map_err(|error| {
        let cause = cause(text, &error);
        anyhow::anyhow!("{name} is not TOML, such as `lr = 0.001` on a line: {cause}")
    })?;
    let argument = |(key, value): (String, Value)| {
        if has_option(train, &key) && !has_option(&in_files, &key) {
            bail!("{name}: `{}` is only allowed on the command line; remove it", shown(&key));
        }
        let text = as_typed(&value).with_context(|| {
            format!("{name}: `{}` must be a number, a string, true, false or a list", shown(&key))
        })?;
        Ok((key.clone(), format!("--{key}={text}").into()))
    };
    table.into_iter().map(argument).collect()
}

/// Returns the line of an error and what is wrong with it. The library's own text quotes the whole
/// line, which can have any length.
fn cause(text: &str, error: &toml::de::Error) -> String {
    let last = text.trim_end().len().saturating_sub(1);
    let at = error.span().map_or(0, |span| span.start.min(last));
    let number = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
    let line = text.lines().nth(number).unwrap_or_default();
    let message = error.message().replace('\n', ", ");
    format!("line {}, `{}`: {}", number + 1, shown(line.trim()), shown(&message))
}

/// Formats a TOML value as an argument; a list becomes comma-separated.
fn as_typed(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(yes) => Some(yes.to_string()),
        Value::Array(values) => {
            values.iter().map(as_typed).collect::<Option<Vec<_>>>().map(|texts| texts.join(","))
        }
        Value::Datetime(_) | Value::Table(_) => None,
    }
}

/// Parses arguments that come from the file `name`.
fn parsed(name: &str, arguments: &[(String, OsString)]) -> Result<TrainOptions> {
    let typed = arguments.iter().map(|(_, argument)| argument);
    let matches = TrainOptions::command().no_binary_name(true).try_get_matches_from(typed);
    matches.and_then(|matches| TrainOptions::from_arg_matches(&matches)).map_err(|error| {
        let message = escaped_usage(error).to_string();
        let cause = message.lines().next().unwrap_or_default();
        anyhow::anyhow!("{name}: {}", shown(cause.trim_start_matches("error: ")))
    })
}

/// Returns the command line `typed` with the options of `source` inserted before those of the
/// innermost subcommand. Options that were typed too, or that the command does not have, are not
/// inserted. `matches` is the result of parsing `typed` with `program`.
///
/// # Errors
/// If the file cannot be read, or has a key or value that is not valid for `train`.
pub fn expand(
    program: &Command,
    source: &Source,
    typed: Vec<OsString>,
    matches: &ArgMatches,
) -> Result<Vec<OsString>> {
    let Some((name, text)) = source.read()? else { return Ok(typed) };
    let train = program.find_subcommand("train").unwrap_or(program);
    let arguments = arguments(train, &name, &text)?;
    parsed(&name, &arguments)?;

    let (mut command, mut matches, mut depth) = (program, matches, 1);
    while let Some((name, inner)) = matches.subcommand()
        && let Some(inner_command) = command.find_subcommand(name)
    {
        (command, matches, depth) = (inner_command, inner, depth + 1);
    }
    let applies = |key: &str| {
        let id =
            command.get_arguments().find(|arg| arg.get_long() == Some(key)).map(clap::Arg::get_id);
        id.is_some_and(|id| matches.value_source(id.as_str()) != Some(ValueSource::CommandLine))
    };
    let from_file =
        arguments.iter().filter(|(key, _)| applies(key)).map(|(_, argument)| argument.clone());
    let mut expanded = typed;
    let rest = expanded.split_off(depth.min(expanded.len()));
    expanded.extend(from_file);
    expanded.extend(rest);
    Ok(expanded)
}
