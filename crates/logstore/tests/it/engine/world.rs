//! Data directories with lines of every kind, and questions about them, both made
//! from a seed.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use domain::{
    fields::{self, Stream},
    glob::Glob,
    ids::{InstanceId, ProjectId},
    query::{Comparison, Expr, FieldRef, Literal, Test},
    time::{ManualClock, Timestamp},
};
use logstore::{
    catalog::{Catalog, CatalogConfig},
    format::{Commit, file_name},
    fs::{Fs, StdFs},
};
use uuid::Uuid;

/// Numbers from a seed (xorshift).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    pub(crate) fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

/// 2025-11-23T23:59:30Z: lines lie on both sides of midnight.
pub(crate) const BEGIN: i64 = 1_763_942_370_000_000;
const SECONDS: u64 = 60;

pub(crate) fn time(dice: &mut Dice) -> Timestamp {
    // Few different moments, so that many lines have the same.
    Timestamp::from_micros(BEGIN + (dice.below(SECONDS) * 1_000_000 + dice.below(2)) as i64)
}

pub(crate) fn project(number: u64) -> ProjectId {
    ProjectId(Uuid::from_u128(0xabc0 + u128::from(number)))
}

/// One line where it lies.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) ts: Timestamp,
    pub(crate) stream: Stream,
    pub(crate) instance: &'static str,
    pub(crate) seq: u64,
}

const MODELS: &[&str] =
    &["gpt-4o", "gpt-4o-mini", "claude-3-5-sonnet", "o1", "a \\\"b\\\" \\u0007"];
const ERRORS: &[&str] = &[
    "upstream TimeOut after 10 s",
    "connection refused",
    "kelvin \u{212a}",
    "ÜBERLAST",
    "",
    "tim\\u001beout",
    "context_length_exceeded",
];
const MESSAGES: &[&str] = &["request completed", "Request COMPLETED", "retrying", "über 9000"];
const PATHS: &[&str] = &["/v1/chat/completions", "/v1/messages", "/v1/embeddings"];

fn record(dice: &mut Dice, ts: Timestamp, instance: &str) -> String {
    let id = Uuid::from_u128(u128::from(dice.below(1 << 40)) << 64 | 0x8000_0000_0000_0001);
    let mut line = format!(
        "{{\"schema\":1,\"stream\":\"record\",\"record_id\":\"{id}\",\"ts\":\"{ts}\",\"level\":\
         \"{}\",\"msg\":\"{}\",\"component\":\"proxy\",\"instance\":\"{instance}\",\"version\":\
         \"0.0.0\",\"request_id\":\"req-{}\",\"correlation_id\":\"cor-{}\",\"trace_id\":\"{:032x}\",\
         \"span_id\":\"00f067aa0ba902b7\"",
        dice.pick(&["info", "warn", "error"]),
        dice.pick(MESSAGES),
        dice.below(40),
        dice.below(9),
        dice.below(20) + 1,
    );
    let mut field = |wanted: bool, key: &str, json: String| {
        if wanted {
            line.push_str(&format!(",\"{key}\":{json}"));
        }
    };
    field(!dice.one_in(5), "project_id", format!("\"{}\"", project(dice.below(4))));
    field(
        !dice.one_in(4),
        "labels",
        format!("{{\"team\":\"{}\",\"a.b\":\"x\"}}", dice.pick(&["blue", "red", "Ω"])),
    );
    field(dice.one_in(3), "end_user", format!("\"user-{}\"", dice.below(7)));
    field(
        !dice.one_in(5),
        "model",
        match dice.one_in(30) {
            true => "5".to_owned(),
            false => format!("\"{}\"", dice.pick(MODELS)),
        },
    );
    field(true, "method", "\"POST\"".to_owned());
    field(true, "path", format!("\"{}\"", dice.pick(PATHS)));
    field(
        !dice.one_in(6),
        "status_code",
        match dice.one_in(30) {
            true => "\"none\"".to_owned(),
            false => dice.pick(&[200, 200, 200, 404, 429, 500, 503]).to_string(),
        },
    );
    field(true, "outcome", format!("\"{}\"", dice.pick(&["ok", "denied", "timeout"])));
    field(dice.one_in(3), "error", format!("\"{}\"", dice.pick(ERRORS)));
    field(true, "stream_response", dice.one_in(2).to_string());
    field(true, "request_bytes", dice.below(100_000).to_string());
    field(!dice.one_in(8), "duration_ms", {
        let micros = dice.below(3_000_000);
        let text = format!("{}.{:03}", micros / 1000, micros % 1000);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    });
    field(dice.one_in(2), "input_tokens", dice.below(5000).to_string());
    field(dice.one_in(2), "cost_usd", format!("\"0.{:04}1\"", dice.below(10_000)));
    field(true, "cache", "\"off\"".to_owned());
    field(dice.one_in(9), "count", (dice.below(50) + 2).to_string());
    field(dice.one_in(6), "shard", dice.pick(&["7", "\"7\"", "null", "true", "1.5"]).to_string());
    field(dice.one_in(9), "nest", "{\"in\":{\"side\":\"deep\"},\"in.side\":3}".to_owned());
    line + "}"
}

