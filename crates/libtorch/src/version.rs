//! The version of the libtorch in a folder.

use std::{fs, path::Path};

use crate::{Cause, VERSION};

/// The headers that contain the version, the newest location first.
const HEADERS: [&str; 2] =
    ["include/torch/headeronly/version.h", "include/torch/csrc/api/include/torch/version.h"];

/// Returns the version of the libtorch in `folder`, such as `2.13.0+cpu` or, from a header,
/// `2.13.0`.
///
/// # Errors
/// [`Cause::Missing`] when no file contains it, [`Cause::Version`] when it is not [`VERSION`].
pub fn of(folder: &Path) -> Result<String, Cause> {
    let found = read(folder).ok_or_else(|| Cause::Missing(HEADERS[0].into()))?;
    if found.split('+').next() == Some(VERSION) { Ok(found) } else { Err(Cause::Version(found)) }
}

/// Reads the version from the file `build-version` of official archives, else from a header.
fn read(folder: &Path) -> Option<String> {
    let file = fs::read_to_string(folder.join("build-version")).ok();
    file.map(|text| text.trim().to_owned()).or_else(|| {
        HEADERS.iter().find_map(|header| in_header(&fs::read_to_string(folder.join(header)).ok()?))
    })
}

/// Parses `2.13.0` from the lines `#define TORCH_VERSION_MAJOR 2`, ….
fn in_header(text: &str) -> Option<String> {
    let number = |part: &str| {
        let define = format!("#define TORCH_VERSION_{part} ");
        text.lines().find_map(|line| line.strip_prefix(&define)).map(str::trim)
    };
    Some(format!("{}.{}.{}", number("MAJOR")?, number("MINOR")?, number("PATCH")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "#pragma once\n\n/// Indicates the major version of LibTorch.\n\
        #define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 5\n#define TORCH_VERSION_PATCH 1\n\
        #define TORCH_VERSION_ABI_TAG 0\n#define TORCH_VERSION \\\n  \"2.5.1\"\n";

    #[test]
    fn the_file_has_priority_over_the_new_header_and_that_over_the_old() {
        let folder = tempfile::tempdir().unwrap();
        let missing = Cause::Missing("include/torch/headeronly/version.h".into());
        assert_eq!(of(folder.path()), Err(missing));

        let [new, old] = HEADERS.map(|header| folder.path().join(header));
        fs::create_dir_all(old.parent().unwrap()).unwrap();
        fs::write(&old, HEADER).unwrap();
        assert_eq!(of(folder.path()), Err(Cause::Version("2.5.1".into())));

        fs::create_dir_all(new.parent().unwrap()).unwrap();
        fs::write(&new, HEADER.replace("MINOR 5", "MINOR 13").replace("PATCH 1", "PATCH 0"))
            .unwrap();
        assert_eq!(of(folder.path()).as_deref(), Ok("2.13.0"));

        fs::write(folder.path().join("build-version"), "2.13.0+cpu\n").unwrap();
        assert_eq!(of(folder.path()).as_deref(), Ok("2.13.0+cpu"));
        fs::write(folder.path().join("build-version"), "2.13.01\n").unwrap();
        assert_eq!(of(folder.path()), Err(Cause::Version("2.13.01".into())));
    }
}
