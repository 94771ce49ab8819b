//! Downloads an archive with known size and SHA-256, and resumes interrupted downloads.
//!
//! Plain HTTP is sufficient because the hash verifies the content, and a TLS library would be the
//! largest dependency.

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
    /// Its URL, `http://…`.
    pub url: &'a str,
    /// Its size in bytes.
    pub bytes: u64,
    /// The SHA-256 of its bytes, in lower-case hexadecimal digits.
    pub sha256: &'a str,
}

/// The archive of the tutorial's flower photos: 3,670 images in five classes.
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
    /// The file is a different file.
    Other {
        /// Its size in bytes.
        bytes: u64,
        /// The SHA-256 of its bytes.
        sha256: String,
    },
}

/// The first bytes of a gzip archive.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Limit of each of: name resolution, connection, response, next bytes. A network failure is
/// reported within 30 seconds.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Compares the size and SHA-256 of a file with those of the archive.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read.
pub fn verify(path: &Path, spec: &ArchiveSpec) -> Result<Verdict> {
    let (bytes, sha256) = sha256_of_file(path)?;
    let official = bytes == spec.bytes && sha256 == spec.sha256;
    Ok(if official { Verdict::Official } else { Verdict::Other { bytes, sha256 } })
}

/// Downloads the archive to the file `to`, unless it is already there.
///
/// The bytes are written to `TO.part`, from which an interrupted download is resumed. The file is
/// renamed to `to` if its size and hash are correct. The status, length, type and first bytes of
/// each response are checked before anything is written. If the server sends the archive from the
/// first byte, the bytes are written to `TO.part.new`, so that `TO.part` is not lost. A complete
/// download with a wrong hash is removed; otherwise it would be resumed each time.
///
/// `progress` is called with the number of bytes received so far and the size of the archive.
///
/// # Errors
/// [`Error::Fetch`] if the network or the server fails or if the downloaded file is not the
/// archive; [`Error::Exists`] if `to` is another file; [`Error::Io`].
pub fn fetch(spec: &ArchiveSpec, to: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
    if to.exists() {
        return match verify(to, spec)? {
            Verdict::Official => Ok(()),
            Verdict::Other { .. } => Err(Error::Exists {
                path: to.to_owned(),
                holds: "it exists and is not the archive",
            }),
        };
    }
    let parent = match to.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    let with_suffix = |suffix: &str| {
        let mut name = to.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let (part, new_part) = (with_suffix(".part"), with_suffix(".part.new"));
    let file = open_own(&part)?;
    if let Err(fs::TryLockError::WouldBlock) = file.try_lock() {
        return Err(refuse(spec, "another process is downloading it"));
    }
    let complete = download(spec, file, &part, &new_part, progress)?;
    if let Verdict::Other { bytes, sha256 } = verify(complete, spec)? {
        fs::remove_file(complete).map_err(Error::io("remove", complete))?;
        let reason = format!(
            "the downloaded file is not the archive ({bytes} bytes, SHA-256 {sha256}) and was removed; try again"
        );
        return Err(refuse(spec, reason));
    }
    fs::rename(complete, to).map_err(Error::io("create", to))?;
    if complete != part {
        fs::remove_file(&part).map_err(Error::io("remove", &part))?;
    }
    sync(parent)
}

/// Downloads the rest of the archive to `part` if the server supports ranges, otherwise the whole
/// archive to `new_part`. Returns the path of the complete file.
fn download<'a>(
    spec: &ArchiveSpec,
    mut file: File,
    part: &'a Path,
    new_part: &'a Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<&'a Path> {
    let have = resumable_bytes(&mut file, spec).map_err(Error::io("read", part))?;
    if have == Some(spec.bytes) {
        return Ok(part);
    }
    if let Some(have) = have {
        let mut response = request(spec, have)?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                check_response(spec, &response, have)?;
                file.seek(SeekFrom::End(0)).map_err(Error::io("write", part))?;
                receive(spec, &mut response, &mut file, (part, have), progress)?;
                return Ok(part);
            }
            // The server does not support ranges.
            StatusCode::OK => {
                receive_all(spec, response, || open_own(new_part), new_part, progress)?;
                return Ok(new_part);
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {}
            _ => check_response(spec, &response, have)?,
        }
    }
    let response = request(spec, 0)?;
    if file.metadata().map_err(Error::io("read", part))?.len() == 0 {
        receive_all(spec, response, || Ok(file), part, progress)?;
        return Ok(part);
    }
    // The partial file is not the start of the archive, or the server cannot resume from it.
    receive_all(spec, response, || open_own(new_part), new_part, progress)?;
    Ok(new_part)
}

