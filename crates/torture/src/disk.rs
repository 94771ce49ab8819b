//! Training with disk errors and kills: all files must be complete afterwards, and the resumed run
//! must end with the same bytes.
//!
//! `strace` makes system calls fail or kills the program at them. Files are saved on the main
//! thread, so only this thread is traced.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use alexnet_core::{checkpoint, files::each_block, weights::Weights};
use alexnet_data::decode::{Options, decode_bytes};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tempfile::TempDir;
use walkdir::WalkDir;

/// The system calls that change a disk.
const CALLS: &str =
    "openat,write,fsync,fdatasync,rename,renameat,renameat2,mkdir,unlink,unlinkat,ftruncate,flock";

/// The arguments of a short run. The layers with most weights are frozen, so that the checkpoint is
/// small.
const TRAIN: [&str; 18] = [
    "train",
    "--data",
    "images",
    "--val-fraction",
    "0.34",
    "--batch-size",
    "2",
    "--epochs",
    "2",
    "--opt",
    "sgd",
    "--lr",
    "0.01",
    "--freeze",
    "classifier",
    "-j",
    "1",
    "--run-dir",
];

/// A system call of a run at which a fault is injected.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    call: String,
    /// Its number among all calls of this kind, from 1.
    nth: usize,
    /// The file of the run; for a temporary file, the file that it replaces.
    pub file: String,
    /// Its number among consecutive calls of this kind for this file, from 0.
    repeated: usize,
}

/// The injected fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call fails with this error.
    Error(&'static str),
    /// The program is killed before the call.
    Kill,
}

/// How a run recovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Recovery {
    /// It continued with a warning that a figure is missing.
    Warned,
    /// It ended and was resumed with `--resume`.
    Resumed,
    /// It ended before the run folder was complete, and was started again.
    Restarted,
}

/// A small data set, and the files of a run without faults.
pub struct Disk {
    program: PathBuf,
    folder: TempDir,
    expected: Files,
    time: Duration,
}

/// The files of a run, without the parts that differ between runs.
type Files = BTreeMap<String, Vec<u8>>;

impl Disk {
    /// Trains a run without faults.
    ///
    /// # Errors
    /// A message when this run fails.
    pub fn new(program: &Path) -> Result<Self, String> {
        let folder = TempDir::new().map_err(|error| error.to_string())?;
        generate_images(folder.path())
            .map_err(|error| format!("cannot generate images: {error}"))?;
        let mut disk = Self {
            program: program.to_owned(),
            folder,
            expected: Files::new(),
            time: Duration::ZERO,
        };
        let start = Instant::now();
        let output = disk.start("expected").output().map_err(|error| error.to_string())?;
        disk.time = start.elapsed();
        succeeded(&output)?;
        disk.expected = disk.files("expected")?;
        Ok(disk)
    }

