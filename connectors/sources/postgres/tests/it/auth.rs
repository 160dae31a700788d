//! Ways in: passwords, TLS, and what is said when they fail.

use connector_api::{Op, Recovery, Severity};
use serde_json::{Value, json};

use crate::{
    cli_server::Database,
    log_model::{connector, with},
};

fn database() -> Database {
    let database = Database::new();
    database.sql(
        "create table t (id int primary key); insert into t values (1); \
         do $$ begin set local password_encryption = 'md5'; create role md5_user superuser login password 'secret'; exception when duplicate_object or unique_violation then null; end $$; \
         do $$ begin create role scram_user superuser login password 'sécret'; exception when duplicate_object or unique_violation then null; end $$; \
         do $$ begin create role tls_user superuser login password 'secret'; exception when duplicate_object or unique_violation then null; end $$; \
         do $$ begin create role open_user superuser login password 'secret'; exception when duplicate_object or unique_violation then null; end $$; \
         do $$ begin create role plain_user superuser login password 'secret'; exception when duplicate_object or unique_violation then null; end $$;",
    );
    database
}

fn needs_tls(settings: &Value) -> bool {
    settings["sslmode"].as_str().is_some_and(|mode| mode != "disable")
        && !settings["url"].as_str().is_some_and(|url| url.contains("open_user"))
}

async fn drained(database: &Database, settings: Value) -> Result<usize, String> {
    let mut all = json!({ "tables": ["t"] });
    all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let mut pipeline = with(&database.name, all);
    pipeline.try_drain().await.map_err(|error| {
        assert!(!error.to_string().contains("secret"), "{error}");
        error.to_string()
    })?;
    Ok(pipeline.count("public.t", Op::Read))
}

#[tokio::test]
async fn every_way_in_works() {
    let database = database();
    let authority = database.server.ca();
    let tcp = |user: &str| database.tcp_url(user, "127.0.0.1");
    let tls_only = json!({ "url": tcp("tls_user"), "password": "secret", "sslmode": "allow" });
    match drained(&database, tls_only).await {
        Ok(rows) => assert!(rows == 1 && database.server.has_tls()),
        Err(error) => assert!(!database.server.has_tls() && error.contains("did not let `tls_user` in"), "{error}"),
    }
    for settings in [
        json!({ "url": tcp("scram_user"), "password": "sécret", "sslmode": "disable" }),
        json!({ "url": tcp("md5_user"), "password": "secret", "sslmode": "disable" }),
        json!({ "url": tcp("x"), "user": "scram_user", "password": "sécret" }),
        // The server wants the one encrypted and the other not.
        json!({ "url": tcp("open_user"), "password": "secret", "sslmode": "allow" }),
        json!({ "url": tcp("open_user"), "password": "secret", "sslmode": "prefer" }),
        json!({ "url": tcp("scram_user"), "password": "sécret", "sslmode": "require" }),
        json!({ "url": tcp("scram_user"), "password": "sécret", "sslmode": "verify-ca", "sslrootcert": authority }),
        json!({ "url": database.tcp_url("scram_user:s%C3%A9cret", "localhost"), "sslmode": "verify-full", "sslrootcert": authority }),
    ] {
        let expected = if needs_tls(&settings) && !database.server.has_tls() { "offers no TLS" } else { "" };
        match drained(&database, settings.clone()).await {
            Ok(rows) => assert!(rows == 1 && expected.is_empty(), "{settings}"),
            Err(error) => assert!(!expected.is_empty() && error.contains(expected), "{settings}: {error}"),
        }
    }
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let database = database();
    let authority = database.server.ca();
    let tcp = |user: &str| database.tcp_url(user, "127.0.0.1");
    for (settings, expected) in [
        (json!({ "url": tcp("scram_user"), "password": "wrong", "sslmode": "disable" }), "did not let `scram_user` in"),
        (json!({ "url": tcp("md5_user"), "password": "wrong", "sslmode": "disable" }), "did not let `md5_user` in"),
        (json!({ "url": tcp("scram_user"), "sslmode": "disable" }), "set `password`"),
        (json!({ "url": tcp("plain_user"), "password": "secret", "sslmode": "disable" }), "clear text"),
        (json!({ "url": tcp("scram_user"), "password": "sécret", "sslmode": "verify-full", "sslrootcert": authority }), "TLS"),
        (json!({ "url": tcp("scram_user"), "password": "sécret", "sslmode": "verify-full" }), "sslrootcert"),
        (
            json!({ "url": format!("postgres://postgres@127.0.0.1:{}/nowhere", database.server.port()) , "sslmode": "disable" }),
            "nowhere",
        ),
        (json!({ "url": "postgres://x@127.0.0.1:1/d" }), "could not connect"),
        (json!({ "url": database.url(), "tables": ["public.tt"] }), "did you mean public.t?"),
    ] {
        let error = drained(&database, settings.clone()).await.unwrap_err();
        let expected = if needs_tls(&settings) && !database.server.has_tls() { "TLS" } else { expected };
        assert!(error.contains(expected), "{settings}: {error}");
        let mut all = json!({ "tables": ["t"] });
        all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let findings = connector(all).unwrap().check(&database.name, None).await.unwrap();
        assert!(findings.iter().any(|finding| finding.severity == Severity::Error), "{settings}: {findings:?}");
    }
}

#[tokio::test]
async fn check_finds_what_is_missing_and_creates_nothing() {
    let database = database();
    database.sql(
        "do $$ begin create role weak login; exception when duplicate_object or unique_violation then null; end $$; \
         create table keyless (id int); create unlogged table unlogged (id int primary key); create view v as select 1",
    );
    let settings = json!({
        "url": database.url(), "user": "weak", "tables": ["t", "keyless", "unlogged", "v", "orders"],
    });
    let findings = connector(settings).unwrap().check(&database.name, None).await.unwrap();
    let remedies: Vec<String> = findings.iter().map(|finding| finding.remedy.clone().unwrap_or_default()).collect();
    for expected in [
        "ALTER ROLE \"weak\" REPLICATION",
        "GRANT SELECT ON \"public\".\"t\" TO \"weak\"",
        "GRANT CREATE ON DATABASE",
        "REPLICA IDENTITY FULL",
        "SET LOGGED",
        "FOR TABLE",
    ] {
        assert!(remedies.iter().any(|remedy| remedy.contains(expected)), "{expected}: {findings:#?}");
    }
    assert_eq!(database.sql("select count(*) from pg_publication"), "0");
    // A statement of a remedy, word for word, mends it.
    let grant = remedies.iter().find(|remedy| remedy.contains("GRANT SELECT ON \"public\".\"t\"")).unwrap();
    database.sql(grant);
    let fine = connector(json!({ "url": database.url(), "tables": ["t"] })).unwrap();
    let findings = fine.check(&database.name, None).await.unwrap();
    assert!(findings.iter().all(|finding| finding.severity == Severity::Note), "{findings:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_tried_again() {
    let pipeline = with("x", json!({ "url": "postgres://x@127.0.0.1:1/d", "tables": ["t"] }));
    assert_eq!(pipeline.open(true).await.err().unwrap().recovery(), Recovery::Retry);
}
