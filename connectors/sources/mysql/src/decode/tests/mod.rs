//! Rows of real servers, captured by `tests/data/capture.py`: each is decoded as a row event and as a snapshot's row, which must give the same, and compared
//! with what the server itself prints.

mod documents;
mod images;
mod values;

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, StructArray, cast::AsArray, types::*};
use arrow_schema::DataType;
use connector_api::{Identity, TableName};

use super::{shape::ShapeProblem, *};
use crate::event::{Bytes, Event, EventHeader, TableMap, TableMapEvent, code};

/// A table of a capture.
#[derive(Default)]
struct Captured {
    definition: Vec<ColumnDefinition>,
    key: Vec<String>,
    name: String,
    mariadb: bool,
    select: String,
    map: Vec<u8>,
    inserts: Vec<Vec<u8>>,
    texts: Vec<Vec<u8>>,
    shown: Vec<Vec<u8>>,
    events: Vec<(u8, Vec<u8>)>,
}

fn hex(text: &str) -> Vec<u8> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    assert!(rest.is_empty());
    pairs.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn read(compressed: &[u8], mariadb: bool) -> (Charsets, Vec<Captured>) {
    let text = String::from_utf8(zstd::decode_all(compressed).unwrap()).unwrap();
    let mut collations = Vec::new();
    let mut characters = Vec::new();
    let mut tables: Vec<Captured> = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[0] {
            "collation" => collations.push((words[1].parse().unwrap(), words[2].to_owned(), words[3].parse().unwrap())),
            "characters" => characters.push((words[1].to_owned(), hex(words[2]))),
            "table" => tables.push(Captured { name: words[1].to_owned(), mariadb, ..Captured::default() }),
            kind => {
                let table = tables.last_mut().unwrap();
                match kind {
                    "column" => table.definition.push(ColumnDefinition {
                        name: words[1].to_owned(),
                        charset: (words[2] != "-").then(|| words[2].to_owned()),
                        column_type: String::from_utf8(hex(words[3])).unwrap(),
                        row_end: words.get(4) == Some(&"end"),
                    }),
                    "key" => table.key = words[1..].iter().map(|word| (*word).to_owned()).collect(),
                    "select" => table.select = String::from_utf8(hex(words[1])).unwrap(),
                    "map" => table.map = hex(words[1]),
                    "insert" => table.inserts.push(hex(words[1])),
                    "text" => table.texts.push(hex(words.get(1).unwrap_or(&""))),
                    "shown" => table.shown.push(hex(words.get(1).unwrap_or(&""))),
                    "event" => table.events.push((words[1].parse().unwrap(), hex(words.get(2).unwrap_or(&"")))),
                    other => panic!("{other}"),
                }
            }
        }
    }
    let mut charsets = Charsets::new(collations, mariadb);
    for (name, characters) in characters {
        assert!(charsets.load(&name, &characters), "{name}");
    }
    (charsets, tables)
}

