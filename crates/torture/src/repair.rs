//! Corrects the checksums of mutated files, so that mutations reach the code after the checks.

/// Corrects the checksum of each chunk.
pub fn png(bytes: &mut [u8]) {
    let mut offset = 8;
    while let Some(length) = bytes.get(offset..offset + 4) {
        let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        let (start, end) = (offset + 4, offset.saturating_add(8).saturating_add(length));
        if end.saturating_add(4) > bytes.len() {
            break;
        }
        let crc = crc32fast::hash(&bytes[start..end]);
        bytes[end..end + 4].copy_from_slice(&crc.to_be_bytes());
        offset = end + 4;
    }
}

/// Corrects the checksum of each header.
pub fn tar(bytes: &mut [u8]) {
    for header in bytes.chunks_exact_mut(512).filter(|header| header[257..262] == *b"ustar") {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

/// Corrects the checksum of each stored entry, in the directory and in the local header.
pub fn zip(bytes: &mut [u8]) {
    let number = |bytes: &[u8], offset: usize, width: usize| {
        bytes[offset..offset + width]
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | usize::from(*byte))
    };
    for offset in 0..bytes.len().saturating_sub(46) {
        if bytes[offset..offset + 4] != *b"PK\x01\x02" || number(bytes, offset + 10, 2) != 0 {
            continue;
        }
        let (size, local) = (number(bytes, offset + 20, 4), number(bytes, offset + 42, 4));
        if local + 30 > bytes.len() {
            continue;
        }
        let start = local + 30 + number(bytes, local + 26, 2) + number(bytes, local + 28, 2);
        if let Some(content) = bytes.get(start..start + size) {
            let crc = crc32fast::hash(content).to_le_bytes();
            bytes[offset + 16..offset + 20].copy_from_slice(&crc);
            bytes[local + 14..local + 18].copy_from_slice(&crc);
        }
    }
}

/// Corrects both checksums of each record of an event file.
pub fn events(bytes: &mut [u8]) {
    const HEAD: usize = 12;
    let checksum = |bytes: &[u8]| {
        crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xA282_EAD8).to_le_bytes()
    };
    let mut offset = 0;
    while let Some((length, sum)) = bytes
        .get_mut(offset..)
        .and_then(|rest| rest.get_mut(..HEAD))
        .map(|head| head.split_at_mut(8))
    {
        sum.copy_from_slice(&checksum(length));
        let length = length.iter().rev().fold(0, |n: u64, byte| n << 8 | u64::from(*byte));
        let start = offset + HEAD;
        let Some(end) = usize::try_from(length).ok().and_then(|length| start.checked_add(length))
        else {
            break;
        };
        if end.saturating_add(4) > bytes.len() {
            break;
        }
        let sum = checksum(&bytes[start..end]);
        bytes[end..end + 4].copy_from_slice(&sum);
        offset = end + 4;
    }
}
