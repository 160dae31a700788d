//! Which Avro schemas can read which data, as the specification and Avro for Java have it.
use connector_api::{ColumnType, Identity};
use formats::{AvroSchema, Compatibility, Direction, SchemaError, check_compatibility, incompatibilities, value_schema};
use proptest::prelude::*;

use crate::{
    edge_values::scalar_types,
    random_schemas::{Pair, any_pair, any_schema},
    rows::{info, table},
};

fn parse(text: &str) -> AvroSchema {
    AvroSchema::parse_new(text, &[]).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Kinds and paths of what keeps `reader` from reading data of `writer`.
fn found(reader: &str, writer: &str) -> Vec<String> {
    let found = incompatibilities(&parse(reader), &parse(writer)).unwrap();
    found.iter().map(|found| format!("{} {}", found.kind, found.path)).collect()
}

fn readable(reader: &str, writer: &str) {
    assert_eq!(found(reader, writer), [""; 0], "{reader} reads {writer}");
}

fn unreadable(reader: &str, writer: &str, expected: &[&str]) {
    assert_eq!(found(reader, writer), expected, "{reader} reads {writer}");
}

/// A record `R` with these fields.
fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#)
}

const PRIMITIVES: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];

#[test]
fn primitives_and_promotions() {
    let promoted = [
        ("long", "int"),
        ("float", "int"),
        ("float", "long"),
        ("double", "int"),
        ("double", "long"),
        ("double", "float"),
        ("string", "bytes"),
        ("bytes", "string"),
    ];
    for reader in PRIMITIVES {
        for writer in PRIMITIVES {
            let (reader_text, writer_text) = (format!("\"{reader}\""), format!(r#"{{"type":"{writer}"}}"#));
            if reader == writer || promoted.contains(&(reader, writer)) {
                readable(&reader_text, &writer_text);
            } else {
                unreadable(&reader_text, &writer_text, &["TYPE_MISMATCH /"]);
            }
        }
    }
}

#[test]
fn arrays_maps_and_other_shapes() {
    readable(r#"{"type":"array","items":"long"}"#, r#"{"type":"array","items":"int"}"#);
    unreadable(r#"{"type":"array","items":"int"}"#, r#"{"type":"array","items":"long"}"#, &["TYPE_MISMATCH /items"]);
    readable(r#"{"type":"map","values":"string"}"#, r#"{"type":"map","values":"bytes"}"#);
    unreadable(r#"{"type":"map","values":"null"}"#, r#"{"type":"map","values":"int"}"#, &["TYPE_MISMATCH /values"]);
    unreadable(r#"{"type":"map","values":"int"}"#, r#"{"type":"array","items":"int"}"#, &["TYPE_MISMATCH /"]);
    let nested =
        |kind: &str| format!(r#"{{"type":"array","items":{{"type":"map","values":{{"type":"array","items":"{kind}"}}}}}}"#);
    unreadable(&nested("int"), &nested("string"), &["TYPE_MISMATCH /items/values/items"]);
    let fixed = r#"{"type":"fixed","name":"F","size":4}"#;
    // Java has no promotion between fixed and bytes, whatever the logical type.
    unreadable("\"bytes\"", fixed, &["TYPE_MISMATCH /"]);
    unreadable(fixed, "\"bytes\"", &["TYPE_MISMATCH /"]);
    unreadable("\"string\"", r#"{"type":"enum","name":"E","symbols":["A"]}"#, &["TYPE_MISMATCH /"]);
}

#[test]
fn fixed_by_name_and_size() {
    let fixed = |name: &str, size| format!(r#"{{"type":"fixed","name":"{name}","size":{size}}}"#);
    readable(&fixed("F", 4), &fixed("F", 4));
    readable(&fixed("a.F", 4), &fixed("b.F", 4));
    unreadable(&fixed("F", 4), &fixed("F", 8), &["FIXED_SIZE_MISMATCH /size"]);
    unreadable(&fixed("G", 4), &fixed("F", 8), &["NAME_MISMATCH /name", "FIXED_SIZE_MISMATCH /size"]);
    readable(r#"{"type":"fixed","name":"G","aliases":["F"],"size":4}"#, &fixed("F", 4));
}

#[test]
fn enums_by_name_symbols_and_default() {
    let symbols = |symbols: &str| format!(r#"{{"type":"enum","name":"E","symbols":[{symbols}]}}"#);
    readable(&symbols(r#""B","A","C""#), &symbols(r#""A","B""#));
    unreadable(&symbols(r#""A""#), &symbols(r#""A","B""#), &["MISSING_ENUM_SYMBOLS /symbols"]);
    readable(r#"{"type":"enum","name":"E","symbols":["A","U"],"default":"U"}"#, &symbols(r#""A","B""#));
    // It is the reader's default that counts.
    let with_default = r#"{"type":"enum","name":"E","symbols":["A","B"],"default":"B"}"#;
    unreadable(&symbols(r#""A""#), with_default, &["MISSING_ENUM_SYMBOLS /symbols"]);
    unreadable(r#"{"type":"enum","name":"F","symbols":["A"]}"#, &symbols(r#""A""#), &["NAME_MISMATCH /name"]);
    let message = &incompatibilities(&parse(&symbols(r#""A""#)), &parse(&symbols(r#""A","C","B""#))).unwrap()[0];
    assert_eq!(
        message.to_string(),
        "MISSING_ENUM_SYMBOLS at /symbols of the new schema as reader: the reader's enum `E` lacks the symbols C, B and has no default"
    );
}

#[test]
fn records_by_fields_aliases_and_defaults() {
    let (a, b) = (r#"{"name":"a","type":"int"}"#, r#"{"name":"b","type":"string"}"#);
    let both = record(&format!("{a},{b}"));
    readable(&both, &record(&format!("{b},{a}")));
    // A field that the reader lacks is passed over; one that the writer lacks needs a default.
    readable(&record(a), &both);
    unreadable(&both, &record(a), &["READER_FIELD_MISSING_DEFAULT_VALUE /fields/1"]);
    readable(&record(&format!(r#"{a},{{"name":"b","type":"string","default":""}}"#)), &record(a));
    readable(&record(&format!(r#"{a},{{"name":"b","type":["null","string"],"default":null}}"#)), &record(a));
    // An optional type is no default, and neither is that of an enum.
    let optional = record(&format!(r#"{a},{{"name":"b","type":["null","string"]}}"#));
    unreadable(&optional, &record(a), &["READER_FIELD_MISSING_DEFAULT_VALUE /fields/1"]);
    let enumeration = r#"{"name":"e","type":{"type":"enum","name":"E","symbols":["A"],"default":"A"}}"#;
    unreadable(&record(enumeration), &record(""), &["READER_FIELD_MISSING_DEFAULT_VALUE /fields/0"]);
    unreadable(
        &record(&format!(r#"{{"name":"a","type":"string"}},{b},{{"name":"c","type":"int"}}"#)),
        &both,
        &["READER_FIELD_MISSING_DEFAULT_VALUE /fields/2", "TYPE_MISMATCH /fields/0/type"],
    );
    // Renamed: the reader has to say so.
    readable(&record(r#"{"name":"z","type":"long","aliases":["y","a"]}"#), &record(a));
    unreadable(
        &record(r#"{"name":"z","type":"long","aliases":["y"]}"#),
        &record(a),
        &["READER_FIELD_MISSING_DEFAULT_VALUE /fields/0"],
    );
    unreadable(
        &record(a),
        &record(r#"{"name":"z","type":"int","aliases":["a"]}"#),
        &["READER_FIELD_MISSING_DEFAULT_VALUE /fields/0"],
    );
    // Java throws, and the registry takes that for a no.
    unreadable(&record(r#"{"name":"a","type":"int","aliases":["b"]}"#), &both, &["NAME_MISMATCH /fields/0"]);
    // An error of a protocol is a record.
    readable(&record(a), &record(a).replace("record", "error"));
}

#[test]
fn names_count_without_their_namespaces() {
    let named = |attributes: &str| format!(r#"{{"type":"record",{attributes},"fields":[]}}"#);
    readable(&named(r#""name":"R","namespace":"a""#), &named(r#""name":"b.R""#));
    unreadable(&named(r#""name":"a.R""#), &named(r#""name":"a.S""#), &["NAME_MISMATCH /name"]);
    // An alias is a full name, in the type's own namespace if it names none.
    readable(&named(r#""name":"a.R","aliases":["S"]"#), &named(r#""name":"a.S""#));
    unreadable(&named(r#""name":"a.R","aliases":["S"]"#), &named(r#""name":"b.S""#), &["NAME_MISMATCH /name"]);
    readable(&named(r#""name":"a.R","aliases":["b.S"]"#), &named(r#""name":"b.S""#));
    // References are resolved in the namespace around them.
    let inner = |reference: &str| {
        format!(
            r#"{{"type":"record","name":"a.b.R","fields":[{{"name":"x","type":{{"type":"enum","name":"E","symbols":["A"]}}}},
                {{"name":"y","type":{{"type":"record","name":"c.S","fields":[{{"name":"z","type":"{reference}"}}]}}}}]}}"#
        )
    };
    readable(&inner("a.b.E"), &inner("a.b.E"));
    assert!(AvroSchema::parse(&inner("E"), &[]).is_err(), "in namespace `c` there is no `E`");
    let same = r#"{"type":"record","name":"R","namespace":"a","fields":[{"name":"x","type":{"type":"fixed","name":"F","size":1}},
        {"name":"y","type":["null","F"]},{"name":"z","type":{"type":"F"}}]}"#;
    readable(same, same);
}

#[test]
fn unions_in_both_directions() {
    readable(r#"["null","string"]"#, "\"string\"");
    readable(r#"["null","string"]"#, "\"bytes\"");
    readable(r#"["int","null"]"#, r#"["null","int"]"#);
    readable(r#"["null","double","string"]"#, r#"["int","string"]"#);
    readable("\"long\"", r#"["int","long"]"#);
    readable("\"int\"", r#"["int"]"#);
    readable("\"int\"", "[]");
    unreadable("[]", "\"int\"", &["MISSING_UNION_BRANCH /"]);
    unreadable(r#"["null","string"]"#, "\"int\"", &["MISSING_UNION_BRANCH /"]);
    unreadable("\"string\"", r#"["null","string"]"#, &["TYPE_MISMATCH /0"]);
    unreadable(r#"["int","string"]"#, r#"["null","string","boolean"]"#, &["MISSING_UNION_BRANCH /0", "MISSING_UNION_BRANCH /2"]);
    unreadable(
        &record(r#"{"name":"x","type":"string"},{"name":"a","type":["null","int"]}"#),
        &record(r#"{"name":"a","type":["null","long"]},{"name":"x","type":"string"}"#),
        &["MISSING_UNION_BRANCH /fields/1/type/1"],
    );
    // The branch that is meant is named, and what is wrong in it too.
    let optional = |fields: &str| format!(r#"{{"type":"array","items":["null","int",{}]}}"#, record(fields));
    unreadable(
        &optional(r#"{"name":"a","type":"int"}"#),
        &optional(r#"{"name":"a","type":"string"}"#),
        &["MISSING_UNION_BRANCH /items/2", "TYPE_MISMATCH /items/2/fields/0/type"],
    );
    // A branch of another name does not do.
    unreadable(r#"["null",{"type":"record","name":"S","fields":[]}]"#, &record(""), &["MISSING_UNION_BRANCH /"]);
}

#[test]
fn types_that_contain_themselves() {
    let list = |kind: &str, more: &str| {
        record(&format!(r#"{{"name":"value","type":"{kind}"}},{{"name":"next","type":["null","R"]}}{more}"#))
    };
    readable(&list("long", ""), &list("int", ""));
    // Once where it is met first: at the value. The list goes on with the same two types.
    unreadable(&list("int", ""), &list("long", ""), &["TYPE_MISMATCH /fields/0/type", "MISSING_UNION_BRANCH /fields/1/type/1"]);
    readable(&list("int", r#",{"name":"note","type":"string","default":""}"#), &list("int", ""));
    // Two readers' types for one of the writer's, each by way of the other.
    let alternating = r#"{"type":"record","name":"R","fields":[{"name":"next","type":["null",
        {"type":"record","name":"x.R","fields":[{"name":"next","type":["null","R"]}]}]}]}"#;
    let plain = record(r#"{"name":"next","type":["null","R"]}"#);
    readable(alternating, &plain);
    readable(&plain, alternating);
    let broken = alternating.replacen(r#"["null","R"]"#, r#""R""#, 1);
    assert!(!found(&broken, &plain).is_empty(), "deep inside, null cannot be read");
}

/// What was assumed of a pair while it was looked at must not stay when it turns out to be wrong.
#[test]
fn an_assumption_that_fails_is_taken_back() {
    let schema = |kind: &str| {
        format!(
            r#"{{"type":"record","name":"A","fields":[
                {{"name":"b","type":{{"type":"record","name":"B","fields":[{{"name":"a","type":["null","A"]}}]}}}},
                {{"name":"k","type":"{kind}"}}]}}"#
        )
    };
    // `B` is readable only if `A` is. Both unions are asked about it before that is known.
    let reader = format!(
        r#"{{"type":"record","name":"T","fields":[{{"name":"x","type":["null",{}]}},{{"name":"y","type":["null","B"]}}]}}"#,
        schema("int")
    );
    let writer = format!(
        r#"{{"type":"record","name":"T","fields":[{{"name":"x","type":["null",{}]}},{{"name":"y","type":["null","B"]}}]}}"#,
        schema("string")
    );
    let found = found(&reader, &writer);
    assert!(found.contains(&"MISSING_UNION_BRANCH /fields/0/type/1".to_owned()), "{found:?}");
    assert!(found.contains(&"MISSING_UNION_BRANCH /fields/1/type/1".to_owned()), "{found:?}");
}

/// As in Java: only the underlying types count.
#[test]
fn logical_types_play_no_part() {
    let decimal = |scale| format!(r#"{{"type":"bytes","logicalType":"decimal","precision":9,"scale":{scale}}}"#);
    readable(&decimal(2), &decimal(4));
    readable(&decimal(2), "\"bytes\"");
    readable("\"long\"", r#"{"type":"long","logicalType":"timestamp-micros"}"#);
    readable(r#"{"type":"long","logicalType":"timestamp-millis"}"#, r#"{"type":"long","logicalType":"timestamp-micros"}"#);
    readable(r#"{"type":"long","logicalType":"timestamp-micros"}"#, r#"{"type":"int","logicalType":"date"}"#);
    unreadable(
        r#"{"type":"int","logicalType":"date"}"#,
        r#"{"type":"long","logicalType":"timestamp-micros"}"#,
        &["TYPE_MISMATCH /"],
    );
    let fixed = |scale| format!(r#"{{"type":"fixed","name":"D","size":8,"logicalType":"decimal","precision":9,"scale":{scale}}}"#);
    readable(&fixed(1), &fixed(2));
}

#[test]
fn levels_in_the_registrys_words() {
    for level in Compatibility::ALL {
        assert_eq!(level.to_string().parse(), Ok(level));
        assert_eq!(level.to_string().to_lowercase().parse(), Ok(level));
    }
    let error = "SIDEWAYS".parse::<Compatibility>().unwrap_err().to_string();
    assert!(error.contains("SIDEWAYS") && error.contains("FULL_TRANSITIVE"), "{error}");
}

#[test]
fn levels_say_who_reads_what() {
    use Compatibility as C;
    let field =
        |name: &str, default: bool| format!(r#"{{"name":"{name}","type":"int"{}}}"#, if default { r#","default":0"# } else { "" });
    let plain = record(&field("id", false));
    let (required, optional) =
        (record(&[field("id", false), field("a", false)].join(",")), record(&[field("id", false), field("a", true)].join(",")));
    let other = record(&field("other", false));
    let cases: [(&str, &[&str], &[C]); 6] = [
        (&optional, &[&plain], &C::ALL),
        (&plain, &[&required], &[C::None, C::Backward, C::BackwardTransitive]),
        (&required, &[&plain], &[C::None, C::Forward, C::ForwardTransitive]),
        (&other, &[&plain], &[C::None]),
        // The versions before the last count only for the transitive levels.
        (&plain, &[&optional, &other], &[C::None, C::Backward, C::Forward, C::Full]),
        (&other, &[], &C::ALL),
    ];
    for (new, existing, allowed) in cases {
        let existing: Vec<_> = existing.iter().map(|text| parse(text)).collect();
        for level in C::ALL {
            let found = check_compatibility(level, &parse(new), &existing).unwrap();
            assert_eq!(found.is_empty(), allowed.contains(&level), "{level}: {new}: {found:?}");
        }
    }
    let found = check_compatibility(C::FullTransitive, &parse(&plain), &[parse(&optional), parse(&other)]).unwrap();
    let found: Vec<_> = found.iter().map(|found| (found.direction, found.against, found.path.as_str())).collect();
    assert_eq!(found, [(Direction::Backward, 1, "/fields/0"), (Direction::Forward, 1, "/fields/0")]);
}

#[test]
fn malformed_schemas_are_errors_with_their_place() {
    for (text, path, part) in [
        ("7", "/", "a type is"),
        (r#""nonsense""#, "/", "`nonsense`"),
        ("{}", "/", "no `type`"),
        (r#"{"type":7}"#, "/type", "a type is"),
        (r#"{"type":"record","fields":[]}"#, "/", "no `name`"),
        (r#"{"type":"record","name":"R"}"#, "/", "`fields`"),
        (r#"{"type":"record","name":"1R","fields":[]}"#, "/", "`1R` is not a name"),
        (r#"{"type":"record","name":"a.b-c","fields":[]}"#, "/", "`b-c` is not a name"),
        (r#"{"type":"record","name":"int","fields":[]}"#, "/", "Avro's own types"),
        (r#"{"type":"record","name":"R","namespace":7,"fields":[]}"#, "/namespace", "a string"),
        (r#"{"type":"record","name":"R","fields":[7]}"#, "/fields/0", "an object"),
        (r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"b"}]}"#, "/fields/1", "no `type`"),
        (
            r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}"#,
            "/fields/1",
            "`a` already",
        ),
        (r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int","aliases":"b"}]}"#, "/fields/0", "array of strings"),
        (r#"{"type":"record","name":"R","fields":[{"name":"a","type":["null",{"type":"array"}]}]}"#, "/fields/0/type/1", "`items`"),
        (r#"{"type":"record","name":"R","fields":[{"name":"a","type":"S"}]}"#, "/fields/0/type", "`S` is neither"),
        (r#"{"type":"map"}"#, "/", "no `values`"),
        (r#"{"type":"map","values":{"type":"array","items":"x"}}"#, "/values/items", "`x`"),
        (r#"["int","string","int"]"#, "/2", "twice"),
        (r#"[{"type":"array","items":"int"},{"type":"array","items":"long"}]"#, "/1", "twice"),
        (r#"["int",["null"]]"#, "/1", "union directly inside"),
        (r#"[{"type":"fixed","name":"F","size":1},{"type":"fixed","name":"F","size":1}]"#, "/1", "defined already"),
        (r#"{"type":"fixed","name":"F"}"#, "/", "`size`"),
        (r#"{"type":"fixed","name":"F","size":-1}"#, "/", "`size`"),
        (r#"{"type":"enum","name":"E"}"#, "/", "`symbols`"),
        (r#"{"type":"enum","name":"E","symbols":["A","A"]}"#, "/symbols/1", "already"),
        (r#"{"type":"enum","name":"E","symbols":["A","-"]}"#, "/symbols/1", "not a name"),
        (r#"{"type":"enum","name":"E","symbols":["A"],"default":"B"}"#, "/default", "not one of its symbols"),
    ] {
        match AvroSchema::parse(text, &[]) {
            Err(SchemaError::Malformed { path: found, problem }) => {
                assert_eq!(found, path, "{text}: {problem}");
                assert!(problem.contains(part), "{text}: {problem}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    for text in ["", "string", "{", &"[".repeat(1000), &r#"{"type":"array","items":"#.repeat(300)] {
        assert!(matches!(AvroSchema::parse(text, &[]), Err(SchemaError::Json(_))), "{text}");
    }
}

#[test]
fn defaults_of_new_schemas_fit_their_fields() {
    let with = |kind: &str, default: &str| record(&format!(r#"{{"name":"a","type":{kind},"default":{default}}}"#));
    let point = r#"{"type":"record","name":"P","fields":[{"name":"x","type":"int"},{"name":"y","type":"int","default":1}]}"#;
    for (kind, good, bad) in [
        ("\"null\"", "null", "0"),
        ("\"boolean\"", "true", "\"true\""),
        ("\"int\"", "-2147483648", "2147483648"),
        ("\"long\"", "9223372036854775807", "1.5"),
        ("\"double\"", "1", "\"1\""),
        ("\"string\"", "\"\"", "null"),
        ("\"bytes\"", "\"\\u00ff\"", "[1]"),
        (r#"["null","string"]"#, "null", "7"),
        (r#"["null","string"]"#, "\"1.12 takes any branch\"", "{}"),
        (r#"{"type":"array","items":"int"}"#, "[1,2]", "[1,null]"),
        (r#"{"type":"map","values":"int"}"#, r#"{"k":1}"#, r#"{"k":"v"}"#),
        (r#"{"type":"enum","name":"E","symbols":["A"]}"#, "\"A\"", "\"B\""),
        (r#"{"type":"fixed","name":"F","size":1}"#, "\"a\"", "1"),
        (point, r#"{"x":1}"#, r#"{"y":1}"#),
    ] {
        parse(&with(kind, good));
        let error = AvroSchema::parse_new(&with(kind, bad), &[]).unwrap_err();
        assert!(matches!(&error, SchemaError::Malformed { path, .. } if path == "/fields/0/default"), "{kind} {bad}: {error}");
        // Registries did not always look, and what is registered has to be compared with.
        AvroSchema::parse(&with(kind, bad), &[]).unwrap();
    }
    // A default that needs itself has no end.
    let endless = record(r#"{"name":"a","type":"R","default":{"a":{}}}"#);
    assert!(AvroSchema::parse_new(&endless, &[]).is_ok(), "the innermost takes the default of the field");
}

#[test]
fn schemas_may_name_types_of_others() {
    let money = r#"{"type":"record","name":"shop.Money","fields":[{"name":"cents","type":"long"}]}"#;
    let price = r#"{"type":"record","name":"shop.Price","fields":[{"name":"amount","type":"Money"}]}"#;
    let order = r#"{"type":"array","items":["null","shop.Price","shop.Money"]}"#;
    assert!(AvroSchema::parse(order, &[]).is_err());
    assert!(AvroSchema::parse(order, &[price, money]).is_err(), "each after those that it needs");
    let referring = AvroSchema::parse_new(order, &[money, price]).unwrap();
    let wide = money.replace("long", "string");
    let wide = AvroSchema::parse_new(order, &[&wide, price]).unwrap();
    let found = incompatibilities(&wide, &referring).unwrap();
    let found: Vec<_> = found.iter().map(|found| format!("{} {}", found.kind, found.path)).collect();
    assert_eq!(
        found,
        ["MISSING_UNION_BRANCH /items/1", "TYPE_MISMATCH /items/1/fields/0/type/fields/0/type", "MISSING_UNION_BRANCH /items/2"]
    );
}

/// Chains of types by name are as long as the text; nothing recurses over them. Unions multiply; there is an end.
#[test]
fn large_schemas_are_compared_or_refused() {
    let chain = |last: &str| {
        let mut text = format!(r#"[{{"type":"record","name":"R0","fields":[{{"name":"f","type":"{last}"}}]}}"#);
        for n in 1..20_000 {
            text += &format!(r#",{{"type":"record","name":"R{n}","fields":[{{"name":"f","type":"R{}"}}]}}"#, n - 1);
        }
        text + "]"
    };
    let top = |last: &str| AvroSchema::parse(r#""R19999""#, &[&chain(last)]).unwrap();
    assert!(incompatibilities(&top("long"), &top("int")).unwrap().is_empty());
    let found = incompatibilities(&top("int"), &top("long")).unwrap();
    assert_eq!((found.len(), found[0].path.matches("/type").count()), (1, 20_000));

    let wide = |n| {
        let branches: Vec<_> = (0..n).map(|n| format!(r#"{{"type":"fixed","name":"F{n}","size":{n}}}"#)).collect();
        AvroSchema::parse(&format!("[{}]", branches.join(",")), &[]).unwrap()
    };
    assert!(incompatibilities(&wide(500), &wide(500)).unwrap().is_empty());
    let error = incompatibilities(&wide(2000), &wide(2000)).unwrap_err();
    assert!(error.to_string().contains("too complex"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_schema_reads_its_own_data(schema in any_schema()) {
        readable(&schema.to_string(), &schema.to_string());
    }

    #[test]
    fn full_is_symmetric(Pair { reader, writer } in any_pair()) {
        let (a, b) = (parse(&reader.to_string()), parse(&writer.to_string()));
        let allowed = |new, old: &AvroSchema| check_compatibility(Compatibility::Full, new, std::slice::from_ref(old)).unwrap().is_empty();
        prop_assert_eq!(allowed(&a, &b), allowed(&b, &a));
        let one_way = |reader, writer| incompatibilities(reader, writer).unwrap().is_empty();
        prop_assert_eq!(allowed(&a, &b), one_way(&a, &b) && one_way(&b, &a));
    }

    #[test]
    fn an_optional_field_may_come_and_go(schema in any_schema()) {
        let field = r#"{"name":"added","type":["null","string"],"default":null}"#;
        let before = record(&format!(r#"{{"name":"rest","type":{schema}}}"#));
        let after = record(&format!(r#"{{"name":"rest","type":{schema}}},{field}"#));
        let found = check_compatibility(Compatibility::FullTransitive, &parse(&after), &[parse(&before), parse(&after)]).unwrap();
        prop_assert_eq!(found, []);
    }

    #[test]
    fn arbitrary_text_never_panics(text in ".{0,200}") {
        let _ = AvroSchema::parse_new(&text, &[]);
    }

    /// A schema with bytes changed, cut out and doubled: an error or another schema, which can be compared.
    #[test]
    fn damaged_schemas_never_panic(schema in any_schema(), damage in prop::collection::vec((any::<prop::sample::Index>(), 0..3, any::<u8>()), 1..6)) {
        let original = schema.to_string();
        let mut bytes = original.clone().into_bytes();
        for (at, how, byte) in damage {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, bytes[at]),
            }
            if bytes.is_empty() {
                break;
            }
        }
        if let Ok(damaged) = AvroSchema::parse_new(&String::from_utf8_lossy(&bytes), &[]) {
            incompatibilities(&damaged, &parse(&original)).unwrap();
            incompatibilities(&parse(&original), &damaged).unwrap();
        }
    }
}

/// What the levels come to for our own topics, as `docs/schemas.md` says.
#[test]
fn columns_may_come_and_go_at_every_level() {
    let kinds = || scalar_types().into_iter().chain(scalar_types().into_iter().map(|item| ColumnType::List(Box::new(item))));
    let schemas = |kinds: Vec<ColumnType>| {
        let schema = table(kinds, &[0], Identity::Key);
        parse(&value_schema("shop.public.t", &schema, &info()))
    };
    let allowed = |level, new: Vec<ColumnType>, old: Vec<ColumnType>| {
        let found = check_compatibility(level, &schemas(new), &[schemas(old)]).unwrap();
        found.first().map(ToString::to_string)
    };
    let all: Vec<_> = kinds().collect();
    assert_eq!(allowed(Compatibility::Full, all.clone(), all[..1].to_vec()), None);
    assert_eq!(allowed(Compatibility::Full, all[..1].to_vec(), all.clone()), None);
    let (narrow, wide) = (vec![ColumnType::Int64, ColumnType::Int32], vec![ColumnType::Int64, ColumnType::Int64]);
    assert_eq!(allowed(Compatibility::Backward, wide.clone(), narrow.clone()), None);
    assert!(allowed(Compatibility::Forward, wide.clone(), narrow.clone()).is_some());
    // What is wrong in the row is told once, where it is met first: in `before`.
    let found = check_compatibility(Compatibility::Backward, &schemas(narrow), &[schemas(wide)]).unwrap();
    let found: Vec<_> = found.iter().map(|found| format!("{} {}", found.kind, found.path)).collect();
    assert_eq!(
        found,
        [
            "MISSING_UNION_BRANCH /fields/0/type/1",
            "MISSING_UNION_BRANCH /fields/0/type/1/fields/1/type/1",
            "MISSING_UNION_BRANCH /fields/1/type/1",
        ]
    );
}
