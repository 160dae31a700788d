use super::*;

/// What became of the rows of `changes`, a line each: the operation, the old image, the new image. `-` is NULL, `?` was not sent.
struct Changes {
    shape: Arc<Shape>,
    identity: Identity,
    rows: TableRows,
    lines: Vec<String>,
}

impl Changes {
    fn new(table: &Captured, charsets: &Charsets) -> Self {
        Self::with(Shape::of_definition(&table.definition(), charsets, DecodeOptions::default()).unwrap())
    }

    fn with(shape: Shape) -> Self {
        let shape = Arc::new(shape);
        let rows = TableRows::new(Arc::clone(&shape), Identity::Full, &source_info("mysql", "capture"));
        Self { shape, identity: Identity::Full, rows, lines: Vec::new() }
    }

    fn take(&mut self, event_type: u8, body: &[u8]) {
        let mut scratch = Vec::new();
        match Event::parse(&header(event_type), body, &mut scratch).unwrap() {
            Event::Rows(event) => self.rows(&event),
            Event::TransactionPayload(payload) => {
                let mut events = payload.events().unwrap();
                while let Some((header, body)) = events.next_event().unwrap() {
                    self.take(header.event_type, body);
                }
            }
            _ => {}
        }
    }

    fn rows(&mut self, event: &crate::event::RowsEvent<'_>) {
        if let Some(identity) = TableRows::identity_of(event).filter(|_| !self.rows.fits(event)) {
            self.identity = identity;
            self.rows = TableRows::new(Arc::clone(&self.shape), identity, &source_info("mysql", "capture"));
        }
        if let Err(problem) = self.rows.append(&STAMP, event, 0) {
            self.lines.push(problem.to_string());
            self.rows = TableRows::new(Arc::clone(&self.shape), self.identity, &source_info("mysql", "capture"));
            return;
        }
        let batch = self.rows.finish().unwrap();
        for row in 0..batch.len() {
            let image = |image: &Option<StructArray>, sent: &dyn Fn(usize) -> bool| match image {
                Some(image) if image.is_valid(row) => {
                    let value = |index: usize| match shown(image.column(index), row) {
                        _ if !sent(index) => "?".to_owned(),
                        Some(text) if text.len() > 90 => format!("{}*{}", &text[..1], text.len()),
                        Some(text) => text,
                        None => "-".to_owned(),
                    };
                    (0..image.num_columns()).map(value).collect::<Vec<_>>().join(" ")
                }
                _ => String::new(),
            };
            let before = image(&batch.before, &|_| true);
            let after = image(&batch.after, &|column| !batch.unchanged.as_ref().is_some_and(|set| set.contains(row, column)));
            self.lines.push(format!("{}|{before}|{after}", batch.ops[row] as u8 as char));
        }
    }
}

