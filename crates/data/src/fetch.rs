//! Fetching an archive that is known by its size and SHA-256.
//!
//! Plain HTTP suffices: the hash proves what arrived, and a TLS library would be the largest dependency of
//! all.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::http::{StatusCode, header};
use ureq::{Agent, Body, http::Response};

use crate::{Error, Result};

/// An archive and how to recognise it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveSpec<'a> {
    /// Where it is, `http://…`.
    pub url: &'a str,
    /// Its size.
    pub bytes: u64,
    /// The SHA-256 of its bytes, in lower-case hexadecimal digits.
    pub sha256: &'a str,
}

/// The flower photos of the tutorial: 3,670 in five classes.
pub const FLOWER_PHOTOS: ArchiveSpec<'static> = ArchiveSpec {
    url: "http://download.tensorflow.org/example_images/flower_photos.tgz",
    bytes: 228_813_984,
    sha256: "4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c",
};

/// What a file turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The archive, byte for byte.
    Official,
    /// Something else.
    Other {
        /// Its size.
        bytes: u64,
        /// The SHA-256 of its bytes.
        sha256: String,
    },
}

/// How long a name server, a connection, an answer or the next bytes may take: a dead network is an error
/// within 30 seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tells whether the file is the archive.
///
/// # Errors
/// [`Error::Io`] when it cannot be read.
pub fn verify(path: &Path, spec: &ArchiveSpec) -> Result<Verdict> {
    let (bytes, sha256) = sha256(path)?;
    let official = bytes == spec.bytes && sha256 == spec.sha256;
    Ok(if official { Verdict::Official } else { Verdict::Other { bytes, sha256 } })
}

/// Fetches the archive to the file `to`, unless it is there.
///
/// The bytes go to `TO.part`, from where an interrupted download goes on; `to` appears when size and hash are
/// right. A whole download that is wrong is removed, lest it be continued for ever.
///
/// `progress` is called with the bytes that are there and the bytes there will be.
///
/// # Errors
/// [`Error::Fetch`] when the network or the server fails and when what came is not the archive;
/// [`Error::Exists`] when `to` is something else; [`Error::Io`].
pub fn fetch(spec: &ArchiveSpec, to: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
    if to.exists() {
        return match verify(to, spec)? {
            Verdict::Official => Ok(()),
            Verdict::Other { .. } => {
                Err(Error::Exists { path: to.to_owned(), holds: "a file that is not the archive is there" })
            }
        };
    }
    let parent = match to.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    let mut part_name = to.as_os_str().to_owned();
    part_name.push(".part");
    let part = PathBuf::from(part_name);

    let mut file =
        File::options().create(true).append(true).open(&part).map_err(Error::io("create", &part))?;
    if let Err(fs::TryLockError::WouldBlock) = file.try_lock() {
        return Err(refuse(spec, "another process is fetching it"));
    }
    download(spec, &mut file, &part, progress)?;
    file.sync_all().map_err(Error::io("sync", &part))?;
    drop(file);

    if let Verdict::Other { bytes, sha256 } = verify(&part, spec)? {
        fs::remove_file(&part).map_err(Error::io("remove", &part))?;
        let reason = format!(
            "what came is not the archive ({bytes} bytes, SHA-256 {sha256}) and was removed; try again"
        );
        return Err(refuse(spec, reason));
    }
    fs::rename(&part, to).map_err(Error::io("create", to))?;
    crate::staged::sync(parent)
}

/// Brings `part` to its full size, from where it is if the server can.
fn download(
    spec: &ArchiveSpec,
    file: &mut File,
    part: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    let restart = |file: &mut File| -> Result<u64> {
        file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).map_err(Error::io("write", part))
    };
    let mut have = file.metadata().map_err(Error::io("read", part))?.len();
    if have == spec.bytes {
        return Ok(());
    }
    if have > spec.bytes {
        have = restart(file)?;
    }
    let mut response = request(spec, have)?;
    if have > 0 && !continues(&response, have) {
        have = restart(file)?;
        // An answer of 200 is the whole file; any other says that there is no such range.
        if response.status() != StatusCode::OK {
            response = request(spec, have)?;
        }
    }
    if !response.status().is_success() {
        return Err(refuse(spec, format!("the server answered {}", response.status())));
    }
    if let Some(length) = response.body().content_length().filter(|length| have + length != spec.bytes) {
        let reason = format!("the server has {} bytes where the archive has {}", have + length, spec.bytes);
        return Err(refuse(spec, reason));
    }
    let mut body = response.body_mut().as_reader();
    let mut buffer = vec![0; 1 << 16];
    progress(have, spec.bytes);
    loop {
        let n = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) => return Err(cut(spec, have, &error.to_string())),
        };
        have += n as u64;
        if have > spec.bytes {
            restart(file)?;
            return Err(refuse(
                spec,
                format!("the server sends more than the {} bytes of the archive", spec.bytes),
            ));
        }
        file.write_all(&buffer[..n]).map_err(Error::io("write", part))?;
        progress(have, spec.bytes);
    }
    if have < spec.bytes { Err(cut(spec, have, "the connection was closed")) } else { Ok(()) }
}

