use connector_api::{Recoverable, Recovery};
use proptest::prelude::*;

use super::*;
use crate::{
    config::MySqlSourceConfig,
    decode::{ColumnDefinition, source_info},
    event::code,
    gtid_set::{GtidSet, MariaDbSet},
    position::{Origin, Point, TableState},
};

fn state(gtids: Option<&str>) -> StreamState {
    let config = serde_json::json!({ "url": "mysql://u@127.0.0.1:1/d", "tables": ["d.*"] });
    let config: MySqlSourceConfig = serde_json::from_value(config).unwrap();
    let settings = Settings::new(config).unwrap_or_else(|(field, problem)| panic!("{field}: {problem}"));
    let table = TableName::new("d", "t");
    let column = ColumnDefinition { name: "id".into(), column_type: "int".into(), charset: None, row_end: false };
    let definition = TableDefinition { name: table.clone(), columns: vec![column], key: vec!["id".into()] };
    let definitions = BTreeMap::from([(table, definition)]);
    let known = Known { info: source_info("mysql", ""), charsets: Charsets::for_tests(), definitions, side: None };
    let gtids = gtids.map(|text| GtidSet::MariaDb(MariaDbSet::parse(text).unwrap()));
    let mut position = Position::new(Point { place: Place::new("bin.000001", 1000), gtids }, Origin::default());
    let captured = TableState { progress: Progress::Done(None), definition: None };
    position.tables_mut().insert(TableName::new("d", "t"), captured);
    StreamState::new(Arc::new(settings), known, position)
}

fn header(event_type: u8, next_position: u32) -> EventHeader {
    EventHeader { timestamp: 1, event_type, server_id: 7, event_size: 50, next_position, flags: 0 }
}

/// Handles events as the reader does; `next_position` 0 says nothing.
fn feed(state: &mut StreamState, events: &[(u8, u32, &[u8])]) -> Result<(), MySqlError> {
    for (event_type, next_position, body) in events {
        let header = header(*event_type, *next_position);
        state.reached(&header);
        state.handle(&header, body)?;
        state.passed(&header);
        state.settle();
    }
    Ok(())
}

const XID: &[u8] = &[1; 8];

/// A group of domain 0 with that number; flags say that it is transactional.
fn mariadb_gtid(number: u64) -> Vec<u8> {
    [&number.to_le_bytes()[..], &[0; 4], &[4], &[0; 6]].concat()
}

fn anonymous() -> Vec<u8> {
    vec![0; 25]
}

fn query(text: &str) -> Vec<u8> {
    [&[9, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0][..], b"d\0", text.as_bytes()].concat()
}

/// `d.t` or another table with one integer column `id`, described in full.
fn table_map(id: u8, table: &str) -> Vec<u8> {
    let mut body = vec![id, 0, 0, 0, 0, 0, 1, 0, 1, b'd', 0, table.len() as u8];
    body.extend(table.as_bytes());
    body.extend([0, 1, 3, 0, 0, 1, 1, 0, 4, 3, 2, b'i', b'd', 8, 1, 0]);
    body
}

fn insert(id: u8, values: &[i32]) -> Vec<u8> {
    let mut body = vec![id, 0, 0, 0, 0, 0, 1, 0, 2, 0, 1, 1];
    values.iter().for_each(|value| body.extend([&[0], &value.to_le_bytes()[..]].concat()));
    body
}

#[test]
fn mdb_01_events_that_do_not_say_where_they_end_are_no_harm() {
    // As MariaDB 11.4 writes them: only the last event of a group says where it ends.
    let mut state = state(Some("0-7-5"));
    let (map, rows) = (table_map(3, "t"), insert(3, &[1, 2]));
    let group = |number| mariadb_gtid(number);
    let events: [(u8, u32, &[u8]); 3] =
        [(code::MARIADB_GTID, 0, &group(6)), (code::TABLE_MAP, 0, &map), (code::WRITE_ROWS, 0, &rows)];
    feed(&mut state, &events).unwrap();
    // In the middle of the group: the position is where it begins, and how much was taken.
    let (batches, _) = state.take_group().unwrap();
    assert_eq!(batches.iter().map(ChangeBatch::len).sum::<usize>(), 2);
    let position = state.position();
    assert_eq!((position.done.place.position, position.open.as_ref().unwrap().name.as_str()), (1000, "0-7-6"));
    feed(&mut state, &[(code::XID, 1500, XID)]).unwrap();
    let position = state.position();
    assert_eq!((position.done.place.position, position.open.as_ref()), (1500, None));
    assert_eq!(position.done.gtids.as_ref().unwrap().to_string(), "0-7-6");
}

