//! What the commands about the tree are given: where it is, keys, checkpoints,
//! a policy.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use domain::audit::tree::VerifierKey;
use tlog::verify::{Directory, Remembered, Source, read_file};

use super::remote::Server;
use crate::{
    cli::client::Client,
    config::{Config, Environment},
    manage::verify::{Policy, from_file, keys_in},
};

/// Keys and policies are short.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// Why a command was not carried out.
pub(super) enum Wrong {
    Usage(anyhow::Error),
    Reading(anyhow::Error),
}

/// What surrounds a command.
pub(super) struct Ground<'g> {
    pub url: Option<&'g str>,
    pub environment: &'g Environment,
    pub file: Option<&'g Path>,
}

/// Where the tree is.
#[derive(Debug, Args)]
pub struct TreeArgs {
    /// A data directory, or a copy of its directory `tlog` [default: DATA_DIR]
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    tree: TreeArgs,
    /// A verifier key that you got on another way, or a file with some, one a
    /// line; without one nothing is proven (repeatable)
    #[arg(long, value_name = "VKEY|FILE")]
    key: Vec<String>,
    /// A checkpoint that was kept elsewhere, or lines of JSON that carry some,
    /// such as the server's standard output (repeatable)
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// Hold every row of the database against its entry
    #[arg(long)]
    db: bool,
    /// Hold sealed segments of records against their entries
    #[arg(long)]
    records: bool,
    /// Hold the lines of an export against the tree; without --dir and --url
    /// the export alone is verified (repeatable)
    #[arg(long, value_name = "FILE")]
    export: Vec<PathBuf>,
    /// Which witnesses must have cosigned (C2SP tlog-policy)
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// A tree and, if it has one, the data directory around it.
pub(super) struct Place {
    pub source: Box<dyn Source>,
    pub data_dir: Option<PathBuf>,
}

/// Everything that was read before the tree.
pub(super) struct Inputs {
    pub keys: Vec<VerifierKey>,
    pub remembered: Vec<Remembered>,
    pub policy: Option<Policy>,
}

impl Ground<'_> {
    pub(super) fn config(&self) -> Result<Config, Wrong> {
        Config::load(self.environment, self.file).map_err(|problems| Wrong::Usage(problems.into()))
    }

    /// The database of a data directory: where one names it, the usual place.
    pub(super) fn database(&self, dir: &Path, is_named: bool) -> Result<PathBuf, Wrong> {
        let path = match is_named {
            true => dir.join("llm-proxy.db"),
            false => self.config()?.settings.database_path(),
        };
        if path.is_file() {
            return Ok(path);
        }
        Err(Wrong::Reading(anyhow!("{} is no database", path.display())))
    }
}

impl TreeArgs {
    pub(super) fn names_dir(&self) -> bool {
        self.dir.is_some()
    }

    pub(super) fn place(&self, ground: &Ground<'_>) -> Result<Place, Wrong> {
        if let Some(url) = ground.url {
            let key = ground.config()?.settings.management_token;
            let client = Client::remote(url, key).map_err(Wrong::Usage)?;
            let source = Box::new(Server::new(client).map_err(Wrong::Reading)?);
            return Ok(Place { source, data_dir: None });
        }
        let dir = match &self.dir {
            Some(dir) => dir.clone(),
            None => ground.config()?.settings.data_dir,
        };
        let tree = dir.join("tlog");
        let (tree, data_dir) = if tree.is_dir() || dir.join("audit").is_dir() {
            (tree, Some(dir))
        } else {
            (dir, None)
        };
        Ok(Place { source: Box::new(Directory::new(tree)), data_dir })
    }
}

impl VerifyArgs {
    pub(super) fn inputs(&self) -> Result<Inputs, Wrong> {
        let mut keys = Vec::new();
        for text in &self.key {
            keys.extend(read_keys(text).map_err(Wrong::Usage)?);
        }
        let mut remembered = Vec::new();
        for path in &self.checkpoint {
            remembered.extend(from_file(path).map_err(|error| Wrong::Usage(error.into()))?);
        }
        let policy = self.policy.as_deref().map(read_policy).transpose().map_err(Wrong::Usage)?;
        Ok(Inputs { keys, remembered, policy })
    }

    /// Exports without a tree to hold them against.
    pub(super) fn is_export_alone(&self, ground: &Ground<'_>) -> bool {
        !self.export.is_empty() && self.tree.dir.is_none() && ground.url.is_none()
    }

    pub(super) fn tree(&self) -> &TreeArgs {
        &self.tree
    }

    pub(super) fn exports(&self) -> &[PathBuf] {
        &self.export
    }

    pub(super) fn wants_database(&self) -> bool {
        self.db
    }

    pub(super) fn wants_records(&self) -> bool {
        self.records
    }

    pub(super) fn wants_json(&self) -> bool {
        self.json
    }
}

/// A key as it is typed, or the keys of a file.
pub(super) fn read_keys(text: &str) -> anyhow::Result<Vec<VerifierKey>> {
    let is_key = VerifierKey::parse(text.trim());
    if let Ok(key) = is_key {
        return Ok(vec![key]);
    }
    let bytes = read_file(Path::new(text), TEXT_BYTES_MAX)
        .with_context(|| format!("--key: {text} cannot be read"))?;
    let Some(bytes) = bytes else {
        let error = is_key.err().map(anyhow::Error::from);
        let error = error.unwrap_or_else(|| anyhow!("it is no key"));
        return Err(error.context(format!("--key: {text} is neither a verifier key nor a file")));
    };
    let keys = std::str::from_utf8(&bytes).map_err(anyhow::Error::from);
    let keys = keys.and_then(|text| Ok(keys_in(text)?));
    let keys = keys.with_context(|| format!("--key: {text} holds no verifier keys"))?;
    if keys.is_empty() { Err(anyhow!("--key: {text} is empty")) } else { Ok(keys) }
}

fn read_policy(path: &Path) -> anyhow::Result<Policy> {
    let shown = path.display();
    let bytes = read_file(path, TEXT_BYTES_MAX)
        .with_context(|| format!("--policy: {shown} cannot be read"))?
        .with_context(|| format!("--policy: there is no {shown}"))?;
    let text = std::str::from_utf8(&bytes).with_context(|| format!("--policy: {shown}"))?;
    Policy::parse(text).with_context(|| format!("--policy: {shown}"))
}
