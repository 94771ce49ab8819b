//! What is seen of one photo.

use std::{fs::File, io::Read, path::Path};

use image::ImageFormat;

use super::{
    alike::Fingerprint,
    ends::is_cut,
    report::{Damage, Format},
};
use crate::{
    decode::{self, Decoded, MAX_FILE_BYTES, decode_bytes},
    guard::guard,
};

/// What is kept of a photo.
#[derive(Clone, Debug, Default)]
pub struct Photo {
    /// Told by the content.
    pub format: Option<Format>,
    /// What is wrong with the file, with the reason.
    pub damage: Option<(Damage, String)>,
    /// Width and height, of a photo that decodes.
    pub size: Option<[u32; 2]>,
    /// Of a photo that decodes.
    pub print: Option<Fingerprint>,
    /// Whether its file says that it is to be turned.
    pub turned: bool,
}

/// Reads and decodes a photo. Whatever happens is told in what it returns, a panic in a decoder too.
pub fn inspect(path: &Path, decoding: decode::Options) -> Photo {
    without_panic(|| look(path, decoding))
}

fn without_panic(look: impl FnOnce() -> Photo) -> Photo {
    guard(look).unwrap_or_else(|panic| {
        let reason = format!("looking at it failed inside: {panic}");
        Photo { damage: Some((Damage::Undecodable, reason)), ..Photo::default() }
    })
}

/// The format of a file that is a whole picture, whatever its name.
pub fn format_of_picture(path: &Path) -> Option<Format> {
    // Of large files of other kinds only the beginning is read.
    let mut start = Vec::new();
    File::open(path).ok()?.take(32).read_to_end(&mut start).ok()?;
    guess(&start)?;
    let photo = inspect(path, decode::Options::default());
    photo.size.and(photo.format)
}

fn look(path: &Path, decoding: decode::Options) -> Photo {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    if let Err(error) = read {
        return Photo { damage: Some((Damage::Unreadable, error.to_string())), ..Photo::default() };
    }
    let guessed = guess(&bytes);
    let cut = guessed.is_some_and(|(guessed, _)| is_cut(guessed, &bytes));
    let format = guessed.map(|(_, format)| format);
    match decode_bytes(path, &bytes, decoding) {
        Ok(Decoded { image, turned, notes, .. }) => {
            let damage = match notes.is_empty() {
                _ if cut => Some((Damage::Truncated, "the file ends before the picture does".into())),
                false => Some((Damage::Checksum, notes.join("; "))),
                true => None,
            };
            Photo {
                format,
                damage,
                size: Some([image.width(), image.height()]),
                print: Some(Fingerprint::new(&bytes, &image)),
                turned,
            }
        }
        Err(error) => {
            let kind = match bytes.is_empty() {
                true => Damage::Empty,
                false if cut => Damage::Truncated,
                false => Damage::Undecodable,
            };
            Photo { format, damage: Some((kind, error.reason())), ..Photo::default() }
        }
    }
}

fn guess(bytes: &[u8]) -> Option<(ImageFormat, Format)> {
    let guessed = decode::format(bytes)?;
    Some((guessed, Format::of(guessed)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_damage() {
        let (kind, reason) = without_panic(|| panic!("overflow")).damage.unwrap();
        assert_eq!((kind, reason.as_str()), (Damage::Undecodable, "looking at it failed inside: overflow"));
    }

    #[test]
    fn a_file_that_is_not_there_is_not_readable() {
        let photo = inspect(Path::new("no/such/file.jpg"), decode::Options::default());
        assert_eq!(photo.damage.unwrap().0, Damage::Unreadable);
        assert!(photo.size.is_none() && photo.print.is_none());
    }
}
