//! Finds duplicates and near duplicates: images of the same bytes, of the same pixels, or of similar perceptual hashes.
//!
//! The hash is pHash: a discrete cosine transform of the image, shrunk to 32×32 grey pixels; each of the 16×16 lowest frequencies
//! gives one bit, whether it is above their median. Copies that were saved anew, resized, recoloured or trimmed by a few pixels
//! differ in few bits, other images in about half of them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::LazyLock,
};

use image::{Pixel, RgbImage, imageops};
use image_hasher::{HashAlg, Hasher, HasherConfig};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::resize::{Crop, resize};

/// Two images are near duplicates when at most so many of the 256 bits of their hashes differ, as they are or mirrored.
pub const NEAR_BITS: u32 = 56;

/// Height and width that an image is shrunk to for the hash.
const SIDE: u32 = 32;

/// An image whose brightness (0 to 255) has a lower standard deviation is flat: its hash would be that of its noise.
const FLAT: f64 = 2.0;

type Hash = [u64; 4];

static HASHER: LazyLock<Hasher<[u8; 32]>> = LazyLock::new(|| {
    let config = HasherConfig::with_bytes_type::<[u8; 32]>().hash_size(SIDE / 2, SIDE / 2);
    config.hash_alg(HashAlg::Median).preproc_dct().to_hasher()
});

/// The digests and hashes by which images are compared.
#[derive(Clone, Copy, Debug)]
pub struct Fingerprint {
    file: [u8; 32],
    pixels: [u8; 32],
    /// Hashes of the image and of its mirror image; none for a flat image.
    hashes: Option<[Hash; 2]>,
}

impl Fingerprint {
    /// The fingerprint of a file with this SHA-256 and of the image that it decodes to.
    pub fn new(file: [u8; 32], image: &RgbImage) -> Self {
        let (width, height) = image.dimensions();
        let mut pixels = Sha256::new_with_prefix(width.to_le_bytes());
        pixels.update(image.as_raw());
        let small = resize(image, Crop::whole(width, height), SIDE, SIDE);
        let hashes = RgbImage::from_raw(SIDE, SIDE, small)
            .filter(|small| !is_flat(small))
            .map(|small| [hash(&small), hash(&imageops::flip_horizontal(&small))]);
        Self { file, pixels: pixels.finalize().into(), hashes }
    }
}

fn hash(small: &RgbImage) -> Hash {
    let hash = HASHER.hash_image(small);
    let words = hash.as_bytes().as_chunks().0;
    std::array::from_fn(|word| u64::from_le_bytes(words[word]))
}

fn is_flat(image: &RgbImage) -> bool {
    let n = f64::from(image.width() * image.height());
    let light = || image.pixels().map(|pixel| f64::from(pixel.to_luma()[0]));
    let mean = light().sum::<f64>() / n;
    light().map(|light| (light - mean).powi(2)).sum::<f64>() / n < FLAT * FLAT
}

fn distance(a: &Hash, b: &Hash) -> u32 {
    a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum()
}

/// How similar two images are, the most similar first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Likeness {
    /// The files have the same bytes.
    Bytes,
    /// The files differ, but not the pixels.
    Pixels,
    /// The hashes differ in few bits.
    Near {
        /// Number of bits that differ, of 256; at most [`NEAR_BITS`].
        bits: u32,
        /// Whether one is the mirror image of the other.
        mirrored: bool,
    },
}

/// Two images that are duplicates or near duplicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Index in `images` of the group.
    pub a: usize,
    /// Index in `images` of the group, larger than `a`.
    pub b: usize,
    /// How similar they are.
    #[serde(flatten)]
    pub likeness: Likeness,
}

/// Images that are joined by links, directly or through others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Indices of images, ascending.
    pub members: Vec<usize>,
    /// The closest links that join them all; their indices are those in `members`.
    pub links: Vec<Link>,
}

