//! `alexnet doctor`: prints what is installed, what is missing, and the command that fixes it.

use std::{env, fs, path::Path, process::Command, thread};

use alexnet::core::{Device, text::escaped};
use alexnet::{Engine, RunFolder, data::dataset::listing::Listing, source};
use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;

use crate::{
    console::next_step,
    output::{self, Format},
};

/// Show what is installed, what is missing, and the command that fixes it
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Output format
    #[arg(long, value_name = "NAME", value_enum, default_value = "text")]
    format: Format,
}

/// The result of one check.
#[derive(Serialize)]
struct Finding {
    name: String,
    state: State,
    /// What was found, or what is wrong and the command that fixes it.
    detail: String,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Missing,
}

impl Finding {
    /// Creates a finding: `Ok` holds what was found, `Err` what is missing and how to fix it.
    fn new(name: impl Into<String>, found: Result<String, String>) -> Self {
        let (state, detail) = match found {
            Ok(detail) => (State::Ok, detail),
            Err(detail) => (State::Missing, detail),
        };
        Self { name: name.into(), state, detail }
    }
}

/// Runs the command. A missing part is not an error, because every part is optional.
///
/// # Errors
/// If the output cannot be written.
pub fn run(args: &Args) -> Result<()> {
    let findings = findings();
    match args.format {
        Format::Json => output::json(&serde_json::to_string_pretty(&findings)?)?,
        Format::Text => {
            for Finding { name, state, detail } in &findings {
                let state = if let State::Ok = state { "ok" } else { "missing" };
                say!("{name:<14} {state:<8} {}", escaped(detail))?;
            }
        }
    }
    Ok(())
}

fn findings() -> Vec<Finding> {
    let libtorch = alexnet_libtorch::find(&|name| env::var_os(name));
    let mut findings = vec![
        Finding::new("processor", Ok(processor())),
        Finding::new("threads", Ok(rayon::current_num_threads().to_string())),
    ];
    findings.extend(memory().map(|memory| Finding::new("memory", Ok(memory))));
    let disk =
        fs4::available_space(".").map(|bytes| format!("{:.0} GB free here", bytes as f64 / 1e9));
    let disk = disk.map_err(|error| format!("cannot read the free disk space: {error}"));
    findings.push(Finding::new("disk", disk));
    for engine in Engine::value_variants() {
        findings.push(Finding::new(
            format!("engine {}", engine.name()),
            devices(*engine, libtorch.is_ok()),
        ));
    }
    let libtorch = libtorch.map_err(|problem| problem.to_string()).map(|found| {
        let cuda = if found.has_cuda() { ", with CUDA" } else { "" };
        format!("{}{cuda}, in {}", found.version, found.folder.display())
    });
    findings.push(Finding::new("libtorch", libtorch));
    findings.push(Finding::new("NVIDIA GPU", gpu()));
    findings.push(Finding::new("MPI", mpi()));
    findings.push(Finding::new(
        "flower photos",
        images(source::PHOTOS, "`cargo xtask data fetch` downloads them (229 MB)"),
    ));
    findings.push(Finding::new(
        "drawn flowers",
        images(source::DRAWN, "`cargo xtask train` draws them if there are no flower photos"),
    ));
    let weights = RunFolder::newest_weights().map(|path| path.display().to_string());
    findings.push(Finding::new(
        "weights",
        weights.map_err(|error| format!("{error}{}", next_step(&error, &|_| false))),
    ));
    findings
}

/// Returns the MPI library for training on several processes.
fn mpi() -> Result<String, String> {
    #[cfg(feature = "mpi")]
    return Ok(alexnet_collective_mpi::library());
    #[cfg(not(feature = "mpi"))]
    Err("this build has none; `cargo xtask mpi` installs it, for `cargo xtask train --ranks 2`"
        .into())
}

