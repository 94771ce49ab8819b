//! `torture`: tests all parsers with mutated files, and training with disk errors and kills. Each
//! part gets an equal share of the time.
//!
//! Each parser runs in a separate process whose memory the shell limits, so that aborts, hangs and
//! excessive use of memory are also found.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use alexnet_torture::{
    campaign::{Campaign, Report, current_file},
    disk::{Disk, Fault, Point, Recovery, few},
    memory,
    predict::{FORMATS, Predict},
    targets::{self, Target},
};
use clap::{Parser, Subcommand};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// A process without output for this time hangs.
const HANG: Duration = Duration::from_secs(90);

/// The names of the parts other than parsers.
const DISK: &str = "disk";
const KILLS: &str = "kills";
const PREDICT: &str = "predict";

/// Test all parsers with mutated files, and training with disk errors and kills.
#[derive(Parser)]
#[command(name = "cargo xtask torture", subcommand_negates_reqs = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Part>,
    /// Total minutes, shared by the parsers, `predict`, `disk` and `kills`
    #[arg(long, value_name = "N", required = true)]
    minutes: Option<f64>,
    /// Run only these parts: names of parsers, `predict`, `disk`, `kills`
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Seed of all mutations
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Folder for report.json and for files that show a fault
    #[arg(long, value_name = "DIR", default_value = "target/torture")]
    out: PathBuf,
    /// Number of parallel processes [default: number of cores]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Memory limit of a process, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    memory: u64,
    /// Path of the command-line program, which `cargo xtask` builds
    #[arg(long, value_name = "FILE", hide = true)]
    program: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Part {
    /// Test one parser in this process
    #[command(hide = true)]
    Parser { name: String, seed: u64, seconds: f64, out: PathBuf, program: Option<PathBuf> },
    /// Run one parser on one file, for example on a saved file that shows a fault
    Replay {
        /// Name of the parser
        name: String,
        /// The file
        file: PathBuf,
    },
}

/// The content of `report.json`.
#[derive(Default, Serialize)]
struct Summary {
    parsers: BTreeMap<String, Report>,
    disk: BTreeMap<String, u64>,
    faults: Vec<String>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match &cli.command {
        Some(Part::Parser { name, seed, seconds, out, program }) => {
            parser(named(name), *seed, Duration::from_secs_f64(*seconds), out, program.clone());
            ExitCode::SUCCESS
        }
        Some(Part::Replay { name, file }) => replay(named(name), file, cli.program.clone()),
        None => all(&cli),
    }
}

fn named(name: &str) -> Target {
    targets::named(name).unwrap_or_else(|| panic!("there is no parser `{name}`"))
}

/// Tests one parser for this time, and prints the report as a line of JSON each second.
fn parser(target: Target, seed: u64, time: Duration, out: &Path, program: Option<PathBuf>) {
    let start = Instant::now();
    let mut last_print = Instant::now();
    let mut campaign = Campaign::new(&target, seed, program, Some(out));
    let print_report = |report: &mut Report| {
        report.seconds =
            memory::processor_seconds().unwrap_or_else(|| start.elapsed().as_secs_f64());
        // An error is ignored: if the reader has ended, the parent process also ends this one.
        let _ =
            writeln!(std::io::stdout(), "{}", serde_json::to_string(report).unwrap_or_default());
    };
    campaign.seeds();
    while start.elapsed() < time {
        campaign.step();
        if last_print.elapsed() > Duration::from_secs(1) {
            last_print = Instant::now();
            print_report(&mut campaign.report);
        }
    }
    print_report(&mut campaign.report);
    let _ = fs::remove_file(current_file(out, target.name));
}