/// Asks for the archive from byte `from` on; any status is an answer.
fn request(spec: &ArchiveSpec, from: u64) -> Result<Response<Body>> {
    let agent: Agent = Agent::config_builder()
        .timeout_resolve(Some(PATIENCE))
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .timeout_per_read(Some(PATIENCE))
        .http_status_as_error(false)
        .proxy(None)
        .build()
        .into();
    let mut request = agent.get(spec.url);
    if from > 0 {
        request = request.header(header::RANGE, format!("bytes={from}-"));
    }
    request.call().map_err(|error| refuse(spec, error.to_string()))
}

/// Whether the answer is what follows the first `have` bytes.
fn continues(response: &Response<Body>, have: u64) -> bool {
    let range = response.headers().get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    response.status() == StatusCode::PARTIAL_CONTENT
        && range.is_some_and(|range| range.starts_with(&format!("bytes {have}-")))
}

/// The size of a file and the SHA-256 of its bytes, in lower-case hexadecimal digits.
pub(crate) fn sha256(path: &Path) -> Result<(u64, String)> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut bytes = 0;
    loop {
        let n = file.read(&mut buffer).map_err(Error::io("read", path))?;
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
        bytes += n as u64;
    }
    let digits = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((bytes, digits))
}

fn cut(spec: &ArchiveSpec, have: u64, cause: &str) -> Error {
    refuse(spec, format!("{cause} after {have} of {} bytes; run it again to go on from there", spec.bytes))
}

