//! Downloads an archive whose size and SHA-256 are known, and resumes a download that was interrupted.
//!
//! Plain HTTP suffices: the hash proves what arrived, and a TLS library would be the largest dependency of all.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::http::{StatusCode, header};
use ureq::{Agent, Body, http::Response};

use crate::{
    Error, Result,
    checksum::sha256_of_file,
    files::{open_own, sync},
};

/// An archive on a server, with its size and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveSpec<'a> {
    /// Its address, `http://…`.
    pub url: &'a str,
    /// Its size in bytes.
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

/// The result of comparing a file with an [`ArchiveSpec`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The file is the archive.
    Official,
    /// The file is something else.
    Other {
        /// Its size in bytes.
        bytes: u64,
        /// The SHA-256 of its bytes.
        sha256: String,
    },
}

/// The first bytes of an archive.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Limit for a name server, a connection, an answer or the next bytes: a dead network is an error within 30 seconds.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Compares the size and SHA-256 of a file with those of the archive.
///
/// # Errors
/// [`Error::Io`] when it cannot be read.
pub fn verify(path: &Path, spec: &ArchiveSpec) -> Result<Verdict> {
    let (bytes, sha256) = sha256_of_file(path)?;
    let official = bytes == spec.bytes && sha256 == spec.sha256;
    Ok(if official { Verdict::Official } else { Verdict::Other { bytes, sha256 } })
}

/// Downloads the archive to the file `to`, unless it is there.
///
/// The bytes go to `TO.part`, from which an interrupted download is resumed; `to` appears when size and hash are right. Each
/// answer is checked by status, length, type and first bytes before any of it is written. An answer from the first byte goes to
/// `TO.part.new`, so that `TO.part` is not lost. A complete download with a wrong hash is removed, or it would be resumed for
/// ever.
///
/// `progress` is called with the number of bytes received and of all bytes.
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
    let beside = |ending: &str| {
        let mut name = to.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    let (part, anew) = (beside(".part"), beside(".part.new"));
    let file = open_own(&part)?;
    if let Err(fs::TryLockError::WouldBlock) = file.try_lock() {
        return Err(refuse(spec, "another process is fetching it"));
    }
    let whole = download(spec, file, &part, &anew, progress)?;
    if let Verdict::Other { bytes, sha256 } = verify(whole, spec)? {
        fs::remove_file(whole).map_err(Error::io("remove", whole))?;
        let reason = format!(
            "what came is not the archive ({bytes} bytes, SHA-256 {sha256}) and was removed; try again"
        );
        return Err(refuse(spec, reason));
    }
    fs::rename(whole, to).map_err(Error::io("create", to))?;
    if whole != part {
        fs::remove_file(&part).map_err(Error::io("remove", &part))?;
    }
    sync(parent)
}

/// Downloads the rest of the archive to `part`, if the server knows ranges, else all of it to `anew`; returns which.
fn download<'a>(
    spec: &ArchiveSpec,
    mut file: File,
    part: &'a Path,
    anew: &'a Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<&'a Path> {
    let have = beginning(&mut file, spec).map_err(Error::io("read", part))?;
    if have == Some(spec.bytes) {
        return Ok(part);
    }
    if let Some(have) = have {
        let mut response = request(spec, have)?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                check_answer(spec, &response, have)?;
                file.seek(SeekFrom::End(0)).map_err(Error::io("write", part))?;
                receive(spec, &mut response, &mut file, (part, have), progress)?;
                return Ok(part);
            }
            // The server knows no ranges.
            StatusCode::OK => {
                whole(spec, response, || open_own(anew), anew, progress)?;
                return Ok(anew);
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {}
            _ => check_answer(spec, &response, have)?,
        }
    }
    let response = request(spec, 0)?;
    if file.metadata().map_err(Error::io("read", part))?.len() == 0 {
        whole(spec, response, || Ok(file), part, progress)?;
        return Ok(part);
    }
    // What is there is not the beginning of the archive, or the server does not go on from it.
    whole(spec, response, || open_own(anew), anew, progress)?;
    Ok(anew)
}

/// The number of bytes in a file that can be the beginning of the archive; none when it is empty, too long, or begins otherwise.
fn beginning(file: &mut File, spec: &ArchiveSpec) -> std::io::Result<Option<u64>> {
    let length = file.metadata()?.len();
    let mut magic = [0; GZIP.len()];
    let may_be = length >= magic.len() as u64 && length <= spec.bytes;
    Ok((may_be && file.read_exact(&mut magic).is_ok() && magic == GZIP).then_some(length))
}