/// Returns the length of a file that can be the start of the archive; `None` if it is empty, too
/// long, or has other first bytes.
fn resumable_bytes(file: &mut File, spec: &ArchiveSpec) -> std::io::Result<Option<u64>> {
    let length = file.metadata()?.len();
    let mut magic = [0; GZIP.len()];
    let in_range = length >= magic.len() as u64 && length <= spec.bytes;
    Ok((in_range && file.read_exact(&mut magic).is_ok() && magic == GZIP).then_some(length))
}

/// Receives the whole archive into the file that `open` opens. The file is opened after the
/// response is checked.
fn receive_all(
    spec: &ArchiveSpec,
    mut response: Response<Body>,
    open: impl FnOnce() -> Result<File>,
    path: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    check_response(spec, &response, 0)?;
    let mut magic = [0; GZIP.len()];
    let read = response.body_mut().as_reader().read_exact(&mut magic);
    read.map_err(|error| interrupted(spec, 0, &error.to_string()))?;
    if magic != GZIP {
        return Err(refuse(
            spec,
            "the server sent something that is not an archive; check whether the network needs a login page",
        ));
    }
    let mut file = open()?;
    file.set_len(0).and_then(|()| file.write_all(&magic)).map_err(Error::io("write", path))?;
    receive(spec, &mut response, &mut file, (path, magic.len() as u64), progress)
}

/// Checks the headers of a response: whether it can be the archive from byte `have` on.
fn check_response(spec: &ArchiveSpec, response: &Response<Body>, have: u64) -> Result<()> {
    let suffix = match have {
        0 => String::new(),
        have => format!("; the {have} bytes downloaded earlier are kept"),
    };
    let fail = |reason: String| Err(refuse(spec, reason + &suffix));
    let header = |name| {
        response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    };
    let wanted = if have == 0 { StatusCode::OK } else { StatusCode::PARTIAL_CONTENT };
    if response.status() != wanted {
        return fail(format!("the server answered {}", response.status()));
    }
    let range = header(header::CONTENT_RANGE);
    if have > 0 && !is_rest(range, have, spec.bytes) {
        return fail(format!("the server sent a range that was not requested, `{range}`"));
    }
    if let Some(length) =
        response.body().content_length().filter(|length| have + length != spec.bytes)
    {
        return fail(format!(
            "the file on the server has {} bytes, the archive has {}",
            have + length,
            spec.bytes
        ));
    }
    let kind = header(header::CONTENT_TYPE);
    match kind.starts_with("text/") {
        true => fail(format!(
            "the server sent {kind}, not an archive; check whether the network needs a login page"
        )),
        false => Ok(()),
    }
}

/// Returns whether a `Content-Range` is that of the bytes from `have` to the end. The total may be
/// `*` instead of `all`.
fn is_rest(range: &str, have: u64, all: u64) -> bool {
    let Some((bytes, total)) = range.strip_prefix("bytes ").and_then(|range| range.split_once('/'))
    else {
        return false;
    };
    bytes == format!("{have}-{}", all - 1) && (total == "*" || total == all.to_string())
}

/// Appends the bytes of a response to the file, up to the size of the archive.
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
            Err(error) => return Err(interrupted(spec, have, &error.to_string())),
        };
        have += n as u64;
        file.write_all(&buffer[..n]).map_err(Error::io("write", path))?;
        progress(have, spec.bytes);
    }
    match have < spec.bytes {
        true => Err(interrupted(spec, have, "the connection was closed")),
        false => file.sync_all().map_err(Error::io("sync", path)),
    }
}

/// Requests the archive from byte `from` on. A response with an error status is not an error here.
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