fn refuse(spec: &ArchiveSpec, reason: impl Into<String>) -> Error {
    Error::Fetch { url: spec.url.to_owned(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    /// How the server of a test answers one request, told the first byte that was asked for.
    type Answer = fn(&[u8], Option<usize>) -> Vec<u8>;

    fn http(status: &str, headers: &str, length: usize, body: &[u8]) -> Vec<u8> {
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n");
        [head.as_bytes(), body].concat()
    }

    fn whole(content: &[u8], _: Option<usize>) -> Vec<u8> {
        http("200 OK", "", content.len(), content)
    }

    fn ranged(content: &[u8], from: Option<usize>) -> Vec<u8> {
        let Some(from) = from else { return whole(content, None) };
        let (all, rest) = (content.len(), &content[from..]);
        let range = format!("Content-Range: bytes {from}-{}/{all}\r\n", all - 1);
        http("206 Partial Content", &range, rest.len(), rest)
    }

    /// Closes the connection after half of what it promised.
    fn broken(content: &[u8], _: Option<usize>) -> Vec<u8> {
        http("200 OK", "", content.len(), &content[..content.len() / 2])
    }

    fn no_such_range(content: &[u8], from: Option<usize>) -> Vec<u8> {
        match from {
            Some(_) => http("416 Range Not Satisfiable", "", 0, &[]),
            None => whole(content, None),
        }
    }

    fn missing(_: &[u8], _: Option<usize>) -> Vec<u8> {
        http("404 Not Found", "", 4, b"none")
    }

    fn longer(content: &[u8], _: Option<usize>) -> Vec<u8> {
        http("200 OK", "", content.len() + 1, &[content, b"x"].concat())
    }

    /// Promises no length.
    fn endless(content: &[u8], _: Option<usize>) -> Vec<u8> {
        [b"HTTP/1.0 200 OK\r\n\r\n", content, content].concat()
    }

    /// Promises no length and closes the connection early.
    fn silent(content: &[u8], _: Option<usize>) -> Vec<u8> {
        [b"HTTP/1.0 200 OK\r\n\r\n", &content[..1000]].concat()
    }

    /// Answers one request after the other and tells from which byte on each one asked.
    fn serve(content: Vec<u8>, answers: Vec<Answer>) -> (String, Receiver<Option<usize>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/flowers.tgz", listener.local_addr().unwrap());
        let (asked, requests) = channel();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut from = None;
                for line in BufReader::new(&stream).lines() {
                    let line = line.unwrap().to_lowercase();
                    if let Some(range) = line.strip_prefix("range: bytes=") {
                        from = Some(range.trim_end_matches('-').parse().unwrap());
                    }
                    if line.is_empty() {
                        break;
                    }
                }
                asked.send(from).unwrap();
                // The client may have hung up already.
                let _ = stream.write_all(&answer(&content, from));
            }
        });
        (url, requests)
    }

    fn content() -> Vec<u8> {
        (0..300_000u32).map(|k| (k.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
    }

    struct Trial {
        folder: tempfile::TempDir,
        result: Result<()>,
        asked: Vec<Option<usize>>,
    }

    impl Trial {
        /// Fetches once, with `part` there from before.
        fn new(part: Option<&[u8]>, answers: Vec<Answer>) -> Self {
            let folder = tempfile::tempdir().unwrap();
            if let Some(part) = part {
                fs::write(folder.path().join("f.tgz.part"), part).unwrap();
            }
            let (url, requests) = serve(content(), answers);
            let result = fetch(&spec(&url), &folder.path().join("f.tgz"), &mut |_, _| {});
            Self { folder, result, asked: requests.try_iter().collect() }
        }

        fn file(&self) -> Option<Vec<u8>> {
            fs::read(self.folder.path().join("f.tgz")).ok()
        }

        fn part(&self) -> Option<u64> {
            fs::metadata(self.folder.path().join("f.tgz.part")).ok().map(|part| part.len())
        }

        #[track_caller]
        fn succeeds(&self, asked: &[Option<usize>]) {
            self.result.as_ref().unwrap();
            assert_eq!(self.asked, asked);
            assert!(self.file() == Some(content()));
            assert_eq!(self.part(), None);
        }

        #[track_caller]
        fn fails(&self, cause: &str, part: Option<u64>) {
            let message = self.result.as_ref().unwrap_err().to_string();
            assert!(message.contains(cause) && message.contains("--archive FILE"), "{message}");
            assert!(self.file().is_none());
            assert_eq!(self.part(), part);
        }
    }

    /// The hash is `sha256sum` of [`content`].
    fn spec(url: &str) -> ArchiveSpec<'_> {
        ArchiveSpec {
            url,
            bytes: 300_000,
            sha256: "136f334d647619879743ff33fde1ac6547f40e314692441f2a125e087cad47c9",
        }
    }

    #[test]
    fn a_whole_download() {
        Trial::new(None, vec![whole]).succeeds(&[None]);
        Trial::new(None, vec![ranged]).succeeds(&[None]);
    }

    #[test]
    fn a_part_is_continued() {
        Trial::new(Some(&content()[..1234]), vec![ranged]).succeeds(&[Some(1234)]);
        Trial::new(Some(&content()), vec![]).succeeds(&[]);
    }

    #[test]
    fn a_server_without_ranges_starts_anew() {
        Trial::new(Some(&content()[..1234]), vec![whole]).succeeds(&[Some(1234)]);
        Trial::new(Some(&content()[..1234]), vec![no_such_range, no_such_range])
            .succeeds(&[Some(1234), None]);
    }

    #[test]
    fn a_part_that_is_too_large_starts_anew() {
        Trial::new(Some(&[0; 300_001]), vec![ranged]).succeeds(&[None]);
    }

    #[test]
    fn a_cut_download_goes_on_where_it_was_cut() {
        let trial = Trial::new(None, vec![broken]);
        trial.fails("of 300000 bytes; run it again", Some(150_000));
        let (url, requests) = serve(content(), vec![ranged]);
        let mut first = None;
        fetch(&spec(&url), &trial.folder.path().join("f.tgz"), &mut |have, total| {
            first.get_or_insert((have, total));
        })
        .unwrap();
        assert_eq!(first, Some((150_000, 300_000)));
        assert_eq!(requests.try_iter().collect::<Vec<_>>(), [Some(150_000)]);
        assert!(trial.file() == Some(content()));

        Trial::new(None, vec![silent]).fails("closed after 1000 of 300000 bytes", Some(1000));
    }

    /// A part of something else has the right size in the end, but not the right hash; it must not stay.
    #[test]
    fn a_wrong_hash_is_refused_and_removed() {
        Trial::new(Some(&[0; 1234]), vec![ranged]).fails("not the archive", None);
    }

    #[test]
    fn a_wrong_size_is_refused() {
        Trial::new(None, vec![longer]).fails("300001 bytes where the archive has 300000", Some(0));
        Trial::new(None, vec![endless]).fails("more than the 300000", Some(0));
    }

    #[test]
    fn refusals_of_the_server_are_told() {
        Trial::new(None, vec![missing]).fails("404", Some(0));
        Trial::new(None, vec![]).fails("", Some(0));
    }

    #[test]
    fn what_is_there_is_not_fetched_again() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("f.tgz");
        fs::write(&to, content()).unwrap();
        fetch(&spec("http://127.0.0.1:1/"), &to, &mut |_, _| {}).unwrap();
        assert_eq!(verify(&to, &spec("")).unwrap(), Verdict::Official);

        fs::write(&to, "photos").unwrap();
        let error = fetch(&spec("http://127.0.0.1:1/"), &to, &mut |_, _| {}).unwrap_err();
        assert!(matches!(error, Error::Exists { .. }));
        let sha256 = "84a6dae49cf0481203aa97872cc3301b73c406b8ac099ee36d2f849365cec06b".to_owned();
        assert_eq!(verify(&to, &spec("")).unwrap(), Verdict::Other { bytes: 6, sha256 });
    }

    #[test]
    fn two_processes_do_not_write_one_part() {
        let folder = tempfile::tempdir().unwrap();
        let part = File::create(folder.path().join("f.tgz.part")).unwrap();
        part.lock().unwrap();
        let error =
            fetch(&spec("http://127.0.0.1:1/"), &folder.path().join("f.tgz"), &mut |_, _| {}).unwrap_err();
        assert!(error.to_string().contains("another process"), "{error}");
    }
}
