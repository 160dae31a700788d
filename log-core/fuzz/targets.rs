//! The targets: what is done with an input, and what has to hold then. That nothing panics, hangs or takes much memory always has to.

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use log_core::fuzzing::{self, KeyValue, SealJournal};
use log_core::{Codec, Offset, RecordBatch, SegmentDump};

use crate::data_dir;

/// What is done with an input.
pub type Target = fn(&[u8]);

/// All targets.
pub const NAMES: [&str; 8] = ["batch", "codec", "journal", "offsets", "schemas", "segment", "recovery", "inspect"];

/// More than a target decompresses of any input.
const RECORDS_BYTES_MAX: usize = 1 << 20;

/// The target of this name.
pub fn find(name: &str) -> Option<Target> {
    Some(match name {
        "batch" => batch,
        "codec" => codec,
        "journal" => journal,
        "offsets" => |data| fuzzing::read_offsets(key_values(data)),
        "schemas" => |data| fuzzing::read_schemas(key_values(data)),
        "segment" => segment,
        "recovery" => data_dir::recovery,
        "inspect" => data_dir::inspect,
        _ => return None,
    })
}

thread_local! {
    /// A folder in memory that an input may fill. The script that starts the targets removes it.
    static FOLDER: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
}

/// Runs `with` on an empty folder.
pub fn in_folder(with: impl FnOnce(&Path)) {
    FOLDER.with_borrow_mut(|folder| {
        let folder = folder.get_or_insert_with(|| tempfile::tempdir().expect("a temporary folder"));
        let path = folder.path().join("log");
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).expect("an empty folder");
        with(&path);
    });
}

/// A record batch, as it is and with the right length and checksum.
fn batch(data: &[u8]) {
    fuzzing::read_header(data);
    if let Ok(batch) = RecordBatch::parse(Bytes::copy_from_slice(data)) {
        read_batch(&batch);
    }
    let mut sealed = data.to_vec();
    fuzzing::seal_batch(&mut sealed);
    fuzzing::read_header(&sealed);
    if let Ok(batch) = RecordBatch::parse(Bytes::from(sealed)) {
        read_batch(&batch);
    }
}

/// Reads the records of a batch. If all can be read, so can they in a batch without compression.
pub fn read_batch(batch: &RecordBatch) {
    let Ok(records) = batch.records_limited(RECORDS_BYTES_MAX) else { return };
    assert!(records.size_bytes() <= RECORDS_BYTES_MAX);
    let mut last = batch.base_offset() - 1;
    let mut count = 0;
    for record in &records {
        let Ok(record) = record else { return };
        assert!(record.offset > last && record.offset <= batch.last_offset());
        last = record.offset;
        count += 1;
        let in_buffer = |bytes: &[u8]| bytes.is_empty() || records.buffer().slice_ref(bytes).len() == bytes.len();
        assert!(record.key.is_none_or(in_buffer) && record.value.is_none_or(in_buffer));
        for (name, _) in record.headers() {
            let _ = record.header(name);
        }
    }
    assert_eq!(count, records.len());
    if count > 0 {
        let plain = fuzzing::with_records(batch, Codec::None, records.buffer());
        let plain = RecordBatch::parse(Bytes::from(plain)).expect("a batch with other records");
        let same = plain.records_limited(RECORDS_BYTES_MAX).expect("records that are not compressed");
        assert_eq!(same.iter().filter(Result::is_ok).count(), count);
    }
}

/// Compressed bytes; the first byte says by which codec.
fn codec(data: &[u8]) {
    let Some((codec, stored)) = data.split_first() else { return };
    let stored = Bytes::copy_from_slice(stored);
    let decompress = |limit| fuzzing::decompress(i16::from(*codec), &stored, limit);
    let Ok(records) = decompress(RECORDS_BYTES_MAX) else { return };
    assert!(records.len() <= RECORDS_BYTES_MAX);
    if codec & 7 != 0 {
        // The limit is what it says, to the byte.
        assert_eq!(decompress(records.len()), Ok(records.clone()));
        assert!(records.is_empty() || decompress(records.len() - 1).is_err());
    }
}

/// A journal file; the first byte says which of its checksums are put right.
fn journal(data: &[u8]) {
    let Some((flags, journal)) = data.split_first() else { return };
    let mut journal = journal.to_vec();
    if flags & 1 != 0 {
        fuzzing::seal_journal(&mut journal, SealJournal { pieces: flags & 2 != 0, trailers: flags & 4 != 0 });
    }
    let _ = fuzzing::read_journal(&journal);
}

/// Records of an internal topic, whose keys and values are JSON: a line for each key, and one for its value, empty if there is none. So
/// a mutation may make any of them longer.
fn key_values(data: &[u8]) -> impl Iterator<Item = KeyValue<'_>> {
    let mut lines = data.split(|byte| *byte == b'\n');
    std::iter::from_fn(move || Some((lines.next()?, lines.next().filter(|value| !value.is_empty()))))
}

/// A segment file: offsets at which a reader begins and the partition ends (a byte each), and whether checksums are put right.
fn segment(data: &[u8]) {
    let Some(([from, end, flags], bytes)) = data.split_first_chunk() else { return };
    let mut bytes = bytes.to_vec();
    if flags & 1 != 0 {
        fuzzing::seal_batches(&mut bytes);
    }
    in_folder(|dir| {
        let path = dir.join(fuzzing::segment_name(0));
        fs::write(&path, &bytes).expect("a segment file");
        dump(&path);
        // The journal may say of more bytes that they are committed than there are.
        let length = bytes.len() as u64 + u64::from(flags >> 1) * 16;
        let (from, end) = (Offset::from(*from), Offset::from(*end));
        if from < end
            && let Ok(batches) = fuzzing::read_partition(dir, 0, end, length, from)
        {
            let first = batches.first().expect("at least one batch before the end");
            assert!(first.base_offset() <= from && from < first.next_offset());
            assert!(batches.windows(2).all(|pair| pair[0].next_offset() == pair[1].base_offset()));
            batches.iter().for_each(read_batch);
        }
    });
}

/// Reads a file as `mainstem log dump` does.
pub fn dump(path: &Path) {
    let mut position = 0;
    for batch in SegmentDump::open(path).expect("a file that is there") {
        let Ok(batch) = batch else { break };
        assert_eq!(batch.position, position);
        position += batch.size_bytes() as u64;
        let _ = (batch.codec(), batch.is_control(), batch.is_lost(), batch.record_count(), batch.last_offset());
        if let Some(batch) = batch.batch() {
            read_batch(batch);
        }
    }
}