/// Receives all of the archive into the file that `open` opens, which happens when there is something to write.
fn whole(
    spec: &ArchiveSpec,
    mut response: Response<Body>,
    open: impl FnOnce() -> Result<File>,
    path: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    check_answer(spec, &response, 0)?;
    let mut magic = [0; GZIP.len()];
    let read = response.body_mut().as_reader().read_exact(&mut magic);
    read.map_err(|error| cut(spec, 0, &error.to_string()))?;
    if magic != GZIP {
        return Err(refuse(
            spec,
            "the server sends something else than an archive; is there a page to log in on?",
        ));
    }
    let mut file = open()?;
    file.set_len(0).and_then(|()| file.write_all(&magic)).map_err(Error::io("write", path))?;
    receive(spec, &mut response, &mut file, (path, magic.len() as u64), progress)
}

/// Checks by its headers that an answer can be the archive from byte `have` on.
fn check_answer(spec: &ArchiveSpec, response: &Response<Body>, have: u64) -> Result<()> {
    let kept = match have {
        0 => String::new(),
        have => format!("; the {have} bytes that are here are kept"),
    };
    let fail = |reason: String| Err(refuse(spec, reason + &kept));
    let header =
        |name| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let wanted = if have == 0 { StatusCode::OK } else { StatusCode::PARTIAL_CONTENT };
    if response.status() != wanted {
        return fail(format!("the server answered {}", response.status()));
    }
    let range = header(header::CONTENT_RANGE);
    if have > 0 && !is_rest(range, have, spec.bytes) {
        return fail(format!("the server sends another part than the one asked for, `{range}`"));
    }
    if let Some(length) = response.body().content_length().filter(|length| have + length != spec.bytes) {
        return fail(format!("the server has {} bytes where the archive has {}", have + length, spec.bytes));
    }
    let kind = header(header::CONTENT_TYPE);
    match kind.starts_with("text/") {
        true => fail(format!("the server sends {kind}, not an archive; is there a page to log in on?")),
        false => Ok(()),
    }
}

/// Whether a `Content-Range` is that of the bytes from `have` to the end, of as many as there are or it does not say how many.
fn is_rest(range: &str, have: u64, all: u64) -> bool {
    let Some((bytes, of)) = range.strip_prefix("bytes ").and_then(|range| range.split_once('/')) else {
        return false;
    };
    bytes == format!("{have}-{}", all - 1) && (of == "*" || of == all.to_string())
}

/// Appends the bytes of an answer to the file, until the archive has its size.
fn receive(
    spec: &ArchiveSpec,
    response: &mut Response<Body>,
    file: &mut File,
    (path, mut have): (&Path, u64),
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    let mut body = response.body_mut().as_reader().take(spec.bytes - have);
    let mut buffer = vec![0; 1 << 16];
    progress(have, spec.bytes);
    loop {
        let n = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) => return Err(cut(spec, have, &error.to_string())),
        };
        have += n as u64;
        file.write_all(&buffer[..n]).map_err(Error::io("write", path))?;
        progress(have, spec.bytes);
    }
    match have < spec.bytes {
        true => Err(cut(spec, have, "the connection was closed")),
        false => file.sync_all().map_err(Error::io("sync", path)),
    }
}

