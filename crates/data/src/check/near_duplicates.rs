//! Finds duplicates and near duplicates: images with the same bytes, the same pixels or similar
//! perceptual hashes.
//!
//! The hash is pHash: the image is resized to 32×32 gray pixels and transformed by a discrete
//! cosine transform. Each of the 16×16 lowest frequencies gives one bit: whether its coefficient is
//! above their median. Copies that were saved again, resized, recolored or cropped by a few pixels
//! differ in few bits; different images differ in about half of the bits.

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

/// The largest number of different bits, of 256, in the hashes of two near duplicates, one of which
/// may be mirrored.
pub const NEAR_BITS: u32 = 56;

/// Height and width of the resized image that is hashed.
const SIDE: u32 = 32;

/// An image whose brightness (0 to 255) has a lower standard deviation is flat: its hash would
/// depend on its noise only.
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
    /// Hashes of the image and of its mirror image; `None` for a flat image.
    hashes: Option<[Hash; 2]>,
}

impl Fingerprint {
    /// Computes the fingerprint of an image from the SHA-256 of its file and its pixels.
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
    let luma = || image.pixels().map(|pixel| f64::from(pixel.to_luma()[0]));
    let mean = luma().sum::<f64>() / n;
    luma().map(|luma| (luma - mean).powi(2)).sum::<f64>() / n < FLAT * FLAT
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

/// Images that are connected by links, directly or through others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Indices of images, ascending.
    pub members: Vec<usize>,
    /// The closest links that connect all members. They hold indices in `members`.
    pub links: Vec<Link>,
}

/// Finds the groups of duplicates and near duplicates, sorted by their first members. An image
/// without fingerprint is in no group.
pub fn groups(prints: &[Option<Fingerprint>]) -> Vec<Group> {
    let mut links = links(prints);
    links.sort_unstable_by_key(|link| (link.likeness, link.a, link.b));
    let mut sets = DisjointSets::new(prints.len());
    links.retain(|link| sets.union(link.a, link.b));

    let mut groups: BTreeMap<usize, (BTreeSet<usize>, Vec<Link>)> = BTreeMap::new();
    for link in links {
        let (members, links) = groups.entry(sets.find(link.a)).or_default();
        members.extend([link.a, link.b]);
        links.push(link);
    }
    groups
        .into_values()
        .map(|(members, mut links)| {
            let members: Vec<usize> = members.into_iter().collect();
            let position = |index: usize| members.partition_point(|member| *member < index);
            for link in &mut links {
                *link = Link { a: position(link.a), b: position(link.b), ..*link };
            }
            Group { members, links }
        })
        .collect()
}

/// Returns links between indices of images: one from each exact copy to its first occurrence, and
/// one for each pair of near duplicates.
fn links(prints: &[Option<Fingerprint>]) -> Vec<Link> {
    let mut links = Vec::new();
    // Of exact copies, only the first is compared with all other images.
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
        let (a, [unmirrored, _]) = distinct[row];
        distinct[row + 1..].iter().filter_map(move |(b, hashes)| {
            let [bits, bits_mirrored] = hashes.map(|hash| distance(&unmirrored, &hash));
            let (bits, mirrored) = (bits.min(bits_mirrored), bits_mirrored < bits);
            let likeness = Likeness::Near { bits, mirrored };
            (bits <= NEAR_BITS).then_some(Link { a, b: *b, likeness })
        })
    }));
    links
}

/// Disjoint sets of indices (union-find).
struct DisjointSets {
    /// The parent of each index, which is never larger. The smallest index of a set is its root and
    /// its own parent.
    parents: Vec<usize>,
}

impl DisjointSets {
    fn new(len: usize) -> Self {
        Self { parents: (0..len).collect() }
    }

    /// Returns the root of the set of `index`, which is its smallest index.
    fn find(&mut self, mut index: usize) -> usize {
        while self.parents[index] != index {
            let parent = self.parents[index];
            self.parents[index] = self.parents[parent];
            index = parent;
        }
        index
    }

