//! Processes as the operating system sees them: their time and their memory.

use std::{
    collections::HashMap,
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// The thread of the product that seals.
const SEALER: &str = "sealer";
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
const SETTLE_INTERVAL: Duration = Duration::from_millis(250);
/// How long a child may take to end after SIGTERM.
const END_TIMEOUT: Duration = Duration::from_secs(30);

/// A child that does not outlive the run.
pub struct Running {
    child: Child,
    pub name: String,
}

impl Running {
    /// Starts `command` with its output in a file beside the run's other files.
    pub fn start(name: &str, mut command: Command, dir: &Path) -> Result<Self> {
        let output = fs::File::create(dir.join(format!("{name}.out")))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("start {name}: {command:?}"))?;
        Ok(Self { child, name: name.to_owned() })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end and waits until it has.
    pub fn end(mut self) -> Result<()> {
        let pid = self.pid().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().context("run kill")?;
        let start = Instant::now();
        while self.child.try_wait()?.is_none() {
            if start.elapsed() > END_TIMEOUT {
                bail!("{} does not end", self.name);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

/// A loopback address that nobody uses now.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// Processor time that a process and its children had until now, measured in
/// two ways.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuTime {
    /// Exact, but forgets threads that ended.
    scheduler_ns: u64,
    /// In whole clock ticks (10 ms), never forgets.
    ticks_ns: u64,
    /// Of both: what a thread named [`SEALER`] had, which is a figure of its own.
    sealing_ns: u64,
}

impl CpuTime {
    pub fn of(pid: u32) -> Result<Self> {
        let mut sum = Self::default();
        for pid in tree(pid)? {
            let (all, sealing) = scheduler_ns(pid);
            sum.scheduler_ns += all;
            sum.sealing_ns += sealing;
            sum.ticks_ns += stat(pid).context("a measured process ended")?.cpu_ns;
        }
        Ok(sum)
    }

    /// Microseconds since `before`, sealing apart: the exact figure unless a
    /// thread ended.
    pub fn micros_since(self, before: Self) -> f64 {
        let exact = self.scheduler_ns.saturating_sub(before.scheduler_ns) as f64;
        let coarse = self.ticks_ns.saturating_sub(before.ticks_ns) as f64;
        let close = (exact - coarse).abs() <= coarse * 0.05 + 30e6;
        let all = if close && exact > 0.0 { exact } else { coarse };
        all / 1000.0 - self.sealing_micros_since(before)
    }

    /// What sealing took of them, which [`CpuTime::micros_since`] leaves out.
    pub fn sealing_micros_since(self, before: Self) -> f64 {
        self.sealing_ns.saturating_sub(before.sealing_ns) as f64 / 1000.0
    }

    fn used_since(self, before: Self) -> Duration {
        Duration::from_nanos(self.scheduler_ns.saturating_sub(before.scheduler_ns))
    }
}

/// Waits until a process has next to nothing to do: what one phase left for
/// the background must not be measured in the next.
pub fn settle(pid: u32) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < SETTLE_TIMEOUT {
        let before = CpuTime::of(pid)?;
        std::thread::sleep(SETTLE_INTERVAL);
        if CpuTime::of(pid)?.used_since(before) < SETTLE_INTERVAL / 50 {
            return Ok(());
        }
    }
    bail!("process {pid} does not come to rest")
}

/// Resident memory of a process and its children.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    memory(pid, "VmRSS:")
}

/// The most memory that was ever resident.
pub fn peak_bytes(pid: u32) -> Result<u64> {
    memory(pid, "VmHWM:")
}

fn memory(pid: u32, field: &str) -> Result<u64> {
    let mut kib = 0;
    for pid in tree(pid)? {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let value = line.and_then(|line| line.split_whitespace().next());
        kib += value.and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(kib * 1024)
}

/// Of all threads, and of those that seal.
fn scheduler_ns(pid: u32) -> (u64, u64) {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return (0, 0) };
    let of_task = |path: std::path::PathBuf| -> Option<u64> {
        fs::read_to_string(path.join("schedstat")).ok()?.split(' ').next()?.parse().ok()
    };
    let mut sums = (0, 0);
    for task in tasks.flatten() {
        let used = of_task(task.path()).unwrap_or(0);
        sums.0 += used;
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        sums.1 += if name.trim_end() == SEALER { used } else { 0 };
    }
    sums
}

struct Stat {
    parent: u32,
    cpu_ns: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<Stat> {
    const TICK_NS: u64 = 10_000_000;
    // The name stands in brackets and may hold anything, brackets too.
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        parent: u32::try_from(number(1)?).ok()?,
        cpu_ns: (number(11)? + number(12)?) * TICK_NS,
    })
}

/// A process and all that descend from it: some peers fork workers.
fn tree(root: u32) -> Result<Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").context("read /proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some(stat) = stat(pid) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        found.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_brackets_do_not_shift_the_fields() {
        let line = "7 (a) b) S 3 7 7 0 -1 4194304 95 0 0 0 120 34 0 0 20 0 1 0 1 2 3";
        let stat = parse_stat(line).expect("parsed");
        assert_eq!((stat.parent, stat.cpu_ns), (3, 1_540_000_000));
    }

    #[test]
    fn this_process_uses_time_and_memory() {
        let pid = std::process::id();
        let before = CpuTime::of(pid).expect("time");
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(60) {
            std::hint::spin_loop();
        }
        assert!(CpuTime::of(pid).expect("time").micros_since(before) > 1000.0);
        assert!(resident_bytes(pid).expect("memory") > 100_000);
    }
}
