//! Inspects one image file: format, damage, size, fingerprint.

use std::{fs::File, io::Read, path::Path};

use image::ImageFormat;

use super::{
    near_duplicates::Fingerprint,
    report::{Damage, Format},
    truncation::is_truncated,
};
use crate::{
    Result,
    checksum::sha256,
    dataset::{Images, Item},
    decode::{self, Decoded, Reservation, decode_in, read_file},
    guard::guard,
};

/// The properties of an image file that the check uses.
#[derive(Clone, Debug, Default)]
pub struct Inspection {
    /// The format of the content.
    pub format: Option<Format>,
    /// The damage of the file, with the reason.
    pub damage: Option<(Damage, String)>,
    /// Width and height, if the image can be decoded.
    pub size: Option<[u32; 2]>,
    /// The fingerprint, if the image can be decoded.
    pub fingerprint: Option<Fingerprint>,
    /// Whether the orientation in the metadata is not upright.
    pub turned: bool,
}

/// Reads and decodes an image. All failures, including panics of decoders, are in the result.
pub fn inspect(images: &Images, item: Item, decoding: decode::Options) -> Inspection {
    without_panic(|| inspect_unguarded(images.read(item), &images.file(item), decoding))
}

fn without_panic(work: impl FnOnce() -> Inspection) -> Inspection {
    guard(work).unwrap_or_else(|panic| {
        let reason = format!("checking it failed with an internal error: {panic}");
        Inspection { damage: Some((Damage::Undecodable, reason)), ..Inspection::default() }
    })
}

/// Returns the format of a file, regardless of its name, if it can be decoded.
pub fn format_of_image(path: &Path) -> Option<Format> {
    // Of other files, which may be large, read only the start.
    let mut start = Vec::new();
    File::open(path).ok()?.take(32).read_to_end(&mut start).ok()?;
    guess(&start)?;
    let image =
        without_panic(|| inspect_unguarded(read_file(path), path, decode::Options::default()));
    image.size.and(image.format)
}

fn inspect_unguarded(
    read: Result<(Vec<u8>, Reservation)>,
    path: &Path,
    decoding: decode::Options,
) -> Inspection {
    let (bytes, memory) = match read {
        Ok(read) => read,
        Err(error) => {
            return Inspection {
                damage: Some((Damage::Unreadable, error.reason())),
                ..Inspection::default()
            };
        }
    };
    let guessed = guess(&bytes);
    let truncated = guessed.is_some_and(|(guessed, _)| is_truncated(guessed, &bytes));
    let format = guessed.map(|(_, format)| format);
    match decode_in(path, &bytes, decoding, memory) {
        Ok(Decoded { image, turned, notes, .. }) => {
            let file = sha256(&bytes);
            // Free the memory before the hashes are computed; only the pixels are needed.
            drop(bytes);
            let damage = match notes.is_empty() {
                _ if truncated => {
                    Some((Damage::Truncated, "the end of the file is missing".into()))
                }
                false => Some((Damage::Checksum, notes.join("; "))),
                true => None,
            };
            Inspection {
                format,
                damage,
                size: Some([image.width(), image.height()]),
                fingerprint: Some(Fingerprint::new(file, &image)),
                turned,
            }
        }
        Err(error) => {
            let kind = match bytes.is_empty() {
                true => Damage::Empty,
                false if truncated => Damage::Truncated,
                false => Damage::Undecodable,
            };
            Inspection { format, damage: Some((kind, error.reason())), ..Inspection::default() }
        }
    }
}

fn guess(bytes: &[u8]) -> Option<(ImageFormat, Format)> {
    let guessed = decode::format(bytes)?;
    Some((guessed, Format::of(guessed)?))
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::mpsc::channel, thread, time::Duration};

    use super::*;

    #[test]
    fn a_panic_is_damage() {
        let (kind, reason) = without_panic(|| panic!("overflow")).damage.unwrap();
        assert_eq!(
            (kind, reason.as_str()),
            (Damage::Undecodable, "checking it failed with an internal error: overflow")
        );
    }

    #[test]
    fn a_missing_file_is_unreadable() {
        let (images, items) = Images::of_files("no/such", [("file.jpg", 0)]).unwrap();
        let image = inspect(&images, items[0], decode::Options::default());
        assert_eq!(image.damage.unwrap().0, Damage::Unreadable);
        assert!(image.size.is_none() && image.fingerprint.is_none());
    }

    /// While other threads use the whole budget, a file waits, even if it is not an image.
    #[test]
    fn inspection_uses_the_memory_budget_of_decoding() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.png");
        fs::write(&path, "words").unwrap();
        let (_, mut memory) = read_file(&path).unwrap();
        memory.take(1 << 31);
        let (send, receive) = channel();
        let (images, items) = Images::of_files(folder.path(), [("0.png", 0)]).unwrap();
        thread::spawn(move || {
            let image = inspect(&images, items[0], decode::Options::default());
            send.send(image.damage.map(|(kind, _)| kind))
        });
        let early = receive.recv_timeout(Duration::from_millis(200)).ok();
        drop(memory);
        assert!(early.is_none(), "{early:?}");
        assert_eq!(receive.recv().unwrap(), Some(Damage::Undecodable));
    }
}
