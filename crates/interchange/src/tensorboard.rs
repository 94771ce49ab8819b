//! TensorBoard's event files, which contain the scalars of a training run.
//!
//! A file is a sequence of records. A record has the length of its data (u64), the checksum of these
//! eight bytes, the data, and the checksum of the data, all little-endian. The data is a protobuf
//! message `Event`. The first event has the version of the format.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use alexnet_core::{Error, FileKind, Result, files::write_atomically};
use prost::Message;

/// The name of the file. TensorBoard reads all files whose names contain `tfevents`.
pub const NAME: &str = "events.out.tfevents";

const VERSION: &str = "brain.Event:2";

/// The bytes of a record before its data: the length and its checksum.
const HEAD: usize = 12;

/// The bytes of a record after its data.
const TAIL: usize = 4;

/// The most bytes of data in a record. Those of this project have less than a hundred.
const MAX_DATA: u64 = 1 << 20;

/// The fields of TensorFlow's `Event` that scalars need. Of the fields with the tags 3 and 5, a
/// message has one.
#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    /// Optional, so that 0 is written too.
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// An event file that is open for writing.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Opens a file to append to it; a missing file is created. Calls `keep` with the step and the
    /// tags of each event, in their order. The first event for which it returns false is removed
    /// with all after it; so is a record that is damaged, or incomplete because its writer was
    /// killed, where TensorBoard too would stop reading.
    ///
    /// # Errors
    /// [`Error::Format`] when it is not an event file, [`Error::Io`].
    pub fn open(
        path: impl AsRef<Path>,
        mut keep: impl FnMut(u64, &[&str]) -> bool,
    ) -> Result<Self> {
        let path = path.as_ref();
        if !path.exists() {
            let first = Event { file_version: Some(VERSION.into()), ..event(0) };
            write_atomically(path, |file| file.write_all(&record(&first)))?;
        }
        let io_error = |error| Error::io("open", path)(error);
        let mut file = File::options().read(true).write(true).open(path).map_err(io_error)?;
        let mut reader = BufReader::new(&file);
        let is_event_file = matches!(
            next(&mut reader).map_err(io_error)?,
            Some((Event { file_version: Some(version), .. }, _)) if version == VERSION
        );
        if !is_event_file {
            return Err(Error::Format {
                path: path.to_owned(),
                expected: FileKind::Events,
                reason: "it does not start with the version of the format".into(),
            });
        }
        let mut end = reader.stream_position().map_err(io_error)?;
        while let Some((event, bytes)) = next(&mut reader).map_err(io_error)? {
            let values = event.summary.unwrap_or_default().value;
            let tags: Vec<&str> = values.iter().map(|scalar| scalar.tag.as_str()).collect();
            if !keep(event.step as u64, &tags) {
                break;
            }
            end += bytes;
        }
        file.set_len(end).map_err(io_error)?;
        file.seek(SeekFrom::End(0)).map_err(io_error)?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Appends the scalars of a step as one event.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn add(&mut self, step: u64, scalars: &[(&str, f64)]) -> Result<()> {
        let scalar = |(tag, value): &(&str, f64)| Scalar {
            tag: (*tag).to_owned(),
            simple_value: Some(*value as f32),
        };
        let summary = Summary { value: scalars.iter().map(scalar).collect() };
        let record = record(&Event { summary: Some(summary), ..event(step) });
        self.file.write_all(&record).map_err(Error::io("write", &self.path))
    }

    /// Waits until all events are on the disk.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(Error::io("write", &self.path))
    }
}

/// Returns an event of now.
fn event(step: u64) -> Event {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Event { wall_time: now.as_secs_f64(), step: step as i64, ..Event::default() }
}

fn record(event: &Event) -> Vec<u8> {
    let data = event.encode_to_vec();
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &checksum(&length), &data, &checksum(&data)].concat()
}

/// Reads the next event and the length of its record. Returns `None` at the end of the file, and at
/// a damaged or incomplete record.
///
/// # Errors
/// Those of the operating system.
fn next(file: &mut impl Read) -> io::Result<Option<(Event, u64)>> {
    let mut head = Vec::new();
    file.take(HEAD as u64).read_to_end(&mut head)?;
    let Some((length, sum)) = head.split_first_chunk::<8>() else { return Ok(None) };
    let length_of_data = u64::from_le_bytes(*length);
    if *sum != checksum(length) || length_of_data > MAX_DATA {
        return Ok(None);
    }
    let mut data = Vec::new();
    file.take(length_of_data + TAIL as u64).read_to_end(&mut data)?;
    let Some((data, sum)) = data.split_last_chunk::<TAIL>() else { return Ok(None) };
    if data.len() as u64 != length_of_data || *sum != checksum(data) {
        return Ok(None);
    }
    let bytes = (HEAD + data.len() + TAIL) as u64;
    Ok(Event::decode(data).ok().map(|event| (event, bytes)))
}