#[test]
fn rows_that_were_taken_before_are_passed_over_however_they_are_packed() {
    let mut first = state(None);
    let (map, other) = (table_map(3, "t"), table_map(4, "other"));
    let begin: [(u8, u32, &[u8]); 3] =
        [(code::ANONYMOUS_GTID, 1050, &anonymous()), (code::QUERY, 1100, &query("BEGIN")), (code::TABLE_MAP, 1150, &map)];
    feed(&mut first, &begin).unwrap();
    feed(&mut first, &[(code::WRITE_ROWS, 1200, &insert(3, &[1, 2, 3]))]).unwrap();
    let (_, stored) = first.take_group().unwrap();
    let mut again = state(None);
    again.position = Position::decode(&stored).unwrap();
    feed(&mut again, &begin).unwrap();
    let rest: [(u8, u32, &[u8]); 6] = [
        (code::WRITE_ROWS, 1200, &insert(3, &[1, 2])),
        (code::TABLE_MAP, 1210, &other),
        (code::WRITE_ROWS, 1220, &insert(4, &[9])),
        (code::WRITE_ROWS, 1230, &insert(3, &[3, 4])),
        (code::WRITE_ROWS, 1240, &insert(3, &[5])),
        (code::XID, 1300, XID),
    ];
    feed(&mut again, &rest).unwrap();
    let (batches, _) = again.take_group().unwrap();
    assert_eq!(batches.iter().map(ChangeBatch::len).sum::<usize>(), 2);
    // Fewer rows than there were: something is missing.
    let mut short = state(None);
    short.position = Position::decode(&stored).unwrap();
    feed(&mut short, &begin).unwrap();
    let error = feed(&mut short, &[(code::WRITE_ROWS, 1200, &insert(3, &[1])), (code::XID, 1300, XID)]).unwrap_err();
    assert!(error.to_string().contains("without a gap"), "{error}");
}

#[test]
fn what_must_not_be_passed_over_stops() {
    let (gtid, begin, map) = (anonymous(), query("BEGIN"), table_map(3, "t"));
    let rows = insert(3, &[1]);
    let open: [(u8, u32, &[u8]); 4] =
        [(code::ANONYMOUS_GTID, 0, &gtid), (code::QUERY, 0, &begin), (code::TABLE_MAP, 0, &map), (code::WRITE_ROWS, 0, &rows)];
    let rollback = query("ROLLBACK");
    /// Events of `open` before, the event that must not be passed over, and what is said.
    type Case<'a> = (&'a [usize], (u8, &'a [u8]), &'a str);
    let cases: [Case<'_>; 7] = [
        (&[], (code::INCIDENT, &[1, 0]), "lacks changes"),
        (&[], (code::WRITE_ROWS, &rows), "outside of a transaction"),
        (&[0, 1], (code::WRITE_ROWS, &rows), "did not describe"),
        (&[0, 1], (code::ANONYMOUS_GTID, &gtid), "within a transaction"),
        (&[], (code::XID, XID), "without a transaction"),
        (&[0, 1, 2, 3], (code::QUERY, &rollback), "rolled back"),
        (&[], (99, &[]), "unknown type"),
    ];
    for (before, (event_type, body), expected) in cases {
        let mut state = state(None);
        before.iter().for_each(|index| feed(&mut state, &open[*index..=*index]).unwrap());
        let error = feed(&mut state, &[(event_type, 0, body)]).unwrap_err();
        assert!(error.to_string().contains(expected) && error.recovery() == Recovery::Stop, "{expected}: {error}");
    }
}

