use std::{collections::HashMap, fmt, sync::Arc};

use schemars::{JsonSchema, Schema, schema_for};
use serde::{
    Deserialize,
    de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_yaml::Spanned;

use crate::{SinkConnector, SourceConnector, variables::Prepared};

/// A pipeline file in memory: what connectors' settings are read from.
#[derive(Clone)]
pub struct Document {
    /// The file's name, for messages.
    pub file: String,
    /// Its text.
    pub text: String,
    /// What `${NAME}` may stand for.
    pub variables: HashMap<String, String>,
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").field("file", &self.file).finish_non_exhaustive()
    }
}

/// A setting that is missing, unknown or wrong: with its place in the file.
#[derive(Debug, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}{excerpt}")]
pub struct ConfigError {
    file: String,
    /// Line, from 1.
    line: u64,
    /// Column, from 1.
    column: u64,
    message: String,
    excerpt: String,
}

impl ConfigError {
    /// An error at a place of the document; line and column count from 1.
    pub fn at(document: &Document, line: u64, column: u64, message: impl Into<String>) -> Self {
        // The line itself is shown, unless a secret may stand on it; its neighbours never are.
        let text = document.text.lines().nth((line.max(1) - 1) as usize).unwrap_or_default();
        let hidden = may_hold_a_secret(text);
        let excerpt = match (text.trim().is_empty(), hidden) {
            (true, _) | (_, true) => String::new(),
            (false, false) => {
                let gutter = line.to_string();
                let caret = " ".repeat((column.max(1) - 1) as usize);
                format!("\n  {gutter} | {text}\n  {:width$} | {caret}^", "", width = gutter.len())
            }
        };
        Self { file: document.file.clone(), line, column, message: message.into(), excerpt }
    }

    /// Like [`at`](Self::at), at the value that stands at `path` (map keys from the top of the file).
    pub fn at_path(document: &Document, path: &[&str], message: impl Into<String>) -> Self {
        let (line, column) = locate(document, path);
        Self::at(document, line, column, message)
    }

    fn from_yaml(document: &Document, prepared: &Prepared, error: &serde_yaml::Error) -> Self {
        let plain = error.without_snippet();
        let (line, column) = plain.location().map_or((1, 1), |place| (place.line(), place.column()));
        let column = prepared.column_in_file(line, column);
        let message = plain.to_string();
        // The parser ends its message with the place, which we print first.
        let message = message.split_once(" at line ").map_or(message.as_str(), |(text, _)| text);
        Self::at(document, line, column, for_people(message))
    }

    /// Line and column, both from 1.
    pub fn place(&self) -> (u64, u64) {
        (self.line, self.column)
    }
}

/// Whether a line of a pipeline file has a place for a password or key, and more there than a variable.
fn may_hold_a_secret(line: &str) -> bool {
    let lower = line.to_lowercase();
    let named = ["password", "secret", "token", "access_key"].iter().any(|word| lower.contains(word));
    let in_url = lower.split("://").skip(1).any(|rest| {
        let authority = rest.split(['/', '?', ' ']).next().unwrap_or_default();
        authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
    });
    named || in_url
}

/// The YAML library's message in the words of somebody who writes a pipeline file.
fn for_people(message: &str) -> String {
    let whole_number = |least: &str, most: &str| format!("a whole number from {least} to {most} is expected here");
    match message {
        "expected mapping start" => "settings are expected here: keys with values, for example `{ url: … }`".to_owned(),
        "expected sequence start" => "a list is expected here, for example `[public.orders, public.customers]`".to_owned(),
        "invalid u8" => whole_number("0", "255"),
        "invalid u16" => whole_number("0", "65535"),
        "invalid u32" => whole_number("0", "4294967295"),
        "invalid u64" | "invalid usize" => whole_number("0", "18446744073709551615"),
        "invalid bool" => "`true` or `false` is expected here".to_owned(),
        _ => match message.strip_prefix("duplicate mapping key: ").and_then(|rest| rest.split(',').next()) {
            Some(key) => format!("`{key}` stands here a second time"),
            None => message.to_owned(),
        },
    }
}

/// Reads a value of type `T` that stands at `path` in the file (map keys from the top). All else in the file is passed over.
pub fn parse_at<T: DeserializeOwned>(document: &Document, path: &[&str]) -> Result<T, ConfigError> {
    let prepared = Prepared::new(&document.text, &document.variables).map_err(|unset| {
        let name = unset.name;
        let message = format!("variable `{name}` is not set: set it in the environment, or write `${{{name}:-a default}}`");
        ConfigError::at(document, unset.line, unset.column, message)
    })?;
    let options = serde_yaml::options! {
        with_snippet: false,
        strict_booleans: true,
        property_syntax: serde_yaml::PropertySyntax::DockerCompose,
    };
    let options = options.with_properties(document.variables.clone());
    let found = serde_yaml::with_deserializer_from_str_with_options(&prepared.text, options, |deserializer| {
        At::<T> { path, found: std::marker::PhantomData }.deserialize(deserializer)
    });
    match found {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(ConfigError::at(document, 1, 1, format!("`{}` is missing", path.join(".")))),
        Err(error) => Err(ConfigError::from_yaml(document, &prepared, &error)),
    }
}

