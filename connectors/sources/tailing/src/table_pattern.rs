use std::fmt;

use connector_api::TableName;

/// How a database writes names of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Naming<'a> {
    /// What stands round unusual names.
    pub quote: char,
    /// The schema of a name without one; `None` if there is none.
    pub default_schema: Option<&'a str>,
    /// What to write, for messages: `schema.table`.
    pub form: &'static str,
}

/// A line under `tables:`: a table's name, or a pattern in which an unquoted `*` stands for any text without a dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablePattern {
    text: String,
    schema: Vec<Piece>,
    name: Vec<Piece>,
}

/// A part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Any,
}

impl TablePattern {
    /// Whether the pattern stands for this table.
    pub fn matches(&self, table: &TableName) -> bool {
        matches(&self.schema, &table.schema) && matches(&self.name, &table.name)
    }

    /// The one table it can stand for; `None` if it has a `*`.
    pub fn exact(&self) -> Option<TableName> {
        let text = |pieces: &[Piece]| match pieces {
            [Piece::Text(text)] => Some(text.clone()),
            _ => None,
        };
        Some(TableName::new(text(&self.schema)?, text(&self.name)?))
    }
}

impl fmt::Display for TablePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A greedy match with one step back to the last `*` is enough, because a later `*` can make up for all that an earlier one took.
fn matches(pieces: &[Piece], text: &str) -> bool {
    match pieces {
        [] => text.is_empty(),
        [Piece::Text(exact)] => exact == text,
        [Piece::Text(prefix), rest @ ..] => text.strip_prefix(prefix.as_str()).is_some_and(|text| matches(rest, text)),
        [Piece::Any] => true,
        [Piece::Any, rest @ ..] => {
            let starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            starts.into_iter().any(|at| matches(rest, &text[at..]))
        }
    }
}

impl TablePattern {
    /// Reads a pattern. An error is a sentence that says what is wrong and what would be right.
    pub fn parse(text: &str, naming: Naming<'_>) -> Result<Self, String> {
        let Naming { quote, default_schema, form } = naming;
        let quotes = if quote == '"' { "double quotes" } else { "backquotes" };
        let wrong = |problem: &str| format!("`{text}` {problem}; write `{form}`, with {quotes} round unusual names");
        let mut parts = vec![Vec::new()];
        let mut rest = text.trim().chars().peekable();
        while let Some(c) = rest.next() {
            let last = parts.last_mut().ok_or_else(|| wrong("is empty"))?;
            match c {
                c if c == quote => loop {
                    match (rest.next(), rest.peek()) {
                        (Some(c), Some(next)) if c == quote && *next == quote => {
                            rest.next();
                            push(last, quote);
                        }
                        (Some(c), _) if c == quote => break,
                        (Some(c), _) => push(last, c),
                        (None, _) => return Err(wrong("has a quote that does not end")),
                    }
                },
                '.' => parts.push(Vec::new()),
                '*' if last.last() == Some(&Piece::Any) => {}
                '*' => last.push(Piece::Any),
                c if c.is_alphanumeric() || matches!(c, '_' | '$' | '-') => push(last, c),
                c => return Err(wrong(&format!("has a `{c}` outside of quotes"))),
            }
        }
        let mut parts = parts.into_iter();
        let (schema, name) = match (parts.next(), parts.next(), parts.next()) {
            (Some(name), None, _) => match default_schema {
                Some(schema) => (vec![Piece::Text(schema.to_owned())], name),
                None => return Err(wrong("names no schema")),
            },
            (Some(schema), Some(name), None) => (schema, name),
            _ => return Err(wrong("has too many dots")),
        };
        if schema.is_empty() || name.is_empty() {
            return Err(wrong("lacks a name"));
        }
        if schema.iter().chain(&name).filter(|piece| **piece == Piece::Any).count() > 8 {
            return Err(wrong("has more than eight `*`"));
        }
        Ok(Self { text: text.trim().to_owned(), schema, name })
    }
}

fn push(pieces: &mut Vec<Piece>, c: char) {
    match pieces.last_mut() {
        Some(Piece::Text(text)) => text.push(c),
        _ => pieces.push(Piece::Text(c.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMING: Naming<'_> = Naming { quote: '"', default_schema: Some("public"), form: "schema.table" };

    fn parse(text: &str) -> Result<TablePattern, String> {
        TablePattern::parse(text, NAMING)
    }

    #[test]
    fn patterns_stand_for_tables() {
        let check = |pattern: &str, schema: &str, name: &str| parse(pattern).unwrap().matches(&TableName::new(schema, name));
        for (pattern, schema, name, expected) in [
            ("orders", "public", "orders", true),
            ("orders", "sales", "orders", false),
            ("sales.*", "sales", "a.b", true),
            ("sales.*", "sales2", "a", false),
            ("*.o*s", "x", "orders", true),
            ("*.o*s", "x", "order", false),
            ("public.*_*_log", "public", "a_b_c_log", true),
            ("public.\"a.b\"", "public", "a.b", true),
            ("public.\"a\"\"*\"", "public", "a\"*", true),
            ("public.\"a\"\"*\"", "public", "a\"x", false),
        ] {
            assert_eq!(check(pattern, schema, name), expected, "{pattern} {schema}.{name}");
        }
        assert_eq!(parse("a.b").unwrap().exact(), Some(TableName::new("a", "b")));
        assert_eq!(parse("a.b*").unwrap().exact(), None);
    }

    #[test]
    fn each_database_has_its_own_quotes() {
        let naming = Naming { quote: '`', default_schema: None, form: "database.table" };
        let pattern = TablePattern::parse("shop.`a\"``.*`", naming).unwrap();
        assert_eq!(pattern.exact(), Some(TableName::new("shop", "a\"`.*")));
        let error = TablePattern::parse("orders", naming).unwrap_err();
        assert!(error.contains("names no schema; write `database.table`"), "{error}");
    }

    #[test]
    fn wrong_patterns_are_errors() {
        for wrong in ["", ".", "a.", ".a", "a.b.c", "a b", "\"a", "a;b", "*a*a*a*a*a*a*a*a*a*"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
