//! The data directory: who it is, and its secrets.
//!
//! `DATA_DIR/instance` holds the instance's name, `DATA_DIR/keys/` the
//! generated secrets (0600). The directory itself is 0700.

use std::{
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use domain::{ids::InstanceId, rng::Rng, secret::Secret};
use zeroize::Zeroizing;

use crate::config::source::read_bounded;

const MANAGEMENT_TOKEN: &str = "management-token";
const ENCRYPTION_KEY: &str = "encryption-key";

/// A directory that exists and belongs to us.
#[derive(Debug, Clone)]
pub struct DataDir(PathBuf);

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("{doing} {path}")]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} does not hold what it should: {reason}")]
    Invalid { path: PathBuf, reason: &'static str },
    /// Making a new key would turn every stored secret into noise.
    #[error(
        "{path} is missing, but the database exists: restore the file or set ENCRYPTION_KEY \
         (a new key could not read what the old one encrypted)"
    )]
    KeyMissing { path: PathBuf },
}

/// Where a secret came from; what is new should be pointed at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    Configured,
    Kept(PathBuf),
    Created(PathBuf),
}

impl DataDir {
    /// Creates the directory if need be, and takes others' access away.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        create_private(path)?;
        create_private(&path.join("keys"))?;
        create_private(&path.join("run"))?;
        // Paths in traces should not depend on where one stands.
        let path = path.canonicalize().map_err(io_error("find", path))?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The configured name, or the one that this directory was given.
    pub fn instance(
        &self,
        configured: Option<&InstanceId>,
        rng: &dyn Rng,
    ) -> Result<InstanceId, DataDirError> {
        if let Some(configured) = configured {
            return Ok(configured.clone());
        }
        let path = self.0.join("instance");
        if let Some(text) = read_if_there(&path)? {
            let reason = "an instance name is 1 to 64 characters of [A-Za-z0-9._-]";
            return InstanceId::parse(text.trim()).ok_or(DataDirError::Invalid { path, reason });
        }
        let name = format!("i-{:012x}", rng.next_u64() >> 16);
        write_new(&path, format!("{name}\n").as_bytes())?;
        InstanceId::parse(&name)
            .ok_or(DataDirError::Invalid { path, reason: "an instance name is hexadecimal" })
    }

    /// The root management key: configured, kept, or made now.
    pub fn management_token(
        &self,
        configured: Option<&Secret>,
        rng: &dyn Rng,
    ) -> Result<(Secret, KeySource), DataDirError> {
        let path = self.0.join("keys").join(MANAGEMENT_TOKEN);
        let mut random = Zeroizing::new([0u8; 32]);
        self.secret(configured, path, || {
            rng.fill_secure(&mut *random);
            Zeroizing::new(format!("mk-{}", URL_SAFE_NO_PAD.encode(*random)))
        })
    }

    /// The encryption key in base64: configured, kept, or made now; the latter
    /// only while there is no database that an older key may have written to.
    pub fn encryption_key(
        &self,
        configured: Option<&Secret>,
        database: &Path,
        rng: &dyn Rng,
    ) -> Result<(Secret, KeySource), DataDirError> {
        let path = self.0.join("keys").join(ENCRYPTION_KEY);
        if configured.is_none() && !path.exists() && database.exists() {
            return Err(DataDirError::KeyMissing { path });
        }
        let mut random = Zeroizing::new([0u8; 32]);
        let (key, source) = self.secret(configured, path, || {
            rng.fill_secure(&mut *random);
            Zeroizing::new(STANDARD.encode(*random))
        })?;
        let decoded = STANDARD.decode(key.expose()).map(Zeroizing::new);
        match (decoded, &source) {
            (Ok(bytes), _) if bytes.len() == 32 => Ok((key, source)),
            (_, KeySource::Kept(path) | KeySource::Created(path)) => Err(DataDirError::Invalid {
                path: path.clone(),
                reason: "must be base64 of exactly 32 bytes",
            }),
            (_, KeySource::Configured) => Err(DataDirError::Invalid {
                path: PathBuf::from("ENCRYPTION_KEY"),
                reason: "must be base64 of exactly 32 bytes",
            }),
        }
    }

    fn secret(
        &self,
        configured: Option<&Secret>,
        path: PathBuf,
        create: impl FnOnce() -> Zeroizing<String>,
    ) -> Result<(Secret, KeySource), DataDirError> {
        if let Some(configured) = configured {
            return Ok((configured.clone(), KeySource::Configured));
        }
        if let Some(text) = read_if_there(&path)?.map(Zeroizing::new) {
            let text = text.trim();
            if text.len() < 16 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                let reason = "a secret is at least 16 characters without spaces";
                return Err(DataDirError::Invalid { path, reason });
            }
            return Ok((Secret::new(text), KeySource::Kept(path)));
        }
        let text = create();
        write_new(&path, format!("{}\n", text.as_str()).as_bytes())?;
        Ok((Secret::new(text.as_str()), KeySource::Created(path)))
    }
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |source| DataDirError::Io { doing, path, source }
}

fn create_private(path: &Path) -> Result<(), DataDirError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_error("create", path))?;
    let mode = fs::metadata(path).map_err(io_error("look at", path))?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(io_error("close off", path))
}

fn read_if_there(path: &Path) -> Result<Option<String>, DataDirError> {
    if !path.try_exists().map_err(io_error("look for", path))? {
        return Ok(None);
    }
    let failed = |reason: String| io_error("read", path)(io::Error::other(reason));
    read_bounded(path).map(Some).map_err(failed)
}

/// Writes a file that a crash leaves whole or absent.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), DataDirError> {
    let unfinished = path.with_extension("tmp");
    let written = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        match path.parent() {
            Some(parent) => fs::File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    };
    written().map_err(io_error("write", path))
}
