//! The schema store: what it gives out, and what it leaves in `_schemas`.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use log_core::{
    Candidate, Compaction, Deletion, Listing, Log, LogError, LogOptions, RawSchemaRecord, Schema, SchemaReference, SchemaStore,
};

use crate::support::{copy_dir, options, temp_dir};

fn avro(text: &str) -> Schema {
    Schema::avro(text)
}

fn anything(_: &Candidate<'_>) -> Result<(), Vec<String>> {
    Ok(())
}

fn register(schemas: &SchemaStore, subject: &str, text: &str) -> u32 {
    schemas.register(subject, &avro(text), &anything).unwrap()
}

/// Versions with their ids.
fn versions(schemas: &SchemaStore, subject: &str, listing: Listing) -> Vec<(u32, u32)> {
    schemas.versions(subject, listing).iter().map(|version| (version.version, version.id)).collect()
}

/// Everything that can be asked of a store, for comparison.
fn everything(schemas: &SchemaStore) -> String {
    let mut text = format!("level {:?}\n", schemas.compatibility(None));
    for subject in schemas.subjects(Listing::WithDeleted) {
        let level = schemas.compatibility(Some(&subject));
        text += &format!("{subject} {level:?} {:?}\n", schemas.versions(&subject, Listing::WithDeleted));
    }
    for id in 0..2000 {
        if let Some(schema) = schemas.schema(id) {
            text += &format!("{id} {schema:?} {:?}\n", schemas.uses(id, Listing::WithDeleted));
        }
    }
    text
}

/// The records of `_schemas` as text, key and value.
fn records(schemas: &SchemaStore) -> Vec<(String, Option<String>)> {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    schemas.export().unwrap().into_iter().map(|(key, value)| (text(key), value.map(text))).collect()
}

fn raw(records: &[(&str, Option<&str>)]) -> Vec<RawSchemaRecord> {
    records.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.map(|value| value.as_bytes().to_vec()))).collect()
}

