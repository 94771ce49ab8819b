//! How much memory a process takes, where Linux says so, and may take.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// Makes [`peak`] begin anew.
pub fn forget_peak() {
    // Only Linux has it.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// The most memory that was resident since [`forget_peak`], in bytes.
pub fn peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes << 10)
}

/// Seconds of processor time of this process and of those that it waited for.
pub fn processor_seconds() -> Option<f64> {
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, after_name) = stat.rsplit_once(") ")?;
    let ticks = after_name.split(' ').skip(11).take(4).map(|field| field.parse::<u64>().ok());
    Some(ticks.sum::<Option<u64>>()? as f64 / TICKS)
}

/// A program that may take so much memory, in MiB: the shell limits it.
pub fn limited(program: &Path, memory: u64) -> Command {
    let mut command = Command::new("sh");
    // With one arena the limit means memory, not addresses that threads set aside.
    command.env("MALLOC_ARENA_MAX", "1").stdin(Stdio::null());
    command.args(["-c", &format!("ulimit -v {}; exec \"$@\"", memory << 10), "sh"]).arg(program);
    command
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn memory_that_was_taken_is_seen_and_forgotten() {
        // Other tests begin the peak anew meanwhile, and take memory of their own.
        let taken = std::hint::black_box(vec![1_u8; 512 << 20]);
        let with = peak().unwrap();
        assert!(with > 512 << 20);
        drop(taken);
        forget_peak();
        assert!(peak().unwrap() + (256 << 20) < with);
        assert!(processor_seconds().unwrap() > 0.0);
    }
}
