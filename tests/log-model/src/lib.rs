//! A log in memory behind a source, for the tests of sources: what was committed, and the position.
//!
//! Everything here panics with a message for the reader of a failed test.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arrow_array::{Array, StructArray, cast::AsArray, types::*};
use arrow_schema::{DataType, TimeUnit};
use connector_api::{
    ByteBudget, ChangeBatch, ChangeGroup, ConnectorError, Document, Op, Shutdown, SnapshotRequests, Source, SourceConnector,
    SourceContext, SourceFactory, SourcePosition, SourceStatus, TableSchema,
};
use serde_json::{Value, json};

/// A NULL's text.
pub const NULL: &str = "NULL";
/// The text of a column that was not sent because it did not change.
pub const UNCHANGED: &str = "UNCHANGED";

/// A change, in the log's order.
#[derive(Debug, Clone)]
pub struct Change {
    /// What happened.
    pub op: Op,
    /// The table's shape.
    pub schema: Arc<TableSchema>,
    /// The old row as text.
    pub before: Option<Vec<String>>,
    /// The new row as text.
    pub after: Option<Vec<String>>,
    /// The transaction, as text.
    pub transaction: Option<String>,
}

impl Change {
    /// `schema.table`
    pub fn table(&self) -> String {
        self.schema.table().to_string()
    }

    /// The key's text in an image; the whole row's if there is no key.
    fn key(&self, image: &[String]) -> Vec<String> {
        match self.schema.key() {
            [] => image.to_vec(),
            key => key.iter().map(|index| image[*index].clone()).collect(),
        }
    }
}

/// A pipeline that commits groups to memory.
pub struct Pipeline {
    /// The source.
    pub connector: Arc<dyn SourceConnector>,
    /// The pipeline's name.
    pub name: String,
    /// Bytes of memory that the source may use.
    pub budget: usize,
    /// What was committed last.
    pub position: Option<SourcePosition>,
    /// All that was committed.
    pub changes: Vec<Change>,
    /// How many groups that were.
    pub groups: usize,
    /// What the source says of itself.
    pub status: SourceStatus,
    /// Asks for tables while the stream goes on.
    pub snapshots: SnapshotRequests,
}

/// An open source, and what keeps it so.
pub struct Running {
    /// The source.
    pub source: Box<dyn Source>,
    /// Asks it to stop.
    pub stop: tokio::sync::watch::Sender<bool>,
}

/// A source of that kind with those settings.
pub fn connector(factory: &SourceFactory, settings: &Value) -> Result<Arc<dyn SourceConnector>, String> {
    let text = json!({ "source": settings }).to_string();
    let document = Document { file: "test".into(), text, variables: HashMap::new() };
    factory.make(&document, &["source"]).map_err(|error| error.to_string())
}

impl Pipeline {
    /// A pipeline of that name.
    pub fn new(name: &str, connector: Arc<dyn SourceConnector>) -> Self {
        Self {
            connector,
            name: name.to_owned(),
            budget: 32 << 20,
            position: None,
            changes: Vec::new(),
            groups: 0,
            status: SourceStatus::default(),
            snapshots: SnapshotRequests::default(),
        }
    }

    /// Opens the source at the position.
    pub async fn open(&self, once: bool) -> Result<Running, ConnectorError> {
        let (stop, shutdown) = Shutdown::new();
        let context = SourceContext {
            pipeline: self.name.clone(),
            budget: ByteBudget::new(self.budget),
            shutdown,
            status: self.status.clone(),
            once,
            snapshots: self.snapshots.clone(),
        };
        let source = self.connector.open(context, self.position.clone()).await?;
        Ok(Running { source, stop })
    }

    /// Commits a group to the log.
    pub fn commit(&mut self, group: ChangeGroup) {
        let mut changes: Vec<(u32, Change)> = group.batches.iter().flat_map(changes_of).collect();
        changes.sort_by_key(|(ordinal, _)| *ordinal);
        self.changes.extend(changes.into_iter().map(|(_, change)| change));
        self.position = Some(group.position);
        self.groups += 1;
    }

    /// Runs to the server's present end.
    pub async fn drain(&mut self) {
        self.try_drain().await.unwrap();
    }

    /// Runs to the server's present end without a word to the server.
    pub async fn drain_unconfirmed(&mut self) {
        self.run_to_end(false).await.unwrap();
    }

    /// [`drain`](Self::drain) where it may fail.
    pub async fn try_drain(&mut self) -> Result<(), ConnectorError> {
        self.run_to_end(true).await
    }

    async fn run_to_end(&mut self, confirm: bool) -> Result<(), ConnectorError> {
        let mut running = self.open(true).await?;
        while let Some(group) = running.source.next().await? {
            let done = group.reached_end;
            self.commit(group);
            if confirm {
                running.source.confirm(self.position.as_ref().unwrap());
            }
            if done {
                break;
            }
        }
        let _ = running.stop.send(true);
        while let Some(group) = running.source.next().await? {
            self.commit(group);
            if confirm {
                running.source.confirm(self.position.as_ref().unwrap());
            }
        }
        Ok(())
    }

