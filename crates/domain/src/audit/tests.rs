//! The frozen bytes of version 1, and what the reader must refuse.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use proptest::prelude::*;

use super::*;
use crate::{
    context::{ClientAddress, TraceId},
    ids::{CorrelationId, InstanceId, ManagementKeyId, ProjectId, RequestId},
    rng::Rng,
    role::Role,
    time::Timestamp,
};

/// Counts up, so that no two salts or ids are equal.
struct Counting(AtomicU64);

impl Rng for Counting {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    fn fill_secure(&self, buffer: &mut [u8]) {
        buffer.fill(self.next_u64() as u8);
    }
}

struct Model {
    name: &'static str,
    limit: Option<u64>,
    keys: &'static [(&'static str, i64)],
}

impl Audited for Model {
    fn audited(&self) -> Vec<(Field, FieldValue)> {
        let Self { name, limit, keys } = self;
        let keys = keys.iter().map(|(name, version)| ((*name).to_owned(), *version)).collect();
        vec![
            (Field::Name, Value::text(name).into()),
            (Field::MaxRequests, FieldValue::optional(*limit)),
            (Field::ProviderKeys, FieldValue::Secrets(keys)),
        ]
    }
}

fn project_id() -> ProjectId {
    "01980000-0000-7000-8000-00000000000a".parse().expect("a UUID")
}

fn origin() -> Origin {
    Origin {
        log: Word::lossy("llm-proxy/audit/01980000-0000-7000-8000-000000000001"),
        producer: Word::lossy("i1/db"),
        instance: InstanceId::parse("i1").expect("valid"),
        boot: Word::lossy("01980000-0000-7000-8000-0000000000b0"),
    }
}

fn context() -> EntryContext {
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    EntryContext {
        request_id: RequestId::parse(b"req-1"),
        correlation_id: CorrelationId::parse(b"corr-1"),
        trace_id: TraceId::parse(b"0af7651916cd43dd8448eb211c80319c"),
        method: Word::parse("PATCH"),
        route: Word::parse("/manage/projects/{id}"),
        client: Some(ClientAddress { peer: address("10.0.0.1"), client: address("192.0.2.7") }),
        user_agent: Some(Text::new("curl/8 \u{202e}evil")),
        on_behalf_of: None,
        ticket: Word::parse("OPS-17"),
    }
}

fn sample() -> SealedEntry {
    let before = Model { name: "old", limit: Some(5), keys: &[("openai", 1), ("gone", 1)] };
    let after = Model { name: "new", limit: None, keys: &[("openai", 2)] };
    let key: ManagementKeyId = "01980000-0000-7000-8000-0000000000aa".parse().expect("a UUID");
    EntryDraft::new(Action::ProjectUpdate)
        .project(project_id())
        .target(TargetKind::Project, project_id())
        .revisions(Some(1), Some(2))
        .change(Change::between(&before, &after))
        .detail(Detail::RevokedCount(3))
        .status(200)
        .note("on request")
        .seal(
            &Actor::key(key, "Ada", Role::Operator),
            &context(),
            &origin(),
            42,
            Timestamp::from_micros(1_795_428_000_000_123),
            &Counting(1.into()),
        )
        .expect("a leaf")
}

/// These bytes are frozen: they must never be edited, only added to.
#[test]
fn golden_leaf_of_version_1() {
    let entry = sample();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/audit/golden/v1-project-update.json");
    let golden = std::fs::read_to_string(path).expect("the golden file");
    assert_eq!(entry.text, golden.trim_end());
    assert_eq!(
        entry.hash.to_string(),
        "3680979a6d6b229fefe9a2ef03d3233ff7cab28852a43688c02cfce2a127f247"
    );
    assert_eq!(Leaf::parse(golden.trim_end().as_bytes()).expect("a leaf"), entry.leaf);
}

#[test]
fn personal_values_do_not_stand_in_the_leaf() {
    let text = sample().text;
    for hidden in ["Ada", "192.0.2.7", "10.0.0.1", "curl", "req-1", "corr-1", "old", "on request"] {
        assert!(!text.contains(hidden), "{hidden} in {text}");
    }
}

