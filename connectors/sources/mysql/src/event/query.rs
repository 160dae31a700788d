use std::borrow::Cow;

/// What a statement in the log is, as far as a reader of rows must know. Told by its first words: this is no parser, and what it does not know is
/// [`Other`](Self::Other).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Statement {
    Begin,
    Commit,
    /// Of the whole transaction.
    Rollback,
    /// `SAVEPOINT`, `RELEASE SAVEPOINT`.
    Savepoint,
    /// Rows since the savepoint are void.
    RollbackToSavepoint,
    XaStart,
    XaEnd,
    XaPrepare,
    XaCommit,
    XaRollback,
    /// All rows of the table are gone.
    Truncate(QualifiedName),
    /// A definition changes. Names are given for tables only.
    Definition {
        verb: DefinitionVerb,
        tables: Vec<QualifiedName>,
    },
    /// Rows change, in a way that only running the statement would tell: the log is in statement format.
    Rows,
    Other,
}

/// What a statement does to a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DefinitionVerb {
    Create,
    Alter,
    Drop,
    Rename,
}

/// A table's name; without a database it is in the one that was in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QualifiedName {
    pub database: Option<String>,
    pub table: String,
}

/// Tells what a statement is.
pub(crate) fn classify(text: &[u8]) -> Statement {
    // What a transaction of a server without GTIDs costs: two of these.
    match text {
        b"BEGIN" => return Statement::Begin,
        b"COMMIT" => return Statement::Commit,
        _ => {}
    }
    let mut tokens = Tokens { rest: text };
    let Some(Token::Word(first)) = tokens.next() else { return Statement::Other };
    let first = first.to_ascii_uppercase();
    match first.as_slice() {
        b"BEGIN" => Statement::Begin,
        b"START" if tokens.skip(b"TRANSACTION") => Statement::Begin,
        b"COMMIT" => Statement::Commit,
        b"ROLLBACK" => {
            tokens.skip(b"WORK");
            if tokens.skip(b"TO") { Statement::RollbackToSavepoint } else { Statement::Rollback }
        }
        b"SAVEPOINT" | b"RELEASE" => Statement::Savepoint,
        b"XA" => xa(&mut tokens),
        b"TRUNCATE" => {
            tokens.skip(b"TABLE");
            tokens.name().map_or(Statement::Other, Statement::Truncate)
        }
        b"CREATE" => definition(DefinitionVerb::Create, tokens),
        b"ALTER" => definition(DefinitionVerb::Alter, tokens),
        b"DROP" => definition(DefinitionVerb::Drop, tokens),
        b"RENAME" => definition(DefinitionVerb::Rename, tokens),
        b"INSERT" | b"UPDATE" | b"DELETE" | b"REPLACE" | b"LOAD" | b"WITH" | b"CALL" | b"SELECT" | b"DO" => Statement::Rows,
        _ => Statement::Other,
    }
}

fn xa(tokens: &mut Tokens<'_>) -> Statement {
    let Some(Token::Word(word)) = tokens.next() else { return Statement::Other };
    match word.to_ascii_uppercase().as_slice() {
        b"START" | b"BEGIN" => Statement::XaStart,
        b"END" => Statement::XaEnd,
        b"PREPARE" => Statement::XaPrepare,
        b"COMMIT" => Statement::XaCommit,
        b"ROLLBACK" => Statement::XaRollback,
        _ => Statement::Other,
    }
}

fn definition(verb: DefinitionVerb, mut tokens: Tokens<'_>) -> Statement {
    const BEFORE_TABLE: [&[u8]; 7] = [b"OR", b"REPLACE", b"ONLINE", b"OFFLINE", b"IGNORE", b"TEMPORARY", b"SEQUENCE"];
    while BEFORE_TABLE[..6].iter().any(|word| tokens.skip(word)) {}
    let mut tables = Vec::new();
    if tokens.skip(b"TABLE") || tokens.skip(b"TABLES") {
        // IF [NOT] EXISTS; MariaDB's WAIT n stands behind the names of DROP, and behind the word TABLE of ALTER.
        for word in [&b"IF"[..], b"NOT", b"EXISTS"] {
            tokens.skip(word);
        }
        while let Some(name) = tokens.name() {
            tables.push(name);
            let goes_on = match verb {
                DefinitionVerb::Drop => tokens.symbol(b','),
                DefinitionVerb::Rename => tokens.skip(b"TO") || tokens.symbol(b','),
                DefinitionVerb::Create | DefinitionVerb::Alter => false,
            };
            if !goes_on {
                break;
            }
        }
    }
    Statement::Definition { verb, tables }
}

