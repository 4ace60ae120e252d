//! Opening the database: the file, the schema, the keys, the name of its chain
//! of entries.

use std::{path::PathBuf, sync::Arc, time::Duration};

use domain::{
    audit::{Action, Actor, Detail, EntryContext, EntryDraft, Origin, Outcome, TargetKind, Word},
    ids::{InstanceId, uuid_v7},
    rng::Rng,
    time::Clock,
    token::TokenHashKey,
};
use sqlx::Row as _;
use tokio::sync::{Mutex, OwnedMutexGuard, watch};
use uuid::Uuid;

use crate::{
    audit::EntryCounts,
    crypto::EncryptionKeys,
    dialect::{self, FileIdentity, Pool, Transaction},
    error::{Error, ErrorKind, Result},
    operational::OperationalTx,
    schema::{self, MigrationStatus},
    tx::AuditedTx,
};

/// How long anything waits for a lock or a connection before it says that the
/// database is unavailable.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Every writer touches this row first. SQLite begins even an immediate
/// transaction on a read-only file without complaint, so only a write shows
/// that there can be one; where rows are locked, this is the lock.
const TAKE_WRITE_LOCK: &str = "UPDATE counters SET value = value WHERE name = 'pending'";
const TOKEN_HASH_KEY: &str = "token_hash_key";
const AUDIT_ORIGIN: &str = "audit_origin";

/// Where the database is and who uses it.
#[derive(Clone, Debug)]
pub struct Options {
    pub path: PathBuf,
    pub instance: InstanceId,
    /// This start of the process.
    pub boot: Uuid,
    pub pool_size: u32,
    /// Whether a missing file is created; if not, it is an error.
    pub create: bool,
    pub wait_max: Duration,
}

impl Options {
    pub fn new(path: impl Into<PathBuf>, instance: InstanceId, boot: Uuid) -> Self {
        let path = path.into();
        Self { path, instance, boot, pool_size: 10, create: true, wait_max: WAIT_MAX }
    }
}

/// The open database. Cloning it is cheap and shares everything.
#[derive(Clone)]
pub struct Store(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) pool: Pool,
    file: FileIdentity,
    pub(crate) keys: EncryptionKeys,
    token_hash_key: TokenHashKey,
    pub(crate) origin: Origin,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
    /// Writers of this process queue here in order; SQLite's own waiting is a
    /// poll that serves nobody in particular.
    writer: Arc<Mutex<()>>,
    pub(crate) written: EntryCounts,
    /// The number of the last entry that this process committed.
    pub(crate) told: watch::Sender<u64>,
    wait_max: Duration,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.0.origin.log)
    }
}

impl Store {
    /// Opens the database, creates or migrates it, and proves that the keys fit.
    pub async fn open(
        options: Options,
        keys: EncryptionKeys,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
    ) -> Result<Self> {
        let (pool, file) = dialect::connect(&options).await?;
        schema::migrate(&pool, &*clock).await?;
        let identity = establish(&pool, &keys, &*clock, &*rng).await?;
        let store = Self(Arc::new(Inner {
            pool,
            file,
            keys,
            token_hash_key: identity.token_hash_key,
            origin: Origin {
                log: Word::lossy(&identity.audit_origin),
                producer: Word::lossy(&format!("{}/db", options.instance)),
                instance: options.instance,
                boot: Word::lossy(&options.boot.to_string()),
            },
            clock,
            rng,
            writer: Arc::default(),
            written: EntryCounts::default(),
            told: watch::Sender::new(0),
            wait_max: options.wait_max,
        }));
        store.0.written.set_pending(store.audit_pending().await?);
        if identity.key_is_old || store.has_old_keys().await? {
            store.seal_with_current_key().await?;
        }
        Ok(store)
    }

    /// What `db status` shows; changes nothing and needs no key.
    pub async fn migration_status(options: &Options) -> Result<Vec<MigrationStatus>> {
        let options = Options { create: false, ..options.clone() };
        let (pool, _) = dialect::connect(&options).await?;
        let status = schema::status(&pool).await;
        pool.close().await;
        status
    }

    /// What `db migrate` does.
    pub async fn migrate(options: &Options, clock: &dyn Clock) -> Result<Vec<MigrationStatus>> {
        let (pool, _) = dialect::connect(options).await?;
        let status = schema::migrate(&pool, clock).await;
        pool.close().await;
        status
    }

    /// Hashes tokens and management keys alike.
    pub fn token_hash_key(&self) -> &TokenHashKey {
        &self.0.token_hash_key
    }

    /// The name of this database's chain of audit entries.
    pub fn audit_origin(&self) -> &str {
        self.0.origin.log.as_str()
    }

    /// Whether a change could be made now: the file is the one that was opened,
    /// and its write lock can be had.
    pub async fn ping(&self) -> Result<()> {
        let (tx, _gate) = self.begin_write().await?;
        tx.rollback().await?;
        Ok(())
    }

    /// Entries that this process committed, by action and result, and how many
    /// wait to be sequenced; for metrics, without asking the database.
    pub fn entry_counts(&self) -> (Vec<(Action, Outcome, u64)>, u64) {
        self.0.written.read()
    }

    /// Waits for the connections to end.
    pub async fn close(&self) {
        self.0.pool.close().await;
    }

    /// Begins a change of governed rows, or an entry without one.
    pub async fn begin(&self, actor: Actor, context: EntryContext) -> Result<AuditedTx> {
        if let Some(why) = self.0.written.refusal() {
            return Err(Error::new(ErrorKind::AuditUnavailable, why));
        }
        let (tx, gate) = self.begin_write().await?;
        Ok(AuditedTx::new(Arc::clone(&self.0), tx, gate, actor, context))
    }