/// Groups of duplicates and near duplicates, in the order of their first members. An image without fingerprint is in none.
pub fn groups(prints: &[Option<Fingerprint>]) -> Vec<Group> {
    let mut links = links(prints);
    links.sort_unstable_by_key(|link| (link.likeness, link.a, link.b));
    let mut sets = Sets::new(prints.len());
    links.retain(|link| sets.join(link.a, link.b));

    let mut groups: BTreeMap<usize, (BTreeSet<usize>, Vec<Link>)> = BTreeMap::new();
    for link in links {
        let (members, links) = groups.entry(sets.first(link.a)).or_default();
        members.extend([link.a, link.b]);
        links.push(link);
    }
    groups
        .into_values()
        .map(|(members, mut links)| {
            let members: Vec<usize> = members.into_iter().collect();
            let place = |index: usize| members.partition_point(|member| *member < index);
            for link in &mut links {
                *link = Link { a: place(link.a), b: place(link.b), ..*link };
            }
            Group { members, links }
        })
        .collect()
}

/// Links by the indices of images: enough to join all copies, and one for each pair of near duplicates.
fn links(prints: &[Option<Fingerprint>]) -> Vec<Link> {
    let mut links = Vec::new();
    // Of identical copies only the first is compared with all others.
    let mut distinct: Vec<(usize, [Hash; 2])> = Vec::new();
    let (mut files, mut pixels) = (HashMap::new(), HashMap::new());
    for (b, print) in prints.iter().enumerate() {
        let Some(print) = print else { continue };
        let same_file: usize = *files.entry(print.file).or_insert(b);
        let same_pixels: usize = *pixels.entry(print.pixels).or_insert(b);
        if same_file != b {
            links.push(Link { a: same_file, b, likeness: Likeness::Bytes });
        } else if same_pixels != b {
            links.push(Link { a: same_pixels, b, likeness: Likeness::Pixels });
        } else {
            distinct.extend(print.hashes.map(|hashes| (b, hashes)));
        }
    }
    links.par_extend((0..distinct.len()).into_par_iter().flat_map_iter(|row| {
        let (a, [as_it_is, _]) = distinct[row];
        distinct[row + 1..].iter().filter_map(move |(b, hashes)| {
            let [bits, bits_mirrored] = hashes.map(|hash| distance(&as_it_is, &hash));
            let (bits, mirrored) = (bits.min(bits_mirrored), bits_mirrored < bits);
            let likeness = Likeness::Near { bits, mirrored };
            (bits <= NEAR_BITS).then_some(Link { a, b: *b, likeness })
        })
    }));
    links
}

/// Disjoint sets of indices.
struct Sets {
    /// For each index one of its set that is no larger; for the first of a set, itself.
    towards_first: Vec<usize>,
}

impl Sets {
    fn new(len: usize) -> Self {
        Self { towards_first: (0..len).collect() }
    }

    fn first(&mut self, mut index: usize) -> usize {
        while self.towards_first[index] != index {
            let next = self.towards_first[index];
            self.towards_first[index] = self.towards_first[next];
            index = next;
        }
        index
    }

    /// Unites the sets of `a` and `b`; `false` when they are one already.
    fn join(&mut self, a: usize, b: usize) -> bool {
        let (a, b) = (self.first(a), self.first(b));
        self.towards_first[a.max(b)] = a.min(b);
        a != b
    }
}

#[cfg(test)]
mod tests {
    use image::{Rgb, codecs::jpeg::JpegEncoder};

    use super::*;
    use crate::{checksum::sha256, decode::decode_bytes, synthetic::draw_flower};

    fn print(image: &RgbImage) -> Option<Fingerprint> {
        Some(Fingerprint::new(sha256(image.as_raw()), image))
    }

