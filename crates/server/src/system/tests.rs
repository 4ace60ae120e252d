//! The data directory on a real file system.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn mode(path: &std::path::Path) -> u32 {
    std::fs::metadata(path).expect("there").permissions().mode() & 0o777
}

#[test]
fn a_new_directory_gets_a_name_and_secrets_and_keeps_them() {
    let base = tempfile::tempdir().expect("a directory");
    let path = base.path().join("data");
    let database = path.join("llm-proxy.db");
    let directory = DataDir::open(&path).expect("opened");
    assert_eq!(mode(&path), 0o700);
    let instance = directory.instance(None, &SystemRng).expect("named");
    let (token, source) = directory.management_token(None, &SystemRng).expect("made");
    let KeySource::Created(file) = source else { panic!("it was made now") };
    assert_eq!(mode(&file), 0o600);
    assert!(token.expose().starts_with("mk-") && token.expose().len() == 46);
    let (key, _) = directory.encryption_key(None, &database, &SystemRng).expect("made");

    let again = DataDir::open(&path).expect("opened again");
    assert_eq!(again.instance(None, &SystemRng).expect("kept"), instance);
    let (kept, source) = again.management_token(None, &SystemRng).expect("kept");
    assert!(kept == token && source == KeySource::Kept(file));
    assert!(again.encryption_key(None, &database, &SystemRng).expect("kept").0 == key);
}

#[test]
fn a_key_is_never_made_anew_beside_a_database() {
    let base = tempfile::tempdir().expect("a directory");
    let directory = DataDir::open(base.path()).expect("opened");
    let database = base.path().join("llm-proxy.db");
    std::fs::write(&database, b"x").expect("written");
    let error = directory.encryption_key(None, &database, &SystemRng).expect_err("refused");
    assert!(matches!(error, DataDirError::KeyMissing { .. }), "{error}");
    assert!(!base.path().join("keys/encryption-key").exists());
}

#[test]
fn a_damaged_key_file_is_refused_without_showing_it() {
    let base = tempfile::tempdir().expect("a directory");
    let directory = DataDir::open(base.path()).expect("opened");
    std::fs::write(base.path().join("keys/encryption-key"), "canary-canary-canary").expect("set");
    let database = base.path().join("none.db");
    let error = directory.encryption_key(None, &database, &SystemRng).expect_err("refused");
    assert!(!format!("{error} {error:?}").contains("canary"));
}

#[test]
fn the_clock_and_the_limits_answer() {
    assert!(SystemClock.now() > Timestamp::from_micros(1_700_000_000_000_000));
    assert!(raise_open_files().is_none_or(|limit| limit > 0));
}
