//! `docs/configuration.md`, written from the settings themselves: a test fails when the committed page is stale.

use serde_json::Value;

use crate::{Connectors, commands::connectors::resolve, definition};

/// The reference page of all settings, in Markdown.
fn page(connectors: &Connectors) -> String {
    let schema = definition::json_schema(connectors);
    let mut page = String::from(
        "# Settings of a pipeline file\n\nWritten from the code: `MAINSTEM_WRITE_DOCS=1 cargo test -p mainstem reference` writes it again. \
         `mainstem connectors --schema` prints the same as a JSON schema, for editors.\n\nSizes are written with their unit (`128MiB`), and so are \
         times (`5m`). `${NAME}` stands for an environment variable, `${NAME:-text}` for one with a default.\n",
    );
    page.push_str("\n## The file\n\n");
    table(&mut page, &schema, &schema, "");
    let sources = connectors.sources().map(|(name, factory)| ("Source", name, factory.schema()));
    for (kind, name, schema) in sources.chain(connectors.sinks().map(|(name, factory)| ("Sink", name, factory.schema()))) {
        let schema = schema.to_value();
        page.push_str(&format!("\n## {kind} `{name}`\n\n"));
        if let Some(text) = schema["description"].as_str() {
            page.push_str(&format!("{}\n\n", one_line(text)));
        }
        table(&mut page, &schema, &schema, "");
    }
    page
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// The settings of an object, and of the objects in it with a dotted name.
fn table(page: &mut String, root: &Value, schema: &Value, prefix: &str) {
    if prefix.is_empty() {
        page.push_str("| setting | value | default | meaning |\n|---|---|---|---|\n");
    }
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let inner = resolve(root, property);
        let text = property["description"].as_str().or(inner["description"].as_str()).unwrap_or("");
        let default = match &property["default"] {
            _ if required.contains(&name.as_str()) => "required".to_owned(),
            Value::Null | Value::Object(_) => String::new(),
            default => format!("`{default}`"),
        };
        page.push_str(&format!("| `{prefix}{name}` | {} | {default} | {} |\n", kind(inner), one_line(text)));
        if inner["properties"].is_object() {
            table(page, root, inner, &format!("{prefix}{name}."));
        }
    }
}

/// What kind of value a schema asks for.
fn kind(schema: &Value) -> String {
    let choices = schema["enum"].as_array().cloned().unwrap_or_else(|| {
        schema["oneOf"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|choice| choice["const"].clone())
            .filter(|value| !value.is_null())
            .collect()
    });
    if !choices.is_empty() {
        return choices.iter().filter_map(Value::as_str).map(|choice| format!("`{choice}`")).collect::<Vec<_>>().join(", ");
    }
    if let Some(example) = schema["examples"][0].as_str() {
        return format!("like `{example}`");
    }
    match &schema["type"] {
        Value::String(kind) => kind.clone(),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("").to_owned(),
        _ => "map".to_owned(),
    }
}

#[test]
fn the_committed_page_is_what_the_code_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    let page = page(&Connectors::builtin());
    if std::env::var_os("MAINSTEM_WRITE_DOCS").is_some() {
        std::fs::write(path, &page).expect("docs/configuration.md can be written");
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == page, "docs/configuration.md is stale: run MAINSTEM_WRITE_DOCS=1 cargo test -p mainstem reference");
}
