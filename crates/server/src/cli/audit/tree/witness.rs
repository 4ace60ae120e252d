//! `llm-proxy audit witness`: somebody else's memory of a tree.
//!
//! Owns a directory with a key of its own, the newest checkpoint that it
//! cosigned and evidence of whatever contradicts it. Promises to cosign only
//! what is proven to have grown out of all that it cosigned before, to remember
//! that on disk before anybody can see the signature, and to keep both sides of
//! a contradiction. Must never take a key from the tree that it watches.

mod memory;
mod serve;

use std::{io::Write, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use clap::Args;
use domain::{
    audit::tree::{
        SignedCheckpoint, TileHashes, VerifierKey, consistency_proof, cosign, root_of,
        verify_consistency,
    },
    time::Clock as _,
};
use tlog::verify::Source;

use self::memory::Memory;
use super::{
    inputs::{Ground, TreeArgs, Wrong, read_keys},
    newest,
    proof::Tiles,
};
use crate::{render::harmless, system::SystemClock};

/// The tree is no continuation of what was seen.
const CONTRADICTION: u8 = 1;
const UNREADABLE: u8 = 2;

#[derive(Debug, Args)]
pub struct WitnessArgs {
    #[command(flatten)]
    tree: TreeArgs,
    /// A verifier key of the tree that you got on another way, or a file with
    /// some (repeatable)
    #[arg(long, value_name = "VKEY|FILE", required = true)]
    key: Vec<String>,
    /// Where the witness keeps its key, what it saw and evidence
    #[arg(long, value_name = "DIR", default_value = "witness")]
    state: PathBuf,
    /// Under which name it cosigns; it stays as it was first
    #[arg(long, value_name = "NAME", default_value = "llm-proxy-witness")]
    name: String,
    /// Where others may ask what it saw: /checkpoint, /vkey, /evidence
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// How often it looks
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    interval: u64,
    /// Look once, and end
    #[arg(long)]
    once: bool,
}

/// What a look at the tree came to.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    /// This size is cosigned.
    Cosigned(u64),
    /// What it is not a continuation of, and where the evidence is.
    Contradiction { what: String, evidence: PathBuf },
}

pub(super) fn run(
    args: &WitnessArgs,
    ground: &Ground<'_>,
    out: &mut dyn Write,
) -> Result<u8, Wrong> {
    let mut keys = Vec::new();
    for text in &args.key {
        keys.extend(read_keys(text).map_err(Wrong::Usage)?);
    }
    let place = args.tree.place(ground)?;
    let memory = Memory::open(&args.state, &args.name).map_err(Wrong::Reading)?;
    let memory = Arc::new(memory);
    let runtime = super::runtime()?;
    if let Some(address) = args.listen {
        let address = runtime.block_on(serve::begin(address, Arc::clone(&memory)));
        let address = address.map_err(Wrong::Reading)?;
        say(out, &format!("listening on http://{address}"))?;
    }
    say(out, &format!("cosigning as {}", memory.verifier()))?;
    loop {
        let status = match look(&*place.source, &keys, &memory) {
            Ok(Look::Cosigned(size)) => {
                say(out, &format!("cosigned {size} entries"))?;
                0
            }
            Ok(Look::Contradiction { what, evidence }) => {
                say(out, &format!("CONTRADICTION: {what}; evidence: {}", evidence.display()))?;
                CONTRADICTION
            }
            Err(error) => {
                say(out, &format!("not cosigned: {error:#}"))?;
                UNREADABLE
            }
        };
        if args.once {
            return Ok(status);
        }
        runtime.block_on(tokio::time::sleep(Duration::from_secs(args.interval)));
    }
}

fn say(out: &mut dyn Write, text: &str) -> Result<(), Wrong> {
    let written = writeln!(out, "{}", harmless(text)).and_then(|()| out.flush());
    written.map_err(|error| Wrong::Reading(error.into()))
}

/// Looks at the tree once.
fn look(source: &dyn Source, keys: &[VerifierKey], memory: &Memory) -> anyhow::Result<Look> {
    let head = match newest(source) {
        Ok(head) => head,
        Err(Wrong::Usage(error) | Wrong::Reading(error)) => return Err(error),
    };
    let origin = &head.checkpoint().origin;
    let own = keys.iter().filter(|key| key.name() == origin);
    head.verify(own, &[]).context("the checkpoint is not signed by the key")?;
    let Some(seen) = memory.newest() else {
        check_whole(source, &head)?;
        return remember(memory, head);
    };
    if seen.checkpoint().origin != *origin {
        return Err(anyhow!("this is the tree {origin}, not {}", seen.checkpoint().origin));
    }
    if let Some(what) = contradicts(source, &seen, &head)? {
        let evidence = memory.keep_evidence(&what, &seen, &head, SystemClock.now())?;
        return Ok(Look::Contradiction { what, evidence });
    }
    remember(memory, head)
}