    /// Unites the sets of `a` and `b`. Returns `false` if they were in the same set.
    fn union(&mut self, a: usize, b: usize) -> bool {
        let (a, b) = (self.find(a), self.find(b));
        self.parents[a.max(b)] = a.min(b);
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

    fn saved_again(image: &RgbImage, quality: u8) -> RgbImage {
        let mut bytes = Vec::new();
        image.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, quality)).unwrap();
        decode_bytes("it", &bytes, Default::default()).unwrap().image
    }

    fn half_size(image: &RgbImage) -> RgbImage {
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
            let cropped = imageops::crop_imm(&image, 2, 2, width - 4, height - 4).to_image();
            let gray = image::DynamicImage::from(image.clone()).grayscale().into_rgb8();
            for other in [
                saved_again(&image, 30),
                saved_again(&half_size(&image), 60),
                imageops::brighten(&image, 30),
                imageops::contrast(&image, 20.0),
                cropped,
                gray,
            ] {
                let found = likeness(&image, &other);
                assert!(
                    matches!(found, Some(Likeness::Near { mirrored: false, .. })),
                    "{class}: {found:?}"
                );
                let found = likeness(&image, &imageops::flip_horizontal(&other));
                assert!(
                    matches!(found, Some(Likeness::Near { mirrored: true, .. })),
                    "{class}: {found:?}"
                );
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
            groups(&[
                of_file(b"a"),
                None,
                of_file(b"b"),
                of_file(b"b"),
                print(&draw_flower(1, 0, 0))
            ]),
            [Group {
                members: vec![0, 2, 3],
                links: vec![
                    // Index 2 has the same bytes as index 1, and index 1 the same pixels as index 0.
                    Link { a: 1, b: 2, likeness: Likeness::Bytes },
                    Link { a: 0, b: 1, likeness: Likeness::Pixels },
                ],
            }]
        );
        // The same pixel bytes with another width are a different image.
        let [wide, high] = [[8, 2], [2, 8]]
            .map(|[w, h]| RgbImage::from_fn(w, h, |x, y| Rgb([(x + y * w) as u8 * 9; 3])));
        assert_eq!(wide.as_raw(), high.as_raw());
        let print = |file: &[u8], image| Some(Fingerprint::new(sha256(file), image));
        let found = groups(&[print(b"a", &wide), print(b"b", &high)]);
        assert!(found.iter().all(|group| group.links[0].likeness > Likeness::Pixels), "{found:?}");
    }

    /// White pages, black frames: their hashes would depend on noise only.
    #[test]
    fn flat_images_are_duplicates_only_if_they_are_equal() {
        let flat = |brightness: u8| RgbImage::from_pixel(90, 60, Rgb([brightness; 3]));
        assert_eq!(likeness(&flat(255), &flat(254)), None);
        assert_eq!(likeness(&flat(255), &flat(255)), Some(Likeness::Bytes));
    }

    /// Returns a fingerprint with `bits` bits of the hash set. The hash of its mirror image is far
    /// from all others.
    fn with_bits(name: u8, bits: u32) -> Option<Fingerprint> {
        let word =
            |at: u32| u64::MAX.checked_shr(64 - bits.saturating_sub(at).min(64)).unwrap_or(0);
        let hash = [0, 64, 128, 192].map(word);
        let mirrored = [0x5555_5555_5555_5555; 4];
        Some(Fingerprint { file: [name; 32], pixels: [name; 32], hashes: Some([hash, mirrored]) })
    }

    #[test]
    fn groups_are_chains_of_near_images() {
        let near = |bits| Likeness::Near { bits, mirrored: false };
        // 0, 40 and 80 are a chain. 250 is far from them. 194 is at the limit from 250, 137 beyond
        // the limit from 194.
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
                Group {
                    members: vec![1, 4],
                    links: vec![Link { a: 0, b: 1, likeness: near(NEAR_BITS) }]
                },
            ]
        );
    }
}