#[derive(Debug, PartialEq, Eq)]
enum Token<'a> {
    /// A bare word.
    Word(&'a [u8]),
    /// A quoted name.
    Quoted(Cow<'a, [u8]>),
    Symbol(u8),
}

/// Words, names and symbols; comments are passed over, but not the text of those that the server executes (`/*!50003 … */`).
#[derive(Debug, Clone, Copy)]
struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Tokens<'a> {
    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_blanks();
        let (first, after) = self.rest.split_first()?;
        match first {
            b'`' | b'"' => Some(Token::Quoted(self.quoted(*first, after))),
            byte if is_word(*byte) => {
                let end = self.rest.iter().position(|byte| !is_word(*byte)).unwrap_or(self.rest.len());
                let (word, rest) = self.rest.split_at(end);
                self.rest = rest;
                Some(Token::Word(word))
            }
            byte => {
                self.rest = after;
                Some(Token::Symbol(*byte))
            }
        }
    }

    fn skip_blanks(&mut self) {
        loop {
            self.rest = match self.rest {
                [b' ' | b'\t' | b'\r' | b'\n' | 0x0B | 0x0C, rest @ ..] => rest,
                // The end of a comment whose text is executed.
                [b'*', b'/', rest @ ..] => rest,
                [b'/', b'*', b'!', rest @ ..] | [b'/', b'*', b'M', b'!', rest @ ..] => {
                    let digits = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
                    rest.get(digits..).unwrap_or_default()
                }
                [b'/', b'*', rest @ ..] => after(rest, b"*/"),
                [b'#', rest @ ..] | [b'-', b'-', b' ' | b'\t' | b'\n', rest @ ..] => after(rest, b"\n"),
                _ => return,
            };
        }
    }

    /// A quote in a quoted name is doubled.
    fn quoted(&mut self, quote: u8, mut rest: &'a [u8]) -> Cow<'a, [u8]> {
        let mut name = Cow::Borrowed(&[][..]);
        loop {
            let end = rest.iter().position(|byte| *byte == quote).unwrap_or(rest.len());
            let (part, behind) = rest.split_at(end);
            if name.is_empty() {
                name = Cow::Borrowed(part);
            } else {
                name.to_mut().extend_from_slice(part);
            }
            match behind {
                [_, next, behind @ ..] if *next == quote => {
                    name.to_mut().push(quote);
                    rest = behind;
                }
                _ => {
                    self.rest = behind.get(1..).unwrap_or_default();
                    return name;
                }
            }
        }
    }

    /// Takes the word if it is next.
    fn skip(&mut self, word: &[u8]) -> bool {
        let mut ahead = *self;
        let found = matches!(ahead.next(), Some(Token::Word(next)) if next.eq_ignore_ascii_case(word));
        if found {
            *self = ahead;
        }
        found
    }

    fn symbol(&mut self, symbol: u8) -> bool {
        let mut ahead = *self;
        let found = ahead.next() == Some(Token::Symbol(symbol));
        if found {
            *self = ahead;
        }
        found
    }

    fn name(&mut self) -> Option<QualifiedName> {
        let first = self.identifier()?;
        if self.symbol(b'.') {
            return Some(QualifiedName { database: Some(first), table: self.identifier()? });
        }
        Some(QualifiedName { database: None, table: first })
    }

    fn identifier(&mut self) -> Option<String> {
        let name = match self.next()? {
            Token::Word(word) => Cow::Borrowed(word),
            Token::Quoted(name) => name,
            Token::Symbol(_) => return None,
        };
        Some(String::from_utf8_lossy(&name).into_owned())
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

fn after<'a>(text: &'a [u8], end: &[u8]) -> &'a [u8] {
    let at = text.windows(end.len()).position(|window| window == end);
    at.and_then(|at| text.get(at + end.len()..)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(database: Option<&str>, table: &str) -> QualifiedName {
        QualifiedName { database: database.map(str::to_owned), table: table.to_owned() }
    }

    fn tables(verb: DefinitionVerb, tables: &[QualifiedName]) -> Statement {
        Statement::Definition { verb, tables: tables.to_vec() }
    }

    #[test]
    fn statements_are_told_by_their_first_words() {
        use DefinitionVerb::{Alter, Create, Drop, Rename};
        for (text, expected) in [
            ("BEGIN", Statement::Begin),
            ("begin /* by a tool */", Statement::Begin),
            ("START TRANSACTION", Statement::Begin),
            ("COMMIT", Statement::Commit),
            ("ROLLBACK", Statement::Rollback),
            ("ROLLBACK TO `s`", Statement::RollbackToSavepoint),
            ("SAVEPOINT `s`", Statement::Savepoint),
            ("XA START X'61',X'',1", Statement::XaStart),
            ("XA END X'61',X'',1", Statement::XaEnd),
            ("XA COMMIT X'61',X'',1", Statement::XaCommit),
            ("XA ROLLBACK X'61',X'',1", Statement::XaRollback),
            ("TRUNCATE TABLE `d`.`t``x`", Statement::Truncate(name(Some("d"), "t`x"))),
            ("truncate t", Statement::Truncate(name(None, "t"))),
            ("/* a */ -- b\n # c\n TRUNCATE /**/ t", Statement::Truncate(name(None, "t"))),
            ("INSERT INTO t VALUES (1)", Statement::Rows),
            ("/*!50000 INSERT */ INTO t VALUES (1)", Statement::Rows),
            ("/*M!100000 delete from t */", Statement::Rows),
            ("DROP TABLE IF EXISTS `a`, d.`b` /* generated by server */", tables(Drop, &[name(None, "a"), name(Some("d"), "b")])),
            ("DROP TABLE a /* x */, b", tables(Drop, &[name(None, "a"), name(None, "b")])),
            ("ALTER TABLE d.t ADD COLUMN x INT", tables(Alter, &[name(Some("d"), "t")])),
            ("CREATE TABLE IF NOT EXISTS t (a INT)", tables(Create, &[name(None, "t")])),
            ("CREATE OR REPLACE TABLE t (a INT)", tables(Create, &[name(None, "t")])),
            ("create database d", tables(Create, &[])),
            ("RENAME TABLE a TO _a_old, `_a_gho` TO a", tables(Rename, &["a", "_a_old", "_a_gho", "a"].map(|n| name(None, n)))),
            ("FLUSH TABLES", Statement::Other),
            ("", Statement::Other),
            ("/*", Statement::Other),
            ("GRANT ALL ON *.* TO x", Statement::Other),
        ] {
            assert_eq!(classify(text.as_bytes()), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_statement_panics(text in "(TRUNCATE|DROP TABLE|RENAME TABLE|XA|/[*]!|`|\"|[*]/|--|,|\\.| |a|\n|#){0,12}") {
            let _ = classify(text.as_bytes());
        }
    }
}
