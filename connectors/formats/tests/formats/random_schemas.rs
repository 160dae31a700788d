//! Random Avro schemas, and pairs of which one is made of the other.
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

/// A schema that may be able to read data of another.
#[derive(Debug)]
pub struct Pair {
    pub reader: Value,
    pub writer: Value,
}

/// A schema in which all names are different.
pub fn any_schema() -> impl Strategy<Value = Value> {
    any_type().prop_map(|mut schema| {
        name_all(&mut schema, &mut 0);
        schema
    })
}

/// A schema and what became of it after some changes, most of them small.
pub fn any_pair() -> impl Strategy<Value = Pair> {
    let changes = vec(any::<(u16, u8)>(), 0..4);
    (any_schema(), changes, any::<bool>()).prop_map(|(schema, changes, swapped)| {
        let mut changed = schema.clone();
        for (place, kind) in changes {
            let places = count(&changed);
            change(&mut changed, &mut (usize::from(place) % places), kind);
            tidy(&mut changed);
        }
        if swapped { Pair { reader: schema, writer: changed } } else { Pair { reader: changed, writer: schema } }
    })
}

fn any_type() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        8 => prop::sample::select(vec!["null", "boolean", "int", "long", "float", "double", "bytes", "string"]).prop_map(|name| json!(name)),
        1 => (1..4).prop_map(|size| json!({ "type": "fixed", "name": "F", "size": size })),
        1 => (1..4_usize, any::<bool>()).prop_map(|(count, default)| {
            let symbols = &["A", "B", "C"][..count];
            if default { json!({ "type": "enum", "name": "E", "symbols": symbols, "default": "A" }) } else { json!({ "type": "enum", "name": "E", "symbols": symbols }) }
        }),
        // Within a record this becomes the record itself, where its data can end.
        1 => Just(json!(["null", "itself"])),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            1 => inner.clone().prop_map(|items| json!({ "type": "array", "items": items })),
            1 => inner.clone().prop_map(|values| json!({ "type": "map", "values": values })),
            2 => vec(inner.clone(), 1..4).prop_map(union),
            4 => vec((inner, any::<bool>()), 0..4).prop_map(|fields| {
                let field = |(index, (kind, default)): (usize, (Value, bool))| {
                    let mut field = json!({ "name": format!("f{index}"), "type": kind });
                    if let (true, Some(default)) = (default, default_of(&field["type"])) {
                        field["default"] = default;
                    }
                    field
                };
                json!({ "type": "record", "name": "R", "fields": fields.into_iter().enumerate().map(field).collect::<Vec<_>>() })
            }),
        ]
    })
}

/// A union of these types, without those that it cannot hold.
fn union(types: Vec<Value>) -> Value {
    let mut branches: Vec<Value> = Vec::new();
    for kind in types.into_iter().flat_map(|kind| if let Value::Array(branches) = kind { branches } else { vec![kind] }) {
        let shape = |kind: &Value| kind["type"].as_str().or(kind.as_str()).map(str::to_owned);
        let named = matches!(shape(&kind).as_deref(), Some("record" | "enum" | "fixed"));
        if named || !branches.iter().any(|branch| shape(branch) == shape(&kind)) {
            branches.push(kind);
        }
    }
    Value::Array(branches)
}

fn default_of(kind: &Value) -> Option<Value> {
    Some(match kind["type"].as_str().or(kind.as_str())? {
        "null" => Value::Null,
        "boolean" => json!(true),
        "int" | "long" | "float" | "double" => json!(1),
        "bytes" | "string" => json!("d"),
        "enum" => json!("A"),
        "array" => json!([]),
        "map" => json!({}),
        _ => return None,
    })
}

/// Numbers the named types, and lets `itself` be the record around it.
fn name_all(schema: &mut Value, next: &mut usize) {
    fn visit(schema: &mut Value, next: &mut usize, around: Option<&str>) {
        match schema {
            Value::String(name) if name == "itself" => *schema = json!(around.unwrap_or("boolean")),
            Value::Array(branches) => {
                branches.iter_mut().for_each(|branch| visit(branch, next, around));
                *schema = union(std::mem::take(branches));
            }
            Value::Object(attributes) => {
                let mut own = None;
                if let Some(Value::String(name)) = attributes.get_mut("name") {
                    *name = format!("{name}{next}");
                    *next += 1;
                    own = Some(name.clone());
                }
                for part in ["items", "values"] {
                    attributes.get_mut(part).into_iter().for_each(|part| visit(part, next, around));
                }
                if let Some(Value::Array(fields)) = attributes.get_mut("fields") {
                    fields.iter_mut().for_each(|field| visit(&mut field["type"], next, own.as_deref()));
                }
            }
            _ => {}
        }
    }
    visit(schema, next, None);
}

