//! Text in columns of a terminal, in which a Chinese character takes two columns.

use anyhow::Result;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The number of columns that tables may use.
pub const TERMINAL: usize = 80;

/// Returns the number of columns that `text` takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// Pads `text` with spaces on the right to `columns`.
pub fn padded(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// Truncates `text` to `columns`, including an ellipsis.
pub fn shorten(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let (mut start, mut used) = (String::new(), 0);
    for character in text.chars() {
        used += character.width().unwrap_or(0);
        if used >= columns {
            break;
        }
        start.push(character);
    }
    if columns > 0 {
        start.push('…');
    }
    start
}

/// Formats a number with thousands separators: `14,591,685`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).unwrap_or_default())
        .collect();
    groups.join(",")
}

/// Prints lines of columns, of which the first two contain text and the others numbers.
///
/// # Errors
/// If writing fails.
pub fn print_table<const N: usize>(table: &[[String; N]]) -> Result<()> {
    let widths: [usize; N] = std::array::from_fn(|column| {
        table.iter().map(|row| width(&row[column])).max().unwrap_or_default()
    });
    for row in table {
        let cell = |(column, text): (usize, &String)| match column {
            0 | 1 => padded(text, widths[column]),
            _ => format!("{}{text}", " ".repeat(widths[column] - width(text))),
        };
        let cells: Vec<String> = row.iter().enumerate().map(cell).collect();
        say!("{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_padded_by_their_width_on_a_terminal() {
        for name in
            ["daisy", "雛菊", "Gänseblümchen", "g\u{308}", "", "a name longer than the column"]
        {
            let padded = padded(name, 14);
            assert!(
                padded.starts_with(name) && width(&padded) == width(name).max(14),
                "{padded:?}"
            );
        }
    }

    #[test]
    fn truncated_text_fits() {
        assert_eq!(shorten("雛菊", 4), "雛菊");
        assert_eq!(shorten("雛菊花", 5), "雛菊…");
        assert_eq!(shorten("雛菊花", 4), "雛…");
        assert_eq!(shorten("daisy", 3), "da…");
        assert_eq!((shorten("daisy", 1), shorten("daisy", 0)), ("…".into(), String::new()));
    }

    #[test]
    fn thousands_are_grouped() {
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (14_591_685, "14,591,685")] {
            assert_eq!(grouped(n), text);
        }
    }
}
