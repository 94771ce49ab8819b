//! Decodes the three codings of fax (ITU-T T.4 and T.6), with the code tables of the `fax` crate, whose own decoders know neither
//! the two-dimensional coding of group 3 nor rows without marks between them.

use std::convert::Infallible;

use fax::{
    BitReader, ByteReader,
    maps::{self, Mode},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Rows begin at a byte.
    Rle,
    /// Before each row a mark, and after it whether the row is coded on its own, if rows are not always.
    Group3 { two_dimensional: bool },
    /// Each row is coded by the row above it.
    Group4,
}

/// Unpacks so many rows: a bit a pixel, black is 1. `None` when the data make no sense.
pub fn unpack(data: &[u8], width: usize, rows: usize, coding: Coding) -> Option<Vec<u8>> {
    // The tables look at bits past the last code.
    let bytes = data.iter().copied().chain([0; 4]).map(Ok::<u8, Infallible>);
    let mut reader = Reader { bits: ByteReader::new(bytes).ok()?, width: width.try_into().ok()? };
    let row_bytes = width.div_ceil(8);
    let mut out = vec![0; rows * row_bytes];
    let mut above = vec![];
    for row in out.chunks_mut(row_bytes) {
        let alone = match coding {
            Coding::Rle => {
                let padding = reader.bits.bits_to_byte_boundary();
                reader.bits.consume(padding).ok()?;
                true
            }
            Coding::Group3 { two_dimensional } => {
                reader.skip_mark()?;
                !two_dimensional || reader.bit()?
            }
            Coding::Group4 => false,
        };
        let changes = if alone { reader.row_alone()? } else { reader.row_by(&above)? };
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

    /// Eleven zeros or more, and a one. What is before them is left out.
    fn skip_mark(&mut self) -> Option<()> {
        while self.bits.peek(11)? != 0 {
            self.bits.consume(1).ok()?;
        }
        while !self.bit()? {}
        Some(())
    }

    /// The length of a run, which may come in parts.
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

    /// Where the colour changes, from white at first; the row's end is left out.
    fn row_alone(&mut self) -> Option<Vec<u16>> {
        let mut changes = Changes::new(self.width);
        while changes.at < self.width {
            let end = changes.at.checked_add(self.run(changes.black)?)?;
            changes.turn(end)?;
        }
        Some(changes.places)
    }

    /// The same, for a row that is coded by the one above it.
    fn row_by(&mut self, above: &[u16]) -> Option<Vec<u16>> {
        let mut changes = Changes::new(self.width);
        // The changes above that are not right of here. They need not be looked at again: a row goes to the right alone.
        let mut passed = 0;
        // At the start of a row a change above the very first pixel counts too.
        let mut start = true;
        while changes.at < self.width {
            while !start && above.get(passed).is_some_and(|change| *change <= changes.at) {
                passed += 1;
            }
            // The first of the others to the other colour, and the one after it.
            let first = passed + usize::from((passed % 2 == 1) != changes.black);
            let place = |index: usize| above.get(index).copied().unwrap_or(self.width);
            match maps::mode::decode(&mut self.bits)? {
                Mode::Pass => changes.at = place(first + 1),
                Mode::Vertical(right) => changes.turn(place(first).checked_add_signed(right.into())?)?,
                Mode::Horizontal => {
                    for _ in 0..2 {
                        let end = changes.at.checked_add(self.run(changes.black)?)?;
                        changes.turn(end)?;
                    }
                }
                Mode::Extension | Mode::EOF => return None,
            }
            start = false;
        }
        Some(changes.places)
    }
}

struct Changes {
    places: Vec<u16>,
    at: u16,
    black: bool,
    width: u16,
}

impl Changes {
    fn new(width: u16) -> Self {
        Self { places: vec![], at: 0, black: false, width }
    }

    /// The colour changes at a place, which is right of the last.
    fn turn(&mut self, place: u16) -> Option<()> {
        if place < self.at {
            return None;
        }
        let place = place.min(self.width);
        if place < self.width {
            self.places.push(place);
        }
        self.at = place;
        self.black = !self.black;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each pixel of another colour than the one before it, in rows that are coded by the row above. A search among the changes
    /// above that begins anew at each change would take minutes.
    #[test]
    fn a_row_of_many_changes_is_read_once() {
        let (width, rows) = (65_000, 300);
        // Horizontal mode, a white run of 1, a black run of 1; then vertical mode 0.
        let mut bits = "001000111010".repeat(width / 2);
        bits += &"1".repeat(width * (rows - 1));
        let byte = |bits: &[u8]| bits.iter().fold(0, |byte, bit| byte << 1 | (bit - b'0'));
        let data: Vec<u8> = bits.as_bytes().chunks(8).map(byte).collect();
        assert_eq!(unpack(&data, width, rows, Coding::Group4), Some(vec![0b0101_0101; width / 8 * rows]));
    }
}
