//! Output that nobody takes.
#![cfg(target_os = "linux")]

use std::{fs::File, process::Stdio};

use crate::{Place, Ran};

#[test]
fn a_full_disk_is_an_error_and_not_a_panic() {
    let place = Place::new();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = place.command(&["summary"]);
    let ran = Ran::from(
        command.stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap(),
        &[],
    );
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.starts_with("error: cannot write to standard output: No space left"), "{}", ran.err);
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let place = Place::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = place.command(&["summary"]);
    let child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let ran = Ran::from(child.wait_with_output().unwrap(), &[]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(141), ""));
}
