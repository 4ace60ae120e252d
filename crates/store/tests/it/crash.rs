//! Other processes: one that is killed while it commits, and one that may not
//! write. Both are this test binary, started again with a variable set.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use domain::{
    audit::{Actor, EntryContext},
    time::ManualClock,
};
use store::{ErrorKind, Page, ProjectFilter, Store};

use crate::harness::{Counting, Database, NOW, create_project, keys, options, seqs};

const CHILD: &str = "STORE_TEST_CHILD";
const CHILD_PATH: &str = "STORE_TEST_PATH";
/// Nobody: a user that owns nothing else.
const OTHER_USER: u32 = 65_534;

fn child(program: &Path, role: &str, path: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .args(["--exact", "crash::child_process", "--nocapture", "--test-threads=1"])
        .env(CHILD, role)
        .env(CHILD_PATH, path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// Does nothing unless one of the tests below started this process.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "its parent speaks to it by its environment")]
async fn child_process() {
    let Ok(role) = std::env::var(CHILD) else { return };
    let path = PathBuf::from(std::env::var(CHILD_PATH).unwrap());
    let clock = Arc::new(ManualClock::at(NOW));
    let opened = Store::open(options(&path), keys(7, &[]), clock, Arc::new(Counting::new())).await;
    let mut out = std::io::stdout();
    if role == "read-only" {
        let refused = match opened {
            Ok(store) => store.begin(Actor::root(), EntryContext::default()).await.err(),
            Err(error) => Some(error),
        };
        let refused = refused.expect("nothing can be written");
        writeln!(out, "refused {:?} {refused}", refused.kind()).unwrap();
        return;
    }
    let store = opened.unwrap();
    for at in 0.. {
        let project = create_project(&store, &format!("p{at}")).await;
        writeln!(out, "committed {}", project.id).unwrap();
        out.flush().unwrap();
    }
}

#[tokio::test]
async fn what_was_committed_survives_a_kill_with_its_entry() {
    let database = Database::new();
    database.open().await.close().await;
    let mut acknowledged = Vec::new();
    for lines in [3, 17] {
        let mut child =
            child(&std::env::current_exe().unwrap(), "commit", &database.path()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let ids = output.lines().map_while(Result::ok).filter_map(|line| {
            let at = line.find("committed ")?;
            Some(line[at + "committed ".len()..].trim().to_owned())
        });
        acknowledged.extend(ids.take(lines));
        child.kill().unwrap();
        child.wait().unwrap();

        let store = database.open().await;
        let page = Page { limit: 1000, cursor: None };
        let listing = store.projects(&ProjectFilter::default(), &page).await.unwrap();
        for id in &acknowledged {
            assert!(listing.items.iter().any(|project| project.id.to_string() == *id));
        }
        let expected: Vec<u64> = (1..=listing.items.len() as u64).collect();
        assert_eq!(seqs(&store).await, expected, "a change is exactly one entry");
        store.close().await;
        database.tamper("UPDATE projects SET name = name || '-' || id").await;
    }
}

#[tokio::test]
async fn a_read_only_file_is_unavailable() {
    let database = Database::new();
    database.open().await.close().await;
    let directory = database.directory.path();
    // Root may write everything, so the child is another user where it can be.
    let program = directory.join("child");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::fs::set_permissions(database.path(), PermissionsExt::from_mode(0o400)).unwrap();
    let mut command = child(&program, "read-only", &database.path());
    if chown(database.path(), Some(OTHER_USER), Some(OTHER_USER)).is_ok() {
        chown(directory, Some(OTHER_USER), Some(OTHER_USER)).unwrap();
        chown(&program, Some(OTHER_USER), Some(OTHER_USER)).unwrap();
        command.uid(OTHER_USER).gid(OTHER_USER);
    }
    let output = command.current_dir(directory).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let expected = format!("refused {:?}", ErrorKind::Unavailable);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(&expected), "{text}{errors}");
}