fn replay(target: Target, file: &Path, program: Option<PathBuf>) -> ExitCode {
    let bytes = fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let target = Target { seeds: vec![bytes], ..target };
    let mut campaign = Campaign::new(&target, 0, program, None);
    campaign.seeds();
    println!("{:#?}", campaign.report);
    if campaign.report.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn all(cli: &Cli) -> ExitCode {
    fs::create_dir_all(&cli.out).unwrap_or_else(|error| panic!("{}: {error}", cli.out.display()));
    let wanted = |name: &str| cli.only.is_empty() || cli.only.iter().any(|only| only == name);
    let parsers = targets::all();
    let mut parts: Vec<&str> = Vec::new();
    let has_program = cli.program.is_some();
    parts.extend(
        parsers
            .iter()
            .filter(|t| has_program || !t.needs_program)
            .map(|t| t.name)
            .filter(|name| wanted(name)),
    );
    parts.extend([PREDICT, DISK, KILLS].into_iter().filter(|name| has_program && wanted(name)));
    let jobs = cli
        .jobs
        .unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from))
        .min(parts.len());
    let share = Duration::from_secs_f64(
        cli.minutes.unwrap_or_default() * 60.0 * jobs as f64 / parts.len().max(1) as f64,
    );
    eprintln!("{} parts, {:.0} s each, {jobs} at a time", parts.len(), share.as_secs_f64());

    let summary = Mutex::new(Summary::default());
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(part) = parts.get(next.fetch_add(1, Relaxed)) {
                    eprintln!("{part}");
                    match *part {
                        DISK => disk(cli, share, &summary),
                        PREDICT => predict(cli, share, &summary),
                        KILLS => kills(cli, share, &summary),
                        name => in_processes(cli, name, share, &summary),
                    }
                }
            });
        }
    });
    let summary = summary.into_inner().unwrap_or_default();
    print(&summary);
    let json = serde_json::to_vec_pretty(&summary).unwrap_or_default();
    if let Err(error) = fs::write(cli.out.join("report.json"), json) {
        eprintln!("cannot write report.json: {error}");
    }
    if summary.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Tests a parser for its share of the time, and starts a new process when one dies.
fn in_processes(cli: &Cli, name: &str, share: Duration, summary: &Mutex<Summary>) {
    let start = Instant::now();
    let mut sum = Report::default();
    for round in 0.. {
        let left = share.saturating_sub(start.elapsed());
        if left.is_zero() {
            break;
        }
        let (report, death) = in_a_process(cli, name, cli.seed.wrapping_mul(1000) + round, left);
        add(&mut sum, report);
        if let Some(death) = death {
            let file = cli.out.join(format!("{name}-death-{round}"));
            let saved = fs::rename(current_file(&cli.out, name), &file)
                .map_or("no file".into(), |()| file.display().to_string());
            *sum.faults.entry(format!("{death} ({saved})")).or_default() += 1;
        }
    }
    let mut summary = summary.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    summary
        .faults
        .extend(sum.faults.iter().map(|(fault, times)| format!("{name}: {fault} ({times} times)")));
    summary.parsers.insert(name.to_owned(), sum);
}

/// Runs a process that tests a parser. Returns its last report, and a message if it died.
fn in_a_process(cli: &Cli, name: &str, seed: u64, time: Duration) -> (Report, Option<String>) {
    let own =
        std::env::current_exe().unwrap_or_else(|error| panic!("cannot find this program: {error}"));
    let mut command = memory::limited(&own, cli.memory);
    command
        .args(["parser", name, &seed.to_string(), &time.as_secs_f64().to_string()])
        .arg(&cli.out);
    command.args(&cli.program);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("sh: {error}"));
    let out = child.stdout.take().map(BufReader::new);
    let (send, lines) = mpsc::channel();
    let reader = thread::spawn(move || {
        for line in out.into_iter().flat_map(BufRead::lines).map_while(Result::ok) {
            let _ = send.send(line);
        }
    });
    let mut report = Report::default();
    let hangs = loop {
        match lines.recv_timeout(HANG) {
            Ok(line) => report = serde_json::from_str(&line).unwrap_or(report),
            Err(RecvTimeoutError::Disconnected) => break false,
            Err(RecvTimeoutError::Timeout) => {
                let _ = child.kill();
                break true;
            }
        }
    };
    let status = child.wait();
    let _ = reader.join();
    let death = match status {
        _ if hangs => Some(format!("hangs for {} s", HANG.as_secs())),
        Ok(status) if status.success() => None,
        Ok(status) => Some(format!("dies: {status}")),
        Err(error) => Some(error.to_string()),
    };
    (report, death)
}

fn add(sum: &mut Report, report: Report) {
    sum.tried += report.tried;
    sum.read += report.read;
    sum.kinds = sum.kinds.max(report.kinds);
    sum.seconds += report.seconds;
    sum.memory = sum.memory.max(report.memory);
    sum.slowest = sum.slowest.max(report.slowest);
    for (all, new) in [(&mut sum.caught, report.caught), (&mut sum.faults, report.faults)] {
        for (what, times) in new {
            *all.entry(what).or_default() += times;
        }
    }
}