    /// Begins work on counters and cursors.
    pub async fn begin_operational(&self) -> Result<OperationalTx> {
        let (tx, gate) = self.begin_write().await?;
        Ok(OperationalTx::new(tx, gate))
    }

    pub(crate) async fn begin_write(&self) -> Result<(Transaction, OwnedMutexGuard<()>)> {
        self.check_file()?;
        let gate = Arc::clone(&self.0.writer).lock_owned();
        let gate = tokio::time::timeout(self.0.wait_max, gate)
            .await
            .map_err(|_| Error::unavailable("other changes took too long"))?;
        let mut tx = self.0.pool.begin_with(dialect::BEGIN_WRITE).await?;
        sqlx::query(TAKE_WRITE_LOCK).execute(&mut *tx).await?;
        Ok((tx, gate))
    }

    /// Fails once the database file is gone or another.
    pub(crate) fn check_file(&self) -> Result<()> {
        self.0.file.check()
    }

    /// Where to read, unless what would be read is a file that is gone.
    pub(crate) fn readable(&self) -> Result<&dialect::Pool> {
        self.check_file()?;
        Ok(&self.0.pool)
    }

    /// Whether rows are sealed by a key other than the current one; all of their
    /// keys must be at hand.
    async fn has_old_keys(&self) -> Result<bool> {
        let rows = sqlx::query("SELECT DISTINCT key_id FROM provider_keys")
            .fetch_all(&self.0.pool)
            .await?;
        let mut old = false;
        for row in rows {
            let id: String = row.try_get("key_id")?;
            self.0.keys.require(&id)?;
            old |= id != self.0.keys.current_id();
        }
        old |= self.has_old_tag_keys().await?;
        Ok(old)
    }

    /// After a change of `ENCRYPTION_KEY`: seals everything anew, so that the
    /// old key can be forgotten.
    async fn seal_with_current_key(&self) -> Result<()> {
        let mut tx = self.begin(Actor::system(), EntryContext::default()).await?;
        let rows = tx.seal_with_current_key(TOKEN_HASH_KEY).await?;
        let rows = rows + tx.wrap_tag_keys_anew().await?;
        let key_id = Word::lossy(self.0.keys.current_id());
        let entry = EntryDraft::new(Action::ConfigChange)
            .target(TargetKind::Setting, "encryption_key")
            .detail(Detail::KeyId(key_id))
            .detail(Detail::Rows(rows));
        let committed = tx.commit(entry).await?;
        tracing::info!(
            rows,
            entry_id = %committed.audit_id(),
            "stored secrets are sealed with the current encryption key"
        );
        Ok(())
    }
}

/// What a database is, from its first start on.
struct Identity {
    token_hash_key: TokenHashKey,
    /// The token hash key is wrapped by an old encryption key.
    key_is_old: bool,
    audit_origin: String,
}

async fn establish(
    pool: &Pool,
    keys: &EncryptionKeys,
    clock: &dyn Clock,
    rng: &dyn Rng,
) -> Result<Identity> {
    if let (Some(row), Some(audit_origin)) =
        (meta(pool, TOKEN_HASH_KEY).await?, meta(pool, AUDIT_ORIGIN).await?)
    {
        let (key, key_is_old) = keys.unwrap_token_hash_key(&row)?;
        return Ok(Identity { token_hash_key: TokenHashKey::new(&key), key_is_old, audit_origin });
    }
    let mut tx = pool.begin_with(dialect::BEGIN_WRITE).await?;
    // Another process may have been faster.
    if meta(&mut *tx, TOKEN_HASH_KEY).await?.is_none() {
        refuse_orphans(&mut tx).await?;
        let wrapped = keys.wrap_token_hash_key(&keys.first_token_hash_key(), rng)?;
        let origin = format!("llm-proxy/audit/{}", uuid_v7(clock.now(), rng));
        for (name, value) in [(TOKEN_HASH_KEY, wrapped), (AUDIT_ORIGIN, origin)] {
            sqlx::query("INSERT INTO meta (name, value) VALUES (?, ?)")
                .bind(name)
                .bind(value)
                .execute(&mut *tx)
                .await?;
        }
    }
    tx.commit().await?;
    Box::pin(establish(pool, keys, clock, rng)).await
}

/// Rows that need a key which is not recorded: somebody removed its record, and
/// a new key would only hide that.
async fn refuse_orphans(tx: &mut Transaction) -> Result<()> {
    let row = sqlx::query(
        "SELECT (SELECT COUNT(*) FROM tokens) + (SELECT COUNT(*) FROM provider_keys) \
         + (SELECT COUNT(*) FROM management_keys) + (SELECT COUNT(*) FROM audit_pending) \
         + (SELECT COUNT(*) FROM audit_entry) AS n",
    )
    .fetch_one(&mut **tx)
    .await?;
    if row.try_get::<i64, _>("n")? == 0 {
        return Ok(());
    }
    Err(Error::corrupt("the database has rows but its key record is gone; restore it"))
}

async fn meta<'c>(
    executor: impl sqlx::Executor<'c, Database = dialect::Db>,
    name: &str,
) -> Result<Option<String>> {
    let row = sqlx::query("SELECT value FROM meta WHERE name = ?")
        .bind(name)
        .fetch_optional(executor)
        .await?;
    Ok(row.map(|row| row.try_get("value")).transpose()?)
}
