//! What tests of segments need: lines, journals and segments of them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use domain::{ids::InstanceId, time::Timestamp};

use super::{BATCH_ROWS, Dataset, Decoder, SealOptions, SegmentInfo, SegmentWriter};
use crate::{
    format::Commit,
    fs::{Fs, StdFs},
};

/// 2026-11-23T10:00:00Z.
pub(crate) const BASE: i64 = 1_795_428_000_000_000;

pub(crate) fn fs() -> Arc<dyn Fs> {
    Arc::new(StdFs)
}

pub(crate) fn options() -> SealOptions {
    let instance = InstanceId::parse("test-1").expect("valid");
    SealOptions { instance, version: "0.0.0".to_owned(), zstd_level: 1 }
}

/// Spreads a number over 64 bits.
pub(crate) fn mix(number: u64) -> u64 {
    let mut value = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value ^ (value >> 27)
}

pub(crate) fn record_id(number: u64) -> String {
    let (high, low) = (mix(number), mix(!number));
    format!(
        "019aaf10-{:04x}-7{:03x}-8{:03x}-{:012x}",
        number & 0xffff,
        high & 0xfff,
        low & 0xfff,
        high >> 16
    )
}

pub(crate) fn request_id(number: u64) -> String {
    format!("req-{:016x}", mix(number ^ 0x5555))
}

/// A record as ours are, ten milliseconds behind the one before.
pub(crate) fn record(number: u64) -> String {
    let ts = Timestamp::from_micros(BASE + i64::try_from(number).expect("small") * 10_000);
    let (dice, id, request) = (mix(number + 7), record_id(number), request_id(number));
    let status = [200, 200, 200, 429, 500][(dice % 5) as usize];
    let failure = match status {
        200 => String::new(),
        _ => {
            format!(",\"error_code\":\"e{status}\",\"error\":\"upstream said \\\"no\\\" {number}\"")
        }
    };
    format!(
        "{{\"schema\":1,\"stream\":\"record\",\"record_id\":\"{id}\",\"ts\":\"{ts}\",\
         \"level\":\"info\",\"msg\":\"request completed\",\"component\":\"proxy\",\
         \"instance\":\"test-1\",\"version\":\"0.0.0\",\"request_id\":\"{request}\",\
         \"correlation_id\":\"cor-{}\",\"trace_id\":\"{:016x}{:016x}\",\"span_id\":\"{:016x}\",\
         \"project_id\":\"00000000-0000-0000-0000-{:012x}\",\"labels\":{{\"team\":\"t{}\"}},\
         \"end_user\":\"user {}\",\"provider\":\"openai\",\"operation\":\"chat\",\
         \"model\":\"gpt-{}\",\"method\":\"POST\",\"path\":\"/v1/chat/completions\",\
         \"http_version\":\"1.1\",\"status_code\":{status}{failure},\"stream_response\":false,\
         \"partial\":false,\"request_bytes\":{},\"response_bytes\":{},\"duration_ms\":{}.{:03},\
         \"attempts\":1,\"input_tokens\":{},\"usage_source\":\"provider\",\
         \"cost_usd\":\"0.00{}1\",\"cache\":\"off\"}}",
        number / 3,
        mix(number + 1),
        mix(number + 2),
        mix(number + 3),
        dice % 4,
        dice % 3,
        dice % 50,
        dice % 6,
        dice % 10_000,
        dice % 77_777,
        dice % 3000,
        1 + dice % 999,
        dice % 5000,
        dice % 1000,
    )
}

/// Writes lines, which must be sorted by time, as `<dir>/<name>.parquet`.
pub(crate) fn write_segment(
    dir: &Path,
    name: &str,
    dataset: Dataset,
    lines: &[String],
) -> (PathBuf, SegmentInfo) {
    let fs = fs();
    let parquet = dir.join(format!("{name}.parquet"));
    let ids = dir.join(format!("{name}.ids"));
    let mut writer =
        SegmentWriter::create(&*fs, &parquet, &ids, dataset, &options()).expect("created");
    let mut decoder = Decoder::new(dataset, None);
    for (seq, line) in (1u64..).zip(lines) {
        decoder.push(line.as_bytes(), seq).expect("an object");
        if decoder.rows() == BATCH_ROWS {
            writer.write(&decoder.finish()).expect("written");
        }
    }
    writer.write(&decoder.finish()).expect("written");
    let info = writer.finish().expect("finished");
    (parquet, info)
}

/// A journal file of batches of lines, the first numbered `first_seq`.
pub(crate) fn journal(first_seq: u64, batches: &[Vec<Vec<u8>>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut seq = first_seq - 1;
    for lines in batches {
        let from = out.len();
        for line in lines {
            out.extend_from_slice(line);
            out.push(b'\n');
        }
        seq += lines.len() as u64;
        let crc = crc32c::crc32c(&out[from..]);
        Commit { lines: lines.len() as u64, crc, seq }.write(&mut out);
    }
    out
}
