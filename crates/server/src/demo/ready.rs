//! The ready file: what a script needs of a running demo, as JSON. It holds
//! secrets, so it is created for its owner alone and appears whole.

use std::{fs, io, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use serde_json::Value;

pub(super) fn write(path: &Path, content: &Value) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let temporary = Path::new(&name);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(temporary)?;
    file.write_all(serde_json::to_string_pretty(content)?.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(temporary, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_the_owner_reads_it() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("ready.json");
        write(&path, &serde_json::json!({"url": "x"})).expect("a writable directory");
        let mode = fs::metadata(&path).expect("it exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_to_string(&path).expect("it is text"), "{\n  \"url\": \"x\"\n}\n");
    }
}