/// A rows event with its header in three pieces of `binlog_row_event_fragment_threshold`, as MariaDB 12.3 divides it.
fn divided(event_type: u8, rows: &[u8]) -> [Vec<u8>; 3] {
    let mut whole = vec![1, 0, 0, 0, event_type, 7, 0, 0, 0];
    whole.extend((19 + rows.len() as u32).to_le_bytes());
    whole.extend([0; 6]);
    whole.extend(rows);
    let piece = |number: u32, size: &[u8], data: &[u8]| {
        let flag = u8::from(!size.is_empty());
        [&3u32.to_le_bytes()[..], &number.to_le_bytes(), &[flag], size, data].concat()
    };
    let size = (whole.len() as u64).to_le_bytes();
    [piece(1, &size, &whole[..7]), piece(2, &[], &whole[7..25]), piece(3, &[], &whole[25..])]
}

#[test]
fn mdb_04_divided_rows_events_are_put_together() {
    let (begin, map, other) = (mariadb_gtid(6), table_map(3, "t"), table_map(4, "other"));
    let (captured, left_out) = (divided(code::WRITE_ROWS, &insert(3, &[1, 2])), divided(code::WRITE_ROWS, &insert(4, &[9])));
    let mut events: Vec<(u8, u32, &[u8])> =
        vec![(code::MARIADB_GTID, 1010, &begin), (code::TABLE_MAP, 1020, &map), (code::TABLE_MAP, 1030, &other)];
    for (index, piece) in left_out.iter().chain(&captured).enumerate() {
        events.push((code::PARTIAL_ROW_DATA, 1040 + index as u32, piece));
    }
    events.push((code::XID, 1100, XID));
    let mut whole = state(Some("0-7-5"));
    feed(&mut whole, &events).unwrap();
    let (batches, _) = whole.take_group().unwrap();
    assert_eq!(
        batches.iter().map(|batch| (batch.schema.table().to_string(), batch.len())).collect::<Vec<_>>(),
        [("d.t".into(), 2)]
    );
    assert_eq!(whole.position().done.gtids.as_ref().unwrap().to_string(), "0-7-6");
    // A piece that is missing takes its rows with it: never in silence, wherever it stood.
    for missing in 6..9 {
        let mut short = events.clone();
        short.remove(missing);
        let error = feed(&mut state(Some("0-7-5")), &short).unwrap_err();
        assert!(error.to_string().contains("missing") && error.recovery() == Recovery::Stop, "{missing}: {error}");
    }
    let nested = divided(code::PARTIAL_ROW_DATA, &captured[0]);
    let mut state = state(None);
    let error = nested.iter().find_map(|piece| feed(&mut state, &[(code::PARTIAL_ROW_DATA, 0, piece)]).err()).unwrap();
    assert!(error.to_string().contains("within another"), "{error}");
}

#[test]
fn statements_of_other_databases_are_no_harm() {
    let check = |database: &str, text: &str| {
        let mut state = state(None);
        let body =
            [&[9, 0, 0, 0, 0, 0, 0, 0, database.len() as u8, 0, 0, 0, 0][..], database.as_bytes(), &[0], text.as_bytes()].concat();
        feed(&mut state, &[(code::ANONYMOUS_GTID, 0, &anonymous()), (code::QUERY, 0, &body)]).is_err()
    };
    assert!(check("d", "insert into t values (1)") && check("x", "update `d`.`t` set a = 1") && check("", "delete from d.T"));
    assert!(!check("x", "insert into t values (1)") && !check("d", "insert into other values ('d.td')"));
    assert!(!check("d", "create user t@localhost") && !check("d", "grant select on t to x"));
}

proptest! {
    #[test]
    fn no_stream_panics(
        events in proptest::collection::vec((prop_oneof![0u8..45, 155u8..175], any::<u32>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..12)
    ) {
        let mut state = state(None);
        let begin: [(u8, u32, &[u8]); 2] = [(code::ANONYMOUS_GTID, 1050, &anonymous()), (code::TABLE_MAP, 1150, &table_map(3, "t"))];
        feed(&mut state, &begin).unwrap();
        for (event_type, next_position, body) in &events {
            if feed(&mut state, &[(*event_type, *next_position, body)]).is_err() {
                break;
            }
        }
        let _ = state.take_group();
    }
}
