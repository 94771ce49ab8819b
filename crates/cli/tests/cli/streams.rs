//! Output that cannot be written.
#![cfg(target_os = "linux")]

use std::{fs::File, process::Stdio};

use crate::{Ran, TestDir};

fn with_full_stdout(dir: &TestDir, args: &[&str]) -> Ran {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let child = dir.command(args).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    Ran::from(child.wait_with_output().unwrap(), &[])
}

#[test]
fn a_full_disk_is_an_error_and_not_a_panic() {
    let ran = with_full_stdout(&TestDir::new(), &["summary"]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.err.starts_with("error: cannot write to standard output: No space left"),
        "{}",
        ran.err
    );
}

#[test]
fn training_continues_on_a_full_disk_with_one_warning() {
    let dir = TestDir::with_flowers(4);
    let train = ["train", "--data", "flowers", "--val-fraction", "0.25", "--epochs", "2"];
    for format in ["line", "json"] {
        let ran = with_full_stdout(&dir, &[&train[..], &["--progress", format]].concat());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let warning = "warning: cannot write to standard output: No space left";
        assert_eq!(ran.err.matches(warning).count(), 1, "{ran:?}");
    }
}

#[test]
fn a_closed_pipe_is_not_reported_as_an_error() {
    let dir = TestDir::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = dir.command(&["summary"]);
    let child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let ran = Ran::from(child.wait_with_output().unwrap(), &[]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(141), ""));
}
