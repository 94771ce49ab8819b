//! Mutations of valid files.
//!
//! The mutations simulate the damage that disks, networks and attackers cause, and target the
//! typical errors of parsers: numbers at the limits of their types, wrong lengths, and parts that
//! are removed, duplicated, swapped or taken from another file.

use rand::{RngExt, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

/// The maximum size of a mutated file, in bytes.
const MAX_BYTES: usize = 1 << 18;

/// Mutates files.
pub struct Mutator<'a> {
    /// The files to mutate, and to take parts from.
    pub corpus: &'a [Vec<u8>],
    /// Words of the format: markers, keys, names of chunks.
    pub words: &'a [&'a [u8]],
}

impl Mutator<'_> {
    /// Returns a file of the corpus with one to eight changes; few changes are more likely.
    pub fn mutate(&self, rng: &mut ChaCha8Rng) -> Vec<u8> {
        let mut bytes = self.corpus.choose(rng).cloned().unwrap_or_default();
        let changes = 1 << rng.random_range(0..4);
        for _ in 0..rng.random_range(1..=changes) {
            self.change(&mut bytes, rng);
        }
        bytes.truncate(MAX_BYTES);
        bytes
    }

    fn change(&self, bytes: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
        match rng.random_range(0..14) {
            0 | 1 => flip_bit(bytes, rng),
            2 => one_byte(bytes, rng),
            3..=5 => integer(bytes, rng),
            6 => decimal(bytes, rng),
            7 => bytes.truncate(rng.random_range(0..=bytes.len())),
            8 => {
                let (start, end) = part(bytes, rng);
                bytes.drain(start..end);
            }
            9 => {
                let (start, end) = part(bytes, rng);
                let copy = bytes[start..end].to_vec();
                insert(bytes, &copy.repeat(rng.random_range(1..=3)), rng);
            }
            10 => swap_parts(bytes, rng),
            11 => {
                let (start, end) = part(bytes, rng);
                bytes[start..end].fill(*[0, 0xFF, rng.random()].choose(rng).unwrap_or(&0));
            }
            12 => self.word(bytes, rng),
            _ => self.splice(bytes, rng),
        }
    }

    /// Inserts a word of the format at a random position, or overwrites bytes with it.
    fn word(&self, bytes: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
        let Some(word) = self.words.choose(rng) else { return flip_bit(bytes, rng) };
        if rng.random() {
            insert(bytes, word, rng);
        } else {
            let start = rng.random_range(0..=bytes.len());
            let end = (start + word.len()).min(bytes.len());
            bytes.splice(start..end, word.iter().copied());
        }
    }

    /// Replaces the end by the end of another file, or inserts a part of another file.
    fn splice(&self, bytes: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
        let Some(other) = self.corpus.choose(rng) else { return };
        if rng.random() {
            bytes.truncate(rng.random_range(0..=bytes.len()));
            bytes.extend(&other[rng.random_range(0..=other.len())..]);
        } else {
            let (start, end) = part(other, rng);
            insert(bytes, &other[start..end], rng);
        }
    }
}

fn flip_bit(bytes: &mut [u8], rng: &mut ChaCha8Rng) {
    if !bytes.is_empty() {
        let bit = rng.random_range(0..bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

fn one_byte(bytes: &mut [u8], rng: &mut ChaCha8Rng) {
    if !bytes.is_empty() {
        let index = rng.random_range(0..bytes.len());
        bytes[index] = rng.random();
    }
}

/// Changes an integer of 1, 2, 4 or 8 bytes in either byte order: to a limit of its type, a
/// neighboring number or a multiple.
fn integer(bytes: &mut [u8], rng: &mut ChaCha8Rng) {
    let width = 1 << rng.random_range(0..4);
    let Some(last) = bytes.len().checked_sub(width) else { return };
    // Lengths and sizes are often near the start of a file.
    let near = if rng.random() { last.min(64) } else { last };
    let start = rng.random_range(0..=near);
    let field = &mut bytes[start..start + width];
    let little: bool = rng.random();
    if little {
        field.reverse();
    }
    let current = field.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let top = 1_u64 << (8 * width - 1);
    let edges = [
        0,
        1,
        top - 1,
        top,
        top.wrapping_mul(2).wrapping_sub(1),
        last as u64,
        1 << 14,
        1 << 26,
        1 << 31,
    ];
    let number = match rng.random_range(0..3) {
        0 => current.wrapping_add_signed(rng.random_range(-16..=16)),
        1 => current.wrapping_mul(rng.random_range(2..=256)),
        _ => *edges.choose(rng).unwrap_or(&0),
    };
    field.copy_from_slice(&number.to_be_bytes()[8 - width..]);
    if little {
        field.reverse();
    }
}

/// Replaces a number in decimal digits.
fn decimal(bytes: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
    const EDGES: [&str; 17] = [
        "0",
        "-1",
        "1",
        "255",
        "256",
        "65535",
        "65536",
        "4294967295",
        "4294967296",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "1e400",
        "-0.0",
        "nan",
        "0.5",
    ];
    let digits: Vec<usize> =
        (0..bytes.len()).filter(|index| bytes[*index].is_ascii_digit()).collect();
    let Some(start) = digits.choose(rng).copied() else { return flip_bit(bytes, rng) };
    let length = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let edge = EDGES.choose(rng).map_or(&b""[..], |edge| edge.as_bytes());
    bytes.splice(start..start + length, edge.iter().copied());
}

fn swap_parts(bytes: &mut [u8], rng: &mut ChaCha8Rng) {
    let (start, end) = part(bytes, rng);
    let (length, room) = (end - start, bytes.len() - end);
    if room >= length {
        let (left, right) = bytes.split_at_mut(end);
        let to = rng.random_range(0..=room - length);
        left[start..].swap_with_slice(&mut right[to..to + length]);
    }
}

fn insert(bytes: &mut Vec<u8>, part: &[u8], rng: &mut ChaCha8Rng) {
    let index = rng.random_range(0..=bytes.len());
    bytes.splice(index..index, part.iter().copied());
}

/// Returns start and end of a random part. Short parts are more likely.
fn part(bytes: &[u8], rng: &mut ChaCha8Rng) -> (usize, usize) {
    let start = rng.random_range(0..=bytes.len());
    let max = (bytes.len() - start).min(1 << rng.random_range(0..12));
    (start, start + rng.random_range(0..=max))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn equal_seeds_give_equal_mutations_and_others_differ() {
        let corpus = [(0..200).collect::<Vec<u8>>(), b"width 100 height 20".to_vec()];
        let mutator = Mutator { corpus: &corpus, words: &[b"IHDR"] };
        let of_seed = |seed| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            (0..1000).map(|_| mutator.mutate(&mut rng)).collect::<Vec<_>>()
        };
        let one = of_seed(1);
        assert!(one == of_seed(1) && one != of_seed(2));
        let different: std::collections::BTreeSet<_> = one.iter().collect();
        assert!(different.len() > 900, "{}", different.len());
        assert!(one.iter().any(|bytes| bytes.windows(4).any(|four| four == b"IHDR")));
        let edge = b"4294967296";
        assert!(one.iter().any(|bytes| bytes.windows(edge.len()).any(|part| part == edge)));
    }

    #[test]
    fn an_empty_file_can_be_mutated() {
        let mutator = Mutator { corpus: &[vec![]], words: &[] };
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        for _ in 0..1000 {
            mutator.mutate(&mut rng);
        }
    }
}
