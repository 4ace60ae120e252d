//! Segments of format 1 as the first build wrote them, one of each dataset:
//! every later build reads them. The files are kept for ever, and so are the
//! names, types and ids of the columns.

use std::{path::PathBuf, sync::Arc};

use logstore::{
    fs::{Fs, StdFs},
    segment::{Dataset, Renderer, Segment, Selection, schema},
};

fn kept(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/segment-v1").join(name)
}

fn lines(segment: &Segment) -> String {
    let full = schema(segment.dataset());
    let columns: Vec<&str> = full.fields().iter().map(|field| field.name().as_str()).collect();
    let mut out = Vec::new();
    for batch in segment.read(&Selection::All, &columns).unwrap() {
        let batch = batch.unwrap();
        let renderer = Renderer::new(&batch);
        for row in 0..batch.num_rows() {
            renderer.render(row, &mut out);
            out.push(b'\n');
        }
    }
    String::from_utf8(out).unwrap()
}

#[test]
fn segments_of_format_1_are_read_with_and_without_their_side_index() {
    let fs: Arc<dyn Fs> = Arc::new(StdFs);
    let dir = tempfile::tempdir().unwrap();
    for dataset in Dataset::ALL {
        let name = dataset.as_str();
        let wanted = std::fs::read_to_string(kept(&format!("{name}.jsonl"))).unwrap();
        let segment = Segment::open(&fs, &kept(&format!("{name}.parquet"))).unwrap();
        assert!(segment.ids_problem().is_none(), "{name}");
        assert_eq!(segment.dataset(), *dataset);
        assert_eq!(lines(&segment), wanted, "{name}");
        let id = "019aaf10-0001-7000-8000-000000000001";
        assert!(!segment.find(id, &[]).unwrap().is_empty(), "{name}");
        assert!(segment.find("not an id of any", &[]).unwrap().is_empty(), "{name}");

        let alone = dir.path().join(format!("{name}.parquet"));
        std::fs::copy(kept(&format!("{name}.parquet")), &alone).unwrap();
        let segment = Segment::open(&fs, &alone).unwrap();
        assert!(segment.ids_problem().is_some(), "{name}");
        assert_eq!(lines(&segment), wanted, "{name}");
        assert!(!segment.find(id, &[]).unwrap().is_empty(), "{name}");
    }
}

/// A column that was ever written keeps its name, type and id; new ones follow.
#[test]
fn the_schema_only_grows() {
    let golden = std::fs::read_to_string(kept("schema.txt")).unwrap();
    let mut now = String::new();
    for dataset in Dataset::ALL {
        for field in schema(*dataset).fields() {
            let (name, kind) = (field.name(), field.data_type());
            let id = &field.metadata()["PARQUET:field_id"];
            let null = if field.is_nullable() { "optional" } else { "required" };
            now.push_str(&format!("{} {id} {name} {kind} {null}\n", dataset.as_str()));
        }
    }
    for line in golden.lines() {
        assert!(now.lines().any(|known| known == line), "changed or gone: {line}");
    }
    // What is new belongs into the listing, with the release that brings it.
    assert_eq!(now.lines().count(), golden.lines().count(), "new columns:\n{now}");
}
