//! An Avro schema as a table of types, read from its JSON text: what schema resolution looks at, and no more.
//!
//! The rules are those of the sections "Schema Declaration" and "Names" of the Avro specification 1.12. Logical types, documentation and
//! attributes that Avro does not know are passed over.
use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

/// Where a type stands in [`AvroSchema::types`].
pub(super) type TypeId = usize;

/// The types without parts, in the order in which every table begins.
const PRIMITIVES: [(&str, AvroType); 8] = [
    ("null", AvroType::Null),
    ("boolean", AvroType::Boolean),
    ("int", AvroType::Int),
    ("long", AvroType::Long),
    ("float", AvroType::Float),
    ("double", AvroType::Double),
    ("bytes", AvroType::Bytes),
    ("string", AvroType::String),
];

/// A default of a record may take the defaults of its fields, and those again: no further than this.
const DEFAULT_DEPTH_MAX: usize = 64;

/// Why a text is no Avro schema.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// It is not JSON, or nested more than 128 levels deep.
    #[error("the schema is not JSON")]
    Json(#[from] serde_json::Error),
    /// It is JSON, but not a schema.
    #[error("the schema is malformed at {path}: {problem}")]
    Malformed {
        /// The place in the schema, as a JSON pointer; `/` is the schema itself.
        path: String,
        /// What is wrong there.
        problem: String,
    },
}

/// An Avro schema, parsed as far as resolving data needs it.
#[derive(Debug, Clone)]
pub struct AvroSchema {
    types: Vec<AvroType>,
    root: TypeId,
}

#[derive(Debug, Clone)]
pub(super) enum AvroType {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Array(TypeId),
    Map(TypeId),
    Union(Vec<TypeId>),
    Fixed { name: Name, size: u64 },
    Enum { name: Name, symbols: Vec<String>, default: Option<String> },
    Record { name: Name, fields: Vec<Field>, by_name: HashMap<String, usize> },
}

/// The name of a record, enum or fixed.
#[derive(Debug, Clone)]
pub(super) struct Name {
    /// With its namespace.
    pub full: String,
    /// With their namespaces.
    pub aliases: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Field {
    pub name: String,
    pub aliases: Vec<String>,
    pub has_default: bool,
    pub kind: TypeId,
}

impl Name {
    /// Without its namespace.
    pub fn simple(&self) -> &str {
        self.full.rsplit('.').next().unwrap_or_default()
    }
}

impl AvroSchema {
    /// Parses a schema that is in use. Defaults are not looked at, as registries did not always do so.
    ///
    /// `references` are the texts of the schemas whose types this one may name, each after those that it needs itself.
    pub fn parse(text: &str, references: &[&str]) -> Result<Self, SchemaError> {
        Self::read(text, references, false)
    }

    /// As [`parse`](Self::parse), for a schema that shall come into use: every default has to fit its field, too.
    pub fn parse_new(text: &str, references: &[&str]) -> Result<Self, SchemaError> {
        Self::read(text, references, true)
    }

    fn read(text: &str, references: &[&str], check_defaults: bool) -> Result<Self, SchemaError> {
        let json = |text: &&str| serde_json::from_str::<Value>(text);
        let references = references.iter().map(json).collect::<Result<Vec<_>, _>>()?;
        let schema = json(&text)?;
        let mut parser = Parser {
            types: PRIMITIVES.map(|(_, kind)| kind).into(),
            names: HashMap::new(),
            path: Vec::new(),
            defaults: Vec::new(),
        };
        for reference in &references {
            parser.kind(reference, "")?;
        }
        parser.defaults.clear();
        let root = parser.kind(&schema, "")?;
        if check_defaults {
            parser.check_defaults()?;
        }
        Ok(Self { types: parser.types, root })
    }

    pub(super) fn root(&self) -> TypeId {
        self.root
    }

