//! Parquet's own writer makes the pages, in each encoding that we know.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow_schema::{Field, Schema};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::{metadata::ParquetMetaData, properties::WriterProperties},
};
use proptest::prelude::*;

use super::*;
use crate::segment::map::Group;

/// A file of one column, and where its pages lie.
fn written(
    column: &ArrayRef,
    encoding: Option<parquet::basic::Encoding>,
    zstd: bool,
) -> (Vec<u8>, Group) {
    let compression = match zstd {
        true => Compression::ZSTD(ZstdLevel::default()),
        false => Compression::UNCOMPRESSED,
    };
    let mut properties = WriterProperties::builder()
        .set_compression(compression)
        .set_data_page_row_count_limit(100)
        .set_write_batch_size(50)
        .set_dictionary_enabled(encoding.is_none());
    if let Some(encoding) = encoding {
        properties = properties.set_encoding(encoding);
    }
    let field = Field::new("c", column.data_type().clone(), true);
    let schema = Arc::new(Schema::new(vec![field]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::clone(column)]);
    let mut file = Vec::new();
    let mut writer =
        ArrowWriter::try_new(&mut file, schema, Some(properties.build())).expect("a writer");
    writer.write(&batch.expect("a batch")).expect("written");
    let metadata: ParquetMetaData = writer.close().expect("closed");
    let group = Group::of_metadata(&metadata, 0, 0).expect("places");
    (file, group)
}

fn piece(file: &[u8], extent: &crate::segment::map::Extent) -> Vec<u8> {
    let from = usize::try_from(extent.offset).expect("small");
    file[from..from + extent.bytes as usize].to_vec()
}

/// All values in the order of rows, as text.
fn decoded(file: &[u8], group: &Group, physical: Physical) -> Vec<Option<String>> {
    let chunk = &group.chunks[0];
    let known = chunk.dictionary.as_ref();
    let known = known.map(|at| dictionary(&piece(file, at), physical).expect("a dictionary"));
    let shape = Shape { physical, definition_max: 1, repetition_max: 0 };
    let mut page = Page::default();
    let mut out = Vec::new();
    for place in &chunk.pages {
        let rows = usize::try_from(place.rows).expect("small");
        page.decode(&piece(file, &place.extent), shape, rows, rows).expect("decoded");
        let mut at = 0;
        for row in 0..rows {
            if page.valid.as_ref().is_some_and(|valid| !valid.value(row)) {
                out.push(None);
                continue;
            }
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
            out.push(Some(match (&page.values, &known) {
                (Values::Whole(values), _) => values[at].to_string(),
                (Values::Bits(bits), _) => bits.value(at).to_string(),
                (Values::Texts(texts), _) => text(texts.get(at).expect("there")),
                (Values::Keys(keys), Some(Dictionary::Texts(known))) => {
                    known.value(keys[at] as usize).to_owned()
                }
                (Values::Keys(keys), Some(Dictionary::Wholes(known))) => {
                    known[keys[at] as usize].to_string()
                }
                (Values::Keys(_), None) => panic!("keys without a dictionary"),
            }));
            at += 1;
        }
    }
    out
}

fn all_zstd(mut check: impl FnMut(bool)) {
    [true, false].into_iter().for_each(&mut check);
}

/// Numbers close together, far apart, and as far as there are.
fn number() -> impl Strategy<Value = Option<i64>> {
    prop_oneof![
        Just(None),
        (0i64..50).prop_map(Some),
        (-1_000_000i64..1_000_000).prop_map(Some),
        any::<i64>().prop_map(Some),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn numbers_are_what_was_written(
        numbers in proptest::collection::vec(number(), 1..400),
        is_small in any::<bool>(),
    ) {
        use parquet::basic::Encoding::{DELTA_BINARY_PACKED, PLAIN};
        let small = |number: i64| if is_small { number.rem_euclid(9) } else { number };
        let numbers: Vec<Option<i64>> = numbers.into_iter().map(|it| it.map(small)).collect();
        let expected: Vec<_> = numbers.iter().map(|it| it.map(|it| it.to_string())).collect();
        let column: ArrayRef = Arc::new(Int64Array::from(numbers));
        for encoding in [None, Some(PLAIN), Some(DELTA_BINARY_PACKED)] {
            all_zstd(|zstd| {
                let (file, group) = written(&column, encoding, zstd);
                assert_eq!(decoded(&file, &group, Physical::Whole), expected);
            });
        }
    }

    #[test]
    fn texts_are_what_was_written(
        texts in proptest::collection::vec(
            proptest::option::weighted(0.8, "(prefix-){0,2}[a-c0-9é]{0,12}"), 1..400),
    ) {
        use parquet::basic::Encoding::{DELTA_BYTE_ARRAY, DELTA_LENGTH_BYTE_ARRAY, PLAIN};
        let column: ArrayRef = Arc::new(StringArray::from(texts.clone()));
        for encoding in
            [None, Some(PLAIN), Some(DELTA_LENGTH_BYTE_ARRAY), Some(DELTA_BYTE_ARRAY)]
        {
            all_zstd(|zstd| {
                let (file, group) = written(&column, encoding, zstd);
                assert_eq!(decoded(&file, &group, Physical::Bytes), texts);
            });
        }
    }

    #[test]
    fn truth_values_are_what_was_written(
        values in proptest::collection::vec(any::<Option<bool>>(), 1..400),
    ) {
        let expected: Vec<_> = values.iter().map(|it| it.map(|it| it.to_string())).collect();
        let column: ArrayRef = Arc::new(BooleanArray::from(values));
        let (file, group) = written(&column, Some(parquet::basic::Encoding::PLAIN), true);
        prop_assert_eq!(decoded(&file, &group, Physical::Bits), expected);
    }

    /// Without checksums every byte may be anything.
    #[test]
    fn damaged_pages_end(
        seed in any::<u64>(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        use parquet::basic::Encoding as E;
        let texts = (0..150u64).map(|at| (at % 7 != 0).then(|| format!("t-{:x}", seed ^ at)));
        let texts: ArrayRef = Arc::new(texts.collect::<StringArray>());
        let number = |at: u64| (at % 7 != 0).then(|| (seed >> (at % 60)).cast_signed());
        let numbers = (0..150u64).map(number);
        let numbers: ArrayRef = Arc::new(numbers.collect::<Int64Array>());
        let columns = [
            (&texts, Physical::Bytes, vec![None, Some(E::PLAIN), Some(E::DELTA_BYTE_ARRAY),
                Some(E::DELTA_LENGTH_BYTE_ARRAY)]),
            (&numbers, Physical::Whole, vec![None, Some(E::PLAIN), Some(E::DELTA_BINARY_PACKED)]),
        ];
        for (column, physical, encodings) in columns {
            for encoding in encodings {
                // Not compressed: nothing else notices.
                let (file, group) = written(column, encoding, false);
                let chunk = &group.chunks[0];
                let places = chunk.dictionary.iter().chain(chunk.pages.iter().map(|p| &p.extent));
                for place in places {
                    let mut bytes = piece(&file, place);
                    for (at, flip) in &flips {
                        let at = at.index(bytes.len());
                        bytes[at] ^= flip;
                    }
                    if is_cut {
                        bytes.truncate(cut.index(bytes.len()));
                    }
                    drop(dictionary(&bytes, physical));
                    for repetition_max in [0, 1] {
                        let shape = Shape { physical, definition_max: 1, repetition_max };
                        assert!(Page::default().decode(&bytes, shape, 100, 100) != Err(""));
                    }
                }
            }
        }
    }
}
