//! Inspects one image file: format, damage, size, fingerprint.

use std::{fs::File, io::Read, path::Path};

use image::ImageFormat;

use super::{
    near_duplicates::Fingerprint,
    report::{Damage, Format},
    truncation::is_truncated,
};
use crate::{
    checksum::sha256,
    decode::{self, Decoded, decode_in, read_file},
    guard::guard,
};

/// What the check keeps of an image file.
#[derive(Clone, Debug, Default)]
pub struct Inspection {
    /// The format, by the content.
    pub format: Option<Format>,
    /// The damage of the file, with the reason.
    pub damage: Option<(Damage, String)>,
    /// Width and height, of an image that can be decoded.
    pub size: Option<[u32; 2]>,
    /// The fingerprint of an image that can be decoded.
    pub fingerprint: Option<Fingerprint>,
    /// Whether the orientation that the file tells is other than upright.
    pub turned: bool,
}

/// Reads and decodes an image file. Every failure is in the result, a panic of a decoder too.
pub fn inspect(path: &Path, decoding: decode::Options) -> Inspection {
    without_panic(|| look(path, decoding))
}

fn without_panic(look: impl FnOnce() -> Inspection) -> Inspection {
    guard(look).unwrap_or_else(|panic| {
        let reason = format!("looking at it failed inside: {panic}");
        Inspection { damage: Some((Damage::Undecodable, reason)), ..Inspection::default() }
    })
}

/// The format of a file that can be decoded, whatever its name.
pub fn format_of_image(path: &Path) -> Option<Format> {
    // Only the beginning is read of large files that are no images.
    let mut start = Vec::new();
    File::open(path).ok()?.take(32).read_to_end(&mut start).ok()?;
    guess(&start)?;
    let image = inspect(path, decode::Options::default());
    image.size.and(image.format)
}

fn look(path: &Path, decoding: decode::Options) -> Inspection {
    let (bytes, memory) = match read_file(path) {
        Ok(read) => read,
        Err(error) => {
            return Inspection {
                damage: Some((Damage::Unreadable, error.reason())),
                ..Inspection::default()
            };
        }
    };
    let guessed = guess(&bytes);
    let cut = guessed.is_some_and(|(guessed, _)| is_truncated(guessed, &bytes));
    let format = guessed.map(|(_, format)| format);
    match decode_in(path, &bytes, decoding, memory) {
        Ok(Decoded { image, turned, notes, .. }) => {
            let file = sha256(&bytes);
            // From here on only the pixels count.
            drop(bytes);
            let damage = match notes.is_empty() {
                _ if cut => Some((Damage::Truncated, "the file ends before the image does".into())),
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
                false if cut => Damage::Truncated,
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
        assert_eq!((kind, reason.as_str()), (Damage::Undecodable, "looking at it failed inside: overflow"));
    }

    #[test]
    fn a_file_that_is_not_there_is_not_readable() {
        let image = inspect(Path::new("no/such/file.jpg"), decode::Options::default());
        assert_eq!(image.damage.unwrap().0, Damage::Unreadable);
        assert!(image.size.is_none() && image.fingerprint.is_none());
    }

    /// While others have taken all of it, a file waits, image or not.
    #[test]
    fn the_memory_is_that_of_all_decoding() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.png");
        fs::write(&path, "words").unwrap();
        let (_, mut memory) = read_file(&path).unwrap();
        memory.take(1 << 31);
        let (send, receive) = channel();
        thread::spawn(move || {
            send.send(inspect(&path, decode::Options::default()).damage.map(|(kind, _)| kind))
        });
        let early = receive.recv_timeout(Duration::from_millis(200)).ok();
        drop(memory);
        assert!(early.is_none(), "{early:?}");
        assert_eq!(receive.recv().unwrap(), Some(Damage::Undecodable));
    }
}