#[test]
fn schemas_have_global_ids() {
    let dir = temp_dir();
    let text = r#"{"type":"string"}"#;
    {
        let log = Log::open(dir.path(), options()).unwrap();
        let schemas = log.schemas();
        assert_eq!(register(&schemas, "a-value", text), 1);
        assert_eq!(register(&schemas, "a-value", "\"long\""), 2);
        assert_eq!(register(&schemas, "a-value", text), 1);
        assert_eq!(register(&schemas, "b-value", text), 1);
        assert_eq!(log.topic("_schemas").unwrap().end_offset(0), 3);
        // Durable before it returns: a copy of the files has it too.
        let copy = temp_dir();
        copy_dir(dir.path(), copy.path());
        let crashed = Log::open(copy.path(), options()).unwrap();
        assert_eq!(versions(&crashed.schemas(), "b-value", Listing::Live).len(), 1);
    }
    let log = Log::open(dir.path(), options()).unwrap();
    let schemas = log.schemas();
    assert_eq!(schemas.get(1).as_deref(), Some(text));
    assert_eq!(schemas.get(3), None);
    assert_eq!(schemas.subjects(Listing::Live), ["a-value", "b-value"]);
    assert_eq!(versions(&schemas, "a-value", Listing::Live), [(1, 1), (2, 2)]);
    assert_eq!(schemas.uses(1, Listing::Live), [("a-value".to_owned(), 1), ("b-value".to_owned(), 1)]);
    assert_eq!(schemas.lookup("a-value", &avro("\"long\""), Listing::Live).unwrap().version, 2);
    assert_eq!(schemas.lookup("b-value", &avro("\"long\""), Listing::Live), None);
    assert_eq!(register(&schemas, "c-value", "\"int\""), 3);

    // The record shape of Confluent's registry.
    let (key, value) = records(&schemas).swap_remove(2);
    assert_eq!(key, r#"{"keytype":"SCHEMA","subject":"b-value","version":1,"magic":1}"#);
    let expected = r#"{"subject":"b-value","version":1,"id":1,"schema":"{\"type\":\"string\"}","deleted":false}"#;
    assert_eq!(value.as_deref(), Some(expected));
}

#[test]
fn many_schemas_are_registered_together() {
    let dir = temp_dir();
    let expected = [1, 2, 1, 2, 3, 1];
    {
        let log = Log::open(dir.path(), options()).unwrap();
        assert_eq!(register(&log.schemas(), "a-value", "one"), 1);
        let all = [
            ("a-value", avro("one")),
            ("a-value", avro("two")),
            ("b-value", avro("one")),
            ("a-value", avro("two")),
            ("b-value", avro("three")),
            ("b-value", avro("one")),
        ];
        assert_eq!(log.schemas().register_all(&all, &anything).unwrap(), expected);
        assert_eq!(log.schemas().register_all(&all, &anything).unwrap(), expected, "all are known now");
        assert_eq!(log.topic("_schemas").unwrap().end_offset(0), 4);
        log.close().unwrap();
    }
    let log = Log::open(dir.path(), options()).unwrap();
    assert_eq!(versions(&log.schemas(), "a-value", Listing::Live), [(1, 1), (2, 2)]);
    assert_eq!(versions(&log.schemas(), "b-value", Listing::Live), [(1, 1), (2, 3)]);
}

/// The check is asked where a level is set, and nowhere else; it is told everything.
#[test]
fn a_level_makes_the_check_decide() {
    let dir = temp_dir();
    let log = Log::open(dir.path(), options()).unwrap();
    let schemas = log.schemas();
    let longer = |candidate: &Candidate<'_>| {
        assert_eq!(candidate.level, "LONGER");
        match candidate.existing.iter().find(|(_, old)| old.schema.text.len() >= candidate.schema.schema.text.len()) {
            Some((version, _)) => Err(vec![format!("not longer than {version}"), "try again".to_owned()]),
            None => Ok(()),
        }
    };
    let never = |_: &Candidate<'_>| -> Result<(), Vec<String>> { panic!("no level is set") };
    assert_eq!(schemas.register("a", &avro("two"), &never).unwrap(), 1);
    assert_eq!(schemas.compatibility_in_force("a"), None);
    schemas.set_compatibility(None, Some("LONGER")).unwrap();
    let refused = schemas.register("a", &avro("one"), &longer).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "a schema for subject `a` is refused at compatibility level LONGER: not longer than 1; try again"
    );
    assert!(matches!(schemas.check("a", &avro("one"), None, &longer), Err(LogError::SchemaRefused { .. })));
    schemas.check("a", &avro("three"), None, &longer).unwrap();
    let other = |candidate: &Candidate<'_>| Err(vec![candidate.level.to_owned()]);
    let tried = schemas.check("a", &avro("three"), Some("OTHER"), &other).unwrap_err();
    assert!(matches!(tried, LogError::SchemaRefused { level, reasons, .. } if level == "OTHER" && reasons == "OTHER"));
    assert_eq!(versions(&schemas, "a", Listing::WithDeleted), [(1, 1)], "neither stored anything");

    // All or nothing, and each is compared with those before it.
    let set = [("b", avro("three")), ("a", avro("three")), ("a", avro("four"))];
    let refused = schemas.register_all(&set, &longer).unwrap_err();
    assert!(refused.to_string().contains("not longer than 2"), "{refused}");
    assert_eq!(schemas.subjects(Listing::WithDeleted), ["a"]);
    assert_eq!(schemas.get(2), None);
    assert_eq!(schemas.register_all(&set[..2], &longer).unwrap(), [2, 2]);

    // A subject's own level goes before that of all; what is there already is not asked about.
    schemas.set_compatibility(Some("a"), Some("OWN")).unwrap();
    assert_eq!(schemas.compatibility_in_force("a").as_deref(), Some("OWN"));
    assert_eq!(schemas.compatibility_in_force("b").as_deref(), Some("LONGER"));
    assert_eq!(schemas.register("a", &avro("two"), &longer).unwrap(), 1);
    let own = |candidate: &Candidate<'_>| {
        let seen: Vec<_> = candidate.existing.iter().map(|(version, old)| (*version, &*old.schema.text)).collect();
        assert_eq!((candidate.subject, candidate.level, seen), ("a", "OWN", vec![(2, "three"), (1, "two")]));
        Ok(())
    };
    assert_eq!(schemas.register("a", &avro("1"), &own).unwrap(), 3);
    schemas.set_compatibility(Some("a"), None).unwrap();
    schemas.set_compatibility(Some("a"), None).unwrap();
    assert_eq!(schemas.compatibility_in_force("a").as_deref(), Some("LONGER"));
    let configs: Vec<_> = records(&schemas).into_iter().filter(|(key, _)| key.contains("CONFIG")).collect();
    assert_eq!(
        configs,
        [
            (r#"{"keytype":"CONFIG","subject":null,"magic":0}"#.to_owned(), Some(r#"{"compatibilityLevel":"LONGER"}"#.to_owned())),
            (r#"{"keytype":"CONFIG","subject":"a","magic":0}"#.to_owned(), Some(r#"{"compatibilityLevel":"OWN"}"#.to_owned())),
            (r#"{"keytype":"CONFIG","subject":"a","magic":0}"#.to_owned(), None),
        ]
    );
    let before = everything(&schemas);
    drop(schemas);
    log.close().unwrap();
    drop(log);
    assert_eq!(everything(&Log::open(dir.path(), options()).unwrap().schemas()), before);
}

#[test]
fn deleted_versions_come_back_as_new_ones() {
    let dir = temp_dir();
    let log = Log::open(dir.path(), options()).unwrap();
    let schemas = log.schemas();
    for text in ["one", "two", "three"] {
        register(&schemas, "a", text);
    }
    schemas.set_compatibility(Some("a"), Some("FULL")).unwrap();
    schemas.delete_version("a", 2, Deletion::Soft).unwrap();
    assert_eq!(versions(&schemas, "a", Listing::Live), [(1, 1), (3, 3)]);
    assert_eq!(versions(&schemas, "a", Listing::WithDeleted), [(1, 1), (2, 2), (3, 3)]);
    assert_eq!(schemas.get(2).as_deref(), Some("two"), "records may still name it");
    assert_eq!(schemas.uses(2, Listing::Live), []);
    assert_eq!(schemas.uses(2, Listing::WithDeleted), [("a".to_owned(), 2)]);
    assert_eq!(schemas.lookup("a", &avro("two"), Listing::Live), None);
    assert!(schemas.lookup("a", &avro("two"), Listing::WithDeleted).unwrap().deleted);
    assert!(matches!(schemas.delete_version("a", 2, Deletion::Soft), Err(LogError::UnknownSchemaVersion { version: 2, .. })));
    let (key, value) = records(&schemas).pop().unwrap();
    assert_eq!(key, r#"{"keytype":"SCHEMA","subject":"a","version":2,"magic":1}"#);
    assert_eq!(value.as_deref(), Some(r#"{"subject":"a","version":2,"id":2,"schema":"two","deleted":true}"#));

    // Again: the same id, a new version, and the old one makes room.
    assert_eq!(register(&schemas, "a", "two"), 2);
    assert_eq!(versions(&schemas, "a", Listing::WithDeleted), [(1, 1), (3, 3), (4, 2)]);
    assert_eq!(schemas.compatibility(Some("a")).as_deref(), Some("FULL"));

    // The whole subject, with its level.
    assert_eq!(schemas.delete_subject("a", Deletion::Soft).unwrap(), [1, 3, 4]);
    assert_eq!(schemas.subjects(Listing::Live), [""; 0]);
    assert_eq!(schemas.subjects(Listing::WithDeleted), ["a"]);
    assert_eq!(schemas.compatibility(Some("a")), None);
    assert!(matches!(schemas.delete_subject("a", Deletion::Soft), Err(LogError::UnknownSubject(_))));
    let mut last = records(&schemas);
    let last = last.split_off(last.len() - 2);
    assert_eq!(last[0].0, r#"{"keytype":"DELETE_SUBJECT","subject":"a","magic":0}"#);
    assert_eq!(last[0].1.as_deref(), Some(r#"{"subject":"a","version":4}"#));
    assert_eq!(last[1], (r#"{"keytype":"CONFIG","subject":"a","magic":0}"#.to_owned(), None));
    assert_eq!(register(&schemas, "a", "five"), 4);
    assert_eq!(versions(&schemas, "a", Listing::Live), [(5, 4)]);

    let before = everything(&schemas);
    drop((schemas, log));
    let schemas = Log::open(dir.path(), options()).unwrap().schemas();
    assert_eq!(everything(&schemas), before);
}

#[test]
fn what_is_deleted_for_good_is_gone_and_its_id_is_not_given_again() {
    let dir = temp_dir();
    let log = Log::open(dir.path(), options()).unwrap();
    let schemas = log.schemas();
    register(&schemas, "a", "one");
    register(&schemas, "b", "one");
    register(&schemas, "a", "two");
    assert!(matches!(schemas.delete_version("a", 2, Deletion::Permanent), Err(LogError::SchemaNotDeleted { .. })));
    assert!(matches!(schemas.delete_subject("a", Deletion::Permanent), Err(LogError::SchemaNotDeleted { .. })));
    schemas.delete_subject("a", Deletion::Soft).unwrap();
    assert_eq!(schemas.delete_subject("a", Deletion::Permanent).unwrap(), [1, 2]);
    assert_eq!(schemas.subjects(Listing::WithDeleted), ["b"]);
    assert_eq!((schemas.get(1).as_deref(), schemas.get(2)), (Some("one"), None), "`b` has the first one");
    assert!(matches!(schemas.delete_version("a", 2, Deletion::Permanent), Err(LogError::UnknownSchemaVersion { .. })));
    let exported = records(&schemas);
    assert!(exported.iter().any(|(key, value)| key.contains("NOOP") && value.as_deref() == Some(r#"{"lastId":2}"#)));
    assert_eq!(exported.last().unwrap(), &(r#"{"keytype":"SCHEMA","subject":"a","version":2,"magic":1}"#.to_owned(), None));

    // As after a compaction, which keeps the last record of each key, and those without a value only for a time.
    let mut compacted: Vec<(String, Option<String>)> = Vec::new();
    for (key, value) in exported {
        compacted.retain(|(kept, _)| *kept != key);
        compacted.push((key, value));
    }
    compacted.retain(|(_, value)| value.is_some());
    let compacted: Vec<_> = compacted.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
    let other = temp_dir();
    let other_log = Log::open(other.path(), options()).unwrap();
    let moved = other_log.schemas();
    moved.import(&raw(&compacted)).unwrap();
    assert_eq!(everything(&moved), everything(&schemas));
    for schemas in [schemas, moved] {
        assert_eq!(register(&schemas, "a", "three"), 3, "records may still be there that were written with id 2");
        assert_eq!(versions(&schemas, "a", Listing::WithDeleted), [(1, 3)]);
    }
}

#[test]
fn a_schema_that_others_refer_to_stays() {
    let dir = temp_dir();
    let log = Log::open(dir.path(), options()).unwrap();
    let schemas = log.schemas();
    let refer = |name: &str, subject: &str| SchemaReference { name: name.into(), subject: subject.into(), version: 1 };
    register(&schemas, "base", "\"base\"");
    let middle = Schema { references: vec![refer("base", "base")], ..avro("middle") };
    let top = Schema { references: vec![refer("middle", "middle"), refer("base", "base"), refer("lost", "lost")], ..avro("top") };
    schemas.register("middle", &middle, &anything).unwrap();
    schemas.set_compatibility(None, Some("X")).unwrap();
    let id = schemas
        .register("top", &top, &|candidate| {
            let texts: Vec<_> = candidate.schema.references.iter().map(|schema| &*schema.text).collect();
            assert_eq!(texts, ["\"base\"", "middle"], "what is referred to comes first");
            Ok(())
        })
        .unwrap();
    let error = schemas.delete_version("base", 1, Deletion::Soft).unwrap_err();
    assert!(matches!(&error, LogError::SchemaInUse { by, by_version: 1, .. } if by == "middle"), "{error}");
    assert!(schemas.delete_subject("middle", Deletion::Soft).is_err());
    schemas.delete_subject("top", Deletion::Soft).unwrap();
    schemas.delete_subject("middle", Deletion::Soft).unwrap();
    schemas.delete_version("base", 1, Deletion::Soft).unwrap();
    assert_eq!(*schemas.schema(id).unwrap(), top);
    // The same text with other references is another schema.
    assert_ne!(schemas.register("top", &avro("top"), &anything).unwrap(), id);
    drop((schemas, log));
    assert_eq!(*Log::open(dir.path(), options()).unwrap().schemas().schema(id).unwrap(), top);
}

/// Records as releases of Confluent's registry wrote them.
const CONFLUENT: &[(&str, Option<&str>)] = &[
    (r#"{"keytype":"NOOP","magic":0}"#, None),
    // Before 4.1 there was no `deleted`, and magic was 0 at first.
    (
        r#"{"keytype":"SCHEMA","subject":"Kafka-key","version":1,"magic":0}"#,
        Some(r#"{"subject":"Kafka-key","version":1,"id":1,"schema":"\"string\""}"#),
    ),
    (r#"{"keytype":"CONFIG","subject":null,"magic":0}"#, Some(r#"{"compatibilityLevel":"FULL_TRANSITIVE"}"#)),
    (
        r#"{"keytype":"SCHEMA","subject":"Car","version":1,"magic":1}"#,
        Some(
            r#"{"subject":"Car","version":1,"id":2,"schema":"{\"type\":\"record\",\"name\":\"Car\",\"fields\":[{\"name\":\"a\",\"type\":\"string\"}]}","deleted":false}"#,
        ),
    ),
    (
        r#"{"keytype":"SCHEMA","subject":"Car","version":2,"magic":1}"#,
        Some(r#"{"subject":"Car","version":2,"id":1,"schema":"\"string\"","deleted":false}"#),
    ),
    (r#"{"keytype":"CONFIG","subject":"Car","magic":0}"#, Some(r#"{"compatibilityLevel":"BACKWARD"}"#)),
    (
        r#"{"keytype":"SCHEMA","subject":"Car","version":2,"magic":1}"#,
        Some(r#"{"subject":"Car","version":2,"id":1,"schema":"\"string\"","deleted":true}"#),
    ),
    // With schema types and references, from 5.5 on; with a digest, metadata and rules from 7.4 on.
    (
        r#"{"keytype":"SCHEMA","subject":"money","version":1,"magic":1}"#,
        Some(r#"{"subject":"money","version":1,"id":40,"schemaType":"PROTOBUF","schema":"syntax = \"proto3\";","deleted":false}"#),
    ),
    (
        r#"{"keytype":"SCHEMA","subject":"order","version":1,"magic":1}"#,
        Some(
            r#"{"subject":"order","version":1,"id":41,"md5":"5vV7bKN8ePlPAvwX1vvdSg==","schemaType":"PROTOBUF","references":[{"name":"money.proto","subject":"money","version":1}],"metadata":{"properties":{"owner":"shop"}},"ruleSet":{"domainRules":[]},"schema":"import \"money.proto\";","deleted":false,"later":7}"#,
        ),
    ),
    (r#"{"keytype":"MODE","subject":null,"magic":0}"#, Some(r#"{"mode":"READWRITE"}"#)),
    (r#"{"keytype":"CONTEXT","tenant":"default","context":".x","magic":0}"#, Some(r#"{"tenant":"default","context":".x"}"#)),
    (
        r#"{"keytype":"CONFIG","subject":"order","magic":0}"#,
        Some(r#"{"subject":"order","alias":"orders","normalize":true,"compatibilityLevel":"FORWARD"}"#),
    ),
    (
        r#"{"keytype":"SCHEMA","subject":"gone","version":1,"magic":1}"#,
        Some(r#"{"subject":"gone","version":1,"id":42,"schema":"\"int\"","deleted":false}"#),
    ),
    (
        r#"{"keytype":"SCHEMA","subject":"gone","version":2,"magic":1}"#,
        Some(r#"{"subject":"gone","version":2,"id":43,"schema":"\"long\"","deleted":false}"#),
    ),
    (r#"{"keytype":"DELETE_SUBJECT","subject":"gone","magic":0}"#, Some(r#"{"subject":"gone","version":2}"#)),
    (r#"{"keytype":"SCHEMA","subject":"gone","version":1,"magic":1}"#, None),
    // Releases that leave out what is null have no subject here.
    (r#"{"keytype":"CONFIG","magic":0}"#, Some(r#"{"compatibilityLevel":"FULL"}"#)),
    (r#"{"keytype":"NOOP","magic":0}"#, None),
];

#[test]
fn the_topic_of_a_registry_is_taken_over_and_given_back() {
    let dir = temp_dir();
    let log = Log::open(dir.path(), options()).unwrap();
    let schemas = log.schemas();
    schemas.import(&raw(CONFLUENT)).unwrap();
    assert_eq!(schemas.subjects(Listing::Live), ["Car", "Kafka-key", "money", "order"]);
    assert_eq!(versions(&schemas, "Car", Listing::Live), [(1, 2)]);
    assert_eq!(versions(&schemas, "Car", Listing::WithDeleted), [(1, 2), (2, 1)]);
    assert_eq!(versions(&schemas, "gone", Listing::WithDeleted), [(2, 43)]);
    assert_eq!((schemas.get(42), schemas.get(43).as_deref()), (None, Some("\"long\"")));
    assert_eq!(schemas.schema(40).unwrap().schema_type, "PROTOBUF");
    assert_eq!(schemas.schema(41).unwrap().references[0].subject, "money");
    let levels = [None, Some("Car"), Some("order"), Some("money")].map(|subject| schemas.compatibility(subject));
    assert_eq!(levels, [Some("FULL".to_owned()), Some("BACKWARD".to_owned()), Some("FORWARD".to_owned()), None]);
    let before = everything(&schemas);
    let back = records(&schemas);
    let back: Vec<_> = back.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
    assert_eq!(back, CONFLUENT, "as they came, with what means nothing here");
    drop((schemas, log));

    let log = Log::open(dir.path(), options()).unwrap();
    let schemas = log.schemas();
    assert_eq!(everything(&schemas), before);
    assert_eq!(register(&schemas, "new", "\"double\""), 44, "ids go on");
    // What we do not understand of a record is still there when we write it anew.
    schemas.delete_version("order", 1, Deletion::Soft).unwrap();
    schemas.set_compatibility(None, Some("NONE")).unwrap();
    let written = records(&schemas).split_off(CONFLUENT.len() + 1);
    assert_eq!(
        written[0].1.as_deref().unwrap(),
        CONFLUENT[8].1.unwrap().replace(r#""deleted":false"#, r#""deleted":true"#),
        "every field, in the registry's order"
    );
    let config = (r#"{"keytype":"CONFIG","subject":"order","magic":0}"#.to_owned(), None);
    assert_eq!(written[1], config, "the level goes with the last version");
    assert_eq!(written[2].0, r#"{"keytype":"CONFIG","subject":null,"magic":0}"#);
}

#[test]
fn clearing_and_conflicts() {
    let dir = temp_dir();
    let log = Log::open(dir.path(), options()).unwrap();
    let schemas = log.schemas();
    schemas.import(&raw(CONFLUENT)).unwrap();
    let before = everything(&schemas);
    // An id with a second meaning: refused as a whole when it is brought, passed over when it is found in the topic.
    let second = [
        (r#"{"keytype":"SCHEMA","subject":"x","version":1,"magic":1}"#, Some(r#"{"id":70,"schema":"\"a\""}"#)),
        (r#"{"keytype":"SCHEMA","subject":"y","version":1,"magic":1}"#, Some(r#"{"id":2,"schema":"\"b\""}"#)),
    ];
    let error = schemas.import(&raw(&second)).unwrap_err();
    assert!(matches!(&error, LogError::SchemaIdTaken { id: 2, taken_by, .. } if taken_by == "Car"), "{error}");
    let taken = (r#"{"keytype":"SCHEMA","subject":"Car","version":1,"magic":1}"#, Some(r#"{"id":71,"schema":"\"c\""}"#));
    let error = schemas.import(&raw(&[second[0], taken])).unwrap_err();
    assert!(matches!(&error, LogError::SchemaVersionTaken { subject, version: 1 } if subject == "Car"), "{error}");
    for (key, value) in [
        ("", None),
        ("{}", None),
        ("[]", Some("{}")),
        (r#"{"keytype":"SCHEMA"}"#, None),
        (r#"{"keytype":"SCHEMA","subject":"x","version":-1}"#, None),
        (r#"{"keytype":"SCHEMA","subject":"x","version":1}"#, Some("{}")),
        (r#"{"keytype":"SCHEMA","subject":"x","version":1}"#, Some(r#"{"subject":"y","version":1,"id":70,"schema":""}"#)),
        (r#"{"keytype":"CONFIG","subject":"x"}"#, Some("7")),
        (r#"{"keytype":"DELETE_SUBJECT","subject":"x"}"#, Some("{}")),
    ] {
        let error = schemas.import(&raw(&[second[0], (key, value)])).unwrap_err();
        assert!(matches!(error, LogError::ForeignSchemaRecord { index: 1, .. }), "{key}: {error}");
    }
    assert_eq!(everything(&schemas), before);
    schemas.import(&raw(&[(r#"{"keytype":"CLEAR_SUBJECT","subject":"Car","magic":0}"#, Some(r#"{"subject":"Car"}"#))])).unwrap();
    assert_eq!(versions(&schemas, "Car", Listing::WithDeleted), [(1, 2)]);
    schemas.import(&raw(&[(r#"{"keytype":"CLEAR_SUBJECT","magic":0}"#, Some("{}"))])).unwrap();
    assert_eq!(schemas.subjects(Listing::WithDeleted), ["Car", "Kafka-key", "money", "order"]);
    assert_eq!(schemas.get(43), None);

    // No id is left beyond the highest that a registry can have.
    let last = (r#"{"keytype":"SCHEMA","subject":"z","version":2147483647,"magic":1}"#, Some(r#"{"id":2147483647,"schema":"z"}"#));
    schemas.import(&raw(&[last])).unwrap();
    assert!(matches!(schemas.register("z", &avro("zz"), &anything), Err(LogError::SchemaNumbersExhausted(_))));
    assert_eq!(schemas.register("zzz", &avro("z"), &anything).unwrap(), 2_147_483_647);
}

/// Whatever happened to schemas: after a compaction, and a start, the same ones are there, and no id is given again.
#[test]
fn compaction_keeps_what_is_registered() {
    let options = || LogOptions { segment_bytes: 700, ..options() };
    let compaction =
        Compaction { tombstone_age: Duration::ZERO, bytes_per_second: None, min_dirty_percent: 0, ..Compaction::default() };
    for seed in 0..20u64 {
        let dir = temp_dir();
        let mut log = Log::open(dir.path(), options()).unwrap();
        let mut state = seed;
        let mut random = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        let mut texts = HashMap::new();
        let (mut before, mut after) = (0, 0);
        for step in 0..120 {
            let schemas = log.schemas();
            let subject = ["a", "b", "c"][random(3) as usize];
            let newest = versions(&schemas, subject, Listing::WithDeleted).last().map(|(version, _)| *version);
            match (random(12), newest) {
                (0..=4, _) => {
                    let text = random(30);
                    let id = register(&schemas, subject, &format!("\"{text}\""));
                    assert_eq!(*texts.entry(id).or_insert(text), text, "seed {seed}: id {id} has two meanings");
                }
                (5, _) => schemas.set_compatibility(Some(subject), Some("NONE")).unwrap(),
                (6, _) => schemas.set_compatibility(None, [Some("NONE"), None][random(2) as usize]).unwrap(),
                (7, Some(version)) => drop(schemas.delete_version(subject, version, Deletion::Soft)),
                (8, Some(version)) => drop(schemas.delete_version(subject, version, Deletion::Permanent)),
                (9, _) => drop(schemas.delete_subject(subject, Deletion::Soft)),
                (10, _) => drop(schemas.delete_subject(subject, Deletion::Permanent)),
                (11, _) => {
                    // As another registry writes them: less in the key, and a mark without a value.
                    let level = (r#"{"keytype":"CONFIG","magic":0}"#, Some(r#"{"compatibilityLevel":"NONE"}"#));
                    schemas.import(&raw(&[(r#"{"keytype":"NOOP","magic":0}"#, None), level])).unwrap();
                }
                _ => {}
            }
            if step % 10 == 9 {
                let expected = everything(&schemas);
                before += records(&schemas).len();
                assert!(log.compact_schemas(&compaction, &AtomicBool::new(false)).unwrap().finished);
                after += records(&schemas).len();
                drop(schemas);
                log.close().unwrap();
                drop(log);
                log = Log::open(dir.path(), options()).unwrap();
                assert_eq!(everything(&log.schemas()), expected, "seed {seed}");
            }
        }
        assert!(after < before, "seed {seed}: nothing was compacted");
    }
}
