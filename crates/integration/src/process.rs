//! A daemon as a child process, and what the kernel says it costs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// A clock tick of `/proc/PID/stat`: Linux counts a hundred a second, whatever its own rate.
const TICK: Duration = Duration::from_millis(10);

/// A running process, ours or not.
#[derive(Clone, Copy, Debug)]
pub struct Process(pub u32);

impl Process {
    fn file(self, name: &str) -> Result<String> {
        let path = format!("/proc/{}/{name}", self.0);
        fs::read_to_string(&path).with_context(|| format!("{path}: has it ended?"))
    }

    /// CPU time so far, children it has waited for included.
    pub fn cpu(self) -> Result<Duration> {
        let stat = self.file("stat")?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u32>().ok()).unwrap_or(0);
        let (own, children) = (TICK * (ticks(11) + ticks(12)), TICK * (ticks(13) + ticks(14)));
        // The scheduler counts nanoseconds, but by thread, and forgets threads that have ended.
        let mut exact = Duration::ZERO;
        for task in fs::read_dir(format!("/proc/{}/task", self.0))? {
            let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            let nanoseconds = text.split(' ').next().and_then(|field| field.parse().ok()).unwrap_or(0);
            exact += Duration::from_nanos(nanoseconds);
        }
        Ok(own.max(exact) + children)
    }

    /// Resident memory in MiB.
    pub fn rss(self) -> Result<f64> {
        self.memory("VmRSS:")
    }

    /// The most memory that was resident since [`Process::reset_peak`], in MiB.
    pub fn peak(self) -> Result<f64> {
        self.memory("VmHWM:")
    }

    pub fn reset_peak(self) -> Result<()> {
        fs::write(format!("/proc/{}/clear_refs", self.0), "5").context("resetting the peak of memory")
    }

    fn memory(self, field: &str) -> Result<f64> {
        let status = self.file("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib / 1024.0)
    }
}

/// A child; dropping it kills it.
pub struct Daemon {
    pub process: Process,
    child: Child,
    log: PathBuf,
    pub started: Instant,
}

impl Daemon {
    pub fn start(binary: &Path, arguments: &[String], log: PathBuf) -> Result<Daemon> {
        let output = fs::OpenOptions::new().create(true).append(true).open(&log)?;
        let started = Instant::now();
        let child = Command::new(binary)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| binary.display().to_string())?;
        let process = Process(child.id().context("it has ended already")?);
        Ok(Daemon { process, child, log, started })
    }

    /// Fails with the end of the log where the process has ended.
    pub fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().rev().take(15).collect();
            let end: Vec<&str> = lines.into_iter().rev().collect();
            bail!("{} ended ({status}):\n{}", self.log.display(), end.join("\n"));
        }
        Ok(())
    }

    /// Asks it to end, and kills it where it does not within ten seconds.
    pub async fn stop(mut self) -> Result<()> {
        if let Some(pid) = Pid::from_raw(self.process.0 as i32) {
            let _ = kill_process(pid, Signal::TERM); // it may have ended
        }
        if tokio::time::timeout(Duration::from_secs(10), self.child.wait()).await.is_err() {
            self.child.kill().await?;
        }
        Ok(())
    }

    pub async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}
