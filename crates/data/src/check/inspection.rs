//! What is seen of one photo.

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

/// What is kept of a photo.
#[derive(Clone, Debug, Default)]
pub struct Inspection {
    /// Told by the content.
    pub format: Option<Format>,
    /// What is wrong with the file, with the reason.
    pub damage: Option<(Damage, String)>,
    /// Width and height, of a photo that decodes.
    pub size: Option<[u32; 2]>,
    /// Of a photo that decodes.
    pub fingerprint: Option<Fingerprint>,
    /// Whether its file says that it is to be turned.
    pub turned: bool,
}

/// Reads and decodes a photo. Whatever happens is told in what it returns, a panic in a decoder too.
pub fn inspect(path: &Path, decoding: decode::Options) -> Inspection {
    without_panic(|| look(path, decoding))
}

fn without_panic(look: impl FnOnce() -> Inspection) -> Inspection {
    guard(look).unwrap_or_else(|panic| {
        let reason = format!("looking at it failed inside: {panic}");
        Inspection { damage: Some((Damage::Undecodable, reason)), ..Inspection::default() }
    })
}

/// The format of a file that is a whole picture, whatever its name.
pub fn format_of_image(path: &Path) -> Option<Format> {
    // Of large files of other kinds only the beginning is read.
    let mut start = Vec::new();
    File::open(path).ok()?.take(32).read_to_end(&mut start).ok()?;
    guess(&start)?;
    let photo = inspect(path, decode::Options::default());
    photo.size.and(photo.format)
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
            // From here on the pixels alone are counted.
            drop(bytes);
            let damage = match notes.is_empty() {
                _ if cut => Some((Damage::Truncated, "the file ends before the picture does".into())),
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
        let photo = inspect(Path::new("no/such/file.jpg"), decode::Options::default());
        assert_eq!(photo.damage.unwrap().0, Damage::Unreadable);
        assert!(photo.size.is_none() && photo.fingerprint.is_none());
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
