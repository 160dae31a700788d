use formats::{AvroSchema, Compatibility, SchemaError, check_compatibility};
use log_core::{Candidate, ResolvedSchema};

/// Says whether a schema may become the next version of its subject, at the level that is set. `Err` has the reasons.
pub(crate) fn check(candidate: &Candidate<'_>) -> Result<(), Vec<String>> {
    let level: Compatibility = candidate.level.parse().map_err(|error| reason(&error))?;
    if level == Compatibility::None {
        return Ok(());
    }
    let new = parse(&candidate.schema, AvroSchema::parse_new)?;
    let existing = candidate.existing.iter().take(level.versions_max());
    let (mut versions, mut schemas) = (Vec::new(), Vec::new());
    for (version, schema) in existing {
        let of_version =
            |reasons: Vec<String>| -> Vec<String> { reasons.iter().map(|reason| format!("version {version}: {reason}")).collect() };
        versions.push(*version);
        schemas.push(parse(schema, AvroSchema::parse).map_err(of_version)?);
    }
    let found = check_compatibility(level, &new, &schemas).map_err(|error| reason(&error))?;
    if found.is_empty() {
        return Ok(());
    }
    let version = |against: usize| versions.get(against).copied().unwrap_or_default();
    Err(found.iter().map(|found| format!("against version {}, {found}", version(found.against))).collect())
}

fn parse(schema: &ResolvedSchema, parse: fn(&str, &[&str]) -> Result<AvroSchema, SchemaError>) -> Result<AvroSchema, Vec<String>> {
    if !schema.schema.is_avro() {
        return Err(vec![format!("it is of type {}, and only Avro can be compared", schema.schema.schema_type)]);
    }
    let references: Vec<&str> = schema.references.iter().map(|schema| &*schema.text).collect();
    parse(&schema.schema.text, &references).map_err(|error| reason(&error))
}

fn reason(error: &dyn std::error::Error) -> Vec<String> {
    let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
    vec![format!("{error}{cause}")]
}

#[cfg(test)]
mod tests {
    use log_core::{Listing, Log, LogError, LogOptions, Schema};

    use super::check;

    fn record(fields: &str) -> Schema {
        Schema::avro(format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#))
    }

    #[test]
    fn registrations_keep_to_the_level_that_is_set() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(dir.path(), LogOptions::default()).unwrap();
        let schemas = log.schemas();
        let (narrow, wide) = (record(r#"{"name":"a","type":"int"}"#), record(r#"{"name":"a","type":"long"}"#));
        schemas.register("s", &narrow, &check).unwrap();
        schemas.register("free", &Schema::avro("no schema at all"), &check).unwrap();
        schemas.set_compatibility(None, Some("forward")).unwrap();
        let refused = schemas.register("s", &wide, &check).unwrap_err();
        assert!(matches!(refused, LogError::SchemaRefused { .. }));
        assert_eq!(
            refused.to_string(),
            "a schema for subject `s` is refused at compatibility level forward: against version 1, TYPE_MISMATCH at \
             /fields/0/type of the old schema as reader: what was written as long cannot be read as int"
        );
        schemas.set_compatibility(Some("s"), Some("BACKWARD_TRANSITIVE")).unwrap();
        schemas.register("s", &wide, &check).unwrap();
        assert_eq!(schemas.versions("s", Listing::Live).len(), 2);

        let reasons = |subject: &str, schema: &Schema| schemas.check(subject, schema, None, &check).unwrap_err().to_string();
        assert!(reasons("s", &Schema::avro("{")).contains("the schema is not JSON: EOF"));
        assert!(reasons("s", &record("7")).contains("malformed at /fields/0"));
        let protobuf = Schema { schema_type: "PROTOBUF".into(), ..Schema::avro("") };
        assert!(reasons("s", &protobuf).contains("only Avro"));
        assert!(reasons("free", &narrow).contains("version 1: the schema is not JSON"));
        schemas.set_compatibility(Some("s"), Some("SIDEWAYS")).unwrap();
        assert!(reasons("s", &narrow).contains("`SIDEWAYS` is not a compatibility level"));
        schemas.set_compatibility(Some("s"), Some("NONE")).unwrap();
        schemas.check("s", &protobuf, None, &check).unwrap();
        assert!(schemas.check("s", &record(""), Some("FULL"), &check).is_err(), "a level to try");
    }
}
