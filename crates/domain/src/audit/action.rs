//! The closed words of an entry: what was done, by what kind of actor, to what
//! kind of thing, with what result.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::detail::DetailKey::{self, *};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$inner:meta])* $variant:ident = $text:literal),+ $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $name { $($(#[$inner])* $variant,)+ }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).ok_or_else(|| {
                    let text = super::Word::lossy(&text);
                    de::Error::custom(format_args!(
                        concat!("unknown ", stringify!($name), " {}"), text
                    ))
                })
            }
        }
    };
}

pub(super) use words;

words! {
    /// What was done or tried (CONTRACT §8).
    Action {
        ProjectCreate = "project.create",
        ProjectRead = "project.read",
        ProjectUpdate = "project.update",
        ProjectList = "project.list",
        TokenCreate = "token.create",
        TokenRead = "token.read",
        TokenList = "token.list",
        TokenUpdate = "token.update",
        TokenRevoke = "token.revoke",
        TokenRevokeBatch = "token.revoke_batch",
        TokenFirstUse = "token.first_use",
        KeyCreate = "key.create",
        KeyUpdate = "key.update",
        KeyRevoke = "key.revoke",
        KeyList = "key.list",
        AuthFailed = "auth.failed",
        Login = "login",
        Logout = "logout",
        AccessDenied = "access.denied",
        AccessDeniedAggregate = "access.denied.aggregate",
        LogsSearch = "logs.search",
        LogsReadBodies = "logs.read_bodies",
        LogsExport = "logs.export",
        LogsErase = "logs.erase",
        AuditList = "audit.list",
        AuditRead = "audit.read",
        AuditExport = "audit.export",
        AuditVerify = "audit.verify",
        AuditHeartbeat = "audit.heartbeat",
        AuditKeyRotate = "audit.key_rotate",
        ConfigChange = "config.change",
        LogLevelChange = "log_level.change",
        SegmentSealed = "segment.sealed",
        SegmentCompacted = "segment.compacted",
        SegmentPruned = "segment.pruned",
        LegalHoldPlace = "legal_hold.place",
        LegalHoldRelease = "legal_hold.release",
        CachePurge = "cache.purge",
        SystemStart = "system.start",
        SystemStop = "system.stop",
        SystemRecovered = "system.recovered",
        SystemDegraded = "system.degraded",
        SystemJournalTampered = "system.journal_tampered",
        SystemClockStep = "system.clock_step",
        SinkCreate = "sink.create",
        SinkUpdate = "sink.update",
        SinkDelete = "sink.delete",
        SinkPause = "sink.pause",
        SinkResume = "sink.resume",
        SinkPark = "sink.park",
        SinkReplay = "sink.replay",
    }
}

const LISTING: &[DetailKey] = &[Query, Stream, Since, Until, Rows, Count, Format];
const SEGMENT: &[DetailKey] = &[
    Dataset,
    File,
    Rows,
    Bytes,
    Sha256,
    JournalInstance,
    JournalFirst,
    JournalLast,
    ReplacedFiles,
];
/// Of a prune of entries the last one says below which number they are dropped.
const PRUNED: &[DetailKey] = &[
    Dataset,
    File,
    Rows,
    Bytes,
    Sha256,
    JournalInstance,
    JournalFirst,
    JournalLast,
    ReplacedFiles,
    TreeSize,
];
const AGGREGATE: &[DetailKey] = &[
    Count,
    FirstAt,
    LastAt,
    SampleRequestIds,
    CredentialBytes,
    CredentialFamily,
    CredentialTag,
    RouteClass,
    ClientNetwork,
];

impl Action {
    /// The details that an entry of this action may carry; no others.
    pub const fn details(self) -> &'static [DetailKey] {
        match self {
            Self::ProjectUpdate => &[RevokedCount, AlreadyRevokedCount, TotalTokens, Terminate],
            Self::TokenRevokeBatch => &[RevokedCount, AlreadyRevokedCount, TotalTokens, Terminate],
            Self::TokenUpdate | Self::TokenRevoke => &[Terminate],
            // With a count it stands for as many.
            Self::AuthFailed | Self::AccessDeniedAggregate => AGGREGATE,
            Self::AccessDenied => &[
                CredentialBytes,
                CredentialFamily,
                CredentialTag,
                Provider,
                Model,
                Path,
                Origin,
                RouteClass,
            ],
            Self::ProjectList
            | Self::TokenList
            | Self::KeyList
            | Self::LogsSearch
            | Self::LogsReadBodies
            | Self::LogsExport
            | Self::AuditList
            | Self::AuditExport => LISTING,
            Self::AuditVerify => &[Findings, Rows, TreeSize],
            Self::AuditHeartbeat => {
                &[DeniedTotals, JournalSeq, Pending, TreeSize, SinkLag, ProducerSeqs]
            }
            Self::AuditKeyRotate => &[KeyId],
            Self::ConfigChange => &[KeyId, Rows, Sha256, Migrations],
            Self::LogLevelChange => &[Level, PreviousLevel, TtlSeconds],
            Self::SegmentSealed | Self::SegmentCompacted => SEGMENT,
            Self::SegmentPruned => PRUNED,
            Self::LogsErase => &[Query, Dataset, File, Rows, Sha256, ReplacedFiles],
            Self::LegalHoldPlace | Self::LegalHoldRelease => &[Query, Since, Until],
            Self::CachePurge => &[Provider, Count],
            Self::SystemStart => {
                &[Version, PreviousEnd, UnaccountedMs, Migrations, Sha256, DeniedTotals]
            }
            Self::SystemStop => &[Version, Signal, DeniedTotals],
            Self::SystemRecovered => &[JournalSeq, TornBytes, BadRanges, Interrupted, Rows],
            Self::SystemDegraded => &[Component, Finding, Since],
            Self::SystemJournalTampered => &[File, Finding, JournalSeq],
            Self::SystemClockStep => &[StepMs],
            Self::TokenFirstUse => &[ClientNetwork],
            Self::SinkCreate
            | Self::SinkUpdate
            | Self::SinkDelete
            | Self::SinkPause
            | Self::SinkResume
            | Self::SinkPark
            | Self::SinkReplay => &[Sink, JournalSeq, Count],
            Self::ProjectCreate
            | Self::ProjectRead
            | Self::TokenCreate
            | Self::TokenRead
            | Self::KeyCreate
            | Self::KeyUpdate
            | Self::KeyRevoke
            | Self::Login
            | Self::Logout
            | Self::AuditRead => &[],
        }
    }
}

words! {
    /// How it ended.
    Outcome { Success = "success", Denied = "denied", Error = "error" }
}

words! {
    /// What kind of actor did it.
    ActorKind {
        Root = "root",
        Key = "key",
        Local = "local",
        User = "user",
        Token = "token",
        System = "system",
        Anonymous = "anonymous",
    }
}

words! {
    /// How the actor proved who it is.
    AuthMethod {
        ManagementToken = "management_token",
        ManagementKey = "management_key",
        Token = "token",
        Session = "session",
        Oidc = "oidc",
        /// The user id of the peer of the local socket.
        Peer = "peer",
        /// The process itself.
        Process = "process",
        None = "none",
    }
}

words! {
    /// What kind of thing it was done to.
    TargetKind {
        Project = "project",
        Token = "token",
        Key = "key",
        Setting = "setting",
        Session = "session",
        Record = "record",
        Entry = "entry",
        Segment = "segment",
        Sink = "sink",
        Hold = "legal_hold",
        Cache = "cache",
        Journal = "journal",
        Route = "route",
        Instance = "instance",
    }
}