/// Line and column of the value at `path`, or of the nearest value above it.
fn locate(document: &Document, path: &[&str]) -> (u64, u64) {
    for end in (0..=path.len()).rev() {
        if let Ok(spanned) = parse_at::<Spanned<IgnoredAny>>(document, &path[..end]) {
            return (spanned.referenced.line(), spanned.referenced.column());
        }
    }
    (1, 1)
}

/// Walks down map keys to one value.
struct At<'a, T> {
    path: &'a [&'a str],
    found: std::marker::PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for At<'_, T> {
    type Value = Option<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<T>, D::Error> {
        if self.path.is_empty() { T::deserialize(deserializer).map(Some) } else { deserializer.deserialize_map(self) }
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for At<'_, T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a map with the key `{}`", self.path.first().unwrap_or(&""))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<T>, A::Error> {
        let (first, rest) = self.path.split_first().ok_or_else(|| A::Error::custom("no key to look for"))?;
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == *first {
                found = map.next_value_seed(At { path: rest, found: std::marker::PhantomData })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

type Make<C> = Arc<dyn Fn(&Document, &[&str]) -> Result<Arc<C>, ConfigError> + Send + Sync>;

macro_rules! factory {
    ($(#[$doc:meta])* $name:ident, $connector:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name {
            make: Make<dyn $connector>,
            schema: fn() -> Schema,
        }

        impl $name {
            /// A factory for connectors with settings of type `C`. `make` checks what the types cannot: its error names the field (a
            /// key under the connector's own, or "") and says what is wrong and what would be right.
            pub fn new<C, K>(make: fn(C) -> Result<K, (&'static str, String)>) -> Self
            where
                C: DeserializeOwned + JsonSchema + 'static,
                K: $connector + 'static,
            {
                Self {
                    make: Arc::new(move |document, path| {
                        let config = parse_at::<C>(document, path)?;
                        make(config).map(|connector| Arc::new(connector) as Arc<dyn $connector>).map_err(|(field, message)| {
                            let mut place = path.to_vec();
                            place.extend(field.split('.').filter(|part| !part.is_empty()));
                            let colon = if field.is_empty() { "" } else { ": " };
                            ConfigError::at_path(document, &place, format!("{field}{colon}{message}"))
                        })
                    }),
                    schema: || schema_for!(C),
                }
            }

            /// Reads the settings at `path` of the file and checks them. Touches nothing outside the process.
            pub fn make(&self, document: &Document, path: &[&str]) -> Result<Arc<dyn $connector>, ConfigError> {
                (self.make)(document, path)
            }

            /// The JSON schema of the settings, with their doc comments as descriptions.
            pub fn schema(&self) -> Schema {
                (self.schema)()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    };
}

factory!(
    /// Makes sources of one kind from their settings in a pipeline file.
    SourceFactory,
    SourceConnector
);
factory!(
    /// Makes sinks of one kind from their settings in a pipeline file.
    SinkFactory,
    SinkConnector
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ByteSize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the reading is tested")]
    struct Settings {
        url: String,
        bytes: ByteSize,
    }

    fn document(text: &str) -> Document {
        let variables = HashMap::from([("HOST".to_owned(), "example".to_owned())]);
        Document { file: "p.yaml".into(), text: text.into(), variables }
    }

    #[test]
    fn errors_name_line_and_column() {
        let message = |text: &str| parse_at::<Settings>(&document(text), &["sinks", "lake", "files"]).unwrap_err().to_string();
        let wrong_unit = message("name: x\nsinks:\n  lake:\n    files:\n      url: a\n      bytes: 12 parsecs\n");
        assert!(wrong_unit.starts_with("p.yaml:6:14: "), "{wrong_unit}");
        assert!(wrong_unit.contains("`12 parsecs` is no size"), "{wrong_unit}");
        let unknown = message("sinks: { lake: { files: { url: a, bytes: 1MiB, colour: red } } }");
        assert!(unknown.contains("colour") && unknown.starts_with("p.yaml:1:"), "{unknown}");
        let unset = message("sinks: { lake: { files: { url: \"${NOWHERE}\", bytes: 1MiB } } }");
        assert!(unset.contains("NOWHERE"), "{unset}");
        let twice = message("sinks: { lake: { files: { url: a, url: b, bytes: 1MiB } } }");
        assert!(twice.contains("`url` stands here a second time"), "{twice}");
        let no_map = message("sinks: { lake: { files: [] } }");
        assert!(no_map.contains("settings are expected here"), "{no_map}");
        let missing = message("sinks: {}");
        assert!(missing.contains("`sinks.lake.files` is missing"), "{missing}");
    }

    #[test]
    fn variables_are_filled_in() {
        let settings: Settings = parse_at(&document("a: { url: x-${HOST}, bytes: 1MiB }"), &["a"]).unwrap();
        assert_eq!(settings.url, "x-example");
    }

    #[test]
    fn a_line_with_a_secret_is_not_shown() {
        let error = ConfigError::at(&document("password: hunter2"), 1, 1, "wrong");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        let error = ConfigError::at(&document("url: postgres://me:hunter2@host/db"), 1, 1, "wrong");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        let error = ConfigError::at(&document("url: postgres://host:5432/db"), 1, 1, "wrong");
        assert!(error.to_string().contains("host:5432"), "{error}");
    }
}
