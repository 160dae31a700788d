//! Rows on their way into a batch: what a decoder knows of a schema, and of the record that it is at.
use std::{collections::HashMap, sync::Arc};

use arrow_buffer::i256;
use arrow_schema::ArrowError;
use connector_api::{ChangeBatchBuilder, ColumnBuilder, ImageBuilder, Op, OrderKey, SourceInfo, TableSchema};

use crate::{
    avro::EventMemo,
    decoder::DecodedBatch,
    error::{LayoutError, Malformed},
    layout::{Layout, required_columns},
    record::{MOVE_IN, MOVE_OUT},
    schema_text::source_field_names,
    text::decimal_limit,
};

/// What the text of one registered schema says, worked out once.
pub(crate) struct Plan {
    pub(crate) id: u32,
    pub(crate) schema: Arc<TableSchema>,
    pub(crate) info: Arc<SourceInfo>,
    pub(crate) columns: Vec<ColumnPlan>,
    pub(crate) source_limits: Vec<i256>,
    /// The names that the source's columns have in events.
    pub(crate) source_names: Vec<String>,
    index: HashMap<String, usize>,
    /// Bytes that one image of a row takes at least in its arrays.
    image_bytes: usize,
}

pub(crate) struct ColumnPlan {
    pub(crate) required: bool,
    pub(crate) decimal_limit: i256,
}

impl Plan {
    pub(crate) fn new(id: u32, text: &str) -> Result<Self, LayoutError> {
        let (schema, info) = Layout::parse(text)?;
        let columns = schema.columns().iter().zip(required_columns(&schema));
        let plans = columns.map(|(column, required)| ColumnPlan { required, decimal_limit: decimal_limit(&column.kind) }).collect();
        let index = schema.columns().iter().enumerate().map(|(index, column)| (column.name.clone(), index)).collect();
        let width = |field: &Arc<arrow_schema::Field>| field.data_type().primitive_width().unwrap_or(8) + 1;
        Ok(Self {
            id,
            columns: plans,
            source_limits: info.columns.iter().map(|(_, kind)| decimal_limit(kind)).collect(),
            source_names: source_field_names(&info),
            index,
            image_bytes: schema.fields().iter().map(width).sum(),
            schema,
            info,
        })
    }

    /// The column of that name.
    pub(crate) fn index_of(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }
}

/// Rows of one schema, as they come in.
pub(crate) struct Run {
    pub(crate) plan: Arc<Plan>,
    pub(crate) builder: ChangeBatchBuilder,
    pub(crate) row: RowState,
    pub(crate) memo: EventMemo,
    offsets: Vec<i64>,
    /// Of the records' values.
    value_bytes: usize,
    array_bytes: usize,
}

/// What is known of the row at hand. Lives on from row to row, so that nothing is allocated for one.
#[derive(Default)]
pub(crate) struct RowState {
    pub(crate) before: ImageState,
    pub(crate) after: ImageState,
    /// The builder's `source` was called.
    pub(crate) source_given: bool,
    pub(crate) letter: Option<u8>,
    pub(crate) commit_ts_us: Option<i64>,
    pub(crate) order: Option<OrderKey>,
    pub(crate) unchanged: Vec<usize>,
    /// The column whose value is malformed.
    pub(crate) fault_column: Option<usize>,
}

/// Whether the builder was told of an image, and whether it is there.
#[derive(Default, Clone, Copy)]
pub(crate) struct ImageState {
    pub(crate) given: bool,
    pub(crate) present: bool,
}