/// Returns for example `AMD EPYC 7763, 8 cores; vector instructions: avx2, fma`.
fn processor() -> String {
    let name = processor_name().unwrap_or_else(|| env::consts::ARCH.to_owned());
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let plural = if cores == 1 { "" } else { "s" };
    let features = instructions();
    let features =
        if features.is_empty() { "none that the engines use".into() } else { features.join(", ") };
    format!("{name}, {cores} core{plural}; vector instructions: {features}")
}

fn processor_name() -> Option<String> {
    if cfg!(target_os = "linux") {
        field("/proc/cpuinfo", "model name")
    } else if cfg!(target_os = "macos") {
        output_of("sysctl", &["-n", "machdep.cpu.brand_string"])
    } else {
        env::var("PROCESSOR_IDENTIFIER").ok()
    }
}

/// Returns the available vector instructions, of those by which engines choose their kernels.
fn instructions() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    let known = [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
    ];
    #[cfg(target_arch = "aarch64")]
    let known = [
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
        ("bf16", std::arch::is_aarch64_feature_detected!("bf16")),
        ("sve", std::arch::is_aarch64_feature_detected!("sve")),
    ];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let known = [];
    known.into_iter().filter(|&(_, available)| available).map(|(name, _)| name).collect()
}

/// Returns for example `25.3 GB, of which 24.7 GB are free`, or `None` if it cannot be determined
/// on this system.
fn memory() -> Option<String> {
    if cfg!(target_os = "macos") {
        let bytes: f64 = output_of("sysctl", &["-n", "hw.memsize"])?.parse().ok()?;
        return Some(format!("{:.1} GB", bytes / 1e9));
    }
    // `24683596 kB`
    let gigabytes = |name| {
        let kibibytes: f64 =
            field("/proc/meminfo", name)?.split_whitespace().next()?.parse().ok()?;
        Some(kibibytes * 1024.0 / 1e9)
    };
    Some(format!(
        "{:.1} GB, of which {:.1} GB are free",
        gigabytes("MemTotal")?,
        gigabytes("MemAvailable")?
    ))
}

/// Returns the devices of an engine or, as the error, the command that builds it.
fn devices(engine: Engine, libtorch: bool) -> Result<String, String> {
    if let Some(backend) = engine.backend() {
        let devices: Vec<String> = backend.devices().iter().map(Device::to_string).collect();
        return Ok(format!("devices: {}", devices.join(", ")));
    }
    Err(match engine {
        Engine::Tch if libtorch => {
            "not in this binary; `cargo xtask doctor` builds a binary that has it".into()
        }
        Engine::Tch => "not in this binary; `cargo xtask libtorch` downloads libtorch, after which `cargo xtask doctor` builds a \
                        binary that has it"
            .into(),
        Engine::Cpu | Engine::Candle => {
            "not in this binary; `cargo xtask doctor`, or `cargo build` with default features, builds a binary that has it"
                .into()
        }
    })
}

fn gpu() -> Result<String, String> {
    let query = ["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"];
    let found = output_of("nvidia-smi", &query).filter(|output| !output.is_empty());
    let found = found.ok_or("nvidia-smi lists none: the engines compute on the processor")?;
    // One line per GPU, such as `NVIDIA H100 80GB HBM3, 81559 MiB, 550.54.15`.
    let gpus =
        found.lines().map(|gpu| gpu.replacen(", ", " with ", 1).replacen(", ", ", driver ", 1));
    Ok(gpus.collect::<Vec<_>>().join("; "))
}

/// Returns the number of images in the folder `name` of `data/` or, as the error, why there are
/// none followed by `fix`.
fn images(name: &str, fix: &str) -> Result<String, String> {
    let path = Path::new(source::FOLDER).join(name);
    if !path.exists() {
        return Err(format!("there is no {}; {fix}", path.display()));
    }
    let listing =
        Listing::read(&path).map_err(|error| format!("{error}; remove the folder, then {fix}"))?;
    Ok(format!(
        "{} images of {} classes in {}",
        listing.items().count(),
        listing.classes.len(),
        path.display()
    ))
}

/// Returns the value of the first line `name : value` of a file in `/proc`.
fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
}

/// Returns the standard output of a program, or `None` if it is not installed or fails.
fn output_of(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
