//! The schema of one file, which may be older than this build, and what differs
//! between batches in a file and in memory.

use std::sync::{Arc, LazyLock, OnceLock};

use arrow_array::{
    ArrayRef, RecordBatch,
    cast::AsArray,
    types::{Decimal64Type, Float64Type},
};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use parquet::{arrow::ArrowSchemaConverter, schema::types::SchemaDescPtr};

use super::{
    ATTRS, COLUMN_IDS, ColumnKind, DECIMAL_DIGITS, Dataset, LINE, MILLIS_SCALE, SEQ, layout,
    named_field,
};

/// Name and kind of each column of a dataset's files, in their order.
pub(crate) fn kinds(dataset: Dataset) -> Vec<(String, String)> {
    let kind_of = |name: &str| match name {
        SEQ => ColumnKind::Integer,
        ATTRS => ColumnKind::Map,
        LINE => ColumnKind::Bytes,
        _ => {
            let columns = &layout(dataset).columns;
            columns.iter().find(|known| known.name == name).map_or(ColumnKind::Text, |c| c.kind)
        }
    };
    let fields = layout(dataset).schema.fields().iter().map(|field| field.name());
    fields.map(|name| (name.clone(), kind_of(name).as_str().to_owned())).collect()
}

/// The schema of a file: the columns that it has.
#[derive(Debug)]
pub(crate) struct FileSchema {
    pub arrow: SchemaRef,
    kinds: Vec<(String, String)>,
    leaves: OnceLock<SchemaDescPtr>,
}

impl FileSchema {
    /// Of a file that says [`kinds`]. `None`: it has a kind that this build does
    /// not know. Most files are as this build writes them, and share one.
    pub(crate) fn of(dataset: Dataset, kinds: &[(String, String)]) -> Option<Arc<Self>> {
        static OURS: LazyLock<Vec<Option<Arc<FileSchema>>>> = LazyLock::new(|| {
            Dataset::ALL.iter().map(|dataset| FileSchema::new(self::kinds(*dataset))).collect()
        });
        let place = Dataset::ALL.iter().position(|known| *known == dataset)?;
        match OURS.get(place) {
            Some(Some(ours)) if ours.kinds == kinds => Some(Arc::clone(ours)),
            _ => Self::new(kinds.to_vec()),
        }
    }

    fn new(kinds: Vec<(String, String)>) -> Option<Arc<Self>> {
        let arrow = Arc::new(schema_of(&kinds)?);
        Some(Arc::new(Self { arrow, kinds, leaves: OnceLock::new() }))
    }

    /// The leaf columns of such a file.
    pub(crate) fn leaves(&self) -> parquet::errors::Result<&SchemaDescPtr> {
        if let Some(leaves) = self.leaves.get() {
            return Ok(leaves);
        }
        let made = Arc::new(ArrowSchemaConverter::new().convert(&self.arrow)?);
        Ok(self.leaves.get_or_init(|| made))
    }
}

fn schema_of(kinds: &[(String, String)]) -> Option<Schema> {
    let fields = kinds.iter().map(|(name, kind)| {
        let id = COLUMN_IDS.iter().position(|known| known == name).map_or(0, |at| at + 1);
        Some(named_field(name, ColumnKind::parse(kind)?.file_type(id), id))
    });
    fields.collect::<Option<Vec<Field>>>().map(Schema::new)
}

/// A batch as a file has it: milliseconds as decimals.
pub(crate) fn to_file(batch: &RecordBatch, file: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().zip(file.fields()).map(|(array, field)| {
        match (array.as_primitive_opt::<Float64Type>(), field.data_type()) {
            (Some(millis), DataType::Decimal64(..)) => {
                let micros = |value: f64| (value * 1000.0).round() as i64;
                let decimals = millis.unary::<_, Decimal64Type>(micros);
                let decimals = decimals.with_precision_and_scale(DECIMAL_DIGITS, MILLIS_SCALE);
                decimals.map(|array| Arc::new(array) as ArrayRef)
            }
            _ => Ok(Arc::clone(array)),
        }
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(Arc::clone(file), columns)
}
