//! Reads the first directory of a TIFF or BigTIFF: tags and their values.

/// The tags of a directory. Values refer to the bytes of the file, in the byte order of the file.
pub struct Directory<'a> {
    pub little_endian: bool,
    entries: Vec<Entry<'a>>,
}

struct Entry<'a> {
    tag: u16,
    kind: u16,
    values: &'a [u8],
}

impl<'a> Directory<'a> {
    /// Reads the directory; `None` if it is truncated. Entries with truncated values are skipped.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let little_endian = bytes.starts_with(b"II");
        let number = |at: usize, length: usize| {
            bytes.get(at..at.checked_add(length)?).map(|bytes| of_bytes(bytes, little_endian))
        };
        let big = number(2, 2)? == 43;
        // Sizes in bytes of an offset, of the number of entries, and of an entry.
        let (word, count_bytes, entry_bytes) = if big { (8, 8, 20) } else { (4, 2, 12) };
        let start = usize::try_from(number(if big { 8 } else { 4 }, word)?).ok()?;
        let count = usize::try_from(number(start, count_bytes)?).ok()?;
        let mut entries = vec![];
        for index in 0..count.min(usize::from(u16::MAX)) {
            let at = start + count_bytes + index * entry_bytes;
            let (tag, kind) = (number(at, 2)? as u16, number(at + 2, 2)? as u16);
            let count = number(at + 4, word)?;
            let field = at + 4 + word;
            let length = count.saturating_mul(bytes_of_kind(kind) as u64);
            let place = if length <= word as u64 { field as u64 } else { number(field, word)? };
            let values = usize::try_from(place)
                .ok()
                .and_then(|place| bytes.get(place..))
                .unwrap_or_default();
            if let Some(values) =
                usize::try_from(length).ok().and_then(|length| values.get(..length))
            {
                entries.push(Entry { tag, kind, values });
            }
        }
        Some(Self { little_endian, entries })
    }

    fn entry(&self, tag: u16) -> Option<&Entry<'a>> {
        self.entries.iter().find(|entry| entry.tag == tag && !entry.values.is_empty())
    }

    /// Returns the bytes of the values.
    pub fn bytes(&self, tag: u16) -> Option<&'a [u8]> {
        self.entry(tag).map(|entry| entry.values)
    }

    /// Returns at most `limit` values; `None` if the tag is missing, its values are not integers,
    /// or one is negative.
    pub fn numbers(&self, tag: u16, limit: usize) -> Option<Vec<u64>> {
        let entry = self.entry(tag)?;
        let is_signed = matches!(entry.kind, 6 | 8 | 9 | 17);
        if !is_signed && !matches!(entry.kind, 1 | 3 | 4 | 13 | 16 | 18) {
            return None;
        }
        let values = entry.values.chunks_exact(bytes_of_kind(entry.kind)).take(limit);
        let number = |value: &[u8]| {
            let number = of_bytes(value, self.little_endian);
            let is_negative = is_signed && number >> (8 * value.len() - 1) == 1;
            (!is_negative).then_some(number)
        };
        values.map(number).collect()
    }

    /// Returns the first value, see [`Directory::numbers`].
    pub fn number(&self, tag: u16) -> Option<u64> {
        self.numbers(tag, 1)?.first().copied()
    }

    /// Returns all values, if there are exactly `N` rationals, floats or unsigned integers.
    pub fn floats<const N: usize>(&self, tag: u16) -> Option<[f32; N]> {
        let entry = self.entry(tag)?;
        let integer = |bytes: &[u8]| of_bytes(bytes, self.little_endian);
        let value = |value: &[u8]| match entry.kind {
            5 => Some((integer(&value[..4]) as f64 / integer(&value[4..]) as f64) as f32),
            11 => Some(f32::from_bits(integer(value) as u32)),
            3 | 4 => Some(integer(value) as f32),
            _ => None,
        };
        let values = entry.values.chunks_exact(bytes_of_kind(entry.kind)).map(value);
        values.collect::<Option<Vec<f32>>>()?.try_into().ok()
    }
}

fn of_bytes(bytes: &[u8], little_endian: bool) -> u64 {
    let push = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
    if little_endian { bytes.iter().rev().fold(0, push) } else { bytes.iter().fold(0, push) }
}

/// Returns the size in bytes of one value.
fn bytes_of_kind(kind: u16) -> usize {
    match kind {
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16..=18 => 8,
        _ => 1,
    }
}