#[test]
fn openings_open_and_nothing_else_does() {
    let entry = sample();
    for opening in &entry.openings {
        assert!(opening.open(&entry.leaf.sealed[&opening.path]).is_some());
        let mut other = opening.clone();
        other.value = "\"forged\"".into();
        assert_eq!(other.open(&entry.leaf.sealed[&opening.path]), None);
        assert!(EntryView::new(&entry.text, &[other], None).is_err());
    }
}

#[test]
fn the_view_shows_what_is_not_erased() {
    let entry = sample();
    let view = EntryView::new(&entry.text, &entry.openings, None).expect("a view");
    let shown = serde_json::to_value(&view).expect("JSON");
    assert_eq!(shown["actor"]["name"], "Ada");
    assert_eq!(shown["client_ip"], "192.0.2.7");
    assert_eq!(shown["user_agent"], "curl/8 <U+202E>evil");
    assert_eq!(shown["change"]["before"], serde_json::json!({"name": "old", "max_requests": 5}));
    assert_eq!(
        shown["change"]["after"],
        serde_json::json!({"name": "new", "provider_keys":
            {"gone": {"changed": true}, "openai": {"changed": true}}})
    );
    assert_eq!(shown["details"], serde_json::json!({"revoked_count": 3}));

    let kept: Vec<Opening> =
        entry.openings.iter().filter(|o| o.path != "/actor/name").cloned().collect();
    let erased = EntryView::new(&entry.text, &kept, None).expect("a view");
    assert_eq!((erased.actor.name, erased.erased), (None, vec!["/actor/name".to_owned()]));
}

#[test]
fn the_commitment_is_the_documented_hash() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use sha2::{Digest, Sha256};
    let mut input = b"llm-proxy/audit/commit/v1\0".to_vec();
    input.extend([7; 32]);
    input.extend([0, 0, 0, 11]);
    input.extend(b"/actor/name");
    input.extend([0, 0, 0, 5]);
    input.extend(b"\"Ada\"");
    let expected = STANDARD.encode(Sha256::digest(&input));
    assert_eq!(commitment("/actor/name", &[7; 32], b"\"Ada\""), expected);
}

#[test]
fn the_leaf_hash_is_that_of_rfc_6962() {
    // The hash of an empty leaf, as in the RFC's own test vectors.
    assert_eq!(
        leaf_hash(b"").to_string(),
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    );
}

fn refuses(change: impl FnOnce(&mut serde_json::Value)) -> LeafError {
    let mut value = serde_json::from_str(&sample().text).expect("JSON");
    change(&mut value);
    let bytes = jcs::to_bytes(&value).expect("canonical");
    Leaf::parse(&bytes).expect_err("must be refused")
}

#[test]
fn the_reader_takes_the_schema_and_nothing_else() {
    let version = refuses(|leaf| leaf["v"] = 2.into());
    assert!(matches!(version, LeafError::UnknownVersion(v) if v == "2"));
    let unknown = refuses(|leaf| leaf["extra"] = 1.into());
    assert!(matches!(unknown, LeafError::Schema(_)));
    let action = refuses(|leaf| leaf["action"] = "project.explode".into());
    assert!(matches!(action, LeafError::Schema(_)));
    let nested = refuses(|leaf| leaf["actor"]["name"] = "Ada".into());
    assert!(matches!(nested, LeafError::Schema(_)));
    let detail = refuses(|leaf| leaf["details"]["level"] = "debug".into());
    assert!(matches!(detail, LeafError::Misplaced(name) if name == "level"));
    let kind = refuses(|leaf| leaf["details"]["revoked_count"] = "three".into());
    assert!(matches!(kind, LeafError::Misplaced(_)));
    let commitment = leaf_text("/actor/name");
    let path = refuses(|leaf| leaf["sealed"]["/anything"] = commitment.into());
    assert!(matches!(path, LeafError::Misplaced(_)));
    let short = refuses(|leaf| leaf["sealed"]["/actor/name"] = "AAAA".into());
    assert!(matches!(short, LeafError::Misplaced(_)));
    let order = refuses(|leaf| leaf["change"]["fields"].as_array_mut().expect("list").reverse());
    assert!(matches!(order, LeafError::Misplaced(_)));
    let time = refuses(|leaf| leaf["at"] = "2026-11-23T15:20:00.000123+01:00".into());
    assert!(matches!(time, LeafError::NotCanonical(_)));
    let id = refuses(|leaf| {
        leaf["id"] = leaf["id"].as_str().expect("text").to_uppercase().into();
    });
    assert!(matches!(id, LeafError::NotCanonical(_)));
    let empty = refuses(|leaf| leaf["details"] = serde_json::json!({}));
    assert!(matches!(empty, LeafError::Misplaced(_)));
}