fn interrupted(spec: &ArchiveSpec, have: u64, cause: &str) -> Error {
    refuse(
        spec,
        format!(
            "{cause} after {have} of {} bytes; the next download continues from there",
            spec.bytes
        ),
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

    /// Returns the response to a request, from the content and the first requested byte.
    type Response = fn(&[u8], Option<usize>) -> Vec<u8>;

    fn http(status: &str, headers: &str, length: usize, body: &[u8]) -> Vec<u8> {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n"
        );
        [head.as_bytes(), body].concat()
    }

    fn full(content: &[u8], _: Option<usize>) -> Vec<u8> {
        http("200 OK", "", content.len(), content)
    }

    fn ranged(content: &[u8], from: Option<usize>) -> Vec<u8> {
        let Some(from) = from else { return full(content, None) };
        let (all, rest) = (content.len(), &content[from..]);
        let range = format!("Content-Range: bytes {from}-{}/{all}\r\n", all - 1);
        http("206 Partial Content", &range, rest.len(), rest)
    }

    /// Closes the connection after half of the declared length.
    fn broken(content: &[u8], _: Option<usize>) -> Vec<u8> {
        http("200 OK", "", content.len(), &content[..content.len() / 2])
    }

    fn no_such_range(content: &[u8], from: Option<usize>) -> Vec<u8> {
        match from {
            Some(_) => http("416 Range Not Satisfiable", "", 0, &[]),
            None => full(content, None),
        }
    }

    fn missing(_: &[u8], _: Option<usize>) -> Vec<u8> {
        http("404 Not Found", "", 4, b"none")
    }

    fn failing(_: &[u8], _: Option<usize>) -> Vec<u8> {
        http("500 Internal Server Error", "Content-Type: text/html\r\n", 4, b"oops")
    }

    /// The login page of a captive portal.
    fn portal(_: &[u8], _: Option<usize>) -> Vec<u8> {
        http("200 OK", "Content-Type: text/html; charset=utf-8\r\n", 300_000, &[b'<'; 300_000])
    }

    /// A login page without a content type.
    fn untyped_portal(_: &[u8], _: Option<usize>) -> Vec<u8> {
        [b"HTTP/1.0 200 OK\r\n\r\n", &b"<html>log in</html>"[..]].concat()
    }

    /// A range that was not requested.
    fn another_range(content: &[u8], _: Option<usize>) -> Vec<u8> {
        http("206 Partial Content", "Content-Range: bytes 0-299999/300000\r\n", 300_000, content)
    }

    /// A range of a file of another size.
    fn another_size(content: &[u8], from: Option<usize>) -> Vec<u8> {
        let rest = &content[from.unwrap_or_default()..];
        let range = format!("Content-Range: bytes {}-299999/400000\r\n", 300_000 - rest.len());
        http("206 Partial Content", &range, rest.len(), rest)
    }

    fn longer(content: &[u8], _: Option<usize>) -> Vec<u8> {
        http("200 OK", "", content.len() + 1, &[content, b"x"].concat())
    }

    /// Twice the content, without a declared length.
    fn endless(content: &[u8], _: Option<usize>) -> Vec<u8> {
        [b"HTTP/1.0 200 OK\r\n\r\n", content, content].concat()
    }

    /// Declares no length and closes the connection early.
    fn without_length(content: &[u8], _: Option<usize>) -> Vec<u8> {
        [b"HTTP/1.0 200 OK\r\n\r\n", &content[..1000]].concat()
    }

    /// Starts a server that sends these responses one after the other. Returns its URL and the
    /// first requested byte of each request.
    fn serve(content: Vec<u8>, responses: Vec<Response>) -> (String, Receiver<Option<usize>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/flowers.tgz", listener.local_addr().unwrap());
        let (sender, requests) = channel();
        std::thread::spawn(move || {
            for response in responses {
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
                sender.send(from).unwrap();
                // The client may have closed the connection.
                let _ = stream.write_all(&response(&content, from));
            }
        });
        (url, requests)
    }

    /// Returns the content of the archive, which starts with the gzip bytes.
    fn content() -> Vec<u8> {
        let mut bytes: Vec<u8> =
            (0..300_000u32).map(|k| (k.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        bytes[..2].copy_from_slice(&GZIP);
        bytes
    }

    /// The result of a download in a test.
    struct Download {
        folder: tempfile::TempDir,
        result: Result<()>,
        requested: Vec<Option<usize>>,
    }

    impl Download {
        /// Downloads once, with `part` as the content of an existing partial file.
        fn new(part: Option<&[u8]>, responses: Vec<Response>) -> Self {
            let folder = tempfile::tempdir().unwrap();
            if let Some(part) = part {
                fs::write(folder.path().join("f.tgz.part"), part).unwrap();
            }
            let (url, requests) = serve(content(), responses);
            let result = fetch(&spec(&url), &folder.path().join("f.tgz"), &mut |_, _| {});
            Self { folder, result, requested: requests.try_iter().collect() }
        }

        fn file(&self) -> Option<Vec<u8>> {
            fs::read(self.folder.path().join("f.tgz")).ok()
        }

        fn part(&self) -> Option<u64> {
            fs::metadata(self.folder.path().join("f.tgz.part")).ok().map(|part| part.len())
        }

        #[track_caller]
        fn succeeds(&self, requested: &[Option<usize>]) {
            self.result.as_ref().unwrap();
            assert_eq!(self.requested, requested);
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
    fn an_archive_is_downloaded() {
        Download::new(None, vec![full]).succeeds(&[None]);
        Download::new(None, vec![ranged]).succeeds(&[None]);
    }

    #[test]
    fn a_partial_file_is_resumed() {
        Download::new(Some(&content()[..1234]), vec![ranged]).succeeds(&[Some(1234)]);
        Download::new(Some(&content()), vec![]).succeeds(&[]);
    }

    #[test]
    fn without_ranges_the_download_restarts() {
        Download::new(Some(&content()[..1234]), vec![full]).succeeds(&[Some(1234)]);
        Download::new(Some(&content()[..1234]), vec![no_such_range, no_such_range])
            .succeeds(&[Some(1234), None]);
    }

    #[test]
    fn with_a_too_large_partial_file_the_download_restarts() {
        Download::new(Some(&[0; 300_001]), vec![ranged]).succeeds(&[None]);
    }

    #[test]
    fn an_interrupted_download_is_resumed() {
        let download = Download::new(None, vec![broken]);
        download.fails("of 300000 bytes; the next download", Some(150_000));
        let (url, requests) = serve(content(), vec![ranged]);
        let mut first = None;
        fetch(&spec(&url), &download.folder.path().join("f.tgz"), &mut |have, total| {
            first.get_or_insert((have, total));
        })
        .unwrap();
        assert_eq!(first, Some((150_000, 300_000)));
        assert_eq!(requests.try_iter().collect::<Vec<_>>(), [Some(150_000)]);
        assert!(download.file() == Some(content()));

        Download::new(None, vec![without_length])
            .fails("closed after 1000 of 300000 bytes", Some(1000));
    }

    /// If the partial file is that of another archive, the complete file has the right size but a
    /// wrong hash. It must be removed.
    #[test]
    fn a_wrong_hash_is_refused_and_removed() {
        let wrong = [&GZIP[..], &[0; 1232]].concat();
        Download::new(Some(&wrong), vec![ranged]).fails("not the archive", None);
    }

    /// No response of a server removes the bytes downloaded earlier.
    #[test]
    fn a_partial_file_is_preserved_after_wrong_responses() {
        let part = &content()[..1234];
        for (responses, cause) in [
            (
                &[missing as Response][..],
                "answered 404 Not Found; the 1234 bytes downloaded earlier are kept",
            ),
            (&[failing], "answered 500 Internal Server Error; the 1234 bytes"),
            (&[portal], "the server sent text/html"),
            (&[untyped_portal], "something that is not an archive"),
            (&[another_range], "a range that was not requested, `bytes 0-299999/300000`"),
            (&[another_size], "a range that was not requested"),
            (&[longer], "300001 bytes, the archive has 300000"),
            (&[broken], "of 300000 bytes; the next download"),
            (&[no_such_range, missing], "answered 404"),
            (&[], ""),
        ] {
            let download = Download::new(Some(part), responses.to_vec());
            download.fails(cause, Some(1234));
            assert_eq!(
                fs::read(download.folder.path().join("f.tgz.part")).unwrap(),
                part,
                "{cause}"
            );
        }
    }

    /// Bytes that cannot be the archive are not written, so that they cannot be resumed.
    #[test]
    fn login_pages_are_not_written() {
        Download::new(None, vec![portal]).fails("text/html", Some(0));
        Download::new(None, vec![untyped_portal]).fails("not an archive", Some(0));
        // Older versions could leave a page in the partial file.
        let page = [b'<'; 5000];
        Download::new(Some(&page), vec![ranged]).succeeds(&[None]);
        Download::new(Some(&page), vec![missing]).fails("404", Some(5000));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_with_the_name_of_the_partial_file_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let precious = folder.path().join("precious");
        fs::write(&precious, "words").unwrap();
        std::os::unix::fs::symlink(&precious, folder.path().join("f.tgz.part")).unwrap();
        let (url, _) = serve(content(), vec![full]);
        let error = fetch(&spec(&url), &folder.path().join("f.tgz"), &mut |_, _| {}).unwrap_err();
        assert!(error.to_string().contains("it is a link"), "{error}");
        assert_eq!(fs::read_to_string(&precious).unwrap(), "words");
    }

    #[test]
    fn a_wrong_size_is_refused() {
        Download::new(None, vec![longer]).fails("300001 bytes, the archive has 300000", Some(0));
        // The right bytes, followed by more, which are ignored.
        Download::new(None, vec![endless]).succeeds(&[None]);
    }

    #[test]
    fn server_errors_are_reported() {
        Download::new(None, vec![missing]).fails("404", Some(0));
        Download::new(None, vec![]).fails("", Some(0));
    }

    #[test]
    fn an_existing_file_is_not_downloaded_again() {
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
    fn two_processes_do_not_write_the_same_partial_file() {
        let folder = tempfile::tempdir().unwrap();
        let part = File::create(folder.path().join("f.tgz.part")).unwrap();
        part.lock().unwrap();
        let error =
            fetch(&spec("http://127.0.0.1:1/"), &folder.path().join("f.tgz"), &mut |_, _| {})
                .unwrap_err();
        assert!(error.to_string().contains("another process"), "{error}");
    }
}