/// Injects errors and kills at the system calls of saves, as many as time allows, in an order that
/// depends on the seed.
fn disk(cli: &Cli, share: Duration, summary: &Mutex<Summary>) {
    if !Disk::has_strace() {
        println!("{DISK}: skipped: no strace");
        return;
    }
    let start = Instant::now();
    let mut trials: Vec<(Point, Fault)> = Vec::new();
    let disk = match cli
        .program
        .as_deref()
        .map_or(Err("the path of the program is missing".into()), Disk::new)
    {
        Ok(disk) => disk,
        Err(error) => return fault(summary, format!("{DISK}: {error}")),
    };
    match disk.points() {
        Ok(points) => {
            for point in few(&points) {
                let faults = [Fault::Error("ENOSPC"), Fault::Error("EIO"), Fault::Kill];
                trials.extend(faults.map(|fault| (point.clone(), fault)));
            }
        }
        Err(error) => return fault(summary, format!("{DISK}: {error}")),
    }
    trials.shuffle(&mut ChaCha8Rng::seed_from_u64(cli.seed));
    count(summary, "calls to fail", trials.len() as u64);
    for (point, what) in trials {
        if start.elapsed() > share {
            break;
        }
        let kind = if what == Fault::Kill { "kills at calls" } else { "errors" };
        count(summary, kind, 1);
        match disk.trial(&point, what, "run") {
            Ok(Recovery::Warned) => count(summary, &format!("{kind}: continued with a warning"), 1),
            Ok(Recovery::Resumed) => count(summary, &format!("{kind}: resumed"), 1),
            Ok(Recovery::Restarted) => count(summary, &format!("{kind}: restarted"), 1),
            Err(error) => fault(summary, format!("{DISK}: {error}")),
        }
    }
}

/// Runs `predict` and `data check` on folders of damaged images.
fn predict(cli: &Cli, share: Duration, summary: &Mutex<Summary>) {
    let start = Instant::now();
    let command = match cli
        .program
        .as_deref()
        .map_or(Err("the path of the program is missing".into()), Predict::new)
    {
        Ok(command) => command,
        Err(error) => return fault(summary, format!("{PREDICT}: {error}")),
    };
    let mut formats = targets::all();
    formats.retain(|target| FORMATS.contains(&target.name));
    for round in 0.. {
        if start.elapsed() > share {
            break;
        }
        match command.round(&formats, 200, cli.seed.wrapping_mul(1_000_000) + round, cli.memory) {
            Ok(counts) => {
                count(summary, "images that predict read", counts.read as u64);
                count(summary, "images that predict refused", counts.refused as u64);
            }
            Err(error) => fault(summary, format!("{PREDICT}, round {round}: {error}")),
        }
    }
}

/// Kills runs at random times.
fn kills(cli: &Cli, share: Duration, summary: &Mutex<Summary>) {
    let start = Instant::now();
    let disk = match cli
        .program
        .as_deref()
        .map_or(Err("the path of the program is missing".into()), Disk::new)
    {
        Ok(disk) => disk,
        Err(error) => return fault(summary, format!("{KILLS}: {error}")),
    };
    let mut rng = ChaCha8Rng::seed_from_u64(cli.seed);
    while start.elapsed() < share {
        match disk.kills(8, &mut rng, "run") {
            Ok(killed) => {
                count(summary, "random kills", killed as u64);
                count(summary, "killed runs that ended with the same bytes", 1);
            }
            Err(error) => fault(summary, format!("{KILLS}: {error}")),
        }
    }
}

fn count(summary: &Mutex<Summary>, what: &str, times: u64) {
    let mut summary = summary.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    *summary.disk.entry(what.to_owned()).or_default() += times;
}

fn fault(summary: &Mutex<Summary>, what: String) {
    eprintln!("{what}");
    summary.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).faults.push(what);
}

fn print(summary: &Summary) {
    println!(
        "parser          tried       read  kinds  CPU min  MiB at most  slowest s  caught  faults"
    );
    for (name, report) in &summary.parsers {
        println!(
            "{name:12} {:>8} {:>10} {:>6} {:>8.1} {:>12} {:>10.2} {:>7} {:>7}",
            report.tried,
            report.read,
            report.kinds,
            report.seconds / 60.0,
            report.memory >> 20,
            report.slowest,
            report.caught.values().sum::<u64>(),
            report.faults.values().sum::<u64>(),
        );
    }
    for (what, times) in &summary.disk {
        println!("{what}: {times}");
    }
    for (name, report) in &summary.parsers {
        for (place, times) in &report.caught {
            println!("caught in {name}, {times} times: {place}");
        }
    }
    for fault in &summary.faults {
        println!("FAULT {fault}");
    }
}