    /// Whether `strace` is installed and can be used.
    pub fn has_strace() -> bool {
        let mut command = Command::new("strace");
        command.args(["-o", "/dev/null", "-e", "trace=write", "true"]).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    /// Returns every call of a run without faults that changes its folder.
    ///
    /// # Errors
    /// A message.
    pub fn points(&self) -> Result<Vec<Point>, String> {
        let log = self.folder.path().join("log");
        let mut strace = Command::new("strace");
        strace.args(["-y", "-e", &format!("trace={CALLS}"), "-o"]).arg(&log);
        succeeded(&self.under(strace, self.start("traced"))?)?;
        self.remove("traced");
        let log = fs::read(&log).map_err(|error| error.to_string())?;
        Ok(points(&String::from_utf8_lossy(&log), &self.run("traced")))
    }

    /// Starts a run, injects the fault, checks the files that are left, and resumes the run.
    ///
    /// The numbers of calls can differ by one between runs: the allocator reads a file in `/proc`
    /// once, on the thread that first returns memory. If the fault is injected into such a call,
    /// the trial is repeated.
    ///
    /// # Errors
    /// A message that says what is wrong.
    pub fn trial(&self, point: &Point, fault: Fault, name: &str) -> Result<Recovery, String> {
        let mut result = Err("the call was not one of the run in three trials".into());
        for _ in 0..3 {
            let tried = self.run_trial(point, fault, name).transpose();
            self.remove(name);
            if let Some(tried) = tried {
                result = tried;
                break;
            }
        }
        result.map_err(|error| {
            format!(
                "{} {} of {} ({}), {fault:?}: {error}",
                point.call, point.nth, point.file, point.repeated
            )
        })
    }

    /// Returns `None` if the fault was injected into a call that does not refer to the folder of
    /// the run.
    fn run_trial(
        &self,
        point: &Point,
        fault: Fault,
        name: &str,
    ) -> Result<Option<Recovery>, String> {
        let Point { call, nth, .. } = point;
        let what = match fault {
            Fault::Error(error) => format!("error={error}"),
            Fault::Kill => "signal=KILL".into(),
        };
        let mut strace = Command::new("strace");
        let log = self.folder.path().join("log");
        strace.args(["-y", "-e", &format!("trace={call}"), "-e"]);
        strace.arg(format!("inject={call}:{what}:when={nth}")).arg("-o").arg(&log);
        let output = self.under(strace, self.start(name))?;
        let log = fs::read(&log).map_err(|error| error.to_string())?;
        let Some(file) = faulty_file(&String::from_utf8_lossy(&log), *nth, &self.run(name)) else {
            return Ok(None);
        };
        let stderr = String::from_utf8_lossy(&output.stderr);
        match (fault, output.status.code()) {
            (Fault::Error(_), Some(0)) if !stderr.contains("warning: ") => {
                return Err(format!("there is no warning: {stderr}"));
            }
            (Fault::Error(_), Some(0)) => {}
            (Fault::Error(_), Some(1))
                if !stderr.contains("error: ") || stderr.contains("panicked") =>
            {
                return Err(format!("it ended without an error message: {stderr}"));
            }
            (Fault::Error(_), Some(1)) | (Fault::Kill, None | Some(137)) => {}
            (_, code) => return Err(format!("it ended with {code:?}: {stderr}")),
        }
        self.check_files(name, fault)?;
        if output.status.success() {
            return self.compare(name, Some(&file)).map(|()| Some(Recovery::Warned));
        }
        let recovery = self.resume(name)?;
        self.compare(name, None).map(|()| Some(recovery))
    }

    /// Kills a run at up to `kills` random times, and resumes it each time. Returns how often it
    /// was killed.
    ///
    /// # Errors
    /// A message that says what is wrong.
    pub fn kills(&self, kills: usize, rng: &mut ChaCha8Rng, name: &str) -> Result<usize, String> {
        let result = self.try_kills(kills, rng, name);
        self.remove(name);
        result
    }

    fn try_kills(&self, kills: usize, rng: &mut ChaCha8Rng, name: &str) -> Result<usize, String> {
        let mut killed = 0;
        for _ in 0..kills {
            let mut command = self.resume_command(name).unwrap_or_else(|| self.start(name));
            command.args(["--checkpoint-every", "1"]).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().map_err(|error| error.to_string())?;
            sleep(self.time.mul_f64(rng.random_range(0.0..1.0)));
            let ended = child.try_wait().map_err(|error| error.to_string())?;
            child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
            match ended {
                None => killed += 1,
                Some(status) if status.success() => break,
                Some(status) => return Err(format!("after {killed} kills it ended with {status}")),
            }
            self.check_files(name, Fault::Kill)?;
        }
        self.resume(name)?;
        self.compare(name, None).map(|()| killed)
    }

    fn run(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn remove(&self, name: &str) {
        let _ = fs::remove_dir_all(self.run(name));
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    fn start(&self, name: &str) -> Command {
        let mut command = self.command(&TRAIN);
        command.arg(self.run(name));
        command
    }

    /// Returns the command that resumes a run, if the folder is one (it contains `args.toml`).
    fn resume_command(&self, name: &str) -> Option<Command> {
        let run = self.run(name);
        run.join("args.toml").exists().then(|| {
            let mut command = self.command(&["train", "-j", "1", "--resume"]);
            command.arg(run);
            command
        })
    }

    fn resume(&self, name: &str) -> Result<Recovery, String> {
        let (recovery, mut command) = match self.resume_command(name) {
            Some(command) => (Recovery::Resumed, command),
            None => (Recovery::Restarted, self.start(name)),
        };
        let output = command.output().map_err(|error| error.to_string())?;
        succeeded(&output).map_err(|error| format!("it cannot be resumed: {error}"))?;
        Ok(recovery)
    }

    fn under(&self, mut strace: Command, command: Command) -> Result<Output, String> {
        strace.arg(command.get_program()).args(command.get_args());
        strace.current_dir(self.folder.path()).stdin(Stdio::null());
        strace.output().map_err(|error| format!("cannot run strace: {error}"))
    }

    /// Checks that all files that a fault has left are complete.
    fn check_files(&self, name: &str, fault: Fault) -> Result<(), String> {
        let run = self.run(name);
        for entry in
            WalkDir::new(&run).into_iter().flatten().filter(|entry| entry.file_type().is_file())
        {
            let file = entry.file_name().to_string_lossy();
            if file.contains(".tmp-") {
                if fault != Fault::Kill {
                    return Err(format!("it left the temporary file {file}"));
                }
                continue;
            }
            let incomplete = |reason: String| format!("{file} is not complete: {reason}");
            let bytes = fs::read(entry.path()).map_err(|error| incomplete(error.to_string()))?;
            match entry.path().extension().and_then(OsStr::to_str) {
                Some("toml") if bytes != self.expected["args.toml"] => {
                    return Err(incomplete(format!("{bytes:?}")));
                }
                Some("json") => drop(
                    serde_json::from_slice::<Value>(&bytes)
                        .map_err(|e| incomplete(e.to_string()))?,
                ),
                Some("png" | "jpg") => drop(
                    decode_bytes(&*file, &bytes, Options::default())
                        .map_err(|e| incomplete(e.to_string()))?,
                ),
                Some("csv") if !bytes.ends_with(b"\n") => {
                    return Err(incomplete("its last line is not complete".into()));
                }
                Some("safetensors") if file.starts_with("checkpoint") => {
                    drop(
                        checkpoint::load::<Value>(entry.path())
                            .map_err(|error| incomplete(error.to_string()))?,
                    );
                }
                Some("safetensors") => {
                    drop(Weights::load(entry.path()).map_err(|e| incomplete(e.to_string()))?)
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Checks that all files equal those of the run without faults, except a figure that could not
    /// be written.
    fn compare(&self, name: &str, missing: Option<&str>) -> Result<(), String> {
        let files = self.files(name)?;
        let names = |files: &Files| files.keys().cloned().collect::<BTreeSet<_>>();
        let (found, expected) = (names(&files), names(&self.expected));
        let differ: Vec<&String> = expected.symmetric_difference(&found).collect();
        if differ.iter().any(|name| Some(name.as_str()) != missing) {
            return Err(format!("the files differ from those of a run without faults: {differ:?}"));
        }
        let differs = |(name, bytes): &(&String, &Vec<u8>)| {
            Some(name.as_str()) != missing && self.expected[*name] != **bytes
        };
        match files.iter().find(differs) {
            Some((name, _)) => Err(format!("{name} differs from that of a run without faults")),
            None => Ok(()),
        }
    }

    fn files(&self, name: &str) -> Result<Files, String> {
        let run = self.run(name);
        let entries =
            WalkDir::new(&run).into_iter().flatten().filter(|entry| entry.file_type().is_file());
        let mut files = Files::new();
        for entry in entries {
            let path = entry.path();
            let name = path.strip_prefix(&run).unwrap_or(path).to_string_lossy().into_owned();
            let content = match name.as_str() {
                "checkpoint/checkpoint.safetensors" => checkpoint_without_times(path)?,
                "results.csv" => {
                    results_without_times(&fs::read_to_string(path).map_err(|e| e.to_string())?)
                }
                // It contains the process number.
                ".lock" => continue,
                _ => fs::read(path).map_err(|error| format!("{name}: {error}"))?,
            };
            files.insert(name, content);
        }
        Ok(files)
    }
}

fn succeeded(output: &Output) -> Result<(), String> {
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// Writes two classes of three different images.
fn generate_images(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    for class in 0..2_u32 {
        let class_folder = folder.join("images").join(["dark", "light"][class as usize]);
        fs::create_dir_all(&class_folder)?;
        for image in 0..3_u32 {
            let pixel = |x: u32, y: u32| {
                image::Rgb(
                    [x * 5 + 40 * image, y * 6, 100 * class + 30 * image].map(|value| value as u8),
                )
            };
            image::RgbImage::from_fn(40, 32, pixel)
                .save(class_folder.join(format!("{image}.png")))?;
        }
    }
    Ok(())
}

fn checkpoint_without_times(path: &Path) -> Result<Vec<u8>, String> {
    let (state, mut progress) =
        checkpoint::load::<Value>(path).map_err(|error| error.to_string())?;
    progress["seconds"] = Value::Null;
    for row in progress["history"].as_array_mut().into_iter().flatten() {
        row["time"] = Value::Null;
    }
    let mut bytes = serde_json::to_vec(&progress).map_err(|error| error.to_string())?;
    for (name, array) in [&state.parameters, &state.moments, &state.average].into_iter().flatten() {
        bytes.extend(format!("{name}{:?}", array.shape).bytes());
        let Ok(()) = each_block(&array.values, |block| {
            bytes.extend_from_slice(block);
            Ok::<_, Infallible>(())
        });
    }
    Ok(bytes)
}

fn results_without_times(text: &str) -> Vec<u8> {
    let line = |line: &str| {
        let fields =
            line.split(',').enumerate().filter(|(index, _)| *index != 1).map(|(_, field)| field);
        fields.collect::<Vec<_>>().join(",") + "\n"
    };
    text.lines().map(line).collect::<String>().into_bytes()
}

/// Returns the calls in a log of `strace -y` that refer to paths in the folder `run`.
fn points(log: &str, run: &Path) -> Vec<Point> {
    let mut counts = BTreeMap::new();
    let mut points: Vec<Point> = Vec::new();
    for line in log.lines() {
        let Some((call, arguments)) = line.split_once('(') else { continue };
        let nth: &mut usize = counts.entry(call.to_owned()).or_default();
        *nth += 1;
        let Some(file) = file_of(arguments, run) else { continue };
        let before = points.last().filter(|before| before.call == call && before.file == file);
        let repeated = before.map_or(0, |before| before.repeated + 1);
        points.push(Point { call: call.to_owned(), nth: *nth, file, repeated });
    }
    points
}

/// Returns the file of the call number `nth` in a log of `strace -y` of one kind of calls.
fn faulty_file(log: &str, nth: usize, run: &Path) -> Option<String> {
    let calls = log.lines().filter_map(|line| line.split_once('('));
    calls.map(|(_, arguments)| arguments).nth(nth - 1).and_then(|args| file_of(args, run))
}

/// Returns the file of the run to which the arguments of a call refer; for a temporary file, the
/// file that it replaces.
fn file_of(arguments: &str, run: &Path) -> Option<String> {
    // The last path of a rename is its destination.
    let paths = arguments.rsplit(['"', '<', '>']).map(Path::new);
    let path = paths.filter_map(|path| path.strip_prefix(run).ok()).next()?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let replaced = name.split_once(".tmp-").map(|(name, _)| name.trim_start_matches('.'));
    let file = replaced.map_or(path.to_owned(), |name| path.with_file_name(name));
    Some(file.to_string_lossy().into_owned())
}

/// Returns the first, the second and the last of consecutive points at the same file.
pub fn few(points: &[Point]) -> Vec<Point> {
    let next_is_first = |index: usize| points.get(index + 1).is_none_or(|next| next.repeated == 0);
    let selected = points
        .iter()
        .enumerate()
        .filter(|(index, point)| point.repeated < 2 || next_is_first(*index));
    selected.map(|(_, point)| point.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = r#"openat(AT_FDCWD</tmp>, "/etc/ld.so.cache", O_RDONLY|O_CLOEXEC) = 3</etc/ld.so.cache>
mkdir("/r/weights", 0777)    = -1 ENOENT (No such file or directory)
openat(AT_FDCWD</tmp>, "/r/weights/.best.safetensors.tmp-7-8u1", O_WRONLY|O_CREAT, 0666) = 3</r/weights/.best.safetensors.tmp-7-8u1>
write(2</dev/null>, "x", 1) = 1
write(3</r/weights/.best.safetensors.tmp-7-8u1>, "\0"..., 262144) = 262144
write(3</r/weights/.best.safetensors.tmp-7-8u1>, "\0"..., 262144) = 262144
write(3</r/weights/.best.safetensors.tmp-7-8u1>, "\0"..., 262144) = 262144
write(3</r/weights/.best.safetensors.tmp-7-8u1>, "\0"..., 262144) = 262144
renameat(AT_FDCWD</tmp>, "/r/weights/.best.safetensors.tmp-7-8u1", AT_FDCWD</tmp>, "/r/weights/best.safetensors") = 0
fsync(3</r>) = 0
+++ exited with 0 +++
"#;

    #[test]
    fn the_file_of_a_fault_is_that_of_the_log() {
        let log = LOG.lines().filter(|line| line.starts_with("write(")).collect::<Vec<_>>();
        let file = |nth| faulty_file(&log.join("\n"), nth, Path::new("/r"));
        assert_eq!(file(1), None);
        assert_eq!(file(2).as_deref(), Some("weights/best.safetensors"));
        assert_eq!(file(9), None);
    }

    #[test]
    fn calls_are_counted_by_kind_and_filtered_by_folder() {
        let points = points(LOG, Path::new("/r"));
        let found: Vec<_> =
            points.iter().map(|p| (p.call.as_str(), p.nth, p.file.as_str(), p.repeated)).collect();
        let best = "weights/best.safetensors";
        assert_eq!(
            found,
            [
                ("mkdir", 1, "weights", 0),
                ("openat", 2, best, 0),
                ("write", 2, best, 0),
                ("write", 3, best, 1),
                ("write", 4, best, 2),
                ("write", 5, best, 3),
                ("renameat", 1, best, 0),
                ("fsync", 1, "", 0),
            ]
        );
        let few = few(&points);
        assert_eq!(
            few.iter().filter(|point| point.call == "write").map(|p| p.nth).collect::<Vec<_>>(),
            [2, 3, 5]
        );
        assert_eq!(few.len(), points.len() - 1);
    }
}
