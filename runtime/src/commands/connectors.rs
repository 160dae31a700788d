use std::process::ExitCode;

use serde_json::Value;

use crate::{Connectors, cli::ConnectorsArgs, commands::WrongInput, definition};

/// `mainstem connectors`: names, the settings of one, or the JSON schema of pipeline files.
pub(crate) fn run(args: &ConnectorsArgs, connectors: &Connectors) -> anyhow::Result<ExitCode> {
    if args.schema {
        println!("{}", serde_json::to_string_pretty(&definition::json_schema(connectors))?);
        return Ok(ExitCode::SUCCESS);
    }
    let schemas = connectors.sources().map(|(name, factory)| ("source", name, factory.schema()));
    let schemas: Vec<_> = schemas.chain(connectors.sinks().map(|(name, factory)| ("sink", name, factory.schema()))).collect();
    let Some(wanted) = &args.name else {
        for (kind, name, schema) in &schemas {
            println!("{kind:6} {name:10} {}", first_line(schema.as_value()));
        }
        return Ok(ExitCode::SUCCESS);
    };
    let found: Vec<_> = schemas.iter().filter(|(_, name, _)| name == wanted).collect();
    if found.is_empty() {
        let names: Vec<_> = schemas.iter().map(|(_, name, _)| *name).collect();
        return Err(WrongInput(format!("there is no connector `{wanted}`; there are: {}", names.join(", "))).into());
    }
    for (kind, name, schema) in found {
        println!("{kind} {name}: {}", first_line(schema.as_value()));
        print_settings(schema.as_value(), schema.as_value(), 1);
    }
    Ok(ExitCode::SUCCESS)
}

fn first_line(schema: &Value) -> &str {
    schema["description"].as_str().and_then(|text| text.lines().next()).unwrap_or("")
}

/// Prints the properties of an object schema, and those of the objects in it, indented.
fn print_settings(root: &Value, schema: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let note = match (&property["default"], required.contains(&name.as_str())) {
            (_, true) => " (required)".to_owned(),
            (Value::Null, false) => String::new(),
            (Value::Object(_), false) => String::new(),
            (default, false) => format!(" (default {default})"),
        };
        let inner = resolve(root, property);
        let text = property["description"].as_str().or(inner["description"].as_str()).unwrap_or("");
        println!("{indent}{name}{note}: {}", text.replace('\n', " "));
        print_settings(root, inner, depth + 1);
    }
}

/// Follows `$ref`, and `anyOf` with one real choice, to the schema of a value.
pub(crate) fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return &root["$defs"][name];
    }
    let choices = schema["anyOf"].as_array().or(schema["allOf"].as_array());
    choices
        .and_then(|choices| choices.iter().find(|choice| choice["type"] != "null"))
        .map_or(schema, |choice| resolve(root, choice))
}
