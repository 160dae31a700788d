//! The Avro schemas of keys and values, as text.
//!
//! The text is written by hand, because equal schemas must give equal bytes: the text is what ids are given to.
//!
//! Names follow Debezium: `<topic>.Key`, `<topic>.Value`, `<topic>.Envelope`, with the topic as namespace. Where Avro does not allow a
//! character in a name, `_` stands for it, and `_` goes before a leading digit; the name as it was stands in `connect.name` (of records)
//! or `column` (of fields). Two columns that would get one name are told apart by a number at the end.
use std::collections::HashSet;

use connector_api::{ColumnType, SourceInfo, TableSchema};
use serde::Serialize;

use crate::layout::{Layout, required_columns};

/// The fields of `source` that every source has, as they stand in the schema; `schema` and `table` are the last of them.
const SOURCE_FIELDS: [(&str, &str); 11] = [
    ("version", r#""type":"string""#),
    ("connector", r#""type":"string""#),
    ("name", r#""type":"string""#),
    ("ts_ms", r#""type":"long""#),
    (
        "snapshot",
        concat!(
            r#""type":[{"type":"string","connect.version":1,"connect.parameters":{"allowed":"true,last,false,incremental"},"#,
            r#""connect.default":"false","connect.name":"io.debezium.data.Enum"},"null"],"default":"false""#
        ),
    ),
    ("db", r#""type":"string""#),
    ("sequence", r#""type":["null","string"],"default":null"#),
    ("ts_us", r#""type":["null","long"],"default":null"#),
    ("ts_ns", r#""type":["null","long"],"default":null"#),
    ("schema", r#""type":"string""#),
    ("table", r#""type":"string""#),
];

/// What follows `source` in the envelope. The last two fields are ours.
const ENVELOPE_TAIL: &str = concat!(
    r#"{"name":"transaction","type":["null",{"type":"record","name":"block","namespace":"event","fields":["#,
    r#"{"name":"id","type":"string"},{"name":"total_order","type":"long"},{"name":"data_collection_order","type":"long"}],"#,
    r#""connect.version":1,"connect.name":"event.block"}],"default":null},"#,
    r#"{"name":"op","type":"string"},"#,
    r#"{"name":"ts_ms","type":["null","long"],"default":null},"#,
    r#"{"name":"ts_us","type":["null","long"],"default":null},"#,
    r#"{"name":"ts_ns","type":["null","long"],"default":null},"#,
    r#"{"name":"unchanged","type":["null",{"type":"array","items":"string"}],"default":null},"#,
    r#"{"name":"order","type":["null",{"type":"record","name":"Order","fields":["#,
    r#"{"name":"sequence","type":"long"},{"name":"ordinal","type":"int"}]}],"default":null}"#,
);

const INTERVAL_FIELDS: &str = r#"[{"name":"months","type":"int"},{"name":"days","type":"int"},{"name":"micros","type":"long"}]"#;

/// The registry's subject of a topic's keys.
pub fn key_subject(topic: &str) -> String {
    format!("{topic}-key")
}

/// The registry's subject of a topic's values.
pub fn value_subject(topic: &str) -> String {
    format!("{topic}-value")
}

/// The Avro schema of a topic's keys; `None` for a table without a key. Key columns are never NULL.
pub fn key_schema(topic: &str, schema: &TableSchema) -> Option<String> {
    if schema.key().is_empty() {
        return None;
    }
    let columns: Vec<_> = schema.key().iter().map(|&index| &schema.columns()[index]).collect();
    let mut text = record_start(topic, "Key");
    let mut types = TypeWriter::default();
    push_fields(
        &mut text,
        &avro_names(&[], columns.iter().map(|column| column.name.as_str())),
        columns.iter().map(|column| (column.name.as_str(), &column.kind, true)),
        &mut types,
    );
    text.push_str(&format!(r#"],"connect.name":{}}}"#, json(&format!("{topic}.Key"))));
    Some(text)
}

/// The Avro schema of a topic's values: the envelope, with the table's and the source's description in the attribute `mainstem`.
pub fn value_schema(topic: &str, schema: &TableSchema, info: &SourceInfo) -> String {
    let mut types = TypeWriter::default();
    let mut text = record_start(topic, "Envelope");
    text.push_str(r#"{"name":"before","type":["null",{"type":"record","name":"Value","fields":["#);
    push_fields(
        &mut text,
        &avro_names(&[], schema.columns().iter().map(|column| column.name.as_str())),
        schema
            .columns()
            .iter()
            .zip(required_columns(schema))
            .map(|(column, required)| (column.name.as_str(), &column.kind, required)),
        &mut types,
    );
    text.push_str(&format!(r#"],"connect.name":{}}}],"default":null}},"#, json(&format!("{topic}.Value"))));
    text.push_str(r#"{"name":"after","type":["null","Value"],"default":null},"#);

    let connector = avro_name(&info.connector);
    text.push_str(&format!(
        r#"{{"name":"source","type":{{"type":"record","name":"Source","namespace":"io.debezium.connector.{connector}","fields":["#
    ));
    for (name, kind) in SOURCE_FIELDS {
        text.push_str(&format!(r#"{{"name":"{name}",{kind}}},"#));
    }
    if info.columns.is_empty() {
        text.pop();
    }
    push_fields(
        &mut text,
        &source_field_names(info),
        info.columns.iter().map(|(name, kind)| (name.as_str(), kind, false)),
        &mut types,
    );
    text.push_str(&format!(r#"],"connect.version":1,"connect.name":"io.debezium.connector.{connector}.Source"}}}},"#));
    text.push_str(ENVELOPE_TAIL);
    text.push_str(&format!(
        r#"],"connect.version":2,"connect.name":{},"mainstem":{}}}"#,
        json(&format!("{topic}.Envelope")),
        json(&Layout::new(schema, info))
    ));
    text
}

/// The names of the source's own columns in `source`, in Avro and in JSON: none is that of a field which every source has.
pub(crate) fn source_field_names(info: &SourceInfo) -> Vec<String> {
    avro_names(&SOURCE_FIELDS.map(|(name, _)| name), info.columns.iter().map(|(name, _)| name.as_str()))
}

fn record_start(topic: &str, name: &str) -> String {
    let namespace: Vec<_> = topic.split('.').map(avro_name).collect();
    format!(r#"{{"type":"record","name":"{name}","namespace":"{}","fields":["#, namespace.join("."))
}

/// `columns`: the name in the database, the type, and whether it is never NULL.
fn push_fields<'a>(
    text: &mut String,
    names: &[String],
    columns: impl Iterator<Item = (&'a str, &'a ColumnType, bool)>,
    types: &mut TypeWriter,
) {
    for (index, (avro_name, (name, kind, required))) in names.iter().zip(columns).enumerate() {
        if index > 0 {
            text.push(',');
        }
        let kind = types.text(kind);
        let kind = if required { kind } else { format!(r#"["null",{kind}],"default":null"#) };
        text.push_str(&format!(r#"{{"name":"{avro_name}","type":{kind}"#));
        if avro_name != name {
            text.push_str(&format!(r#","column":{}"#, json(name)));
        }
        text.push('}');
    }
}

/// Writes types. A named type is spelt out where it first stands in a schema, and named from then on.
#[derive(Default)]
struct TypeWriter {
    interval_defined: bool,
}

impl TypeWriter {
    fn text(&mut self, kind: &ColumnType) -> String {
        match kind {
            ColumnType::Bool => r#""boolean""#.into(),
            ColumnType::Int16 => r#"{"type":"int","connect.type":"int16"}"#.into(),
            ColumnType::Int32 => r#""int""#.into(),
            ColumnType::Int64 => r#""long""#.into(),
            ColumnType::Float32 => r#""float""#.into(),
            ColumnType::Float64 => r#""double""#.into(),
            ColumnType::Decimal { precision, scale } => {
                format!(r#"{{"type":"bytes","logicalType":"decimal","precision":{precision},"scale":{scale}}}"#)
            }
            ColumnType::Text => r#""string""#.into(),
            ColumnType::Json => r#"{"type":"string","connect.version":1,"connect.name":"io.debezium.data.Json"}"#.into(),
            ColumnType::Bytes => r#""bytes""#.into(),
            ColumnType::Date => r#"{"type":"int","logicalType":"date"}"#.into(),
            ColumnType::Time => r#"{"type":"long","logicalType":"time-micros"}"#.into(),
            ColumnType::Timestamp => r#"{"type":"long","logicalType":"local-timestamp-micros"}"#.into(),
            ColumnType::TimestampTz => r#"{"type":"long","logicalType":"timestamp-micros"}"#.into(),
            ColumnType::Duration => r#"{"type":"long","connect.version":1,"connect.name":"io.debezium.time.MicroDuration"}"#.into(),
            ColumnType::Interval if std::mem::replace(&mut self.interval_defined, true) => r#""Interval""#.into(),
            ColumnType::Interval => format!(r#"{{"type":"record","name":"Interval","fields":{INTERVAL_FIELDS}}}"#),
            ColumnType::Uuid => r#"{"type":"string","logicalType":"uuid"}"#.into(),
            ColumnType::List(item) => format!(r#"{{"type":"array","items":["null",{}]}}"#, self.text(item)),
        }
    }
}

fn is_avro_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric())
}

/// A legal Avro name like this one.
fn avro_name(name: &str) -> String {
    let mut legal: String = name.chars().map(|c| if c == '_' || c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if !is_avro_name(&legal) {
        legal.insert(0, '_');
    }
    legal
}

/// A legal Avro name for each name, all different and none of `reserved`. Names that are legal stay as they are.
fn avro_names<'a>(reserved: &[&str], names: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
    let mut taken: HashSet<String> = reserved.iter().map(|&name| name.to_owned()).collect();
    let kept: Vec<bool> = names.clone().map(|name| is_avro_name(name) && taken.insert(name.to_owned())).collect();
    names
        .zip(kept)
        .map(|(name, kept)| {
            if kept {
                return name.to_owned();
            }
            let legal = avro_name(name);
            let mut unique = legal.clone();
            let mut number = 2;
            while !taken.insert(unique.clone()) {
                unique = format!("{legal}_{number}");
                number += 1;
            }
            unique
        })
        .collect()
}

fn json(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).expect("strings, numbers and lists always have a JSON form")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use connector_api::{Column, Identity, TableName};

    use super::*;

    #[test]
    fn names_are_legal_and_different() {
        let names = ["a b", "a_b", "1st", "", "a-b", "ž", "table"];
        assert_eq!(avro_names(&["table"], names.into_iter()), ["a_b_2", "a_b", "_1st", "_", "a_b_3", "__2", "table_2"]);
    }

    #[test]
    fn the_text_is_fixed() {
        let column = |name: &str, kind, source_type: &str| Column { name: name.into(), kind, source_type: source_type.into() };
        let columns = vec![
            column("id", ColumnType::Int64, "bigint"),
            column("un-paid", ColumnType::List(Box::new(ColumnType::Interval)), "interval[]"),
            column("left", ColumnType::Interval, "interval"),
        ];
        let schema = TableSchema::new(TableName::new("public", "orders"), columns, vec![0], Identity::Key);
        let info = SourceInfo::new("postgresql", "db", vec![("lsn".into(), ColumnType::Int64)], None);
        assert_eq!(
            key_schema("shop.public.1-orders", &schema).unwrap(),
            r#"{"type":"record","name":"Key","namespace":"shop.public._1_orders","fields":[{"name":"id","type":"long"}],"connect.name":"shop.public.1-orders.Key"}"#
        );
        let text = value_schema("shop.public.orders", &schema, &info);
        let start = concat!(
            r#"{"type":"record","name":"Envelope","namespace":"shop.public.orders","fields":[{"name":"before","type":["null","#,
            r#"{"type":"record","name":"Value","fields":[{"name":"id","type":"long"},{"name":"un_paid","type":["null","#,
            r#"{"type":"array","items":["null",{"type":"record","name":"Interval","fields":["#,
        );
        assert!(text.starts_with(start), "{text}");
        let end = concat!(
            r#""connect.version":2,"connect.name":"shop.public.orders.Envelope","mainstem":{"version":1,"connector":"postgresql","#,
            r#""database":"db","source":[{"name":"lsn","type":"int64"}],"transaction":null,"#,
            r#""table":{"schema":"public","name":"orders"},"identity":"key","key":[0],"columns":["#,
            r#"{"name":"id","type":"int64","source_type":"bigint"},"#,
            r#"{"name":"un-paid","type":{"list":"interval"},"source_type":"interval[]"},"#,
            r#"{"name":"left","type":"interval","source_type":"interval"}]}}"#,
        );
        assert!(text.ends_with(end), "{text}");
        let (parsed_schema, parsed_info) = Layout::parse(&text).unwrap();
        assert_eq!((parsed_schema, parsed_info), (Arc::new(schema), info));
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }

    #[test]
    fn wide_decimals_and_durations_are_named_as_debezium_names_them() {
        let text = |kind| TypeWriter::default().text(&kind);
        assert_eq!(
            text(ColumnType::Decimal { precision: 65, scale: 30 }),
            r#"{"type":"bytes","logicalType":"decimal","precision":65,"scale":30}"#
        );
        assert_eq!(
            text(ColumnType::Duration),
            r#"{"type":"long","connect.version":1,"connect.name":"io.debezium.time.MicroDuration"}"#
        );
    }

    #[test]
    fn foreign_and_damaged_texts_are_errors() {
        let schema = TableSchema::new(TableName::new("s", "t"), vec![], vec![], Identity::Nothing);
        let text = value_schema("t", &schema, &SourceInfo::new("x", "db", vec![], None));
        assert!(Layout::parse(&text).is_ok());
        for (from, to) in [
            (r#""version":1,"connector""#, r#""version":2,"connector""#),
            (r#""mainstem""#, r#""other""#),
            (r#""key":[]"#, r#""key":[0]"#),
            (r#""transaction":null"#, r#""transaction":0"#),
            (r#""source":[]"#, r#""source":[{"name":"n","type":{"decimal":{"precision":77,"scale":0}}}]"#),
            (r#""source":[]"#, r#""source":[{"name":"n","type":{"list":{"list":"text"}}}]"#),
        ] {
            assert!(text.contains(from) && Layout::parse(&text.replace(from, to)).is_err(), "{from}");
        }
        assert!(Layout::parse("").is_err());
    }
}