/// Requests the archive from byte `from` on; any status is an answer.
fn request(spec: &ArchiveSpec, from: u64) -> Result<Response<Body>> {
    let agent: Agent = Agent::config_builder()
        .timeout_resolve(Some(TIMEOUT))
        .timeout_connect(Some(TIMEOUT))
        .timeout_recv_response(Some(TIMEOUT))
        .timeout_per_read(Some(TIMEOUT))
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

fn cut(spec: &ArchiveSpec, have: u64, cause: &str) -> Error {
    refuse(
        spec,
        format!("{cause} after {have} of {} bytes; the next download continues from there", spec.bytes),
    )
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

    fn all_of_it(content: &[u8], _: Option<usize>) -> Vec<u8> {
        http("200 OK", "", content.len(), content)
    }

    fn ranged(content: &[u8], from: Option<usize>) -> Vec<u8> {
        let Some(from) = from else { return all_of_it(content, None) };
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
            None => all_of_it(content, None),
        }
    }

    fn missing(_: &[u8], _: Option<usize>) -> Vec<u8> {
        http("404 Not Found", "", 4, b"none")
    }

    fn failing(_: &[u8], _: Option<usize>) -> Vec<u8> {
        http("500 Internal Server Error", "Content-Type: text/html\r\n", 4, b"oops")
    }

    /// A captive portal: a page to log in on.
    fn portal(_: &[u8], _: Option<usize>) -> Vec<u8> {
        http("200 OK", "Content-Type: text/html; charset=utf-8\r\n", 300_000, &[b'<'; 300_000])
    }

    /// The same without a content type.
    fn silent_portal(_: &[u8], _: Option<usize>) -> Vec<u8> {
        [b"HTTP/1.0 200 OK\r\n\r\n", &b"<html>log in</html>"[..]].concat()
    }

    /// A part, but not the one that was asked for.
    fn another_range(content: &[u8], _: Option<usize>) -> Vec<u8> {
        http("206 Partial Content", "Content-Range: bytes 0-299999/300000\r\n", 300_000, content)
    }

    fn of_another_file(content: &[u8], from: Option<usize>) -> Vec<u8> {
        let rest = &content[from.unwrap_or_default()..];
        let range = format!("Content-Range: bytes {}-299999/400000\r\n", 300_000 - rest.len());
        http("206 Partial Content", &range, rest.len(), rest)
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

    /// It begins as an archive does.
    fn content() -> Vec<u8> {
        let mut bytes: Vec<u8> =
            (0..300_000u32).map(|k| (k.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        bytes[..2].copy_from_slice(&GZIP);
        bytes
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
            assert!(message.contains(cause), "{message}");
            assert!(self.file().is_none());
            assert_eq!(self.part(), part);
        }
    }

    /// The hash is `sha256sum` of [`content`].
    fn spec(url: &str) -> ArchiveSpec<'_> {
        ArchiveSpec {
            url,
            bytes: 300_000,
            sha256: "c1b3796aef4e163bfd75d560501ed657cb918dcf7e1f6aba67b88d826143ad4a",
        }
    }

    #[test]
    fn a_whole_download() {
        Trial::new(None, vec![all_of_it]).succeeds(&[None]);
        Trial::new(None, vec![ranged]).succeeds(&[None]);
    }

    #[test]
    fn a_part_is_continued() {
        Trial::new(Some(&content()[..1234]), vec![ranged]).succeeds(&[Some(1234)]);
        Trial::new(Some(&content()), vec![]).succeeds(&[]);
    }

    #[test]
    fn a_server_without_ranges_starts_anew() {
        Trial::new(Some(&content()[..1234]), vec![all_of_it]).succeeds(&[Some(1234)]);
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
        trial.fails("of 300000 bytes; the next download", Some(150_000));
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
        let wrong = [&GZIP[..], &[0; 1232]].concat();
        Trial::new(Some(&wrong), vec![ranged]).fails("not the archive", None);
    }

    /// Whatever a server answers, what was fetched before is not lost by it.
    #[test]
    fn a_part_survives_wrong_answers() {
        let part = &content()[..1234];
        for (answers, cause) in [
            (&[missing as Answer][..], "answered 404 Not Found; the 1234 bytes that are here are kept"),
            (&[failing], "answered 500 Internal Server Error; the 1234 bytes"),
            (&[portal], "the server sends text/html"),
            (&[silent_portal], "something else than an archive"),
            (&[another_range], "another part than the one asked for, `bytes 0-299999/300000`"),
            (&[of_another_file], "another part"),
            (&[longer], "300001 bytes where the archive has 300000"),
            (&[broken], "of 300000 bytes; the next download"),
            (&[no_such_range, missing], "answered 404"),
            (&[], ""),
        ] {
            let trial = Trial::new(Some(part), answers.to_vec());
            trial.fails(cause, Some(1234));
            assert_eq!(fs::read(trial.folder.path().join("f.tgz.part")).unwrap(), part, "{cause}");
        }
    }

    /// Nothing that cannot be the archive is written, so nothing can be continued that is none.
    #[test]
    fn pages_are_no_parts() {
        Trial::new(None, vec![portal]).fails("text/html", Some(0));
        Trial::new(None, vec![silent_portal]).fails("something else", Some(0));
        // What older versions left.
        let page = [b'<'; 5000];
        Trial::new(Some(&page), vec![ranged]).succeeds(&[None]);
        Trial::new(Some(&page), vec![missing]).fails("404", Some(5000));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_the_place_of_the_part_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let precious = folder.path().join("precious");
        fs::write(&precious, "words").unwrap();
        std::os::unix::fs::symlink(&precious, folder.path().join("f.tgz.part")).unwrap();
        let (url, _) = serve(content(), vec![all_of_it]);
        let error = fetch(&spec(&url), &folder.path().join("f.tgz"), &mut |_, _| {}).unwrap_err();
        assert!(error.to_string().contains("it is a link"), "{error}");
        assert_eq!(fs::read_to_string(&precious).unwrap(), "words");
    }

    #[test]
    fn a_wrong_size_is_refused() {
        Trial::new(None, vec![longer]).fails("300001 bytes where the archive has 300000", Some(0));
        // The right bytes, and then more, which are not taken.
        Trial::new(None, vec![endless]).succeeds(&[None]);
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