/// The types of a schema, itself among them.
fn count(schema: &Value) -> usize {
    1 + parts(&mut schema.clone()).into_iter().map(|part| count(part)).sum::<usize>()
}

fn parts(schema: &mut Value) -> Vec<&mut Value> {
    match schema {
        Value::Array(branches) => branches.iter_mut().collect(),
        Value::Object(attributes) => attributes
            .iter_mut()
            .flat_map(|(name, value)| match (name.as_str(), value) {
                ("items" | "values", part) => vec![part],
                ("fields", Value::Array(fields)) => fields.iter_mut().map(|field| &mut field["type"]).collect(),
                _ => vec![],
            })
            .collect(),
        _ => vec![],
    }
}

/// Changes the type at a place, counted in the order of [`count`].
fn change(schema: &mut Value, place: &mut usize, kind: u8) {
    if *place > 0 {
        *place -= 1;
        for part in parts(schema) {
            let size = count(part);
            if *place < size {
                return change(part, place, kind);
            }
            *place -= size;
        }
        return;
    }
    let text = schema["type"].as_str().or(schema.as_str()).unwrap_or("union").to_owned();
    match (text.as_str(), kind % 8) {
        ("int", 0..=3) => *schema = json!("long"),
        ("int" | "long", 4) => *schema = json!("float"),
        ("float", 0..=4) => *schema = json!("double"),
        ("long", 0..=2) => *schema = json!("int"),
        ("string", 0..=2) => *schema = json!("bytes"),
        ("enum", 0..=2) => schema["symbols"] = json!(["A", "B", "C", "D"]),
        ("enum", 3..=4) => schema["symbols"] = json!(["A"]),
        ("fixed", 0) => schema["size"] = json!(5),
        ("record", 0) => add_field(schema, json!({ "name": "added", "type": "int", "default": 7 })),
        ("record", 1) => add_field(schema, json!({ "name": "added", "type": "int" })),
        ("record", 2) => schema["fields"].as_array_mut().expect("fields").truncate(1),
        ("record", 3) => schema["fields"].as_array_mut().expect("fields").reverse(),
        ("record", 4) => {
            // Renamed, with the old name as an alias.
            if let Some(field) = schema["fields"].as_array_mut().and_then(|fields| fields.first_mut()) {
                field["aliases"] = json!([field["name"]]);
                field["name"] = json!(format!("renamed_{}", field["name"].as_str().expect("name")));
            }
        }
        ("record", 5) => schema["namespace"] = json!("other"),
        ("union", 0..=1) => schema.as_array_mut().expect("branches").reverse(),
        ("union", 2..=3) => drop(schema.as_array_mut().expect("branches").pop()),
        ("union", 4) => *schema = union(vec![schema.take(), json!("string"), json!("double")]),
        (_, 6) if text != "union" && !schema.is_object() => *schema = union(vec![json!("null"), schema.take()]),
        _ => {}
    }
}

/// Leaves no union in a union, no type twice in one, and no default that does not fit.
fn tidy(schema: &mut Value) {
    parts(schema).into_iter().for_each(tidy);
    if let Value::Array(branches) = schema {
        *schema = union(std::mem::take(branches));
    }
    let fields = schema.get_mut("fields").and_then(Value::as_array_mut).into_iter().flatten();
    for field in fields.filter_map(Value::as_object_mut) {
        let fitting = field.get("type").and_then(|kind| default_of(kind.get(0).unwrap_or(kind)));
        if field.remove("default").is_some() {
            field.extend(fitting.map(|default| ("default".to_owned(), default)));
        }
    }
}

fn add_field(schema: &mut Value, field: Value) {
    let fields = schema["fields"].as_array_mut().expect("fields");
    if fields.iter().all(|known| known["name"] != field["name"]) {
        fields.insert(0, field);
    }
}