    /// Ids come from this schema alone, so each is in the table.
    pub(super) fn kind(&self, id: TypeId) -> &AvroType {
        self.types.get(id).unwrap_or(&AvroType::Null)
    }
}

struct Parser<'v> {
    types: Vec<AvroType>,
    /// Records, enums and fixed by full name.
    names: HashMap<String, TypeId>,
    /// Where the parser is.
    path: Vec<String>,
    /// Defaults of fields, with their places. They are checked when all types are known.
    defaults: Vec<(String, TypeId, &'v Value)>,
}

impl<'v> Parser<'v> {
    fn error<T>(&self, problem: impl Into<String>) -> Result<T, SchemaError> {
        Err(SchemaError::Malformed { path: self.pointer(), problem: problem.into() })
    }

    fn pointer(&self) -> String {
        format!("/{}", self.path.join("/"))
    }

    /// Runs `parse` one level further down.
    fn at<T>(&mut self, segment: impl ToString, parse: impl FnOnce(&mut Self) -> Result<T, SchemaError>) -> Result<T, SchemaError> {
        self.path.push(segment.to_string());
        let parsed = parse(self);
        self.path.pop();
        parsed
    }

    fn add(&mut self, kind: AvroType) -> TypeId {
        self.types.push(kind);
        self.types.len() - 1
    }

    /// A type in any of its forms, with the namespace around it. No deeper than the JSON, which `serde_json` bounds.
    fn kind(&mut self, value: &'v Value, namespace: &str) -> Result<TypeId, SchemaError> {
        match value {
            Value::String(name) => self.named(name, namespace),
            Value::Array(branches) => self.union(branches, namespace),
            Value::Object(attributes) => match attributes.get("type") {
                Some(Value::String(kind)) => self.declared(kind, attributes, namespace),
                // Not in the specification, but some writers put a type in a type.
                Some(inner) => self.at("type", |parser| parser.kind(inner, namespace)),
                None => self.error("there is no `type`"),
            },
            Value::Null | Value::Bool(_) | Value::Number(_) => {
                self.error("a type is a name, an object with `type`, or an array of the branches of a union")
            }
        }
    }

    fn declared(&mut self, kind: &str, attributes: &'v Map<String, Value>, namespace: &str) -> Result<TypeId, SchemaError> {
        match kind {
            // `error` is what a record is called in a protocol.
            "record" | "error" => self.record(attributes, namespace),
            "enum" => self.enumeration(attributes, namespace),
            "fixed" => self.fixed(attributes, namespace),
            "array" => {
                let items = self.part(attributes, "items", namespace)?;
                Ok(self.add(AvroType::Array(items)))
            }
            "map" => {
                let values = self.part(attributes, "values", namespace)?;
                Ok(self.add(AvroType::Map(values)))
            }
            name => self.named(name, namespace),
        }
    }

    fn part(&mut self, attributes: &'v Map<String, Value>, attribute: &str, namespace: &str) -> Result<TypeId, SchemaError> {
        match attributes.get(attribute) {
            Some(part) => self.at(attribute, |parser| parser.kind(part, namespace)),
            None => self.error(format!("there is no `{attribute}`")),
        }
    }

    /// A type by its name: within the namespace, and else without one, as Avro for Java does.
    fn named(&mut self, name: &str, namespace: &str) -> Result<TypeId, SchemaError> {
        if let Some(primitive) = PRIMITIVES.iter().position(|(primitive, _)| *primitive == name) {
            return Ok(primitive);
        }
        let found = match name.rsplit_once('.') {
            Some((namespace, simple)) => self.names.get(&full_name(namespace, simple)),
            None => self.names.get(&full_name(namespace, name)).or_else(|| self.names.get(name)),
        };
        match found {
            Some(id) => Ok(*id),
            None => self.error(format!("the type `{name}` is neither Avro's own nor defined before this place")),
        }
    }

    fn union(&mut self, branches: &'v [Value], namespace: &str) -> Result<TypeId, SchemaError> {
        let mut kinds = Vec::with_capacity(branches.len());
        let mut seen = HashSet::new();
        for (index, branch) in branches.iter().enumerate() {
            self.at(index, |parser| {
                let id = parser.kind(branch, namespace)?;
                // Of unnamed types a union may hold one each, of named ones one for each name.
                let distinct = match parser.types.get(id) {
                    Some(AvroType::Union(_)) => return parser.error("a union directly inside a union"),
                    Some(AvroType::Array(_)) => seen.insert("array".to_owned()),
                    Some(AvroType::Map(_)) => seen.insert("map".to_owned()),
                    _ => seen.insert(id.to_string()),
                };
                kinds.push(id);
                if distinct { Ok(()) } else { parser.error("the union has this type twice") }
            })?;
        }
        Ok(self.add(AvroType::Union(kinds)))
    }

