//! What sealing costs: records a second and core of decoding alone and of
//! sealing whole (decode, sort, Parquet, side index, sync), bytes a record, peak
//! memory; and what a look-up in a large segment reads. Run with
//! `cargo bench -p logstore --bench segment [-- RECORDS [LARGE]]`.

use std::{io::Write, path::Path, sync::Arc, time::Instant};

use domain::{ids::InstanceId, time::Timestamp};
use logstore::{
    format::Commit,
    fs::{Fs, StdFs},
    segment::{
        ClosedFile, Dataset, Decoder, PAGE_ROWS, Renderer, SealOptions, Segment, SegmentWriter,
        Selection, schema, seal,
    },
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Lines that the writer puts into one batch under load.
const BATCH_LINES: u64 = 500;
const BASE: i64 = 1_795_428_000_000_000;
/// Distance of records: 4000 a second.
const STEP_MICROS: i64 = 250;

struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Few of many most of the time.
    fn few(&mut self, bound: u64) -> u64 {
        let dice = self.below(bound) * self.below(bound) / bound;
        dice * self.below(bound) / bound
    }
}

fn uuid_v7(ts: i64, dice: &mut Dice) -> String {
    let millis = ts / 1000;
    let (a, b) = (dice.next(), dice.next());
    format!(
        "{:08x}-{:04x}-7{:03x}-{:04x}-{:012x}",
        millis >> 16,
        millis & 0xffff,
        a & 0xfff,
        0x8000 | (a >> 16 & 0x3fff),
        b & 0xffff_ffff_ffff
    )
}

const MODELS: &[&str] = &[
    "gpt-4o-mini",
    "gpt-4o",
    "gpt-4.1",
    "gpt-4.1-mini",
    "o4-mini",
    "claude-sonnet-4-5",
    "claude-haiku-4-5",
    "claude-opus-4-1",
    "text-embedding-3-small",
    "gpt-5",
    "gpt-5-mini",
];
const AGENTS: &[&str] = &[
    "OpenAI/Python 1.109.1",
    "Anthropic/Python 0.69.0",
    "OpenAI/JS 5.23.1",
    "curl/8.5.0",
    "python-httpx/0.28.1",
    "langchain/0.3.27",
];

/// One record as a busy proxy writes it.
#[rustfmt::skip]
fn record(number: u64, dice: &mut Dice, out: &mut Vec<u8>) -> Result<()> {
    let ts = BASE + i64::try_from(number)? * STEP_MICROS - i64::try_from(dice.below(40_000))?;
    let duration = 20_000 + dice.below(30) * dice.below(200_000);
    let ttfb = duration / (2 + dice.below(5));
    let model = MODELS[dice.few(MODELS.len() as u64) as usize];
    let status = match dice.below(100) { 0..96 => 200, 96 => 429, 97 => 400, 98 => 500, _ => 503 };
    let (record_id, request_id) = (uuid_v7(ts + 300, dice), uuid_v7(ts, dice));
    let project = dice.few(200);
    let millis = |micros: u64| format!("{}.{:03}", micros / 1000, 1 + micros % 999);
    let (level, outcome) = if status == 200 { ("info", "ok") } else { ("error", "upstream_error") };
    write!(out, "{{\"schema\":1,\"stream\":\"record\",\"record_id\":\"{record_id}\",\"ts\":\"{}\",\"level\":\"{level}\",\"msg\":\"request completed\",\"component\":\"proxy\",\"instance\":\"eu-1\",\"version\":\"0.9.0\",", Timestamp::from_micros(ts))?;
    write!(out, "\"request_id\":\"{request_id}\",\"correlation_id\":\"{request_id}\",\"trace_id\":\"{:016x}{:016x}\",\"span_id\":\"{:016x}\",", dice.next(), dice.next(), dice.next())?;
    write!(out, "\"project_id\":\"019aaf10-0000-7000-8000-{project:012x}\",\"project\":\"project {project}\",\"token_id\":\"019aaf10-0000-7000-9000-{:012x}\",\"labels\":{{\"env\":\"prod\",\"team\":\"team-{}\"}},", project * 8 + dice.few(8), project % 20)?;
    write!(out, "\"end_user\":\"user-{}\",\"client_ip\":\"10.{}.{}.7\",\"user_agent\":\"{}\",", dice.few(50_000), dice.few(20), dice.below(250), AGENTS[dice.few(6) as usize])?;
    write!(out, "\"provider\":\"{}\",\"operation\":\"chat\",\"model\":\"{model}\",\"response_model\":\"{model}-2026-08-06\",\"method\":\"POST\",\"path\":\"/v1/chat/completions\",\"http_version\":\"1.1\",\"status_code\":{status},\"upstream_status_code\":{status},\"upstream_request_id\":\"req_{:016x}{:08x}\",\"outcome\":\"{outcome}\",", if model.starts_with("claude") { "anthropic" } else { "openai" }, dice.next(), dice.next() as u32)?;
    if status != 200 {
        write!(out, "\"error_code\":\"provider_{status}\",\"error\":\"The server had an error while processing your request {}\",", dice.below(100_000))?;
    }
    let streamed = dice.below(2) == 0;
    write!(out, "\"stream_response\":{streamed},\"finish_reason\":\"stop\",\"partial\":false,\"request_bytes\":{},\"response_bytes\":{},", 200 + dice.few(40_000), 400 + dice.few(60_000))?;
    if streamed {
        write!(out, "\"events\":{},", dice.few(800))?;
    }
    write!(out, "\"duration_ms\":{},\"upstream_ms\":{},\"ttfb_ms\":{},", millis(duration), millis(duration - 90), millis(ttfb))?;
    if streamed {
        write!(out, "\"ttft_ms\":{},", millis(ttfb + 900))?;
    }
    let (input, output) = (20 + dice.few(8000), 1 + dice.few(2000));
    write!(out, "\"overhead_us\":{},\"attempts\":1,\"input_tokens\":{input},\"output_tokens\":{output},\"total_tokens\":{},\"usage_source\":\"provider\",", 30 + dice.few(300), input + output)?;
    let cost = format!("0.{:08}", input * 15 + output * 60);
    writeln!(out, "\"cost_usd\":\"{}\",\"price_table\":\"2026-10\",\"cache\":\"off\"}}", cost.trim_end_matches('0'))?;
    Ok(())
}