fn leaf_text(path: &str) -> String {
    sample().leaf.sealed[path].clone()
}

#[test]
fn a_detail_of_another_action_is_refused() {
    let draft = EntryDraft::new(Action::ProjectCreate).detail(Detail::RevokedCount(1));
    let error = draft.seal(
        &Actor::root(),
        &EntryContext::default(),
        &origin(),
        1,
        Timestamp::EPOCH,
        &Counting(1.into()),
    );
    assert!(matches!(error, Err(DraftError::Detail { .. })));
}

#[test]
fn a_leaf_is_bounded() {
    let many: BTreeMap<Word, u64> =
        (0..4096).map(|at| (Word::lossy(&format!("reason-{at}")), 1)).collect();
    let sealed = EntryDraft::new(Action::AuditHeartbeat).detail(Detail::DeniedTotals(many)).seal(
        &Actor::system(),
        &EntryContext::default(),
        &origin(),
        1,
        Timestamp::EPOCH,
        &Counting(1.into()),
    );
    assert!(matches!(sealed, Err(DraftError::TooLarge(_))));
    assert!(matches!(Leaf::parse(&[b' '; LEAF_BYTES_MAX + 1]), Err(LeafError::TooLarge(_))));
}

#[test]
fn words_are_unique_and_read_back() {
    for action in Action::ALL {
        assert_eq!(Action::parse(action.as_str()), Some(*action));
        assert!(Word::parse(action.as_str()).is_some());
    }
    assert!(Field::ALL.windows(2).all(|pair| pair[0].as_str() < pair[1].as_str()));
    let names: std::collections::BTreeSet<_> = Action::ALL.iter().map(|a| a.as_str()).collect();
    assert_eq!(names.len(), Action::ALL.len());
}

proptest! {
    #[test]
    fn every_sealed_draft_reads_back(
        action in prop::sample::select(Action::ALL),
        seq in 0u64..(1 << 53),
        at in 0i64..253_402_300_799_999_999,
        note in ".*",
        name in ".*",
        code in ".*",
        target in ".*",
    ) {
        let actor = Actor { name: Some(Text::new(&name)), ..Actor::anonymous() };
        let mut draft =
            EntryDraft::new(action).denied(&code).target(TargetKind::Route, target).note(&note);
        if action.details().contains(&DetailKey::Query) {
            draft = draft.detail(Detail::Query(Text::new(&name)));
        }
        let at = Timestamp::from_micros(at);
        let rng = Counting(1.into());
        let entry = draft.seal(&actor, &context(), &origin(), seq, at, &rng).expect("a leaf");
        prop_assert_eq!(&Leaf::parse(entry.text.as_bytes()).expect("a leaf"), &entry.leaf);
        EntryView::new(&entry.text, &entry.openings, Some(7)).expect("a view");
    }

    #[test]
    fn a_flipped_bit_never_gives_the_same_leaf(at in 0usize..4096, bit in 0u8..8) {
        let entry = sample();
        let mut bytes = entry.text.clone().into_bytes();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        if let Ok(leaf) = Leaf::parse(&bytes) {
            prop_assert_ne!(leaf, entry.leaf);
        }
        prop_assert_ne!(leaf_hash(&bytes), entry.hash);
    }
}