    fn record(&mut self, attributes: &'v Map<String, Value>, namespace: &str) -> Result<TypeId, SchemaError> {
        let (name, namespace) = self.name(attributes, namespace)?;
        let Some(Value::Array(declared)) = attributes.get("fields") else {
            return self.error("the record has no array `fields`");
        };
        // Known by name before its fields are: a field may be of this type.
        let id = self.define(AvroType::Record { name: name.clone(), fields: Vec::new(), by_name: HashMap::new() }, &name)?;
        let mut fields = Vec::with_capacity(declared.len());
        let mut by_name = HashMap::new();
        self.at("fields", |parser| {
            for (index, field) in declared.iter().enumerate() {
                let field = parser.at(index, |parser| parser.field(field, &namespace))?;
                if by_name.insert(field.name.clone(), index).is_some() {
                    return parser.at(index, |parser| parser.error(format!("the record has a field `{}` already", field.name)));
                }
                fields.push(field);
            }
            Ok(())
        })?;
        if let Some(record) = self.types.get_mut(id) {
            *record = AvroType::Record { name, fields, by_name };
        }
        Ok(id)
    }

    fn field(&mut self, field: &'v Value, namespace: &str) -> Result<Field, SchemaError> {
        let Value::Object(attributes) = field else { return self.error("a field is an object") };
        let name = self.text(attributes, "name")?.to_owned();
        self.check_name(&name)?;
        let aliases = self.texts(attributes, "aliases")?.unwrap_or_default();
        let kind = self.part(attributes, "type", namespace)?;
        if let Some(default) = attributes.get("default") {
            self.defaults.push((format!("{}/default", self.pointer()), kind, default));
        }
        Ok(Field { name, aliases, has_default: attributes.contains_key("default"), kind })
    }

    fn enumeration(&mut self, attributes: &'v Map<String, Value>, namespace: &str) -> Result<TypeId, SchemaError> {
        let (name, _) = self.name(attributes, namespace)?;
        let Some(symbols) = self.texts(attributes, "symbols")? else { return self.error("the enum has no array `symbols`") };
        let mut seen = HashSet::new();
        for (index, symbol) in symbols.iter().enumerate() {
            let distinct = seen.insert(symbol.as_str());
            self.path.extend(["symbols".to_owned(), index.to_string()]);
            self.check_name(symbol)?;
            if !distinct {
                return self.error(format!("the enum has the symbol `{symbol}` already"));
            }
            self.path.truncate(self.path.len() - 2);
        }
        let default = match attributes.get("default") {
            None => None,
            Some(Value::String(default)) if seen.contains(default.as_str()) => Some(default.clone()),
            Some(_) => return self.at("default", |parser| parser.error("the enum's default is not one of its symbols")),
        };
        self.define(AvroType::Enum { name: name.clone(), symbols, default }, &name)
    }

    fn fixed(&mut self, attributes: &'v Map<String, Value>, namespace: &str) -> Result<TypeId, SchemaError> {
        let (name, _) = self.name(attributes, namespace)?;
        let Some(size) = attributes.get("size").and_then(Value::as_u64) else {
            return self.error("the fixed has no `size` in bytes");
        };
        self.define(AvroType::Fixed { name: name.clone(), size }, &name)
    }

    /// The name of a type, and the namespace that it gives to what is inside.
    fn name(&mut self, attributes: &'v Map<String, Value>, around: &str) -> Result<(Name, String), SchemaError> {
        let name = self.text(attributes, "name")?;
        let (namespace, simple) = match (name.rsplit_once('.'), attributes.get("namespace")) {
            (Some((namespace, simple)), _) => (namespace, simple),
            (None, None | Some(Value::Null)) => (around, name),
            (None, Some(Value::String(namespace))) => (namespace.as_str(), name),
            (None, Some(_)) => return self.at("namespace", |parser| parser.error("a namespace is a string")),
        };
        self.check_name(simple)?;
        let aliases = self.texts(attributes, "aliases")?.unwrap_or_default();
        let aliases = aliases.into_iter().map(|alias| if alias.contains('.') { alias } else { full_name(namespace, &alias) });
        Ok((Name { full: full_name(namespace, simple), aliases: aliases.collect() }, namespace.to_owned()))
    }