fn journal(path: &Path, records: u64) -> Result<u64> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    let mut dice = Dice(42);
    let mut batch = Vec::new();
    let mut bytes = 0;
    for first in (0..records).step_by(usize::try_from(BATCH_LINES)?) {
        batch.clear();
        let lines = BATCH_LINES.min(records - first);
        for number in first..first + lines {
            record(number, &mut dice, &mut batch)?;
        }
        bytes += batch.len() as u64;
        let crc = crc32c::crc32c(&batch);
        file.write_all(&batch)?;
        batch.clear();
        Commit { lines, crc, seq: first + lines }.write(&mut batch);
        file.write_all(&batch)?;
    }
    file.flush()?;
    Ok(bytes)
}

/// The most memory that this process ever had, in MB.
fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) / 1024
}

/// CPU time of this process so far, in seconds.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>();
    ticks / 100.0
}

struct Timer(Instant, f64);

impl Timer {
    fn start() -> Self {
        Self(Instant::now(), cpu())
    }

    fn tell(&self, what: &str, records: u64) -> Result<()> {
        let (wall, cpu) = (self.0.elapsed().as_secs_f64(), cpu() - self.1);
        let rate = records as f64 / cpu.max(0.01) / 1000.0;
        writeln!(
            std::io::stdout(),
            "{what}: {rate:.0} k records/s of CPU ({wall:.2} s, {cpu:.2} s CPU), peak {} MB",
            peak_mb()
        )?;
        Ok(())
    }
}

fn options(zstd_level: i32) -> Result<SealOptions> {
    let instance = InstanceId::parse("eu-1").ok_or("an instance id")?;
    Ok(SealOptions { instance, version: "0.9.0".to_owned(), zstd_level })
}

