//! Checkpoints leave the machine: as a line of the journal, which standard
//! output shows, and by a command of the operator's.

use std::{
    io::Write as _,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use domain::{audit::tree::SignedCheckpoint, json::Object, key, record::Envelope, time::Timestamp};
use logstore::{Intake, Stream};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::sync::watch;

/// A line at most so often.
const LINE_INTERVAL_MICROS: i64 = 60 * 1_000_000;
/// What a command may take before it is ended.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(10);

/// The checkpoint that a command gets next.
type Newest = Option<Arc<SignedCheckpoint>>;

/// Who tells.
pub(super) struct Told {
    intake: Option<Intake>,
    envelope: Envelope,
    /// Not told in a line yet.
    waiting: Option<Arc<SignedCheckpoint>>,
    line_at: Option<Timestamp>,
    command: Option<watch::Sender<Newest>>,
}

impl Told {
    pub(super) fn begin(
        intake: Option<Intake>,
        command: Option<String>,
        envelope: Envelope,
    ) -> Self {
        let command = command.map(|command| {
            let (sender, receiver) = watch::channel(None);
            // It ends with the sender, or with the last command's own time.
            tokio::spawn(run_commands(command, receiver));
            sender
        });
        Self { intake, envelope, waiting: None, line_at: None, command }
    }

    pub(super) fn tell(&mut self, checkpoint: &Arc<SignedCheckpoint>, now: Timestamp) {
        self.waiting = Some(Arc::clone(checkpoint));
        if let Some(sender) = &self.command {
            sender.send_replace(Some(Arc::clone(checkpoint)));
        }
        self.tick(now);
    }

    /// Writes the line that is due.
    pub(super) fn tick(&mut self, now: Timestamp) {
        let is_early = self
            .line_at
            .is_some_and(|at| (now.as_micros() - at.as_micros()).abs() < LINE_INTERVAL_MICROS);
        if is_early {
            return;
        }
        let (Some(intake), Some(checkpoint)) = (&self.intake, self.waiting.take()) else { return };
        self.line_at = Some(now);
        // With no room the next one is told.
        if intake.line(Stream::Trace, line(&checkpoint, &self.envelope, now)).is_err() {
            self.waiting = Some(checkpoint);
        }
    }
}

/// What shows on standard output: whoever keeps it holds the tree to its word.
fn line(checkpoint: &SignedCheckpoint, envelope: &Envelope, now: Timestamp) -> Vec<u8> {
    let mut out = Vec::new();
    let mut line = Object::begin(&mut out);
    line.text(key!("stream"), "trace");
    line.text(key!("ts"), now.to_rfc3339().as_str());
    line.text(key!("level"), "info");
    line.text(key!("msg"), "audit checkpoint");
    line.text(key!("component"), "audit");
    line.text(key!("instance"), envelope.instance.as_str());
    line.text(key!("version"), envelope.version);
    line.number(key!("size"), checkpoint.size());
    line.text(key!("root"), &checkpoint.root().to_string());
    line.text(key!("checkpoint"), &checkpoint.to_string());
    line.end();
    out
}

/// One at a time; of those that come meanwhile, the newest.
async fn run_commands(command: String, mut newest: watch::Receiver<Option<Arc<SignedCheckpoint>>>) {
    while newest.changed().await.is_ok() {
        let Some(checkpoint) = newest.borrow_and_update().clone() else { continue };
        let (command, note) = (command.clone(), checkpoint.to_string());
        let started = tokio::task::spawn_blocking(move || start(&command, &note)).await;
        let ended = match started {
            Ok(Ok(child)) => end(child).await,
            Ok(Err(error)) => Err(error.to_string()),
            Err(panic) => Err(panic.to_string()),
        };
        if let Err(why) = ended {
            tracing::warn!(why, "AUDIT_CHECKPOINT_COMMAND did not take a checkpoint");
        }
    }
}

fn start(command: &str, note: &str) -> std::io::Result<Child> {
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(command)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A note fits into a pipe; a command that does not read it is its own.
        stdin.write_all(note.as_bytes()).unwrap_or_default();
    }
    Ok(child)
}

/// Waits for the command, but not for ever.
async fn end(mut child: Child) -> Result<(), String> {
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let id = id.ok_or("the command has no process")?;
    let waiting = tokio::task::spawn_blocking(move || {
        // Leaves the process to be looked at, so that its number stays its own.
        waitid(WaitId::Pid(id), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
    });
    let in_time = tokio::time::timeout(COMMAND_TIME_MAX, waiting).await.is_ok();
    if !in_time {
        kill_process_group(id, Signal::KILL).map_err(|error| error.to_string())?;
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    match (in_time, status.success()) {
        (true, true) => Ok(()),
        (true, false) => Err(format!("it ended with {status}")),
        (false, _) => Err("it took longer than ten seconds and was ended".to_owned()),
    }
}
