//! `${NAME}` in a pipeline file, wherever a value may stand.
//!
//! The YAML library fills variables in after parsing, so a value with quotes, colons or line ends in it cannot change the file's
//! structure. What it lacks is done here, on the text: it fills in none in `{ a: ${NAME} }` (the braces end the flow map), and takes
//! a lone `$` for the start of a name. [`Prepared`] is the text with such places quoted, and the way back to the columns of the file.

use std::collections::HashMap;

/// Text ready for the YAML library in its Docker Compose mode, and where it differs from the file.
pub(crate) struct Prepared {
    pub text: String,
    /// Line (from 0), column in the new text (from 0), of each character that was put in; ascending.
    inserted: Vec<(usize, usize)>,
}

/// A variable that is not set: its name, line and column (both from 1).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unset {
    pub name: String,
    pub line: u64,
    pub column: u64,
}

impl Prepared {
    /// Quotes what must be quoted. A variable without a value and without a default (`${NAME:-default}`) is an error.
    pub fn new(text: &str, variables: &HashMap<String, String>) -> Result<Self, Unset> {
        let mut prepared = Self { text: String::with_capacity(text.len() + 16), inserted: Vec::new() };
        let mut depth = 0usize;
        let mut quote = None;
        for (number, line) in text.split_inclusive('\n').enumerate() {
            prepared.line(number, line, &mut depth, &mut quote, variables)?;
        }
        Ok(prepared)
    }

    /// The column in the file (from 1) of a column in the prepared text (from 1).
    pub fn column_in_file(&self, line: u64, column: u64) -> u64 {
        let before = |&&(l, c): &&(usize, usize)| l as u64 + 1 == line && (c as u64) < column.saturating_sub(1);
        column - self.inserted.iter().filter(before).count() as u64
    }

    fn line(
        &mut self,
        number: usize,
        line: &str,
        depth: &mut usize,
        quote: &mut Option<char>,
        variables: &HashMap<String, String>,
    ) -> Result<(), Unset> {
        let chars: Vec<char> = line.chars().collect();
        // Where a value in a flow collection begins, in the output: that is where its opening quote would go.
        let mut value_start: Option<(usize, usize)> = None;
        let mut quote_value = false;
        let mut column = 0;
        let mut previous = '\n';
        let mut index = 0;
        while index < chars.len() {
            let c = chars[index];
            let in_quotes = quote.is_some();
            if !in_quotes && c == '#' && previous.is_whitespace() {
                self.text.extend(&chars[index..]);
                return Ok(());
            }
            let opens_quote = matches!(c, '"' | '\'') && value_start.is_none_or(|(_, start)| start == column);
            match c {
                '$' if chars.get(index + 1) == Some(&'{') => {
                    let end = closing_brace(&chars, index + 2);
                    let inner: String = chars[index + 2..end].iter().collect();
                    let name: String = inner.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                    let has_default = inner[name.len()..].starts_with([':', '-']);
                    if !has_default && !variables.contains_key(&name) {
                        return Err(Unset { name, line: number as u64 + 1, column: index as u64 + 1 });
                    }
                    if !in_quotes && *depth > 0 {
                        value_start.get_or_insert((self.text.len(), column));
                        quote_value = true;
                    }
                    let whole = &chars[index..(end + 1).min(chars.len())];
                    self.text.extend(whole);
                    column += whole.len();
                    index += whole.len();
                    previous = '}';
                    continue;
                }
                '$' => {
                    self.insert(number, column, '$');
                    column += 1;
                }
                _ if *quote == Some(c) && previous != '\\' => *quote = None,
                _ if !in_quotes && opens_quote && matches!(previous, ' ' | '\n' | '[' | '{' | ',' | ':') => *quote = Some(c),
                '{' | '[' if !in_quotes && value_start.is_none_or(|(_, start)| start == column) => {
                    *depth += 1;
                    value_start = None;
                }
                '}' | ']' | ',' | '\n' if !in_quotes && *depth > 0 => {
                    if std::mem::take(&mut quote_value) {
                        column += self.quote_value(number, value_start, column);
                    }
                    value_start = None;
                    if matches!(c, '}' | ']') {
                        *depth -= 1;
                    }
                }
                ':' if !in_quotes && chars.get(index + 1).is_none_or(|next| next.is_whitespace()) => value_start = None,
                c if !in_quotes && *depth > 0 && !c.is_whitespace() => {
                    value_start.get_or_insert((self.text.len(), column));
                }
                _ => {}
            }
            self.text.push(c);
            column += 1;
            previous = c;
            index += 1;
        }
        Ok(())
    }

    fn insert(&mut self, line: usize, column: usize, c: char) {
        self.text.push(c);
        self.inserted.push((line, column));
    }

    /// Puts quotes round the value that began at `start`, without the spaces at its end.
    fn quote_value(&mut self, line: usize, start: Option<(usize, usize)>, column: usize) -> usize {
        let Some((byte, start_column)) = start else { return 0 };
        let value = self.text.split_off(byte);
        let trimmed = value.trim_end();
        self.text.push('"');
        self.text.push_str(trimmed);
        self.text.push('"');
        self.text.push_str(&value[trimmed.len()..]);
        let spaces = value.chars().count() - trimmed.chars().count();
        self.inserted.push((line, start_column));
        self.inserted.push((line, column + 1 - spaces));
        2
    }
}

fn closing_brace(chars: &[char], from: usize) -> usize {
    chars[from..].iter().position(|c| *c == '}').map_or(chars.len(), |found| from + found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepare(text: &str) -> Result<Prepared, Unset> {
        Prepared::new(text, &HashMap::from([("A".to_owned(), "x".to_owned())]))
    }

    #[test]
    fn a_variable_in_a_flow_map_is_quoted() {
        for (text, expected) in [
            ("a: ${A}\n", "a: ${A}\n"),
            ("b: { a: ${A}, c: 1 }\n", "b: { a: \"${A}\", c: 1 }\n"),
            ("b: { a: x://${A}:1/d?e=f }\n", "b: { a: \"x://${A}:1/d?e=f\" }\n"),
            ("b: [${A}, '${A}', \"${A}\"]", "b: [\"${A}\", '${A}', \"${A}\"]"),
            ("b: {\n  a: ${A}\n}\n", "b: {\n  a: \"${A}\"\n}\n"),
            ("a: pa$word # ${UNSET}\n", "a: pa$$word # ${UNSET}\n"),
            ("a: don't ${A}\n", "a: don't ${A}\n"),
            ("a: ${B:-c}\n", "a: ${B:-c}\n"),
        ] {
            assert_eq!(prepare(text).unwrap().text, expected);
        }
    }

    #[test]
    fn columns_lead_back_to_the_file() {
        let prepared = prepare("b: { a: ${A}, c: 1 }\n").unwrap();
        assert_eq!(prepared.column_in_file(1, 9), 9);
        assert_eq!(prepared.column_in_file(1, 16), 14);
        assert_eq!(prepared.column_in_file(1, 19), 17);
    }

    #[test]
    fn an_unset_variable_is_named_with_its_place() {
        let unset = prepare("a: 1\nb: x${B}\n").err().unwrap();
        assert_eq!(unset, Unset { name: "B".into(), line: 2, column: 5 });
        for broken in ["${", "a: ${A", "{${A", "a: {b: ${", "$", "a: '${A}"] {
            let _ = prepare(broken);
        }
    }
}
