//! `--follow`: the lines that are written from now on.

use std::{collections::HashMap, io::Write, path::PathBuf, sync::Arc, time::Duration};

use domain::ids::InstanceId;
use logstore::{
    cursor::Cursor,
    engine::{Filter, Search},
    follow::Follower,
    format::parse_file_name,
    fs::Fs,
};

use super::{
    Trouble,
    door::{Answer, Door, Found},
    search::Sink,
};

/// A follower looks around this often for more lines and for its end.
const WAIT: Duration = Duration::from_millis(50);
/// Looks between two for instances that begin.
const LOOKS: u32 = 20;

/// Prints what comes behind an answer, until told to stop.
pub(super) fn run(
    door: &Door,
    question: &Search,
    answer: &Answer,
    sink: &mut Sink<'_>,
    err: &mut dyn Write,
    stop: &dyn Fn() -> bool,
) -> Result<(), Trouble> {
    let (fs, data_dir) = match door {
        Door::Directory { fs, data_dir } => (fs, data_dir),
        // They are followed as they are read.
        Door::Files { .. } => return Ok(()),
        Door::Server(server) => {
            let tail = answer.tail.as_deref();
            return server.tail(question, tail, err, stop, &mut |line| {
                sink.print(&Found { at_once: true, ..Found::of(line, false) })?;
                sink.flush()
            });
        }
    };
    let mut filter = Filter::new(question)?;
    let mut crowd = Crowd {
        fs: Arc::clone(fs),
        journal_dir: logstore::journal_dir(data_dir),
        followers: HashMap::new(),
        missing: 0,
    };
    answer.ends.iter().for_each(|end| crowd.join(end.clone()));
    let mut look = 0;
    loop {
        // Asked first: what was committed before the end is still shown.
        let is_last = stop();
        if look % LOOKS == 0 {
            crowd.look_around();
        }
        look += 1;
        let mut moved = false;
        let mut printed = false;
        for follower in crowd.followers.values_mut() {
            moved |= follower.poll(&mut |lines| {
                let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                for line in lines {
                    if filter.matches(line) {
                        printed = true;
                        sink.print(&Found::of(line, false))?;
                    }
                }
                Ok(())
            })?;
        }
        if printed {
            sink.flush()?;
        }
        crowd.tell_missing(err)?;
        if is_last {
            return Ok(());
        }
        if !moved {
            crowd.wait();
        }
    }
}

/// One follower for each instance that writes to the directory.
struct Crowd {
    fs: Arc<dyn Fs>,
    journal_dir: PathBuf,
    followers: HashMap<InstanceId, Follower>,
    missing: u64,
}

impl Crowd {
    fn join(&mut self, from: Cursor) {
        let instance = from.instance.clone();
        let follower = Follower::new(Arc::clone(&self.fs), &self.journal_dir, from);
        self.followers.entry(instance).or_insert(follower);
    }

    /// Whoever was not there before is followed from its first line on.
    fn look_around(&mut self) {
        // A directory that cannot be listed may be one that is not made yet.
        let names = self.fs.list(&self.journal_dir).unwrap_or_default();
        for name in names {
            if let Some((instance, _)) = parse_file_name(&name) {
                self.join(Cursor { instance, seq: 0 });
            }
        }
    }

    /// Lines that were gone before they could be read are said once.
    fn tell_missing(&mut self, err: &mut dyn Write) -> std::io::Result<()> {
        let missing: u64 = self.followers.values().map(Follower::missing).sum();
        if missing > self.missing {
            let lines = missing - self.missing;
            writeln!(err, "incomplete: {lines} lines went by before they could be followed")?;
            self.missing = missing;
        }
        Ok(())
    }

    fn wait(&self) {
        match self.followers.values().next() {
            Some(follower) => follower.wait(WAIT),
            None => pause(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "nothing tells when an instance begins its files")]
fn pause() {
    std::thread::sleep(WAIT);
}
