//! Output that cannot be written.
#![cfg(target_os = "linux")]

use std::{fs::File, process::Stdio};

use crate::{Ran, TestDir};

#[test]
fn a_full_disk_is_an_error_and_not_a_panic() {
    let dir = TestDir::new();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = dir.command(&["summary"]);
    let ran = Ran::from(
        command.stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap(),
        &[],
    );
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.err.starts_with("error: cannot write to standard output: No space left"),
        "{}",
        ran.err
    );
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