fn captures() -> [(&'static str, Charsets, Vec<Captured>); 2] {
    let (mysql, mysql_tables) = read(include_bytes!("../../../tests/data/mysql.txt.zst"), false);
    let (mariadb, mariadb_tables) = read(include_bytes!("../../../tests/data/mariadb.txt.zst"), true);
    [("mysql", mysql, mysql_tables), ("mariadb", mariadb, mariadb_tables)]
}

fn header(event_type: u8) -> EventHeader {
    EventHeader { timestamp: 0, event_type, server_id: 1, event_size: 0, next_position: 0, flags: 0 }
}

const STAMP: Stamp<'_> =
    Stamp { ordinal: 0, commit_ts_us: 0, gtid: None, server_id: None, file: "binlog.000001", position: 4, thread: None };

impl Captured {
    /// Not the table of changes, and not the one that cannot be decoded.
    fn is_decoded(&self) -> bool {
        !self.map.is_empty() && self.name != "old3"
    }

    fn table(&self) -> TableName {
        TableName::new("capture", self.name.as_str())
    }

    fn definition(&self) -> TableDefinition {
        TableDefinition { name: self.table(), columns: self.definition.clone(), key: self.key.clone() }
    }

    fn table_map(&self) -> TableMap {
        let mut scratch = Vec::new();
        match Event::parse(&header(code::TABLE_MAP), &self.map, &mut scratch) {
            Ok(Event::TableMap(event)) => event.describe(self.mariadb).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// All rows of the log.
    fn streamed(&self, shape: Shape) -> StructArray {
        let info = source_info("mysql", "capture");
        let mut rows = TableRows::new(Arc::new(shape), Identity::Full, &info);
        let mut stamp = STAMP;
        for body in &self.inserts {
            // Both row event versions begin alike; MariaDB writes the first.
            let event_type =
                if info.connector == "mysql" && body[8] == 2 && body[9] == 0 { code::WRITE_ROWS } else { code::WRITE_ROWS_V1 };
            let mut scratch = Vec::new();
            let Ok(Event::Rows(event)) = Event::parse(&header(event_type), body, &mut scratch) else { panic!() };
            assert!(rows.fits(&event));
            stamp.ordinal += rows.append(&stamp, &event, 0).unwrap().appended;
        }
        let batch = rows.finish().unwrap();
        assert_eq!(batch.orders.last().unwrap().ordinal as usize + 1, batch.len());
        batch.after.unwrap()
    }

    /// All rows of a snapshot.
    fn selected(&self, shape: Shape) -> StructArray {
        let mut rows = TableRows::new(Arc::new(shape), Identity::Full, &source_info("mysql", "capture"));
        for packet in &self.texts {
            rows.read(&STAMP, packet).unwrap();
        }
        rows.stamp(&STAMP);
        rows.finish().unwrap().after.unwrap()
    }
}

/// The choices but for zero dates.
fn options(zero_dates: ZeroDates) -> DecodeOptions {
    DecodeOptions { zero_dates, tinyint1: TinyInt1::Number }
}

/// A value as the server would print it.
fn shown(column: &ArrayRef, row: usize) -> Option<String> {
    if column.is_null(row) {
        return None;
    }
    let text = match column.data_type() {
        DataType::Boolean => u8::from(column.as_boolean().value(row)).to_string(),
        DataType::Int16 => column.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Decimal128(..) => column.as_primitive::<Decimal128Type>().value_as_string(row),
        DataType::Decimal256(..) => column.as_primitive::<Decimal256Type>().value_as_string(row),
        DataType::Utf8 => column.as_string::<i32>().value(row).to_owned(),
        DataType::Binary => column.as_binary::<i32>().value(row).iter().map(|byte| format!("{byte:02X}")).collect(),
        DataType::Float32 => f64::from(column.as_primitive::<Float32Type>().value(row)).to_string(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).to_string(),
        DataType::FixedSizeBinary(16) => {
            let digits: String = column.as_fixed_size_binary().value(row).iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{}-{}-{}-{}-{}", &digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..])
        }
        DataType::Duration(_) => {
            let mut text = String::new();
            calendar::print_time(column.as_primitive::<DurationMicrosecondType>().value(row), 6, &mut text).unwrap();
            text
        }
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(row);
            let floats = items.as_primitive::<Float32Type>();
            floats.values().iter().flat_map(|float| float.to_le_bytes()).map(|byte| format!("{byte:02X}")).collect()
        }
        DataType::Timestamp(..) => column.as_primitive::<TimestampMicrosecondType>().value(row).to_string(),
        other => panic!("{other}"),
    };
    Some(text)
}

#[test]
fn without_full_metadata_the_definition_stands_in() {
    for (flavor, charsets, tables) in captures() {
        for table in tables.into_iter().filter(Captured::is_decoded) {
            let what = format!("{flavor} {}", table.name);
            let definition = table.definition();
            let full = table.table_map();
            let expected = Shape::new(&table.table(), &full, Some(&definition), &charsets, DecodeOptions::default()).unwrap();
            let mut minimal = full.clone();
            (minimal.has_names, minimal.key) = (false, None);
            for column in &mut minimal.columns {
                (column.name, column.labels, column.visible) = (None, None, None);
            }
            let mut without = minimal.clone();
            for column in &mut without.columns {
                (column.unsigned, column.collation, column.geometry, column.dimensions) = (None, None, None, None);
            }
            for map in [&minimal, &without] {
                let shape = Shape::new(&table.table(), map, Some(&definition), &charsets, DecodeOptions::default()).unwrap();
                assert_eq!(shape, expected, "{what}");
                assert!(Shape::new(&table.table(), map, None, &charsets, DecodeOptions::default()).is_err(), "{what}");
                let mut fewer = definition.clone();
                fewer.columns.pop();
                let problem = Shape::new(&table.table(), map, Some(&fewer), &charsets, DecodeOptions::default());
                assert!(matches!(problem, Err(ShapeProblem::ColumnCount { .. })), "{what}");
                // A column of another type: an id that is text.
                let mut changed = definition.clone();
                let column = &mut changed.columns[0];
                (column.column_type, column.charset) = ("varchar(77)".into(), Some("utf8mb4".into()));
                let problem = Shape::new(&table.table(), map, Some(&changed), &charsets, DecodeOptions::default());
                assert!(matches!(problem, Err(ShapeProblem::ColumnType { number: 1, .. })), "{what}: {problem:?}");
            }
        }
    }
}

#[test]
fn a_changed_layout_is_seen_without_full_metadata() {
    let charsets = Charsets::for_tests();
    let column = |column_type: &str, charset: Option<&str>| ColumnDefinition {
        name: "c".into(),
        column_type: column_type.into(),
        charset: charset.map(str::to_owned),
        row_end: false,
    };
    // Each of these decodes the other's bytes without an error of its own.
    for (definition, type_code, metadata, unsigned, collation) in [
        (column("int unsigned", None), 3, 0, Some(false), None),
        (column("decimal(10,2)", None), 246, 10 | 3 << 8, None, None),
        (column("datetime(3)", None), 18, 2, None, None),
        (column("varchar(10)", Some("utf8mb4")), 15, 80, None, None),
        (column("varchar(10)", Some("latin1")), 15, 10, None, Some(63)),
        (column("varchar(10)", Some("latin1")), 15, 10, None, Some(28)),
        (column("enum('a','b')", Some("latin1")), 248, 1, None, None),
        (column("bit(9)", None), 16, 1 << 8, None, None),
        (column("timestamp", None), 18, 0, None, None),
    ] {
        let what = format!("{definition:?}");
        let mut map = TableMap::default();
        map.columns.push(crate::event::TableMapColumn { type_code, metadata, unsigned, collation, ..Default::default() });
        let name = TableName::new("d", "t");
        let definition = TableDefinition { name: name.clone(), columns: vec![definition], key: Vec::new() };
        let problem = Shape::new(&name, &map, Some(&definition), &charsets, DecodeOptions::default());
        assert!(matches!(problem, Err(ShapeProblem::ColumnType { .. })), "{what}: {problem:?}");
    }
}

#[test]
fn a_fraction_that_the_log_does_not_tell_is_an_error() {
    let [_, (_, charsets, tables)] = captures();
    let table = tables.iter().find(|table| table.name == "old3").unwrap();
    let mut minimal = table.table_map();
    (minimal.has_names, minimal.key) = (false, None);
    for map in [table.table_map(), minimal] {
        let shape = Shape::new(&table.table(), &map, Some(&table.definition()), &charsets, DecodeOptions::default());
        assert!(matches!(shape, Err(ShapeProblem::OldFraction { .. })), "{shape:?}");
    }
    // Without a definition nothing is known of the fraction.
    let table = tables.iter().find(|table| table.name == "old").unwrap();
    let shape = Shape::new(&table.table(), &table.table_map(), None, &charsets, DecodeOptions::default());
    assert!(matches!(shape, Err(ShapeProblem::OldFraction { .. })), "{shape:?}");
}

#[test]
fn zero_dates_stop_the_table_only_when_asked_to() {
    let [(_, charsets, tables), _] = captures();
    let table = tables.iter().find(|table| table.name == "dates").unwrap();
    let definition = table.definition();
    let shape = Shape::of_definition(&definition, &charsets, options(ZeroDates::Error)).unwrap();
    let mut rows = TableRows::new(Arc::new(shape), Identity::Full, &source_info("mysql", "capture"));
    rows.read(&STAMP, &table.texts[0]).unwrap();
    let problem = rows.read(&STAMP, &table.texts[2]).unwrap_err().to_string();
    assert!(problem.contains("table capture.dates, column `d`: a date that no calendar has"), "{problem}");
}

#[test]
fn damaged_rows_are_errors() {
    for (flavor, charsets, tables) in captures() {
        for table in tables.into_iter().filter(Captured::is_decoded) {
            let definition = table.definition();
            let shape =
                Shape::new(&table.table(), &table.table_map(), Some(&definition), &charsets, DecodeOptions::default()).unwrap();
            let shape = Arc::new(shape);
            let body = &table.inserts[0];
            let event_type = if body[8] == 2 && body[9] == 0 { code::WRITE_ROWS } else { code::WRITE_ROWS_V1 };
            let mut scratch = Vec::new();
            let Ok(Event::Rows(whole)) = Event::parse(&header(event_type), body, &mut scratch) else { panic!() };
            // Each byte of the first rows cut off or changed: never a panic, and never a row too many.
            for len in 0..whole.rows.len().min(400) {
                let mut event = whole;
                event.rows = &whole.rows[..len];
                let mut rows = TableRows::new(Arc::clone(&shape), Identity::Full, &source_info("mysql", "capture"));
                let _ = rows.append(&STAMP, &event, 0);
                let mut damaged = whole.rows[..whole.rows.len().min(2000)].to_vec();
                damaged[len] ^= 0xFF;
                event.rows = &damaged;
                let mut rows = TableRows::new(Arc::clone(&shape), Identity::Full, &source_info("mysql", "capture"));
                let _ = rows.append(&STAMP, &event, 0);
            }
            let mut event = whole;
            event.columns += 1;
            let mut rows = TableRows::new(Arc::clone(&shape), Identity::Full, &source_info("mysql", "capture"));
            assert!(rows.append(&STAMP, &event, 0).is_err(), "{flavor}");
        }
    }
}

#[test]
fn a_table_map_that_is_cut_off_never_panics() {
    for (_, _, tables) in captures() {
        for table in tables {
            for len in 0..table.map.len().min(500) {
                let mut scratch = Vec::new();
                if let Ok(Event::TableMap(event)) = Event::parse(&header(code::TABLE_MAP), &table.map[..len], &mut scratch) {
                    let _: Result<TableMap, _> = TableMapEvent::describe(&event, table.mariadb);
                }
            }
        }
    }
}
