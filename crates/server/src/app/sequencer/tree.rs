//! The tree of this process, opened and held against the database.

use std::{path::PathBuf, sync::Arc};

use domain::{
    audit::tree::{KeyKind, KeyName, NodeHash, SignedCheckpoint, SigningKey, VerifierKey, root_of},
    record::Envelope,
    rng::Rng,
    secret::Secret,
};
use store::{ChainState, Store};
use tlog::{Config, KeySource, Writer, fs::StdFs};

use super::Trouble;

/// Which tree it is.
pub struct TreeConfig {
    pub data_dir: PathBuf,
    pub origin: KeyName,
    /// From the configuration; none where the key is a file.
    pub keys: Vec<Secret>,
    pub envelope: Envelope,
}

/// Tree and database do not belong together. Each names what to do.
#[derive(Debug, thiserror::Error)]
pub enum Mismatch {
    #[error(
        "ROLLBACK: the database has {database} audit entries and the tree {tree}: it is an older \
         copy; stop the server and run `llm-proxy audit recover`"
    )]
    DatabaseOlder { database: u64, tree: u64 },
    #[error(
        "TRUNCATED: the audit tree has {tree} entries, and a checkpoint of {published} was \
         published: its files were taken back or removed; restore them, or stop the server and \
         run `llm-proxy audit recover`"
    )]
    TreeOlder { tree: u64, published: u64 },
    #[error("FORK: the audit tree has another root at {size} than was published")]
    OtherRoot { size: u64 },
    #[error(
        "DB_ROW: entry {index} of the database is not the one in the audit tree; stop the server \
         and run `llm-proxy audit rebuild`"
    )]
    OtherEntry { index: u64 },
}

impl Mismatch {
    /// What whoever wants to change something is told.
    pub fn refusal(&self) -> &'static str {
        match self {
            Self::DatabaseOlder { .. } => {
                "the database is older than the audit tree; `llm-proxy audit recover` is needed"
            }
            Self::TreeOlder { .. } | Self::OtherRoot { .. } => {
                "the audit tree is not the one that was published; see the server's traces"
            }
            Self::OtherEntry { .. } => {
                "the database and the audit tree differ; `llm-proxy audit rebuild` is needed"
            }
        }
    }
}

/// The right to add to the tree.
pub struct OpenTree {
    writer: Box<Writer>,
}

impl OpenTree {
    /// Opens the files and compares.
    pub(super) async fn open(
        config: &Arc<TreeConfig>,
        store: &Store,
        rng: Arc<dyn Rng>,
    ) -> Result<Self, Trouble> {
        let config = Arc::clone(config);
        let opened = tokio::task::spawn_blocking(move || open(&config, &*rng)).await??;
        compare(&opened, store).await?;
        Ok(Self { writer: Box::new(opened) })
    }

    pub fn size(&self) -> u64 {
        self.writer.size()
    }

    pub fn key(&self) -> VerifierKey {
        self.writer.verifier().clone()
    }

    pub fn checkpoint(&self) -> Option<Arc<SignedCheckpoint>> {
        self.writer.checkpoint().cloned().map(Arc::new)
    }

    pub(super) async fn append(
        mut self,
        first: u64,
        leaves: Vec<String>,
    ) -> Result<(Self, Arc<SignedCheckpoint>), Trouble> {
        let done = tokio::task::spawn_blocking(move || {
            let signed = self.writer.append(first, &leaves)?;
            Ok::<_, tlog::Error>((self, Arc::new(signed)))
        });
        Ok(done.await??)
    }
}

/// Opens the files of the tree.
pub fn open(config: &TreeConfig, rng: &dyn Rng) -> Result<Writer, tlog::Error> {
    let (data_dir, origin) = (config.data_dir.clone(), config.origin.clone());
    let given = config.keys.iter();
    let given = given.map(|text| SigningKey::parse_for(&origin, KeyKind::Ed25519, text));
    let given = given.collect::<Result<Vec<_>, _>>().map_err(tlog::Error::Key)?;
    let key = if given.is_empty() { KeySource::File } else { KeySource::Given(given) };
    let (writer, opened) = Writer::open(Config { data_dir, origin, key }, Arc::new(StdFs), rng)?;
    if opened.is_new {
        let key = writer.verifier().to_string();
        let advice = "give it to auditors: without it nobody else can tell the tree from a forgery";
        tracing::info!(key, advice, "a new audit tree begins");
    }
    if opened.unsigned_files > 0 {
        let files = opened.unsigned_files;
        tracing::info!(files, "tiles that were never signed were removed");
    }
    Ok(writer)
}

/// Whether this database made this tree.
async fn compare(writer: &Writer, store: &Store) -> Result<(), Trouble> {
    let chain = store.audit_chain().await?;
    let size = writer.size();
    check_sizes(size, &chain)?;
    if let Some(published) = &chain.published {
        let (reader, at) = (writer.reader(), published.size);
        let root = tokio::task::spawn_blocking(move || -> Result<NodeHash, tlog::Error> {
            root_of(&mut reader.hashes(at), at)
        });
        if root.await??.to_string() != published.root {
            return Err(Mismatch::OtherRoot { size: at }.into());
        }
    }
    let Some(index) = size.checked_sub(1).filter(|last| *last >= chain.pruned_to) else {
        return Ok(());
    };
    let reader = writer.reader();
    let leaf = tokio::task::spawn_blocking(move || reader.leaf(index, size)).await??;
    let row = store.sequenced_leaves(index, 1).await.unwrap_or_default();
    match row.first() {
        Some(row) if row.as_bytes() == leaf => Ok(()),
        _ => Err(Mismatch::OtherEntry { index }.into()),
    }
}

fn check_sizes(tree: u64, chain: &ChainState) -> Result<(), Mismatch> {
    if tree > chain.size {
        return Err(Mismatch::DatabaseOlder { database: chain.size, tree });
    }
    match chain.published.as_ref().map(|published| published.size) {
        Some(published) if tree < published => Err(Mismatch::TreeOlder { tree, published }),
        _ => Ok(()),
    }
}
