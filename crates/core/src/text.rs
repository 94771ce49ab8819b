//! Makes untrusted text (names of files, tensors and classes, metadata) safe for one line on a
//! terminal: it cannot move the cursor, imitate a message of the program or fill the screen.

use std::{
    fmt::{self, Display, Write},
    path::Path,
};

/// The maximum number of characters of a text that are shown.
const MAX_CHARS: usize = 200;

/// Whether a terminal interprets the character instead of showing it: control characters, and those
/// that change the writing direction or end a line.
pub fn is_control(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Writes a text. Control characters are escaped as in Rust, except those in `allowed`.
///
/// # Errors
/// Those of `out`.
pub fn escape(out: &mut impl Write, text: &str, allowed: &[char]) -> fmt::Result {
    text.chars().try_for_each(|character| match character {
        '\n' | '\r' | '\t' if !allowed.contains(&character) => {
            write!(out, "{}", character.escape_debug())
        }
        _ if is_control(character) && !allowed.contains(&character) => {
            write!(out, "{}", character.escape_unicode())
        }
        _ => out.write_char(character),
    })
}

/// Returns untrusted text for display: escaped, and truncated after 200 characters.
pub fn shown(text: &str) -> impl Display + '_ {
    Shown(text)
}

struct Shown<'a>(&'a str);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(MAX_CHARS) {
            None => escape(f, self.0, &[]),
            Some((end, _)) => {
                escape(f, &self.0[..end], &[])?;
                write!(f, "… ({} bytes more)", self.0.len() - end)
            }
        }
    }
}

/// Returns untrusted text for display: escaped, but not truncated.
pub fn escaped(text: &str) -> impl Display + '_ {
    Escaped(text)
}

struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(f, self.0, &[])
    }
}

/// Returns a path for display: escaped, but not truncated. Bytes that are not UTF-8 are shown as,
/// for example, `\xE9`.
pub fn shown_path(path: &Path) -> impl Display + '_ {
    ShownPath(path)
}

struct ShownPath<'a>(&'a Path);

impl Display for ShownPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_os_str().as_encoded_bytes().utf8_chunks().try_for_each(|chunk| {
            escape(f, chunk.valid(), &[])?;
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02X}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        for (text, expected) in [
            ("daisy, 雏菊 \"é\" \\", "daisy, 雏菊 \"é\" \\"),
            ("\u{1b}[2J", r"\u{1b}[2J"),
            ("a\nerror: b\r\t", r"a\nerror: b\r\t"),
            ("\u{9b}31m\u{7f}", r"\u{9b}31m\u{7f}"),
            ("gpj.\u{202e}exe", r"gpj.\u{202e}exe"),
        ] {
            assert_eq!(shown(text).to_string(), expected);
            assert_eq!(escaped(text).to_string(), expected);
            assert_eq!(shown_path(Path::new(text)).to_string(), expected);
        }
        let mut partly_escaped = String::new();
        escape(&mut partly_escaped, "a\n\tb\u{7}", &['\n', '\t']).unwrap();
        assert_eq!(partly_escaped, "a\n\tb\\u{7}");
    }

    #[test]
    fn long_text_is_truncated_but_paths_are_not() {
        let long = "é".repeat(300);
        assert_eq!(shown(&long).to_string(), format!("{}… (200 bytes more)", "é".repeat(200)));
        assert_eq!(shown_path(Path::new(&long)).to_string(), long);
        assert_eq!(shown(&long[..400]).to_string(), long[..400]);
    }

    #[cfg(unix)]
    #[test]
    fn bytes_that_are_not_utf8_are_shown_in_hexadecimal() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
        let name = Path::new(OsStr::from_bytes(b"caf\xe9.jpg"));
        assert_eq!(shown_path(name).to_string(), r"caf\xE9.jpg");
    }
}
