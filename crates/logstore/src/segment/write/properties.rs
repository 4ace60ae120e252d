//! How each column is encoded, and why.

use parquet::{
    basic::{Compression, Encoding, ZstdLevel},
    errors::Result,
    file::{
        metadata::{KeyValue, SortingColumn},
        properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder},
    },
    schema::types::ColumnPath,
};

use super::SealOptions;
use crate::segment::{
    BLOCK_ROWS, Dataset, FORMAT, GROUP_ROWS, PAGE_ROWS,
    schema::{self, ATTRS, ColumnKind, LINE, SEQ},
};

/// A page of ids ends with its block, so that a look-up decodes little: 1024
/// ids are never shorter than this.
const ID_PAGE_BYTES: usize = 8 * 1024;
const BODY_PAGE_BYTES: usize = 256 * 1024;
/// A dictionary that a look-up of one row may have to read.
const DICTIONARY_BYTES: usize = 128 * 1024;
/// The ids that other engines look for, and the one that the side index lacks.
/// Half a byte an id: our own look-ups do not need them.
const BLOOMED: &[&str] = &["record_id", "request_id", "trace_id", "upstream_request_id", "id"];
const BLOOM_FALSE: f64 = 0.2;
/// Text whose bounds or absence may rule a page out; of others they would cost
/// two comparisons a row and say nothing.
const BOUNDED: &[&str] = &[
    "level",
    "outcome",
    "error_code",
    "error",
    "finish_reason",
    "model",
    "action",
    "result",
    "target",
    "component",
];
/// Integers of few kinds, which a dictionary and zstd make small.
const CODES: &[&str] = &["schema", "status_code", "upstream_status_code", "attempts", "status"];

pub(super) fn of(dataset: Dataset, options: &SealOptions) -> Result<WriterProperties> {
    let pair = |key: &str, value: String| KeyValue::new(format!("llm_proxy.{key}"), value);
    let said = vec![
        pair("format", FORMAT.to_string()),
        pair("dataset", dataset.as_str().to_owned()),
        pair("instance", options.instance.as_str().to_owned()),
        pair("version", options.version.clone()),
        pair("columns", serde_json::to_string(&schema::kinds(dataset)).unwrap_or_default()),
    ];
    // Places of leaf columns: `seq` and `ts` are the first two.
    let sorting = |column_idx| SortingColumn { column_idx, descending: false, nulls_first: false };
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(options.zstd_level)?))
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(BLOCK_ROWS)
        .set_dictionary_page_size_limit(DICTIONARY_BYTES)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_column_index_truncate_length(Some(64))
        .set_statistics_truncate_length(Some(64))
        .set_created_by(format!("llm-proxy {}", options.version))
        .set_key_value_metadata(Some(said))
        .set_sorting_columns(Some(vec![sorting(1), sorting(0)]));
    builder = plain_numbers(builder, SEQ);
    builder = map(builder, ATTRS);
    builder = texts(builder, LINE, BODY_PAGE_BYTES);
    for column in &schema::layout(dataset).columns {
        let name = column.name;
        if column.kind == ColumnKind::Text {
            // For what its dictionary has no room for.
            builder = builder.set_column_encoding(name.into(), Encoding::DELTA_LENGTH_BYTE_ARRAY);
        }
        builder = match column.kind {
            ColumnKind::Text if !BOUNDED.contains(&name) => {
                builder.set_column_statistics_enabled(name.into(), EnabledStatistics::None)
            }
            ColumnKind::Text | ColumnKind::Boolean => builder,
            ColumnKind::Integer if CODES.contains(&name) => builder,
            ColumnKind::Integer | ColumnKind::Time | ColumnKind::Decimal | ColumnKind::Millis => {
                plain_numbers(builder, name)
            }
            ColumnKind::Id => id(builder, name)?,
            ColumnKind::LongText | ColumnKind::Bytes => texts(builder, name, BODY_PAGE_BYTES),
            ColumnKind::Map => map(builder, name),
        };
    }
    Ok(builder.build())
}

/// Packed differences hold nothing that zstd finds again: it would cost time, and a
/// few bytes.
fn plain_numbers(builder: WriterPropertiesBuilder, name: &str) -> WriterPropertiesBuilder {
    builder
        .set_column_compression(name.into(), Compression::UNCOMPRESSED)
        .set_column_dictionary_enabled(name.into(), false)
        .set_column_encoding(name.into(), Encoding::DELTA_BINARY_PACKED)
}

/// Bounds of ids in a page say nothing, and cost a comparison each.
fn id(builder: WriterPropertiesBuilder, name: &str) -> Result<WriterPropertiesBuilder> {
    // Lengths apart leave the digits to the compressor: about four bits each, and
    // what ids of one time share it finds itself. Two lengths for each id, of what
    // it shares and what it adds, took more than sharing saved. Digits at random
    // are packed best by its lowest level.
    let builder = builder
        .set_column_compression(name.into(), Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_column_dictionary_enabled(name.into(), false)
        .set_column_encoding(name.into(), Encoding::DELTA_LENGTH_BYTE_ARRAY)
        .set_column_data_page_size_limit(name.into(), ID_PAGE_BYTES)
        .set_column_statistics_enabled(name.into(), EnabledStatistics::None);
    if !BLOOMED.contains(&name) {
        return Ok(builder);
    }
    Ok(builder
        .set_column_bloom_filter_enabled(name.into(), true)
        .set_column_bloom_filter_fpp(name.into(), BLOOM_FALSE)
        .set_column_bloom_filter_max_ndv(name.into(), GROUP_ROWS as u64))
}

fn texts(
    builder: WriterPropertiesBuilder,
    name: &str,
    page_bytes: usize,
) -> WriterPropertiesBuilder {
    builder
        .set_column_dictionary_enabled(name.into(), false)
        .set_column_encoding(name.into(), Encoding::PLAIN)
        .set_column_data_page_size_limit(name.into(), page_bytes)
        .set_column_statistics_enabled(name.into(), EnabledStatistics::None)
}

fn map(mut builder: WriterPropertiesBuilder, name: &str) -> WriterPropertiesBuilder {
    for leaf in ["key", "value"] {
        let path = vec![name.to_owned(), "key_value".to_owned(), leaf.to_owned()];
        let path = ColumnPath::new(path);
        builder = builder.set_column_statistics_enabled(path, EnabledStatistics::None);
    }
    builder
}