    fn define(&mut self, kind: AvroType, name: &Name) -> Result<TypeId, SchemaError> {
        if PRIMITIVES.iter().any(|(primitive, _)| *primitive == name.full) {
            return self.error(format!("`{}` is the name of one of Avro's own types", name.full));
        }
        let id = self.add(kind);
        match self.names.insert(name.full.clone(), id) {
            None => Ok(id),
            Some(_) => self.error(format!("the type `{}` is defined already", name.full)),
        }
    }

    /// Avro for Java takes letters and digits of any alphabet, the specification those of ASCII.
    fn check_name(&self, name: &str) -> Result<(), SchemaError> {
        let begins = name.starts_with(|c: char| c == '_' || c.is_alphabetic());
        if begins && name.chars().all(|c| c == '_' || c.is_alphanumeric()) {
            return Ok(());
        }
        self.error(format!("`{name}` is not a name: letters, digits and `_` make one, and a digit does not begin it"))
    }

    fn text(&self, attributes: &'v Map<String, Value>, attribute: &str) -> Result<&'v str, SchemaError> {
        match attributes.get(attribute) {
            Some(Value::String(text)) => Ok(text),
            Some(_) => self.error(format!("`{attribute}` is not a string")),
            None => self.error(format!("there is no `{attribute}`")),
        }
    }

    fn texts(&self, attributes: &'v Map<String, Value>, attribute: &str) -> Result<Option<Vec<String>>, SchemaError> {
        let Some(value) = attributes.get(attribute) else { return Ok(None) };
        let texts = value.as_array().map(|values| values.iter().map(|value| value.as_str().map(str::to_owned)).collect());
        match texts {
            Some(Some(texts)) => Ok(Some(texts)),
            _ => self.error(format!("`{attribute}` is not an array of strings")),
        }
    }

    fn check_defaults(&self) -> Result<(), SchemaError> {
        for (path, kind, default) in &self.defaults {
            if !self.default_fits(*kind, default, 0) {
                let problem = "the default does not fit the field's type".to_owned();
                return Err(SchemaError::Malformed { path: path.clone(), problem });
            }
        }
        Ok(())
    }

    fn default_fits(&self, id: TypeId, value: &Value, depth: usize) -> bool {
        if depth > DEFAULT_DEPTH_MAX {
            return false;
        }
        let fits = |id: &TypeId, value: &Value| self.default_fits(*id, value, depth + 1);
        match self.types.get(id) {
            None => false,
            Some(AvroType::Null) => value.is_null(),
            Some(AvroType::Boolean) => value.is_boolean(),
            Some(AvroType::Int) => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
            Some(AvroType::Long) => value.is_i64(),
            Some(AvroType::Float | AvroType::Double) => value.is_number(),
            Some(AvroType::Bytes | AvroType::String | AvroType::Fixed { .. }) => value.is_string(),
            Some(AvroType::Enum { symbols, .. }) => value.as_str().is_some_and(|text| symbols.iter().any(|symbol| symbol == text)),
            Some(AvroType::Array(items)) => value.as_array().is_some_and(|values| values.iter().all(|value| fits(items, value))),
            Some(AvroType::Map(kind)) => value.as_object().is_some_and(|values| values.values().all(|value| fits(kind, value))),
            // Before 1.12 it had to be of the first branch.
            Some(AvroType::Union(branches)) => branches.iter().any(|branch| fits(branch, value)),
            Some(AvroType::Record { fields, .. }) => value.as_object().is_some_and(|values| {
                fields.iter().all(|field| match values.get(&field.name) {
                    Some(value) => fits(&field.kind, value),
                    None => field.has_default,
                })
            }),
        }
    }
}

fn full_name(namespace: &str, simple: &str) -> String {
    if namespace.is_empty() { simple.to_owned() } else { format!("{namespace}.{simple}") }
}
