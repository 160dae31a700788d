use std::{
    fs,
    io::{BufWriter, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::Context as _;
use formats::Compatibility;
use log_core::{Listing, Log, LogOptions, Schema, SchemaVersion};
use serde_json::json;

use crate::{cli::SchemasCommand, commands::WrongInput, schema_check};

/// `mainstem schemas`: what is registered, which changes are allowed, and the way in and out.
pub(crate) fn run(command: SchemasCommand) -> anyhow::Result<ExitCode> {
    match command {
        SchemasCommand::List { data, deleted, json } => {
            let listing = if deleted { Listing::WithDeleted } else { Listing::Live };
            list(&Log::open_read_only(&data.data_dir)?, listing, json)?;
        }
        SchemasCommand::Show { subject, version, data } => show(&Log::open_read_only(&data.data_dir)?, &subject, version)?,
        SchemasCommand::SetCompatibility { level, subject, data } => {
            set_compatibility(&Log::open(&data.data_dir, LogOptions::default())?, level, subject.as_deref())?;
        }
        SchemasCommand::Check { subject, file, level, data } => {
            check(&Log::open_read_only(&data.data_dir)?, &subject, &file, level)?;
        }
        SchemasCommand::Export { data } => export(&Log::open_read_only(&data.data_dir)?)?,
        SchemasCommand::Import { file, data } => import(&Log::open(&data.data_dir, LogOptions::default())?, &file)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(log: &Log, listing: Listing, as_json: bool) -> anyhow::Result<()> {
    let schemas = log.schemas();
    let subjects: Vec<_> = schemas.subjects(listing).into_iter().map(|name| (schemas.versions(&name, listing), name)).collect();
    let everywhere = schemas.compatibility(None);
    if as_json {
        let version = |version: &SchemaVersion| json!({ "version": version.version, "id": version.id, "deleted": version.deleted });
        let rows = subjects.iter().map(|(versions, subject)| {
            let versions: Vec<_> = versions.iter().map(version).collect();
            json!({ "subject": subject, "compatibility": schemas.compatibility(Some(subject)), "versions": versions })
        });
        let all = json!({ "compatibility": everywhere, "subjects": rows.collect::<Vec<_>>() });
        println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    let width = subjects.iter().map(|(_, subject)| subject.len()).max().unwrap_or(0).max(7);
    println!("{:width$} {:>6} {:19} VERSIONS", "SUBJECT", "ID", "LEVEL");
    for (versions, subject) in &subjects {
        let id = versions.last().map_or(0, |version| version.id);
        let level = schemas.compatibility(Some(subject)).unwrap_or_else(|| "-".to_owned());
        let name = |version: &SchemaVersion| format!("{}{}", version.version, if version.deleted { " (deleted)" } else { "" });
        let versions: Vec<_> = versions.iter().map(name).collect();
        println!("{subject:width$} {id:>6} {level:19} {}", versions.join(", "));
    }
    println!("level of subjects that have none: {}", everywhere.as_deref().unwrap_or("NONE"));
    Ok(())
}

fn show(log: &Log, subject: &str, version: Option<u32>) -> anyhow::Result<()> {
    let mut versions = log.schemas().versions(subject, Listing::WithDeleted);
    if version.is_none() {
        versions.retain(|version| !version.deleted);
    }
    match versions.iter().rfind(|found| version.is_none_or(|version| version == found.version)) {
        Some(found) => println!("{}", found.schema.text),
        None if versions.is_empty() => return Err(unknown_subject(log, subject)),
        None => {
            let versions: Vec<_> = versions.iter().map(|version| version.version.to_string()).collect();
            return Err(WrongInput(format!("subject `{subject}` has the versions {}", versions.join(", "))).into());
        }
    }
    Ok(())
}

fn set_compatibility(log: &Log, level: Compatibility, subject: Option<&str>) -> anyhow::Result<()> {
    log.schemas().set_compatibility(subject, Some(level.as_str()))?;
    log.close()?;
    match subject {
        Some(subject) => println!("{subject}: {level}"),
        None => println!("all subjects that have no level of their own: {level}"),
    }
    Ok(())
}

fn check(log: &Log, subject: &str, file: &Path, level: Option<Compatibility>) -> anyhow::Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let schemas = log.schemas();
    let level = level.map_or_else(|| schemas.compatibility_in_force(subject), |level| Some(level.to_string()));
    schemas.check(subject, &Schema::avro(text), level.as_deref(), &schema_check::check)?;
    match level {
        Some(level) => println!("{subject}: the schema may follow, at level {level}"),
        None => println!("{subject}: no level is set, so any schema may follow; --level LEVEL tries one"),
    }
    Ok(())
}

/// What Kafka's console consumer prints with `print.key=true`, and its console producer takes.
fn export(log: &Log) -> anyhow::Result<()> {
    let mut out = BufWriter::new(std::io::stdout());
    for (key, value) in log.schemas().export()? {
        out.write_all(&in_one_line(key))?;
        out.write_all(b"\t")?;
        out.write_all(&value.map_or_else(|| b"null".to_vec(), in_one_line))?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(())
}

/// In JSON, these stand between its parts and never in a string.
fn in_one_line(mut json: Vec<u8>) -> Vec<u8> {
    json.iter_mut().filter(|byte| matches!(**byte, b'\t' | b'\n' | b'\r')).for_each(|byte| *byte = b' ');
    json
}

fn import(log: &Log, file: &Path) -> anyhow::Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let mut records = Vec::new();
    for (number, line) in lines {
        let Some((key, value)) = line.split_once('\t') else {
            let problem = "a key, a tab and a value are expected";
            return Err(WrongInput(format!("{}:{}: {problem}", file.display(), number + 1)).into());
        };
        let value = value.trim();
        records.push((key.trim().as_bytes().to_vec(), (value != "null").then(|| value.as_bytes().to_vec())));
    }
    log.schemas().import(&records)?;
    log.close()?;
    println!("{} records taken over; {} subjects", records.len(), log.schemas().subjects(Listing::Live).len());
    Ok(())
}

fn unknown_subject(log: &Log, subject: &str) -> anyhow::Error {
    let subjects = log.schemas().subjects(Listing::Live);
    WrongInput(format!("there is no subject `{subject}`; there are: {}", subjects.join(", "))).into()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Arguments {
        #[command(subcommand)]
        command: SchemasCommand,
    }

    #[test]
    fn a_registry_moves_in_and_its_levels_hold() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let schemas = |arguments: &[&str]| {
            let arguments = [&["schemas"], arguments, &["--data-dir", data.to_str().unwrap()]].concat();
            run(Arguments::try_parse_from(arguments)?.command)
        };
        let text = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}"#;
        let value = json!({ "subject": "s-value", "version": 1, "id": 7, "schema": text, "deleted": false });
        let noop = r#"{"keytype":"NOOP","magic":0}"#;
        let key = r#"{"keytype":"SCHEMA","subject":"s-value","version":1,"magic":1}"#;
        fs::write(path("dump"), format!("{noop}\tnull\n{key}\t{value}\n\n")).unwrap();
        fs::write(path("broken"), format!("{key}\t{value}\nnonsense\n")).unwrap();
        fs::write(path("wide.avsc"), text.replace("int", "long")).unwrap();

        let error = schemas(&["import", &path("broken")]).unwrap_err();
        assert!(error.to_string().ends_with("broken:2: a key, a tab and a value are expected"), "{error}");
        schemas(&["import", &path("dump")]).unwrap();
        let log = Log::open_read_only(&data).unwrap();
        assert_eq!(log.schemas().get(7).as_deref(), Some(text));
        assert_eq!(log.schemas().export().unwrap()[0], (noop.as_bytes().to_vec(), None));

        // No level, then one; the file keeps to it in one direction only.
        schemas(&["check", "s-value", &path("wide.avsc")]).unwrap();
        assert!(schemas(&["check", "s-value", &path("wide.avsc"), "--level", "full"]).is_err());
        schemas(&["set-compatibility", "FORWARD"]).unwrap();
        let refused = schemas(&["check", "s-value", &path("wide.avsc")]).unwrap_err();
        assert!(refused.to_string().contains("TYPE_MISMATCH at /fields/0/type"), "{refused}");
        schemas(&["set-compatibility", "BACKWARD", "s-value"]).unwrap();
        schemas(&["check", "s-value", &path("wide.avsc")]).unwrap();
        assert!(schemas(&["set-compatibility", "SIDEWAYS"]).unwrap_err().to_string().contains("FULL_TRANSITIVE"));

        schemas(&["list", "--deleted"]).unwrap();
        schemas(&["list", "--json"]).unwrap();
        schemas(&["show", "s-value"]).unwrap();
        schemas(&["export"]).unwrap();
        assert!(schemas(&["show", "s-value", "2"]).unwrap_err().to_string().contains("has the versions 1"));
        assert!(schemas(&["show", "t-value"]).unwrap_err().to_string().contains("there are: s-value"));
    }
}
