//! One key follows another, and whoever trusts the first is led to the last.

use std::sync::Arc;

use domain::{
    audit::{
        Action, Actor, Detail, EntryContext, EntryDraft, Origin, Word,
        tree::{Keyring, NodeHash, Receipt, SignedCheckpoint, VerifierKey},
    },
    ids::InstanceId,
    rng::Fixed,
    time::Timestamp,
};
use tlog::{Error, Reader, Writer, fs::StdFs};

use crate::support::{ORIGIN, Seeded, append, leaf, open, open_on};

/// The entry that names the next key.
pub(crate) fn announcement(key: &VerifierKey) -> Vec<u8> {
    let origin = Origin {
        log: Word::parse(ORIGIN).unwrap(),
        producer: Word::parse("test/db").unwrap(),
        instance: InstanceId::parse("test").unwrap(),
        boot: Word::parse("b1").unwrap(),
    };
    let named = Detail::KeyId(Word::parse(&key.to_string()).unwrap());
    let draft = EntryDraft::new(Action::AuditKeyRotate).detail(named);
    let at = Timestamp::from_micros(1_763_892_000_000_000);
    let context = EntryContext::default();
    draft.seal(&Actor::root(), &context, &origin, 1, at, &Fixed(3)).unwrap().text.into_bytes()
}

fn rotate(writer: &mut Writer, seed: u8) -> SignedCheckpoint {
    let next = writer.prepare_rotation(&Seeded(seed)).unwrap();
    assert_eq!(writer.prepare_rotation(&Seeded(seed + 100)).unwrap(), next, "prepared once");
    let index = writer.size();
    writer.append(index, &[announcement(&next), leaf(index + 1)]).unwrap();
    assert!(matches!(writer.rotate(index + 1), Err(Error::NotNamed { .. })));
    let signed = writer.rotate(index).unwrap();
    assert_eq!(writer.verifier(), &next);
    signed
}

#[test]
fn the_first_key_leads_to_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path());
    append(&mut writer, 300);
    let first = writer.verifier().clone();
    assert!(matches!(writer.rotate(0), Err(Error::NothingPrepared)));
    let boundary = rotate(&mut writer, 2);
    append(&mut writer, 400);
    drop(writer);
    let mut writer = open(dir.path());
    rotate(&mut writer, 3);
    let newest = append(&mut writer, 500);
    let reader = writer.reader();
    let keyring = reader.keyring().unwrap().unwrap();
    assert_eq!(keyring.spans().len(), 3);
    assert_eq!(keyring.spans()[0].key, first);
    assert_eq!(keyring.current(), writer.verifier());
    boundary.verify([&first], &[]).unwrap();
    boundary.verify([&keyring.spans()[1].key], &[]).unwrap();
    assert!(newest.verify([&first], &[]).is_err());
    newest.verify([keyring.current()], &[]).unwrap();
    check_chain(&reader, &first, &keyring);
    let vkey = std::fs::read_to_string(reader.layout().public_key()).unwrap();
    assert_eq!(vkey.trim_end(), keyring.current().to_string());
    assert!(!reader.layout().next_key().exists());
}

/// From a trusted key over receipts to every later key.
pub(crate) fn check_chain(reader: &Reader, trusted: &VerifierKey, keyring: &Keyring) {
    let mut trusted = trusted.clone();
    for (receipt, span) in reader.rotations().unwrap().iter().zip(&keyring.spans()[1..]) {
        let receipt = Receipt::parse(receipt.to_string().as_bytes()).unwrap();
        let leaf = receipt.extra.as_deref().unwrap();
        receipt.verify(NodeHash::of_leaf(leaf), [&trusted], &[]).unwrap();
        receipt.verify(NodeHash::of_leaf(leaf), [&span.key], &[]).unwrap();
        assert_eq!(receipt.checkpoint.size(), span.from);
        assert!(String::from_utf8_lossy(leaf).contains(&span.key.to_string()));
        trusted = span.key.clone();
    }
    assert_eq!(&trusted, keyring.current());
}

#[test]
fn a_prepared_key_waits_for_its_entry_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path());
    append(&mut writer, 3);
    let next = writer.prepare_rotation(&Seeded(4)).unwrap();
    drop(writer);
    let mut writer = open(dir.path());
    assert_eq!(writer.prepared(), Some(&next));
    writer.append(3, &[announcement(&next)]).unwrap();
    drop(writer);
    let (mut writer, _) = open_on(Arc::new(StdFs), dir.path()).unwrap();
    writer.rotate(3).unwrap();
    assert_eq!(writer.verifier(), &next);
    assert_eq!(writer.prepared(), None);
}