fn trace(dice: &mut Dice, ts: Timestamp, instance: &str) -> String {
    let mut line = format!(
        "{{\"ts\":\"{ts}\",\"level\":\"{}\",\"msg\":\"{}\",\"stream\":\"trace\",\"component\":\
         \"store\",\"target\":\"store::{}\",\"instance\":\"{instance}\",\"version\":\"0.0.0\"",
        dice.pick(&["debug", "info", "warn"]),
        dice.pick(MESSAGES),
        dice.below(3),
    );
    if dice.one_in(2) {
        line.push_str(&format!(",\"request_id\":\"req-{}\"", dice.below(40)));
    }
    if dice.one_in(2) {
        line.push_str(&format!(",\"project_id\":\"{}\"", project(dice.below(4))));
    }
    if dice.one_in(3) {
        line.push_str(&format!(",\"status_code\":{}", dice.pick(&["500", "\"500\"", "200"])));
    }
    if dice.one_in(3) {
        line.push_str(&format!(",\"path\":\"{}\"", dice.pick(PATHS)));
    }
    if dice.one_in(4) {
        line.push_str(&format!(",\"error\":\"{}\"", dice.pick(ERRORS)));
    }
    line + "}"
}

fn entry(dice: &mut Dice, ts: Timestamp, instance: &str) -> String {
    format!(
        "{{\"stream\":\"entry\",\"ts\":\"{ts}\",\"level\":\"info\",\"msg\":\"{}\",\"component\":\
         \"audit\",\"instance\":\"{instance}\",\"version\":\"0.0.0\",\"request_id\":\"req-{}\",\
         \"project_id\":\"{}\",\"id\":\"e-{}\",\"action\":\"{}\",\"result\":\"success\",\
         \"actor_kind\":\"root\",\"status\":{},\"seq\":{},\"leaf\":\"{{\\\"a\\\":1}}\"}}",
        dice.pick(MESSAGES),
        dice.below(40),
        project(dice.below(4)),
        dice.below(1000),
        dice.pick(&["project.create", "token.create", "access.denied"]),
        dice.pick(&[200, 201, 403]),
        dice.below(50),
    )
}