/// Returns the CRC-32C of the bytes, masked as in TFRecord files: rotated, plus a constant.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xA282_EAD8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The steps, tags and values of all events after the first.
    fn events(path: &Path) -> Vec<(i64, Vec<(String, f32)>)> {
        let mut file = File::open(path).unwrap();
        let mut all: Vec<(i64, Vec<(String, f32)>)> = vec![];
        while let Some((event, _)) = next(&mut file).unwrap() {
            let values = event.summary.unwrap_or_default().value;
            let values = values.into_iter().map(|s| (s.tag, s.simple_value.unwrap())).collect();
            all.push((event.step, values));
        }
        let mut rest = vec![];
        file.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "a record is damaged");
        assert!(all.remove(0).1.is_empty());
        all
    }

    /// The record of an event that TensorFlow's writer makes of the same values.
    #[test]
    fn records_are_those_of_tensorflow() {
        let summary =
            Summary { value: vec![Scalar { tag: "loss".into(), simple_value: Some(0.5) }] };
        let event = Event { wall_time: 1.5, step: 3, file_version: None, summary: Some(summary) };
        assert_eq!(record(&event), GOLDEN);
    }

    /// Written in Python by `RecordWriter` of `tensorboard.summary.writer.record_writer` from an
    /// `Event` with `wall_time=1.5`, `step=3` and the scalar `loss` of 0.5.
    const GOLDEN: &[u8] =
        b"\x1a\0\0\0\0\0\0\0\x12\x9b\xd8-\t\0\0\0\0\0\0\xf8?\x10\x03*\r\n\x0b\n\x04loss\x15\
        \0\0\0?\x80e^\xe3";

    #[test]
    fn what_is_appended_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let mut file = EventFile::open(&path, |_, _| true).unwrap();
        file.add(1, &[("loss", 0.0), ("lr", 1.0)]).unwrap();
        file.add(2, &[("loss", 0.25)]).unwrap();
        file.sync().unwrap();
        let first = (1, vec![("loss".into(), 0.0), ("lr".into(), 1.0)]);
        assert_eq!(events(&path), [first.clone(), (2, vec![("loss".into(), 0.25)])]);

        // Events of steps that are repeated are removed.
        let mut seen = vec![];
        let mut file = EventFile::open(&path, |step, tags| {
            seen.push((step, tags.join(" ")));
            step < 2
        })
        .unwrap();
        assert_eq!(seen, [(1, "loss lr".to_owned()), (2, "loss".to_owned())]);
        file.add(2, &[("loss", 4.0)]).unwrap();
        assert_eq!(events(&path), [first.clone(), (2, vec![("loss".into(), 4.0)])]);
    }

    #[test]
    fn an_incomplete_or_damaged_record_is_removed_with_all_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let mut file = EventFile::open(&path, |_, _| true).unwrap();
        let empty = fs::read(&path).unwrap().len();
        file.add(1, &[("loss", 1.0)]).unwrap();
        let one = fs::read(&path).unwrap().len();
        file.add(2, &[("loss", 2.0)]).unwrap();
        let whole = fs::read(&path).unwrap();
        for end in empty..whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            drop(EventFile::open(&path, |_, _| true).unwrap());
            assert_eq!(events(&path).len(), usize::from(end >= one), "{end}");
        }
        for position in empty..one {
            let mut damaged = whole.clone();
            damaged[position] ^= 1;
            fs::write(&path, damaged).unwrap();
            let mut file = EventFile::open(&path, |_, _| true).unwrap();
            file.add(5, &[]).unwrap();
            assert_eq!(events(&path), [(5, vec![])], "{position}");
        }
    }

    #[test]
    fn another_file_is_refused_and_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let no_version = record(&event(1));
        for content in [&b"words"[..], b"", &no_version] {
            fs::write(&path, content).unwrap();
            let error = EventFile::open(&path, |_, _| true).unwrap_err().to_string();
            assert!(error.contains("is not an event file of TensorBoard"), "{error}");
            assert_eq!(fs::read(&path).unwrap(), content);
        }
    }
}
