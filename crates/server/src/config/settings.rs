//! Every setting: one line of the table is its variable, its default, its type
//! and its documentation.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use domain::{audit::Action, capture::Capture, ids::InstanceId, secret::Secret};
use ipnet::IpNet;

use super::{
    source::Source,
    values::{
        AuditPolicy, AuditRetention, Bytes, Count, DatabaseDriver, EncryptionKey, ForwardProxy,
        HostRule, JournalSync, Later, LineFormat, RecordsTo, RoutePath, ShellCommand, TraceLevel,
        Value,
    },
};

/// What the documentation and the parser know of a setting.
#[derive(Debug)]
pub struct Setting {
    pub section: &'static str,
    pub variable: &'static str,
    pub default: &'static str,
    /// Said in the documentation where the default is worked out at start.
    pub default_text: &'static str,
    pub form: &'static str,
    pub secret: bool,
    pub meaning: &'static [&'static str],
}

impl Setting {
    /// Its key in the configuration file.
    pub fn key(&self) -> String {
        self.variable.to_ascii_lowercase()
    }
}

macro_rules! settings {
    ($($section:literal {
        $($(#[doc = $meaning:literal])+
        $field:ident: $type:ty = $variable:literal, $default:literal $(($text:literal))?
        $(, $secret:ident)?;)+
    })+) => {
        /// The settings, parsed.
        #[derive(Debug)]
        pub struct Settings { $($($(#[doc = $meaning])+ pub $field: $type,)+)+ }

        /// The table in the order of the documentation.
        pub const ALL: &[Setting] = &[$($(Setting {
            section: $section,
            variable: $variable,
            default: $default,
            default_text: concat!($($text)?),
            form: <$type as Value>::FORM,
            secret: concat!($(stringify!($secret))?).len() > 0,
            meaning: &[$($meaning),+],
        },)+)+];

        impl Settings {
            /// Reads every setting before it gives up, so that all problems are
            /// known at once.
            pub fn resolve(source: &mut Source<'_>, problems: &mut Vec<String>) -> Option<Self> {
                let mut all = ALL.iter();
                let mut next = || all.next().expect("one row for each field");
                $($(let $field = source.take::<$type>(next(), problems);)+)+
                Some(Self { $($($field: $field?,)+)+ })
            }
        }
    };
}

settings! {
    "Listening" {
        /// Data plane, management API and metrics. Containers set `0.0.0.0:8080`.
        listen_addr: SocketAddr = "LISTEN_ADDR", "127.0.0.1:8080";
        /// Certificate chain (PEM) of the listener; with it `TLS_KEY_FILE` is
        /// needed. Reloaded when it changes.
        tls_cert_file: Option<PathBuf> = "TLS_CERT_FILE", "";
        /// Private key (PEM) of the listener.
        tls_key_file: Option<PathBuf> = "TLS_KEY_FILE", "";
        /// Proxies whose `X-Forwarded-For` and `Forwarded` are believed.
        trusted_proxies: Vec<IpNet> = "TRUSTED_PROXIES", "";
        /// Open connections at once; more wait to be accepted.
        max_connections: Count = "MAX_CONNECTIONS", "32768";
        /// Requests at once; more are answered 503 `overloaded`.
        max_concurrent_requests: Count = "MAX_CONCURRENT_REQUESTS", "16384";
        /// Longest request body; it is streamed, not held.
        max_request_bytes: Bytes = "MAX_REQUEST_BYTES", "512MiB";
        /// All bodies together that a rule must see whole before they go on
        /// (32 MiB each).
        max_buffered_bytes: Bytes = "MAX_BUFFERED_BYTES", "256MiB";
    }
    "Providers" {
        /// Provider file (YAML).
        api_config_path: Option<PathBuf> = "API_CONFIG_PATH", "" ("built-in openai, anthropic");
        /// Price table (JSON) that replaces the built-in one.
        price_table_path: Option<PathBuf> = "PRICE_TABLE_PATH", "" ("built-in");
        /// The whole exchange with a provider.
        request_timeout: Duration = "REQUEST_TIMEOUT", "10m";
        /// Silence on a streamed answer.
        stream_idle_timeout: Duration = "STREAM_IDLE_TIMEOUT", "2m";
        /// Certificates (PEM) that are trusted beside the usual roots when we
        /// connect to providers.
        upstream_ca_file: Option<PathBuf> = "UPSTREAM_CA_FILE", "";
        /// Forward proxy towards providers.
        https_proxy: Option<ForwardProxy> = "HTTPS_PROXY", "", secret;
        /// Hosts that are reached without the forward proxy.
        no_proxy: Vec<HostRule> = "NO_PROXY", "";
    }
    "State and secrets" {
        /// Database, journal and keys; created with mode 0700.
        data_dir: PathBuf = "DATA_DIR", "./data";
        /// Names this process in records and file names; a new data directory
        /// is a new instance.
        instance_id: Option<InstanceId> = "INSTANCE_ID", "" ("persisted in `DATA_DIR`");
        /// The root management key.
        management_token: Option<Secret> = "MANAGEMENT_TOKEN", ""
            ("generated into `DATA_DIR/keys/management-token`"), secret;
        /// Encrypts provider keys at rest and keys the hashes of tokens.
        encryption_key: Option<EncryptionKey> = "ENCRYPTION_KEY", ""
            ("generated into `DATA_DIR/keys/encryption-key`"), secret;
        /// Keys of the past, which still decrypt.
        encryption_keys_old: Vec<EncryptionKey> = "ENCRYPTION_KEYS_OLD", "", secret;
        /// Database engine.
        db_driver: DatabaseDriver = "DB_DRIVER", "sqlite";
        /// Address of a database server.
        database_url: Later = "DATABASE_URL", "", secret;
        /// The SQLite file.
        database_path: Option<PathBuf> = "DATABASE_PATH", "" ("`$DATA_DIR/llm-proxy.db`");
        /// Connections to the database.
        database_pool_size: Count = "DATABASE_POOL_SIZE", "10";
        /// How long known tokens go on while the database is away.
        directory_max_stale: Duration = "DIRECTORY_MAX_STALE", "15m";
    }
    "Records and traces" {
        /// Filters traces only, never records. Changeable at run time.
        log_level: TraceLevel = "LOG_LEVEL", "info";
        /// How lines look.
        log_format: Option<LineFormat> = "LOG_FORMAT", "" ("`json`; `pretty` on a terminal");
        /// Lines go here instead of stdout; reopened on SIGHUP or when renamed.
        log_file: Option<PathBuf> = "LOG_FILE", "" ("stdout");
        /// Where records go at once.
        log_records: RecordsTo = "LOG_RECORDS", "stdout,journal";
        /// When the journal is synced. With `each` the last frame of an answer
        /// waits for it.
        journal_sync: JournalSync = "JOURNAL_SYNC", "100ms";
        /// Whose bodies are kept beside their records, redacted first: of no
        /// request, of those that did not end well, of all. Projects and tokens
        /// may override it. What is taken out of them stands under `redaction`
        /// in the file: see [bodies.md](bodies.md).
        capture_bodies: Capture = "CAPTURE_BODIES", "off";
        /// Kept of a body, at most 8 MiB.
        capture_body_bytes: Bytes = "CAPTURE_BODY_BYTES", "64KiB";
        /// How long records are kept.
        retention_records: Duration = "RETENTION_RECORDS", "90d";
        /// How long bodies are kept.
        retention_bodies: Duration = "RETENTION_BODIES", "14d";
        /// How long traces are kept.
        retention_traces: Duration = "RETENTION_TRACES", "14d";
        /// How long sealed audit entries are kept.
        retention_audit: AuditRetention = "RETENTION_AUDIT", "400d";
        /// Size cap of all segments together; the oldest go first.
        retention_bytes: Option<Bytes> = "RETENTION_BYTES", "";
    }
    "Audit" {
        /// What happens to requests when the journal cannot be written: `strict`
        /// forwards no new one, `available` serves them and counts them as lost.
        /// Nothing is changed or shown by the management side either way.
        audit_policy: AuditPolicy = "AUDIT_POLICY", "strict";
        /// Actions that are refused without a reason (`X-Audit-Reason`,
        /// `--reason`); see [audit-events.md](audit-events.md).
        audit_require_reason: Vec<Action> = "AUDIT_REQUIRE_REASON", "";
        /// Signs checkpoints: a signed-note key (`PRIVATE+KEY+…`), or base64 of
        /// 32 random bytes.
        audit_signing_key: Option<Secret> = "AUDIT_SIGNING_KEY", ""
            ("generated into `DATA_DIR/audit/signing.key`"), secret;
        /// Runs in a shell with each new checkpoint on its standard input, one
        /// at a time, at most ten seconds each. `cat >> FILE` keeps them.
        audit_checkpoint_command: Option<ShellCommand> = "AUDIT_CHECKPOINT_COMMAND", "";
    }
    "Operation" {
        /// Serves metrics.
        enable_metrics: bool = "ENABLE_METRICS", "true";
        /// Where metrics are served.
        metrics_path: RoutePath = "METRICS_PATH", "/metrics";
        /// Bearer token that a scraper must send.
        metrics_token: Option<Secret> = "METRICS_TOKEN", "", secret;
        /// Drain requests, then the journal, then exit.
        shutdown_timeout: Duration = "SHUTDOWN_TIMEOUT", "30s";
    }
}

/// A longer body is a line that nobody wants in a journal.
const CAPTURE_BODY_BYTES_MAX: u64 = 8 << 20;

/// First words of paths that are ours, so no provider can be mounted there.
pub const RESERVED: &[&str] =
    &["v1", "manage", "admin", "audit", "health", "live", "ready", "metrics"];

impl Settings {
    /// The SQLite file.
    pub fn database_path(&self) -> PathBuf {
        self.database_path.clone().unwrap_or_else(|| self.data_dir.join("llm-proxy.db"))
    }

    /// What no single setting can know.
    pub fn check_together(&self, problems: &mut Vec<String>) {
        if self.capture_body_bytes.0 > CAPTURE_BODY_BYTES_MAX {
            problems.push("CAPTURE_BODY_BYTES: at most 8MiB".to_owned());
        }
        if self.tls_cert_file.is_some() != self.tls_key_file.is_some() {
            problems.push("TLS_CERT_FILE, TLS_KEY_FILE: one needs the other".to_owned());
        }
        let first = self.metrics_path.0[1..].split('/').next().unwrap_or_default();
        if first != "metrics" && RESERVED.contains(&first) {
            problems.push(format!("METRICS_PATH: /{first} is taken"));
        }
        for (variable, path) in [
            ("TLS_CERT_FILE", &self.tls_cert_file),
            ("TLS_KEY_FILE", &self.tls_key_file),
            ("UPSTREAM_CA_FILE", &self.upstream_ca_file),
            ("PRICE_TABLE_PATH", &self.price_table_path),
        ] {
            if let Some(Err(error)) = path.as_deref().map(std::fs::File::open) {
                problems.push(format!("{variable}: the file cannot be read: {error}"));
            }
        }
    }
}
