use std::{fmt::Write as _, sync::Arc};

use arrow_schema::ArrowError;
use connector_api::{
    ChangeBatch, ChangeBatchBuilder, Column, ColumnBuilder, ColumnType, Identity, Op, OrderKey, SourceInfo, TableName, TableSchema,
};

use crate::GenerateSourceConfig;

/// The types of the columns behind the key, in turns.
const TYPES: [(ColumnType, &str); 8] = [
    (ColumnType::Text, "text"),
    (ColumnType::Int64, "bigint"),
    (ColumnType::Decimal { precision: 12, scale: 2 }, "numeric(12,2)"),
    (ColumnType::TimestampTz, "timestamp with time zone"),
    (ColumnType::Bool, "boolean"),
    (ColumnType::Float64, "double precision"),
    (ColumnType::Date, "date"),
    (ColumnType::Uuid, "uuid"),
];

/// 2026-01-01 00:00:00 UTC in microseconds: row `n` was "committed" `n` microseconds later.
const FIRST_COMMIT_US: i64 = 1_767_225_600_000_000;

/// Makes rows from their numbers.
pub(crate) struct RowMaker {
    builder: ChangeBatchBuilder,
    kinds: Vec<ColumnType>,
    keys: Option<u64>,
    seed: u64,
    text: String,
}

impl RowMaker {
    pub fn new(config: &GenerateSourceConfig) -> Self {
        let key = Column { name: "id".into(), kind: ColumnType::Int64, source_type: "bigint".into() };
        let others = TYPES.iter().cycle().take(config.columns).enumerate().map(|(index, (kind, source_type))| Column {
            name: format!("column_{}", index + 1),
            kind: kind.clone(),
            source_type: (*source_type).to_owned(),
        });
        let columns: Vec<_> = std::iter::once(key).chain(others).collect();
        let kinds = columns.iter().map(|column| column.kind.clone()).collect();
        let schema = TableSchema::new(TableName::new("generated", &config.table), columns, vec![0], Identity::Key);
        let info = SourceInfo::new("generate", "generated", vec![("row".into(), ColumnType::Int64)], Some(0));
        let builder = ChangeBatchBuilder::new(Arc::new(schema), info);
        Self { builder, kinds, keys: config.keys, seed: config.seed, text: String::new() }
    }

    /// Rows `first` up to `end` (exclusive) as a batch.
    pub fn make(&mut self, first: u64, end: u64) -> Result<ChangeBatch, ArrowError> {
        for row in first..end {
            self.push(row, (row - first) as u32);
        }
        self.builder.finish()
    }

    /// The marker that voids all rows before it.
    pub fn restart_marker(&mut self) -> Result<ChangeBatch, ArrowError> {
        self.builder.begin(Op::SnapshotRestart, OrderKey::default(), FIRST_COMMIT_US);
        self.builder.before().absent();
        self.builder.after().absent();
        self.builder.source().iter_mut().for_each(ColumnBuilder::append_null);
        self.builder.finish()
    }

    fn push(&mut self, row: u64, ordinal: u32) {
        let (id, op) = match self.keys {
            Some(keys) => (row % keys, if row < keys { Op::Insert } else { Op::Update }),
            None => (row, Op::Insert),
        };
        self.builder.begin(op, OrderKey { sequence: 0, ordinal }, FIRST_COMMIT_US + row as i64);
        self.builder.before().absent();
        for (index, (column, kind)) in self.builder.after().present().iter_mut().zip(&self.kinds).enumerate() {
            let random = mix(self.seed ^ mix(row ^ ((index as u64) << 48)));
            match column {
                ColumnBuilder::Int64(values) if index == 0 => values.append_value(id as i64),
                // One value in 16 is NULL.
                column if random >> 60 == 0 => column.append_null(),
                ColumnBuilder::Int64(values) => values.append_value(random as i64 >> 20),
                ColumnBuilder::Text(values) => {
                    self.text.clear();
                    let _ = write!(self.text, "row {row} {random:016x}");
                    values.append_value(&self.text);
                }
                ColumnBuilder::Decimal(values) => values.append_value(i128::from(random % 1_000_000_000_000) - 500_000_000_000),
                ColumnBuilder::Timestamp(values) => values.append_value((random % 4_000_000_000_000_000) as i64),
                ColumnBuilder::Bool(values) => values.append_value(random & 1 == 1),
                ColumnBuilder::Float64(values) => values.append_value(random as f64 / 1e6),
                ColumnBuilder::Date(values) => values.append_value((random % 40_000) as i32),
                ColumnBuilder::Uuid(values) => {
                    let bytes = (u128::from(random) << 64 | u128::from(mix(random))).to_be_bytes();
                    // Sixteen bytes, always.
                    let _ = values.append_value(bytes);
                }
                other => {
                    debug_assert!(false, "no values are made for {kind:?}");
                    other.append_null();
                }
            }
        }
        if let [ColumnBuilder::Int64(rows)] = self.builder.source() {
            rows.append_value(row as i64);
        }
    }
}

/// A well-mixed 64-bit number: the finalizer of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_depends_on_its_number_alone() {
        let config = GenerateSourceConfig { columns: 10, keys: Some(5), ..GenerateSourceConfig::default() };
        let whole = RowMaker::new(&config).make(0, 20).unwrap();
        let part = RowMaker::new(&config).make(7, 20).unwrap();
        let tail = whole.slice(7, 13);
        assert_eq!(part.after, tail.after);
        assert_eq!((part.len(), part.ops[0], whole.ops[4]), (13, Op::Update, Op::Insert));
        let other = RowMaker::new(&GenerateSourceConfig { seed: 1, ..config }).make(7, 20).unwrap();
        assert_ne!(part.after, other.after);
    }
}