fn main() -> Result<()> {
    // Cargo hands a `--bench` of its own.
    let mut numbers = std::env::args().skip(1).filter_map(|arg| arg.parse::<u64>().ok());
    let records = numbers.next().unwrap_or(150_000);
    let large = numbers.next().unwrap_or(0);
    let dir = std::env::temp_dir().join(format!("segment-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let path = dir.join("eu-1-000000000001.jsonl");
    let bytes = journal(&path, records)?;
    let mut out = std::io::stdout();
    writeln!(out, "{records} records of {} bytes, peak {} MB", bytes / records, peak_mb())?;
    seal_once(&dir, &path, records)?;
    read_back(&dir, records)?;
    decode(&path)?;
    if large > 0 {
        look_up(&dir, large)?;
    }
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

fn seal_once(dir: &Path, path: &Path, records: u64) -> Result<()> {
    let fs = StdFs;
    let file = ClosedFile { path, first_seq: 1, range: 1..=u64::MAX };
    let mut place = |dataset: Dataset, date: &str| {
        let stem = dir.join(format!("{}-{date}", dataset.as_str()));
        (stem.with_extension("parquet"), stem.with_extension("ids"))
    };
    let timer = Timer::start();
    let sealed = seal(&fs, &file, &options(1)?, &mut place)?;
    timer.tell("seal", records)?;
    let bytes: u64 = sealed.segments.iter().map(|segment| segment.bytes).sum();
    let ids: u64 = sealed.segments.iter().map(|segment| segment.ids_bytes).sum();
    let each = |bytes: u64| bytes as f64 / records as f64;
    writeln!(
        std::io::stdout(),
        "{} segments: {:.1} + {:.1} bytes a record",
        sealed.segments.len(),
        each(bytes),
        each(ids)
    )?;
    Ok(())
}

fn read_back(dir: &Path, records: u64) -> Result<()> {
    let fs: Arc<dyn Fs> = Arc::new(StdFs);
    let full = schema(Dataset::Records);
    let columns: Vec<&str> = full.fields().iter().map(|field| field.name().as_str()).collect();
    let timer = Timer::start();
    let mut line = Vec::new();
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "parquet") {
            continue;
        }
        for batch in Segment::open(&fs, &path)?.read(&Selection::All, &columns)? {
            let batch = batch?;
            let renderer = Renderer::new(&batch);
            for row in 0..batch.num_rows() {
                line.clear();
                renderer.render(row, &mut line);
                bytes += line.len();
            }
        }
    }
    timer.tell(&format!("read all columns and render {bytes} bytes"), records)
}

fn decode(path: &Path) -> Result<()> {
    let text = std::fs::read(path)?;
    let lines: Vec<&[u8]> =
        text.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"{\"schema\"")).collect();
    for columns in [None, Some(&["ts", "status_code", "model", "duration_ms"][..])] {
        let timer = Timer::start();
        let mut rows = 0;
        // Ticks of the CPU clock are coarse.
        for _ in 0..5 {
            let mut decoder = Decoder::new(Dataset::Records, columns);
            for (seq, line) in (1..).zip(&lines) {
                decoder.push(line, seq)?;
                if decoder.rows() == PAGE_ROWS {
                    rows += decoder.finish().num_rows();
                }
            }
            rows += decoder.finish().num_rows();
        }
        let what = columns.map_or("all".to_owned(), |columns| columns.len().to_string());
        timer.tell(&format!("decode {what} columns"), rows as u64)?;
    }
    Ok(())
}

/// One compacted segment, and ids in it.
fn look_up(dir: &Path, records: u64) -> Result<()> {
    let fs: Arc<dyn Fs> = Arc::new(StdFs);
    let (path, ids) = (dir.join("large.parquet"), dir.join("large.ids"));
    let timer = Timer::start();
    let mut writer = SegmentWriter::create(&*fs, &path, &ids, Dataset::Records, &options(3)?)?;
    let mut decoder = Decoder::new(Dataset::Records, None);
    let mut dice = Dice(43);
    let mut wanted: Vec<String> = Vec::new();
    let (mut last, mut seq) = (Vec::new(), 0);
    let mut lines: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for number in 0..records {
        let mut line = Vec::new();
        record(number, &mut dice, &mut line)?;
        line.pop();
        let at = line.windows(6).position(|w| w == b"\"ts\":\"").ok_or("a time")?;
        lines.push((line[at + 6..at + 33].to_vec(), line));
        if lines.len() == PAGE_ROWS || number + 1 == records {
            lines.sort();
            // Rows that would precede the batch before are left out.
            for (ts, line) in &lines {
                if *ts < last {
                    continue;
                }
                seq += 1;
                if seq % 200_000 == 17 {
                    wanted.push(String::from_utf8(line[43..79].to_vec())?);
                }
                last.clone_from(ts);
                decoder.push(line, seq)?;
            }
            writer.write(&decoder.finish())?;
            lines.clear();
        }
    }
    let info = writer.finish()?;
    timer.tell("write one large segment (with its generation)", records)?;
    let each = |bytes: u64| bytes as f64 / info.rows as f64;
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{} rows: {:.1} + {:.1} bytes",
        info.rows,
        each(info.bytes),
        each(info.ids_bytes)
    )?;
    let full = schema(Dataset::Records);
    let columns: Vec<&str> = full.fields().iter().map(|field| field.name().as_str()).collect();
    for id in &wanted {
        let begun = Instant::now();
        let segment = Segment::open(&fs, &path)?;
        let rows = segment.find(id, &[])?;
        let found = segment.counts();
        let ranges = rows.iter().map(|row| *row..row + 1).collect();
        let mut line = Vec::new();
        for batch in segment.read(&Selection::Rows(ranges), &columns)? {
            Renderer::new(&batch?).render(0, &mut line);
        }
        let all = segment.counts();
        writeln!(
            out,
            "look-up: {} row in {:.2} ms; {} kB to find it, {} kB and {} pages in all",
            rows.len(),
            begun.elapsed().as_secs_f64() * 1000.0,
            found.bytes / 1024,
            all.bytes / 1024,
            all.pages
        )?;
    }
    Ok(())
}
