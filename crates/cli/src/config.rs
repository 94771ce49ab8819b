//! Options from files: command line over file over default. A file is TOML with the long names of `train`'s options; its entries
//! become arguments before those that were typed, so both go through the same checks.

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

/// Where options come from, beside the command line.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Run")]
pub struct Source {
    /// Options that go together
    #[arg(long, value_name = "NAME", value_enum)]
    recipe: Option<Recipe>,
    /// File of options, such as a run's args.toml or a copy of a recipe; what the command line says counts more
    #[arg(long, value_name = "FILE", conflicts_with = "recipe")]
    config: Option<PathBuf>,
}

/// A value as it is typed.
pub fn named(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

impl Source {
    /// What the options go by, for the user.
    pub fn description(&self) -> String {
        match (&self.config, self.recipe) {
            (Some(path), _) => format!("options of {}", shown_path(path)),
            (None, recipe) => format!("recipe {}", recipe.unwrap_or_default().name()),
        }
    }

    /// The name and the content of the file, if there is one.
    fn read(&self) -> Result<Option<(String, String)>> {
        if let Some(path) = &self.config {
            let file = file_of(path)?;
            return Ok(Some((shown_path(&file).to_string(), read_text(&file, MAX_SETTINGS_BYTES)?)));
        }
        Ok(self.recipe.map(|recipe| (format!("the recipe {}", recipe.name()), recipe.text().to_owned())))
    }
}

/// The file that a path stands for: the folder of a run for its options.
fn file_of(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let file = path.join("args.toml");
    ensure!(
        file.is_file(),
        "{} is a folder without an args.toml; name a file of options, or the folder of a run",
        shown_path(path)
    );
    note!("using the options in {}", shown_path(&file));
    Ok(file)
}

/// What a file may not decide.
const NOT_IN_FILES: [&str; 4] = ["recipe", "config", "resume", "run-dir"];

/// The arguments that a file stands for: `--name=value` by name.
fn arguments(name: &str, text: &str) -> Result<Vec<(String, OsString)>> {
    let table: toml::Table =
        text.parse().with_context(|| format!("{name} is not TOML, such as `lr = 0.001` on a line"))?;
    let argument = |(key, value): (String, Value)| {
        if NOT_IN_FILES.contains(&key.as_str()) {
            bail!("{name}: `{}` is for the command line alone; remove it", shown(&key));
        }
        let text = as_typed(&value).with_context(|| {
            format!("{name}: `{}` must be a number, a text, true, false or a list", shown(&key))
        })?;
        Ok((key.clone(), format!("--{key}={text}").into()))
    };
    table.into_iter().map(argument).collect()
}

/// A value as one types it.
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

/// The options that these arguments give; the file is called `name`.
fn parsed(name: &str, arguments: &[(String, OsString)]) -> Result<TrainOptions> {
    let typed = arguments.iter().map(|(_, argument)| argument);
    let matches = TrainOptions::command().no_binary_name(true).try_get_matches_from(typed);
    matches.and_then(|matches| TrainOptions::from_arg_matches(&matches)).map_err(|error| {
        let said = escaped_usage(error).to_string();
        let cause = said.lines().next().unwrap_or_default();
        anyhow::anyhow!("{name}: {}", shown(cause.trim_start_matches("error: ")))
    })
}

/// The command line `typed` with the arguments of `source` before those of the innermost command, unless they were typed
/// too. `found` is what `program` made of it. Options that the command lacks are left out.
///
/// # Errors
/// When the file cannot be read, or a name or value in it is no option.
pub fn expand(
    program: &Command,
    source: &Source,
    typed: Vec<OsString>,
    found: &ArgMatches,
) -> Result<Vec<OsString>> {
    let Some((name, text)) = source.read()? else { return Ok(typed) };
    let arguments = arguments(&name, &text)?;
    parsed(&name, &arguments)?;

    let (mut command, mut found, mut depth) = (program, found, 1);
    while let Some((name, inner)) = found.subcommand()
        && let Some(inner_command) = command.find_subcommand(name)
    {
        (command, found, depth) = (inner_command, inner, depth + 1);
    }
    let counts = |key: &str| {
        let id = command.get_arguments().find(|arg| arg.get_long() == Some(key)).map(clap::Arg::get_id);
        id.is_some_and(|id| found.value_source(id.as_str()) != Some(ValueSource::CommandLine))
    };
    let from_file = arguments.iter().filter(|(key, _)| counts(key)).map(|(_, argument)| argument.clone());
    let mut expanded = typed;
    let rest = expanded.split_off(depth.min(expanded.len()));
    expanded.extend(from_file);
    expanded.extend(rest);
    Ok(expanded)
}