    fn saved_anew(image: &RgbImage, quality: u8) -> RgbImage {
        let mut bytes = Vec::new();
        image.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, quality)).unwrap();
        decode_bytes("it", &bytes, Default::default()).unwrap().image
    }

    /// `image` at half its size.
    fn half(image: &RgbImage) -> RgbImage {
        let (width, height) = image.dimensions();
        let pixels = resize(image, Crop::whole(width, height), width / 2, height / 2);
        RgbImage::from_raw(width / 2, height / 2, pixels).unwrap()
    }

    fn likeness(a: &RgbImage, b: &RgbImage) -> Option<Likeness> {
        groups(&[print(a), print(b)]).first().map(|group| group.links[0].likeness)
    }

    #[test]
    fn edited_copies_are_near_duplicates() {
        for class in 0..5 {
            let image = draw_flower(class, 7, 0);
            let (width, height) = image.dimensions();
            let trimmed = imageops::crop_imm(&image, 2, 2, width - 4, height - 4).to_image();
            let grey = image::DynamicImage::from(image.clone()).grayscale().into_rgb8();
            for other in [
                saved_anew(&image, 30),
                saved_anew(&half(&image), 60),
                imageops::brighten(&image, 30),
                imageops::contrast(&image, 20.0),
                trimmed,
                grey,
            ] {
                let found = likeness(&image, &other);
                assert!(matches!(found, Some(Likeness::Near { mirrored: false, .. })), "{class}: {found:?}");
                let found = likeness(&image, &imageops::flip_horizontal(&other));
                assert!(matches!(found, Some(Likeness::Near { mirrored: true, .. })), "{class}: {found:?}");
            }
        }
    }

    #[test]
    fn different_images_are_in_no_group() {
        let prints: Vec<_> = (0..200).map(|k| print(&draw_flower(k % 5, k / 5, 0))).collect();
        assert_eq!(groups(&prints), []);
    }

    #[test]
    fn copies_are_found_by_bytes_and_by_pixels() {
        let image = draw_flower(0, 0, 0);
        let of_file = |file: &[u8]| Some(Fingerprint::new(sha256(file), &image));
        assert_eq!(
            groups(&[of_file(b"a"), None, of_file(b"b"), of_file(b"b"), print(&draw_flower(1, 0, 0))]),
            [Group {
                members: vec![0, 2, 3],
                links: vec![
                    // The second file with these bytes is first of its bytes, not of its pixels.
                    Link { a: 1, b: 2, likeness: Likeness::Bytes },
                    Link { a: 0, b: 1, likeness: Likeness::Pixels },
                ],
            }]
        );
        // The same bytes of other width are another image.
        let [wide, high] =
            [[8, 2], [2, 8]].map(|[w, h]| RgbImage::from_fn(w, h, |x, y| Rgb([(x + y * w) as u8 * 9; 3])));
        assert_eq!(wide.as_raw(), high.as_raw());
        let print = |file: &[u8], image| Some(Fingerprint::new(sha256(file), image));
        let found = groups(&[print(b"a", &wide), print(b"b", &high)]);
        assert!(found.iter().all(|group| group.links[0].likeness > Likeness::Pixels), "{found:?}");
    }

    /// White pages, black frames: their hashes would be noise.
    #[test]
    fn flat_images_are_duplicates_only_when_they_are_the_same() {
        let flat = |light: u8| RgbImage::from_pixel(90, 60, Rgb([light; 3]));
        assert_eq!(likeness(&flat(255), &flat(254)), None);
        assert_eq!(likeness(&flat(255), &flat(255)), Some(Likeness::Bytes));
    }

    /// A print of which so many bits of the hash are set; its mirror image is like nothing.
    fn with_bits(name: u8, bits: u32) -> Option<Fingerprint> {
        let word = |at: u32| u64::MAX.checked_shr(64 - bits.saturating_sub(at).min(64)).unwrap_or(0);
        let hash = [0, 64, 128, 192].map(word);
        let mirrored = [0x5555_5555_5555_5555; 4];
        Some(Fingerprint { file: [name; 32], pixels: [name; 32], hashes: Some([hash, mirrored]) })
    }

    #[test]
    fn groups_are_chains_of_near_images() {
        let near = |bits| Likeness::Near { bits, mirrored: false };
        // 0, 40 and 80 are a chain; 250 is far; 194 is at the limit from it, 137 beyond.
        let prints = [0, 250, 80, 40, 194, 137].map(|bits| with_bits(bits as u8, bits));
        assert_eq!(
            groups(&prints),
            [
                Group {
                    members: vec![0, 2, 3],
                    links: vec![
                        Link { a: 0, b: 2, likeness: near(40) },
                        Link { a: 1, b: 2, likeness: near(40) },
                    ],
                },
                Group { members: vec![1, 4], links: vec![Link { a: 0, b: 1, likeness: near(NEAR_BITS) }] },
            ]
        );
    }
}