/// A data directory and everything that it should hold.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) lines: Vec<Line>,
    /// Captured bodies: the record they are of, and the text.
    pub(crate) bodies: Vec<(String, &'static str)>,
    /// By instance: its journal files' first lines and the last line.
    files: Vec<(&'static str, Vec<u64>, u64)>,
}

const INSTANCES: &[&str] = &["a-1", "b.2"];

impl World {
    pub(crate) fn new(dice: &mut Dice, lines: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fs: Arc<dyn Fs> = Arc::new(StdFs);
        let (lines_of_all, bodies) = (Vec::new(), Vec::new());
        let mut world = Self { dir, fs, lines: lines_of_all, bodies, files: Vec::new() };
        std::fs::create_dir_all(world.journal()).unwrap();
        for instance in &INSTANCES[..1 + dice.below(2) as usize] {
            world.write_instance(dice, instance, lines);
        }
        world
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    fn journal(&self) -> PathBuf {
        logstore::journal_dir(self.dir.path())
    }

    fn write_instance(&mut self, dice: &mut Dice, instance: &'static str, lines: u64) {
        let id = InstanceId::parse(instance).unwrap();
        let mut seq = 0;
        let mut firsts = Vec::new();
        for _ in 0..1 + dice.below(3) {
            let first = seq + 1;
            firsts.push(first);
            let mut file = Vec::new();
            let mut batch = format!(
                "{{\"_h\":{{\"format\":1,\"instance\":\"{instance}\",\"boot\":1,\"reason\":\"start\",\
                 \"first_seq\":{first},\"ts\":\"{}\",\"version\":\"0\"}}}}\n",
                Timestamp::from_micros(BEGIN)
            );
            let mut in_batch = 1;
            seq += 1;
            let (mut bodies, mut body_batch, mut body_lines) = (Vec::new(), String::new(), 0);
            for _ in 0..dice.below(lines) {
                seq += 1;
                in_batch += 1;
                let line = self.line(dice, instance, seq);
                batch.push_str(&line);
                batch.push('\n');
                if line.starts_with("{\"schema\"") && dice.one_in(3) {
                    body_lines += 1;
                    body_batch.push_str(&self.body(dice, instance, &line));
                }
                if dice.one_in(6) {
                    close(&mut file, &mut batch, &mut in_batch, seq);
                }
            }
            close(&mut file, &mut batch, &mut in_batch, seq);
            let path = self.journal().join(file_name(&id, first));
            std::fs::write(&path, &file).unwrap();
            if body_lines > 0 {
                close(&mut bodies, &mut body_batch, &mut { body_lines }, body_lines);
                std::fs::write(path.with_extension("bodies"), &bodies).unwrap();
            }
        }
        self.files.push((instance, firsts, seq));
    }

    /// A body captured for a record, as a line.
    fn body(&mut self, dice: &mut Dice, instance: &str, record: &str) -> String {
        let record: serde_json::Value = serde_json::from_str(record).unwrap();
        let text = *dice.pick(&["Say TimeOut \"again\"", "ÜBERALL", "nothing of interest", "chat"]);
        let id = record["record_id"].as_str().unwrap();
        self.bodies.push((id.to_owned(), text));
        let mut line = serde_json::json!({
            "stream": "body", "ts": record["ts"], "instance": instance, "record_id": id,
            "request_id": record["request_id"], "side": "request", "encoding": "utf-8",
            "body": text, "bytes": text.len(), "truncated": false, "redactions": 0,
        });
        if let Some(project) = record.get("project_id") {
            line["project_id"] = project.clone();
        }
        format!("{line}\n")
    }

    /// A line of a stream, or one of the journal's own.
    fn line(&mut self, dice: &mut Dice, instance: &'static str, seq: u64) -> String {
        if dice.one_in(15) {
            return "{\"_n\":{\"accepted\":0,\"stored\":0}}".to_owned();
        }
        let ts = time(dice);
        let (stream, text) = match dice.below(8) {
            0 | 1 => (Stream::Trace, trace(dice, ts, instance)),
            2 => (Stream::Entry, entry(dice, ts, instance)),
            _ => (Stream::Record, record(dice, ts, instance)),
        };
        self.lines.push(Line { text: text.clone(), ts, stream, instance, seq });
        text
    }

    /// Seals journal files: none, some or all of each instance.
    pub(crate) fn seal(&self, dice: &mut Dice) {
        self.seal_some(&mut |files| dice.below(files as u64 + 1) as usize);
    }

    pub(crate) fn seal_all(&self) {
        self.seal_some(&mut |files| files - 1);
    }

    /// `last` gives which of so many files is the last to be sealed.
    fn seal_some(&self, last: &mut dyn FnMut(usize) -> usize) {
        for (instance, firsts, last_seq) in &self.files {
            let ends: Vec<u64> =
                firsts.iter().skip(1).map(|first| first - 1).chain([*last_seq]).collect();
            let Some(closed_to) = ends.get(last(ends.len())) else { continue };
            let id = InstanceId::parse(instance).unwrap();
            let config = CatalogConfig::new(self.path(), id, "0.0.0");
            let clock = Arc::new(ManualClock::at(Timestamp::from_micros(BEGIN)));
            let (catalog, problems) =
                Catalog::open(config, Arc::clone(&self.fs), clock, Box::new(())).unwrap();
            assert_eq!(problems, []);
            catalog.seal_closed(*closed_to).unwrap();
        }
    }
}

/// Lines of a batch in a [`large_journal`].
pub(crate) const LARGE_BATCH: u64 = 100;

/// A journal of one file of about a kilobyte a line, with `req-1` and so on.
pub(crate) fn large_journal(data_dir: &Path, lines: u64) -> PathBuf {
    let instance = InstanceId::parse("a-1").unwrap();
    let path = logstore::journal_dir(data_dir).join(file_name(&instance, 1));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut batch = format!(
        "{{\"_h\":{{\"format\":1,\"instance\":\"a-1\",\"boot\":1,\"reason\":\"start\",\
         \"first_seq\":1,\"ts\":\"{}\",\"version\":\"0\"}}}}\n",
        Timestamp::from_micros(BEGIN)
    );
    let (mut file, mut in_batch) = (Vec::new(), 1);
    close(&mut file, &mut batch, &mut in_batch, 1);
    for number in 1..=lines {
        let id = Uuid::from_u128(u128::from(number));
        let ts = Timestamp::from_micros(BEGIN + number as i64);
        batch.push_str(&format!(
            "{{\"schema\":1,\"stream\":\"record\",\"record_id\":\"{id}\",\"ts\":\"{ts}\",\
             \"level\":\"info\",\"msg\":\"{}\",\"instance\":\"a-1\",\"request_id\":\
             \"req-{number}\"}}\n",
            "m".repeat(800),
        ));
        in_batch += 1;
        if number % LARGE_BATCH == 0 {
            close(&mut file, &mut batch, &mut in_batch, number + 1);
        }
    }
    std::fs::write(&path, &file).unwrap();
    path
}

fn close(file: &mut Vec<u8>, batch: &mut String, lines: &mut u64, seq: u64) {
    if *lines > 0 {
        file.extend_from_slice(batch.as_bytes());
        Commit { lines: *lines, crc: crc32c::crc32c(batch.as_bytes()), seq }.write(file);
    }
    batch.clear();
    *lines = 0;
}

/// A condition, up to `depth` levels deep.
pub(crate) fn expr(dice: &mut Dice, depth: u64) -> Expr {
    let several =
        |dice: &mut Dice| (0..1 + dice.below(3)).map(|_| expr(dice, depth - 1)).collect::<Vec<_>>();
    match dice.below(if depth == 0 { 4 } else { 7 }) {
        0 => Expr::Text(
            dice.pick(&["timeout", "completed", "über", "k", "chat", "zzz", "7"]).to_string(),
        ),
        1..=3 => {
            let (field, test) = test(dice);
            Expr::Field(field, test)
        }
        4 => Expr::And(several(dice)),
        5 => Expr::Or(several(dice)),
        _ => Expr::Not(Box::new(expr(dice, depth - 1))),
    }
}

fn known(name: &str) -> FieldRef {
    FieldRef::Known(fields::find(name).unwrap())
}

fn comparison(dice: &mut Dice) -> Comparison {
    *dice.pick(&[
        Comparison::Less,
        Comparison::LessOrEqual,
        Comparison::Greater,
        Comparison::GreaterOrEqual,
    ])
}

fn test(dice: &mut Dice) -> (FieldRef, Test) {
    let text = |text: String| Literal::Text(text);
    let any = |literal: Literal| Test::Any(vec![literal]);
    let compare = |dice: &mut Dice, literal| Test::Compare(comparison(dice), literal);
    match dice.below(19) {
        0 => (known("request_id"), any(text(format!("req-{}", dice.below(40))))),
        1 => (known("correlation_id"), any(text(format!("cor-{}", dice.below(9))))),
        2 => (known("model"), any(text((*dice.pick(&["gpt-4o", "o1", "a \"b\" \u{7}"])).into()))),
        3 => (known("model"), Test::Like(Glob::new(*dice.pick(&["gpt-4*", "*mini", "*", "*o*"])))),
        4 => (known("model"), Test::Regex((*dice.pick(&["^gpt", "[0-9]$", "son+et"])).into())),
        5 => {
            let literal = Literal::Integer(*dice.pick(&[200, 404, 500, 599]));
            (known("status_code"), compare(dice, literal))
        }
        6 => (known("status_code"), Test::Any(vec![Literal::Integer(500), Literal::Integer(200)])),
        7 => {
            let field = *dice.pick(&["error", "status_code", "cost_usd", "labels", "project_id"]);
            (known(field), Test::Present)
        }
        8 => {
            let literal = Literal::Number(dice.below(3000) as f64 + 0.5);
            (known("duration_ms"), compare(dice, literal))
        }
        9 => {
            let literal = Literal::Number(dice.below(1000) as f64 / 1000.0);
            (known("cost_usd"), compare(dice, literal))
        }
        10 => (known("stream_response"), any(Literal::Boolean(dice.one_in(2)))),
        11 => {
            let level = text((*dice.pick(&["info", "warn", "error"])).into());
            (known("level"), compare(dice, level))
        }
        12 => {
            let moment = Literal::Time(time(dice));
            (known("ts"), compare(dice, moment))
        }
        13 => {
            let team = text((*dice.pick(&["blue", "Ω", "green"])).into());
            (FieldRef::Label("team".into()), any(team))
        }
        14 => (FieldRef::Label("a.b".into()), Test::Present),
        15 => {
            let literal = (*dice.pick(&["7", "true", "1.5"])).to_owned();
            (FieldRef::Attribute("shard".into()), any(text(literal)))
        }
        16 => {
            let literal = text((*dice.pick(&["5", "a"])).into());
            (FieldRef::Attribute("shard".into()), compare(dice, literal))
        }
        17 => {
            let name = *dice.pick(&["nest.in.side", "nest.in", "nest.out"]);
            (FieldRef::Attribute(name.into()), Test::Present)
        }
        _ => (known("action"), Test::Like(Glob::new("token.*"))),
    }
}
