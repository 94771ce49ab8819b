//! What the program tells about itself: version, completions, manual pages, schema.

use std::{fs, process::Command};

use serde_json::Value;

use crate::TestDir;

#[test]
fn the_version_names_engines_and_instruction_sets() {
    let dir = TestDir::new();
    let short = dir.succeeds(&["-V"]);
    assert!(short.starts_with(concat!("alexnet ", env!("CARGO_PKG_VERSION"))), "{short}");
    let long = dir.succeeds(&["--version"]);
    let lines: Vec<&str> = long.lines().collect();
    assert!(lines.len() == 3 && lines[0] == short.trim_end(), "{long}");
    assert!(lines[1].starts_with("engines in this program: cpu"), "{long}");
    assert!(lines[2].contains("of this processor: ") && lines[2].ends_with("portable"), "{long}");
}

#[test]
fn bash_completes_commands_and_options() {
    let dir = TestDir::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        assert!(dir.succeeds(&["completions", shell]).contains("lr-find"), "{shell}");
    }
    fs::write(dir.file("alexnet.bash"), dir.succeeds(&["completions", "bash"])).unwrap();
    let complete = |words: &str, word: usize| {
        let script = format!(
            "source ./alexnet.bash; COMP_WORDS=({words}); COMP_CWORD={word}; \
             _alexnet alexnet \"${{COMP_WORDS[$COMP_CWORD]}}\" \"${{COMP_WORDS[$COMP_CWORD-1]}}\"; \
             echo ${{COMPREPLY[@]}}"
        );
        let output = Command::new("bash").args(["-c", &script]).current_dir(dir.path()).output();
        output.map(|output| String::from_utf8(output.stdout).unwrap())
    };
    let Ok(commands) = complete("alexnet tr", 1) else {
        println!("skipped: no bash");
        return;
    };
    assert_eq!(commands, "train\n");
    assert_eq!(complete("alexnet train --shuffle ''", 3).unwrap(), "full blocks\n");
    assert!(complete("alexnet data pack --sh", 3).unwrap().contains("--shard-size"));
}

#[test]
fn each_command_has_a_manual_page() {
    let dir = TestDir::new();
    assert_eq!(dir.succeeds(&["man", "pages/man1"]), "pages/man1/alexnet.1\n");
    let page = |name: &str| fs::read_to_string(dir.file("pages/man1").join(name)).unwrap();
    assert!(page("alexnet.1").contains("alexnet\\-train(1)"), "{}", page("alexnet.1"));
    assert!(page("alexnet-train.1").contains("\\-\\-recipe"));
    assert!(page("alexnet-data-pack.1").contains("\\-\\-shard\\-size"));
    // The pages do not depend on the machine.
    assert!(!page("alexnet.1").contains("this processor"));
    fs::write(dir.file("file"), "").unwrap();
    let ran = dir.run(&["man", "file/man1"]);
    assert!(ran.code == Some(1) && ran.err.contains("cannot create file/man1"), "{ran:?}");
}

#[test]
fn the_options_of_a_run_are_in_the_schema() {
    let dir = TestDir::with_flowers(2);
    let schema: Value = serde_json::from_str(&dir.succeeds(&["schema"])).unwrap();
    let train = ["train", "--data", "flowers", "--val-fraction", "0.5", "--epochs", "1"];
    dir.succeeds(&[&train[..], &["--recipe", "fast", "--run-dir", "run"]].concat());
    let args: toml::Table = fs::read_to_string(dir.file("run/args.toml")).unwrap().parse().unwrap();
    for (key, value) in args {
        let property = &schema["properties"][&key];
        let value = serde_json::to_value(value).unwrap();
        let kind = match value {
            Value::Bool(_) => "boolean",
            Value::Array(_) => "array",
            Value::String(_) => "string",
            _ => "number",
        };
        let kinds = property["type"].to_string();
        let fits = kinds.contains(kind) || (kind == "number" && kinds.contains("integer"));
        assert!(fits, "{key} = {value}: {property}");
        assert!(property["enum"].as_array().is_none_or(|names| names.contains(&value)), "{key}");
    }
}
