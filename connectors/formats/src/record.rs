use connector_api::OrderKey;

/// Header of both records of a change of key: `out` on the delete under the old key, `in` on the update under the new one.
pub const HEADER_MOVE: &str = "move";

/// Header, with the value `1`, of a record whose `after` is not the whole row, because columns that did not change were not sent.
/// Compaction must keep what the record builds on. Where such a row has another key since, the records under the old key have it too (the
/// delete, and its tombstone): what came before them is what the row builds on.
pub const HEADER_PARTIAL: &str = "partial";

/// Header of a JSON value: the id of its schema, four bytes, big-endian. Avro values carry theirs in front.
pub const HEADER_SCHEMA: &str = "schema";

pub(crate) const MOVE_OUT: &[u8] = b"out";
pub(crate) const MOVE_IN: &[u8] = b"in";

/// One record, as a [`RecordSink`] gets it. The slices are valid only during the call.
#[derive(Debug, Clone, Copy)]
pub struct RecordRef<'a> {
    /// The change's place in the order of all changes. The records of one change share it.
    pub order: OrderKey,
    /// The whole key, with the wire format's header; `None` for a table without a key and for barriers.
    pub key: Option<&'a [u8]>,
    /// The values of the key alone, empty where there is no key: Avro without the wire format's header, JSON without the names. They
    /// stay the same when a key column is renamed, so they are what the partition is chosen by.
    pub key_body: &'a [u8],
    /// The whole value; `None` for a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers, in the order in which they are stored.
    pub headers: &'a [(&'static str, &'a [u8])],
    /// The record concerns the whole table and belongs in every partition.
    pub barrier: bool,
}

/// Takes the records of a batch, in order.
pub trait RecordSink {
    /// Takes one record. A sink that fails remembers it and tells its owner when the batch is done.
    fn record(&mut self, record: RecordRef<'_>);
}

impl<F: FnMut(RecordRef<'_>)> RecordSink for F {
    fn record(&mut self, record: RecordRef<'_>) {
        self(record);
    }
}
