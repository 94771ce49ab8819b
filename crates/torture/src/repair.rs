//! Recomputes the checksums of damaged files, so that a damage reaches the code after them.

/// Recomputes the checksum of each chunk.
pub fn png(bytes: &mut [u8]) {
    let mut place = 8;
    while let Some(length) = bytes.get(place..place + 4) {
        let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        let (start, end) = (place + 4, place.saturating_add(8).saturating_add(length));
        if end.saturating_add(4) > bytes.len() {
            break;
        }
        let crc = crc32fast::hash(&bytes[start..end]);
        bytes[end..end + 4].copy_from_slice(&crc.to_be_bytes());
        place = end + 4;
    }
}

/// Recomputes the checksum of each header.
pub fn tar(bytes: &mut [u8]) {
    for header in bytes.chunks_exact_mut(512).filter(|header| header[257..262] == *b"ustar") {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

/// Recomputes the checksum of each entry that is stored, at both places.
pub fn zip(bytes: &mut [u8]) {
    let number = |bytes: &[u8], place: usize, width: usize| {
        bytes[place..place + width].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
    };
    for place in 0..bytes.len().saturating_sub(46) {
        if bytes[place..place + 4] != *b"PK\x01\x02" || number(bytes, place + 10, 2) != 0 {
            continue;
        }
        let (size, local) = (number(bytes, place + 20, 4), number(bytes, place + 42, 4));
        if local + 30 > bytes.len() {
            continue;
        }
        let start = local + 30 + number(bytes, local + 26, 2) + number(bytes, local + 28, 2);
        if let Some(content) = bytes.get(start..start + size) {
            let crc = crc32fast::hash(content).to_le_bytes();
            bytes[place + 16..place + 20].copy_from_slice(&crc);
            bytes[local + 14..local + 18].copy_from_slice(&crc);
        }
    }
}