impl Run {
    pub(crate) fn new(plan: Arc<Plan>) -> Self {
        Self {
            builder: ChangeBatchBuilder::new(Arc::clone(&plan.schema), Arc::clone(&plan.info)),
            plan,
            row: RowState::default(),
            memo: EventMemo::default(),
            offsets: Vec::new(),
            value_bytes: 0,
            array_bytes: 0,
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.offsets.len()
    }

    pub(crate) fn value_bytes(&self) -> usize {
        self.value_bytes
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.value_bytes + self.array_bytes
    }

    pub(crate) fn begin_row(&mut self) {
        let row = &mut self.row;
        row.unchanged.clear();
        (row.before, row.after) = (ImageState::default(), ImageState::default());
        (row.letter, row.commit_ts_us, row.order) = (None, None, None);
        (row.source_given, row.fault_column) = (false, None);
    }

    /// Makes what was read since [`begin_row`](Self::begin_row) a row. Nothing is appended if it lacks something.
    pub(crate) fn end_row(&mut self, offset: i64, moved: Option<&[u8]>, value_bytes: usize) -> Result<(), Malformed> {
        let row = &self.row;
        let op = op_of(row.letter.ok_or(Malformed::MissingField)?, moved)?;
        let commit_ts_us = row.commit_ts_us.ok_or(Malformed::MissingField)?;
        let order = row.order.ok_or(Malformed::MissingField)?;
        let (needs_before, needs_after) = match op {
            Op::Read | Op::Insert | Op::Update => (false, true),
            Op::Move => (true, true),
            Op::Delete | Op::MoveOut => (true, false),
            Op::Truncate | Op::SnapshotRestart => (false, false),
        };
        if (needs_before && !row.before.present) || (needs_after && !row.after.present) {
            return Err(Malformed::MissingImage);
        }
        if !row.before.given {
            self.builder.before().absent();
        }
        if !row.after.given {
            self.builder.after().absent();
        }
        if !row.source_given {
            self.builder.source().iter_mut().for_each(ColumnBuilder::append_null);
        }
        self.builder.begin(op, order, commit_ts_us);
        for column in &row.unchanged {
            self.builder.mark_unchanged(*column);
        }
        self.offsets.push(offset);
        self.value_bytes += value_bytes;
        let images = usize::from(row.before.present) + usize::from(row.after.present);
        self.array_bytes += images * self.plan.image_bytes + size_of::<(Op, OrderKey, i64, i64)>();
        Ok(())
    }

    /// All rows so far.
    pub(crate) fn finish(mut self) -> Result<Option<DecodedBatch>, ArrowError> {
        if self.offsets.is_empty() {
            return Ok(None);
        }
        Ok(Some(DecodedBatch { batch: self.builder.finish()?, offsets: self.offsets }))
    }

    /// All rows but the one at hand, which turned out to be malformed when a part of it had been appended.
    ///
    /// The builder can only grow, so the row is filled up, and cut off when the batch is made. Filling up takes a second row: a row's
    /// columns can be reached only when its image begins.
    pub(crate) fn finish_without_row(mut self) -> Result<Option<DecodedBatch>, ArrowError> {
        let rows = self.offsets.len();
        if rows == 0 {
            return Ok(None);
        }
        let filled = rows + 2;
        for _ in rows..filled {
            self.builder.begin(Op::Truncate, OrderKey::default(), 0);
        }
        let short = |column: &ColumnBuilder| filled.saturating_sub(column.len());
        for (image, given) in [
            (ChangeBatchBuilder::before as fn(&mut _) -> &mut _, self.row.before.given),
            (ChangeBatchBuilder::after, self.row.after.given),
        ] {
            let image: &mut ImageBuilder = image(&mut self.builder);
            if !given {
                image.present();
            }
            image.present().iter_mut().for_each(|column| column.append_nulls(short(column)));
        }
        if !self.row.source_given {
            self.builder.source();
        }
        self.builder.source().iter_mut().for_each(|column| column.append_nulls(short(column)));
        let batch = self.builder.finish()?.slice(0, rows);
        Ok(Some(DecodedBatch { batch, offsets: self.offsets }))
    }
}

fn op_of(letter: u8, moved: Option<&[u8]>) -> Result<Op, Malformed> {
    Ok(match (letter, moved) {
        (b'u', Some(MOVE_IN)) => Op::Move,
        (b'd', Some(MOVE_OUT)) => Op::MoveOut,
        (b'r', _) => Op::Read,
        (b'c', _) => Op::Insert,
        (b'u', _) => Op::Update,
        (b'd', _) => Op::Delete,
        (b't', _) => Op::Truncate,
        (b's', _) => Op::SnapshotRestart,
        _ => return Err(Malformed::Op),
    })
}