    /// The tables that the log adds up to: key to row.
    pub fn folded(&self, table: &str) -> BTreeMap<Vec<String>, Vec<String>> {
        let mut rows: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
        for change in self.changes.iter().filter(|change| change.table() == table) {
            match (change.op, &change.before, &change.after) {
                (Op::Truncate | Op::SnapshotRestart, ..) => rows.clear(),
                (Op::Delete, Some(before), _) => {
                    rows.remove(&change.key(before));
                }
                (Op::Read | Op::Insert | Op::Update, _, Some(after)) => {
                    let key = change.key(after);
                    let old = rows.get(&key).cloned();
                    rows.insert(key, filled(after, old));
                }
                (Op::Move, Some(before), Some(after)) => {
                    let old = rows.remove(&change.key(before));
                    rows.insert(change.key(after), filled(after, old));
                }
                other => panic!("a change that makes no sense: {other:?}"),
            }
        }
        rows
    }

    /// The folded table, columns apart by `|`, sorted lines.
    pub fn folded_text(&self, table: &str) -> String {
        let mut lines: Vec<String> = self.folded(table).values().map(|row| row.join("|")).collect();
        lines.sort();
        lines.join("\n")
    }

    /// How many changes of that kind the table had.
    pub fn count(&self, table: &str, op: Op) -> usize {
        self.changes.iter().filter(|change| change.op == op && change.table() == table).count()
    }
}

fn filled(after: &[String], old: Option<Vec<String>>) -> Vec<String> {
    let value = |(index, value): (usize, &String)| match value.as_str() {
        UNCHANGED => old.as_ref().expect("an unchanged column of a row that is there")[index].clone(),
        _ => value.clone(),
    };
    after.iter().enumerate().map(value).collect()
}

fn changes_of(batch: &ChangeBatch) -> Vec<(u32, Change)> {
    let image = |image: &Option<StructArray>, row: usize| {
        let image = image.as_ref().filter(|image| image.is_valid(row))?;
        Some(image.columns().iter().map(|column| text(column.as_ref(), row)).collect::<Vec<String>>())
    };
    let transactions = batch.transactions().unwrap();
    (0..batch.len())
        .map(|row| {
            let mut after = image(&batch.after, row);
            if let (Some(unchanged), Some(after)) = (&batch.unchanged, &mut after) {
                for (index, value) in after.iter_mut().enumerate().filter(|(index, _)| unchanged.contains(row, *index)) {
                    assert_eq!(value, NULL, "column {index}");
                    *value = UNCHANGED.to_owned();
                }
            }
            let change = Change {
                op: batch.ops[row],
                schema: Arc::clone(&batch.schema),
                before: image(&batch.before, row),
                after,
                transaction: transactions.is_valid(row).then(|| text(transactions, row)),
            };
            (batch.orders[row].ordinal, change)
        })
        .collect()
}

/// A value's text: plain for integers and text, telling for the others.
pub fn text(array: &dyn Array, row: usize) -> String {
    if array.is_null(row) {
        return NULL.to_owned();
    }
    match array.data_type() {
        DataType::Boolean => if array.as_boolean().value(row) { "t" } else { "f" }.to_owned(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float32 => format!("{:?}", array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => format!("{:?}", array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(_, scale) => format!("{}e-{scale}", array.as_primitive::<Decimal128Type>().value(row)),
        DataType::Decimal256(_, scale) => format!("{}e-{scale}", array.as_primitive::<Decimal256Type>().value(row)),
        DataType::Duration(TimeUnit::Microsecond) => array.as_primitive::<DurationMicrosecondType>().value(row).to_string(),
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        DataType::Binary => array.as_binary::<i32>().value(row).iter().map(|byte| format!("{byte:02x}")).collect(),
        DataType::FixedSizeBinary(16) => array.as_fixed_size_binary().value(row).iter().map(|byte| format!("{byte:02x}")).collect(),
        DataType::Date32 => array.as_primitive::<Date32Type>().value(row).to_string(),
        DataType::Time64(TimeUnit::Microsecond) => array.as_primitive::<Time64MicrosecondType>().value(row).to_string(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => array.as_primitive::<TimestampMicrosecondType>().value(row).to_string(),
        DataType::Struct(_) => {
            let fields = array.as_struct().columns().iter().map(|field| text(field.as_ref(), row));
            format!("({})", fields.collect::<Vec<_>>().join(","))
        }
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            let items: Vec<String> = (0..items.len()).map(|item| text(items.as_ref(), item)).collect();
            format!("[{}]", items.join("; "))
        }
        other => panic!("no text for {other}"),
    }
}
