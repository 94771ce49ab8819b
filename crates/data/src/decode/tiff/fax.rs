//! Decodes the three fax codings (ITU-T T.4 and T.6) with the code tables of the `fax` crate. Its
//! own decoders support neither the two-dimensional coding of group 3 nor rows without end-of-line
//! codes between them.

use std::convert::Infallible;

use fax::{
    BitReader, ByteReader,
    maps::{self, Mode},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Each row starts at a byte boundary.
    Rle,
    /// An end-of-line code precedes each row. If two-dimensional, a bit follows: 1 if the row is
    /// coded without the row above it.
    Group3 { two_dimensional: bool },
    /// Each row is coded relative to the row above it.
    Group4,
}

/// Decodes `rows` rows with one bit per pixel; black is 1. `None` if the data are invalid.
pub fn unpack(data: &[u8], width: usize, rows: usize, coding: Coding) -> Option<Vec<u8>> {
    // The code tables may read bits after the last code.
    let bytes = data.iter().copied().chain([0; 4]).map(Ok::<u8, Infallible>);
    let mut reader = Reader { bits: ByteReader::new(bytes).ok()?, width: width.try_into().ok()? };
    let row_bytes = width.div_ceil(8);
    let mut out = vec![0; rows * row_bytes];
    let mut above = vec![];
    for row in out.chunks_mut(row_bytes) {
        let one_dimensional = match coding {
            Coding::Rle => {
                let padding = reader.bits.bits_to_byte_boundary();
                reader.bits.consume(padding).ok()?;
                true
            }
            Coding::Group3 { two_dimensional } => {
                reader.skip_end_of_line()?;
                !two_dimensional || reader.bit()?
            }
            Coding::Group4 => false,
        };
        let changes = if one_dimensional { reader.row_1d()? } else { reader.row_2d(&above)? };
        for black in changes.chunks(2) {
            let end = black.get(1).map_or(width, |end| usize::from(*end));
            for x in usize::from(black[0])..end {
                row[x / 8] |= 0x80 >> (x % 8);
            }
        }
        above = changes;
    }
    Some(out)
}

struct Reader<B> {
    bits: B,
    width: u16,
}

impl<B: BitReader> Reader<B> {
    fn bit(&mut self) -> Option<bool> {
        let bit = self.bits.peek(1)? == 1;
        self.bits.consume(1).ok()?;
        Some(bit)
    }

    /// Skips bits up to the end of an end-of-line code: at least eleven zeros and a one.
    fn skip_end_of_line(&mut self) -> Option<()> {
        while self.bits.peek(11)? != 0 {
            self.bits.consume(1).ok()?;
        }
        while !self.bit()? {}
        Some(())
    }

    /// Reads the length of a run, which may have several codes.
    fn run(&mut self, black: bool) -> Option<u16> {
        let mut run = 0_u16;
        loop {
            let part = if black {
                maps::black::decode(&mut self.bits)
            } else {
                maps::white::decode(&mut self.bits)
            }?;
            run = run.checked_add(part)?;
            if part < 64 {
                return Some(run);
            }
        }
    }

    /// Reads a row that is coded without the row above it. Returns the positions where the color
    /// changes, starting with white. The end of the row is not included.
    fn row_1d(&mut self) -> Option<Vec<u16>> {
        let mut changes = Changes::new(self.width);
        while changes.at < self.width {
            let end = changes.at.checked_add(self.run(changes.black)?)?;
            changes.push(end)?;
        }
        Some(changes.positions)
    }

    /// Reads a row that is coded relative to the row above it, whose changes are `above`. Returns
    /// the same as [`Self::row_1d`].
    fn row_2d(&mut self, above: &[u16]) -> Option<Vec<u16>> {
        let mut changes = Changes::new(self.width);
        // The number of changes above at or left of the current position. They need not be searched
        // again, because positions increase.
        let mut passed = 0;
        // At the start of a row, a change above the first pixel is not skipped.
        let mut start = true;
        while changes.at < self.width {
            while !start && above.get(passed).is_some_and(|change| *change <= changes.at) {
                passed += 1;
            }
            // The first remaining change to the opposite color (b1 in T.4); the change after it is
            // b2.
            let first = passed + usize::from((passed % 2 == 1) != changes.black);
            let position = |index: usize| above.get(index).copied().unwrap_or(self.width);
            match maps::mode::decode(&mut self.bits)? {
                Mode::Pass => changes.at = position(first + 1),
                Mode::Vertical(right) => {
                    changes.push(position(first).checked_add_signed(right.into())?)?
                }
                Mode::Horizontal => {
                    for _ in 0..2 {
                        let end = changes.at.checked_add(self.run(changes.black)?)?;
                        changes.push(end)?;
                    }
                }
                Mode::Extension | Mode::EOF => return None,
            }
            start = false;
        }
        Some(changes.positions)
    }
}

/// The color changes of a row.
struct Changes {
    positions: Vec<u16>,
    /// The current position in the row.
    at: u16,
    /// The current color.
    black: bool,
    width: u16,
}

impl Changes {
    fn new(width: u16) -> Self {
        Self { positions: vec![], at: 0, black: false, width }
    }

    /// Adds a color change. `None` if it is left of the current position.
    fn push(&mut self, position: u16) -> Option<()> {
        if position < self.at {
            return None;
        }
        let position = position.min(self.width);
        if position < self.width {
            self.positions.push(position);
        }
        self.at = position;
        self.black = !self.black;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The color changes at each pixel, and rows are coded relative to the row above. If the search
    /// among the changes above started at the first change each time, this test would take minutes.
    #[test]
    fn rows_with_many_changes_are_read_in_linear_time() {
        let (width, rows) = (65_000, 300);
        // Horizontal mode, a white run of 1, a black run of 1; then vertical mode 0.
        let mut bits = "001000111010".repeat(width / 2);
        bits += &"1".repeat(width * (rows - 1));
        let byte = |bits: &[u8]| bits.iter().fold(0, |byte, bit| byte << 1 | (bit - b'0'));
        let data: Vec<u8> = bits.as_bytes().chunks(8).map(byte).collect();
        assert_eq!(
            unpack(&data, width, rows, Coding::Group4),
            Some(vec![0b0101_0101; width / 8 * rows])
        );
    }
}