#[test]
fn images_hold_what_the_server_sent() {
    let [mysql, mariadb] = captures();
    let lines = |(_, charsets, tables): (&str, Charsets, Vec<Captured>)| {
        let table = tables.iter().find(|table| table.name == "changes").unwrap();
        let mut changes = Changes::new(table, &charsets);
        for (event_type, body) in &table.events {
            changes.take(*event_type, body);
        }
        changes.lines
    };
    let x = "x".repeat(50);
    let patched = [
        format!(r#"c||6 a t {{"k": [1, 2], "long": "{x}"}} 1"#),
        format!(r#"u|6 a t {{"k": [1, 2], "long": "{x}"}} 1|6 a t {{"k": ["y", 5], "long": "{x}"}} 1"#),
        format!(r#"u|6 a t {{"k": ["y", 5], "long": "{x}"}} 1|6 a t {{"k": ["y", 5]}} 1"#),
        r#"u|6 a t {"k": ["y", 5]} 1|6 a t {"k": ["y", 5], "n w": 1.50} 1"#.to_owned(),
        r#"u|6 a t {"k": ["y", 5], "n w": 1.50} 1|6 a t {"k": ["first", "y", 5], "n w": 1.50} 1"#.to_owned(),
        r#"u|6 a t {"k": ["first", "y", 5], "n w": 1.50} 1|6 a t {"k": [null, "y", 5], "n w": 1.50} 2"#.to_owned(),
        r#"u|6 a t {"k": [null, "y", 5], "n w": 1.50} 2|6 a t - 2"#.to_owned(),
        "d|6 a t - 2|".to_owned(),
    ];
    let mysql_lines = lines(mysql);
    let images = [
        r#"c||1 a text {"k": [1, 2]} 1"#,
        r#"u|1 a text {"k": [1, 2]} 1|1 b text {"k": [1, 2]} 1"#,
        r#"m|1 b text {"k": [1, 2]} 1|2 b text {"k": [1, 2]} -"#,
        r#"d|2 b text {"k": [1, 2]} -|"#,
        "c||3 a text 1 1",
        "u||3 c ? ? ?",
        "m|3 - - - -|4 ? ? ? ?",
        "c||9 ? ? ? ?",
        "d|4 - - - -|",
        "d|9 - - - -|",
        "c||5 a text 1 1",
    ];
    let (same, rest) = mysql_lines.split_at(images.len());
    assert_eq!(same, images);
    // To MySQL a document is no blob.
    assert_eq!(rest[..2], ["u||5 a ? 1 7", "u||5 a new 1 7"]);
    let rest = &rest[2..];
    assert_eq!(rest[0], "d|5 - - - -|");
    assert_eq!(rest[1..9], patched);
    assert_eq!(rest[9..12], ["101", "102", "103"].map(|id| format!("c||{id} zzzzzzzzz t*300 [] {}", &id[2..])));
    assert!(
        rest[13].contains("column `j`: a partial update of a JSON document whose old version is not in the log"),
        "{}",
        rest[13]
    );

    let mariadb_lines = lines(mariadb);
    let (same, rest) = mariadb_lines.split_at(images.len());
    assert_eq!(same, images);
    assert_eq!(rest[..3], ["u||5 a ? ? 7", "u||5 a new ? 7", "d|5 - - - -|"]);
    let rest = &rest[3..];
    assert_eq!(rest[..3], ["101", "102", "103"].map(|id| format!("c||{id} zzzzzzzzz t*300 [] {}", &id[2..])));
    assert_eq!(rest[3], "u|101 zzzzzzzzz t*300 [] 1|101 zzzzzzzzz t*300 [] 2");
    assert_eq!(rest[6], "d|101 zzzzzzzzz t*300 [] 2|");
    assert_eq!(rest.len(), 9);
}

#[test]
fn old_versions_of_rows_are_no_rows() {
    let [_, (_, charsets, tables)] = captures();
    for name in ["versions", "declared", "unkeyed", "hashed"] {
        let table = tables.iter().find(|table| table.name == name).unwrap();
        let (map_type, map) = &table.events[0];
        let mut scratch = Vec::new();
        let Ok(Event::TableMap(event)) = Event::parse(&header(*map_type), map, &mut scratch) else { panic!() };
        let map = event.describe().unwrap();
        let definition = table.definition();
        assert!(definition.describes(&map), "{name}");
        let shape = Shape::new(&table.table(), &map, Some(&definition), &charsets, DecodeOptions::default()).unwrap();
        let snapshot = Shape::of_definition(&definition, &charsets, DecodeOptions::default()).unwrap();
        assert_eq!(shape.schema(Identity::Full), snapshot.schema(Identity::Full), "{name}: the hidden columns are in neither");
        let mut changes = Changes::with(shape);
        for (event_type, body) in &table.events {
            changes.take(*event_type, body);
        }
        // Declared times are columns, but no reader can foresee them.
        let lines: Vec<String> = changes
            .lines
            .iter()
            .map(|line| {
                line.split('|')
                    .map(|image| image.splitn(3, ' ').take(2).collect::<Vec<_>>().join(" "))
                    .collect::<Vec<_>>()
                    .join("|")
            })
            .collect();
        let full = [
            "c||1 10",
            "c||2 20",
            "u|1 10|1 11",
            "u|2 20|2 21",
            if matches!(name, "unkeyed" | "hashed") { "u|2 21|3 21" } else { "m|2 21|3 21" },
            "d|1 11|",
            "d|3 21|",
        ];
        let minimal = ["c||1 10", "c||2 20", "u||1 11", "u||2 21", "m|2 -|3 21", "d|1 -|", "d|3 -|"];
        assert_eq!(lines[..7], full, "{name}");
        match name {
            // Without a key all columns tell a row, and the old image is whole.
            "unkeyed" | "hashed" => assert_eq!(lines[7..], full, "{name}"),
            _ => assert_eq!(lines[7..], minimal, "{name}"),
        }
        // Without full metadata a hidden column cannot be told from one that was added.
        let mut minimal = map.clone();
        (minimal.has_names, minimal.key) = (false, None);
        let shape = Shape::new(&table.table(), &minimal, Some(&definition), &charsets, DecodeOptions::default());
        assert_eq!(shape.is_ok(), name == "declared", "{name}");
    }
}

#[test]
fn rows_that_were_taken_before_are_passed_over() {
    for (flavor, charsets, tables) in captures() {
        for table in tables.iter().filter(|table| table.is_decoded()) {
            let definition = table.definition();
            let shape =
                Shape::new(&table.table(), &table.table_map(), Some(&definition), &charsets, DecodeOptions::default()).unwrap();
            let shape = Arc::new(shape);
            let body = &table.inserts[0];
            let event_type = if body[8] == 2 && body[9] == 0 { code::WRITE_ROWS } else { code::WRITE_ROWS_V1 };
            let mut scratch = Vec::new();
            let Ok(Event::Rows(event)) = Event::parse(&header(event_type), body, &mut scratch) else { panic!() };
            let after = |skip: u64| {
                let mut rows = TableRows::new(Arc::clone(&shape), Identity::Full, &source_info("mysql", "capture"));
                let appended = rows.append(&STAMP, &event, skip).unwrap();
                (appended, rows.finish().unwrap())
            };
            let (whole, all) = after(0);
            assert_eq!(whole.seen, whole.appended);
            for skip in 1..=u64::from(whole.seen) {
                let (appended, rest) = after(skip);
                let what = format!("{flavor} {} {skip}", table.name);
                assert_eq!((appended.seen, u64::from(appended.appended)), (whole.seen, u64::from(whole.seen) - skip), "{what}");
                assert_eq!(rest.orders.first().map(|order| order.ordinal), (!rest.is_empty()).then_some(0), "{what}");
                if let (Some(rest), Some(all)) = (rest.after, &all.after) {
                    assert_eq!(rest, all.slice(skip as usize, rest.len()), "{what}");
                }
            }
        }
    }
}
