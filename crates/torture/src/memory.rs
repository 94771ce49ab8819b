//! Measures (on Linux) and limits the memory of a process.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// Resets [`peak`].
pub fn reset_peak() {
    // This file exists only on Linux.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// Returns the peak of the resident memory since [`reset_peak`], in bytes.
pub fn peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes << 10)
}

/// Returns the CPU time of this process and of the child processes that it waited for, in seconds.
pub fn processor_seconds() -> Option<f64> {
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, after_name) = stat.rsplit_once(") ")?;
    let ticks = after_name.split(' ').skip(11).take(4).map(|field| field.parse::<u64>().ok());
    Some(ticks.sum::<Option<u64>>()? as f64 / TICKS)
}

/// Returns a command that runs a program with at most `memory` MiB. The shell sets the limit.
pub fn limited(program: &Path, memory: u64) -> Command {
    let mut command = Command::new("sh");
    // With one arena, the limit of the address space corresponds to the used memory; otherwise each
    // thread reserves addresses.
    command.env("MALLOC_ARENA_MAX", "1").stdin(Stdio::null());
    command.args(["-c", &format!("ulimit -v {}; exec \"$@\"", memory << 10), "sh"]).arg(program);
    command
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_measured_and_reset() {
        // Other tests run at the same time; they also reset the peak and use memory.
        let allocated = std::hint::black_box(vec![1_u8; 512 << 20]);
        let with = peak().unwrap();
        assert!(with > 512 << 20);
        drop(allocated);
        reset_peak();
        assert!(peak().unwrap() + (256 << 20) < with);
        assert!(processor_seconds().unwrap() > 0.0);
    }
}