/// What contradicts what was seen; an error if nothing can be said.
fn contradicts(
    source: &dyn Source,
    seen: &SignedCheckpoint,
    head: &SignedCheckpoint,
) -> anyhow::Result<Option<String>> {
    let (old, new) = (seen.size(), head.size());
    if new < old {
        return Ok(Some(format!("there were {old} entries, now there are {new}")));
    }
    if new == old {
        let is_same = seen.root() == head.root();
        return Ok((!is_same).then(|| format!("of {new} entries two roots were signed")));
    }
    check_whole(source, head)?;
    let mut hashes = TileHashes::new(Tiles(source), new);
    let proof = consistency_proof(&mut hashes, old, new)?;
    let proven = verify_consistency((old, seen.root()), (new, head.root()), &proof);
    Ok(proven.err().map(|error| {
        format!("the {new} entries of now do not begin with the {old} that were seen: {error}")
    }))
}

/// Whether the tiles lead to the signed root: without that nothing is said, for
/// they may be half written or half copied.
fn check_whole(source: &dyn Source, head: &SignedCheckpoint) -> anyhow::Result<()> {
    let root = root_of(&mut TileHashes::new(Tiles(source), head.size()), head.size())?;
    match root == head.root() {
        true => Ok(()),
        false => Err(anyhow!("the tiles do not lead to the signed root")),
    }
}

fn remember(memory: &Memory, mut head: SignedCheckpoint) -> anyhow::Result<Look> {
    let seconds = u64::try_from(SystemClock.now().as_micros() / 1_000_000).unwrap_or(0);
    let text = head.note().text().to_owned();
    head.add(cosign(memory.key(), &text, seconds)?)
        .context("the checkpoint carries a signature under this witness's name already")?;
    let size = head.size();
    memory.remember(head)?;
    Ok(Look::Cosigned(size))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use domain::{
        audit::tree::{KeyKind, KeyName},
        rng::Fixed,
    };
    use tlog::{Config, KeySource, Writer, fs::StdFs, verify::Directory};

    use super::*;

    fn writer(dir: &std::path::Path) -> Writer {
        fs::create_dir_all(dir).expect("a directory");
        let origin = KeyName::parse("example.com/audit").expect("a name");
        let key =
            domain::audit::tree::SigningKey::generate(origin.clone(), KeyKind::Ed25519, &Fixed(5));
        let key = KeySource::Given(vec![key.expect("a key")]);
        let config = Config { data_dir: dir.to_owned(), origin, key };
        Writer::open(config, Arc::new(StdFs), &Fixed(1)).expect("a writer").0
    }

    #[test]
    fn what_grows_is_cosigned_and_a_fork_is_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        let mut chain = writer(&path("data"));
        let keys = [chain.verifier().clone()];
        let source = Directory::new(path("data/tlog"));
        let memory = Memory::open(&path("witness"), "witness.example").expect("a memory");
        let look = |source: &Directory, memory: &Memory| look(source, &keys, memory);
        assert!(look(&source, &memory).is_err(), "there is nothing yet");
        for size in [3u64, 300, 700] {
            let from = chain.size();
            let leaves: Vec<String> = (from..size).map(|at| format!("leaf {at}")).collect();
            chain.append(from, &leaves).expect("appended");
            assert_eq!(look(&source, &memory).expect("looked"), Look::Cosigned(size));
        }
        let note = memory.newest().expect("a checkpoint");
        let witness = [memory.verifier().clone()];
        assert_eq!(note.verify(&keys, &witness).expect("signed").len(), 1);
        // It remembers over a restart, and its key stays.
        drop(memory);
        let memory = Memory::open(&path("witness"), "another name").expect("a memory");
        assert_eq!(memory.verifier(), &witness[0]);
        assert_eq!(memory.newest().expect("a checkpoint").size(), 700);

        // An older copy, and another history under the same key.
        for (name, size) in [("older", 300u64), ("other", 700), ("longer", 900)] {
            let mut forged = writer(&path(name));
            let word = if name == "older" { "leaf" } else { "lie" };
            let leaves: Vec<String> = (0..size).map(|at| format!("{word} {at}")).collect();
            forged.append(0, &leaves).expect("appended");
            let source = Directory::new(path(name).join("tlog"));
            let Look::Contradiction { evidence, .. } = look(&source, &memory).expect("looked")
            else {
                panic!("{name} was cosigned");
            };
            let text = fs::read_to_string(evidence).expect("evidence");
            assert_eq!(text.matches("example.com/audit\n").count(), 2, "{text}");
        }
        assert_eq!(memory.evidence().expect("a list").len(), 3);
        assert_eq!(memory.newest().expect("a checkpoint").size(), 700);
        // Damaged tiles are no contradiction, and are not cosigned.
        let leaves: Vec<String> = (700..800).map(|at| format!("leaf {at}")).collect();
        chain.append(700, &leaves).expect("appended");
        let tile = path("data/tlog/tile/0/003.p/32");
        let good = fs::read(&tile).expect("a tile");
        let mut bad = good.clone();
        bad[5] ^= 1;
        fs::write(&tile, bad).expect("written");
        assert!(look(&source, &memory).is_err());
        assert_eq!(memory.evidence().expect("a list").len(), 3);
        fs::write(&tile, good).expect("written");
        assert_eq!(look(&source, &memory).expect("looked"), Look::Cosigned(800));
        let stranger = domain::audit::tree::SigningKey::generate(
            KeyName::parse("example.com/audit").expect("a name"),
            KeyKind::Ed25519,
            &Fixed(6),
        );
        let stranger = [stranger.expect("a key").verifier().clone()];
        assert!(super::look(&source, &stranger, &memory).is_err());
    }
}
