//! Finds images that cannot be read, fast enough to run before each training. Only the start and
//! the end of most files are read, since most damage can be detected there. Of most images in
//! shards with an index, nothing is read, since they were checked when they were packed.

use std::{
    fs::File,
    io::{self, Cursor, Read, Seek, SeekFrom},
    sync::atomic::{AtomicUsize, Ordering},
};

use image::{ImageFormat, ImageReader};
use rayon::prelude::*;

use crate::{
    Error,
    dataset::{Dataset, Images, Item},
    decode::{MAX_PIXELS, MAX_SIDE, Options},
    progress::Progress,
};

/// Returns an error for each image that cannot be decoded, in the order of the data set. Files with
/// a valid start and end are not read further; all others are decoded.
pub fn unreadable(dataset: &Dataset, progress: &Progress) -> Vec<Error> {
    let items: Vec<_> = dataset.items().collect();
    let done = AtomicUsize::new(0);
    let images = &dataset.images;
    let check = |item| match is_complete(images, item) {
        Ok(true) => None,
        _ => images.decode(item, Options::default()).err(),
    };
    items
        .par_iter()
        .filter_map(|item| {
            let error = check(*item);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, items.len());
            error
        })
        .collect()
}

/// Returns whether an image is known to be complete without reading all of it.
fn is_complete(images: &Images, item: Item) -> io::Result<bool> {
    match images.shards() {
        Some(shards) => Ok(shards.looks_sound(item.index())),
        None => {
            let file = File::open(images.file(item))?;
            let length = file.metadata()?.len();
            looks_complete(file, length)
        }
    }
}

/// Number of bytes read from the start of a file; it may include a thumbnail.
const HEAD: u64 = 1 << 16;

/// Returns whether the start and the end of an image file of `length` bytes are valid in its
/// format; always `false` for formats without an end marker.
fn looks_complete(mut file: impl Read + Seek, length: u64) -> io::Result<bool> {
    let mut head = Vec::new();
    file.by_ref().take(HEAD).read_to_end(&mut head)?;
    let mut tail = [0; 12];
    file.seek(SeekFrom::End(-(tail.len() as i64)))?;
    file.read_exact(&mut tail)?;
    let format = image::guess_format(&head).ok();
    let ends = match format {
        Some(ImageFormat::Jpeg) => tail.ends_with(&[0xFF, 0xD9]),
        Some(ImageFormat::Png) => tail == *b"\0\0\0\0IEND\xAE\x42\x60\x82",
        Some(ImageFormat::Gif) => tail.ends_with(&[0x3B]),
        Some(ImageFormat::WebP) => match head.get(4..8).and_then(|length| length.first_chunk()) {
            Some(declared) => u64::from(u32::from_le_bytes(*declared)) + 8 == length,
            None => false,
        },
        _ => false,
    };
    Ok(ends && format.is_some_and(|format| size_in_header(format, &head).is_some()))
}

/// Returns width and height of an image file whose start and end are valid, as
/// [`unreadable`] checks them.
pub(crate) fn size_of_complete(bytes: &[u8]) -> Option<(u32, u32)> {
    if !looks_complete(Cursor::new(bytes), bytes.len() as u64).ok()? {
        return None;
    }
    let head = &bytes[..bytes.len().min(HEAD as usize)];
    size_in_header(image::guess_format(head).ok()?, head)
}

/// Returns width and height in the header, if they are within the limits.
fn size_in_header(format: ImageFormat, head: &[u8]) -> Option<(u32, u32)> {
    let size = ImageReader::with_format(Cursor::new(head), format).into_dimensions();
    size.ok().filter(|(width, height)| {
        let [width, height] = [width, height].map(|side| u64::from(*side));
        (1..=MAX_PIXELS).contains(&(width * height)) && width.max(height) <= MAX_SIDE
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::RgbImage;

    use super::*;
    use crate::{decode::decode, fixtures};

    /// Complete, truncated and extended files of each format, and a text file.
    #[test]
    fn exactly_the_files_that_decode_refuses_are_listed() {
        let root = tempfile::tempdir().unwrap();
        let image = RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8, y as u8, (x * y) as u8]));
        let (mut names, mut complete) = (vec![], 0);
        let mut add = |name: String, bytes: &[u8]| {
            fs::write(root.path().join(&name), bytes).unwrap();
            names.push(name);
        };
        for extension in ["jpg", "png", "gif", "webp", "bmp", "tiff", "ppm"] {
            let mut bytes = Cursor::new(vec![]);
            image.write_to(&mut bytes, ImageFormat::from_extension(extension).unwrap()).unwrap();
            let bytes = bytes.into_inner();
            add(format!("complete.{extension}"), &bytes);
            complete += 1;
            for (cut, lost) in
                [1, 2, 12, bytes.len() / 2, bytes.len() - 4, bytes.len()].into_iter().enumerate()
            {
                add(format!("cut{cut}.{extension}"), &bytes[..bytes.len() - lost]);
            }
            add(format!("followed.{extension}"), &[&bytes[..], b"and more"].concat());
        }
        add("words.jpg".into(), b"These are words, not pixels.");
        let items: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 0)).collect();
        let dataset = fixtures::dataset(root.path(), &["a"], &items, &[]);
        let found: Vec<String> =
            unreadable(&dataset, &|_, _| {}).iter().map(ToString::to_string).collect();
        let paths = || dataset.items().map(|item| dataset.images.file(item));
        let expected: Vec<String> = paths()
            .filter_map(|path| decode(path, Options::default()).err())
            .map(|e| e.to_string())
            .collect();
        assert_eq!(found, expected);
        assert!(expected.len() >= 4 * complete, "{expected:?}");
        // Only the complete JPEG, PNG, GIF and WebP are not decoded.
        let complete: Vec<bool> = dataset
            .items()
            .map(|item| is_complete(&dataset.images, item).unwrap_or(false))
            .collect();
        assert_eq!(complete.iter().filter(|complete| **complete).count(), 4);
    }
}
