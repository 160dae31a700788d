use super::*;

/// The server's own text of each column of a row.
fn printed(packet: &[u8], columns: usize) -> Vec<Option<String>> {
    let mut bytes = Bytes::new(packet, "a test");
    let mut next = || {
        if let [0xFB, ..] = bytes.rest() {
            bytes.take(1).unwrap();
            return None;
        }
        Some(String::from_utf8(bytes.packed_bytes().unwrap().to_vec()).unwrap())
    };
    (0..columns).map(|_| next()).collect()
}

/// What the server prints otherwise than [`shown`], on purpose.
fn agree(kind: &ValueType, ours: &Option<String>, theirs: &Option<String>) -> bool {
    let (Some(ours), Some(theirs)) = (ours, theirs) else { return ours == theirs };
    match kind {
        ValueType::Float | ValueType::Double => ours.parse::<f64>().unwrap().to_bits() == theirs.parse::<f64>().unwrap().to_bits(),
        // Display widths and leading zeroes are not values.
        ValueType::Year | ValueType::UInt32 => ours.parse::<i64>() == theirs.parse::<i64>(),
        ValueType::Time(_) | ValueType::OldTime => {
            let fraction = theirs.split_once('.').map_or(0, |(_, digits)| digits.len());
            let point = if fraction == 0 { "." } else { "" };
            *ours == format!("{theirs}{point}{}", "0".repeat(6 - fraction))
        }
        // EWKB: little-endian point and so on; the SRID, which stands before the server's, stands behind the type.
        ValueType::Geometry => {
            let (srid, wkb) = theirs.split_at(8);
            let expected = match srid {
                "00000000" => wkb.to_owned(),
                _ => format!("{}20{srid}{}", &wkb[..8], &wkb[10..]),
            };
            *ours == expected
        }
        ValueType::Enum(labels) if labels.has_empty() && ours == value_type::INVALID_ENUM => theirs.is_empty(),
        // The server's sign for a byte that its character set has nothing for.
        ValueType::Text(_) => ours.replace('\u{FFFD}', "?") == theirs.replace('\u{FFFD}', "?"),
        _ => ours == theirs,
    }
}

#[test]
fn a_value_reads_the_same_from_snapshot_and_stream_and_as_the_server_prints_it() {
    let mut values = 0;
    for (flavor, charsets, tables) in captures() {
        assert!(tables.len() > 12, "{flavor}");
        for table in tables.into_iter().filter(Captured::is_decoded) {
            let what = format!("{flavor} {}", table.name);
            for zero_dates in [ZeroDates::Null, ZeroDates::Text] {
                let definition = table.definition();
                let shape =
                    Shape::new(&table.table(), &table.table_map(), Some(&definition), &charsets, options(zero_dates)).unwrap();
                let from_catalog = Shape::of_definition(&definition, &charsets, options(zero_dates)).unwrap();
                assert_eq!(shape.schema(Identity::Full), from_catalog.schema(Identity::Full), "{what}");
                // The old form of dates and times is the log's alone.
                assert_eq!(shape == from_catalog, table.name != "old", "{what}");
                assert_eq!(from_catalog.select_list(), table.select, "{what}");
                let schema = shape.schema(Identity::Full);
                let key: Vec<&str> = schema.key().iter().map(|index| schema.columns()[*index].name.as_str()).collect();
                assert_eq!(key, table.key, "{what}");
                let plan = shape.plan.clone();
                let streamed = table.streamed(shape);
                let selected = table.selected(from_catalog);
                assert_eq!(streamed.len(), table.shown.len(), "{what}");
                // Compared as batches, so that a difference names its column.
                for (index, (a, b)) in streamed.columns().iter().zip(selected.columns()).enumerate() {
                    assert_eq!(a, b, "{what} {}", definition.columns[index].name);
                }
                assert_eq!(RecordBatch::from(streamed.clone()).num_columns(), plan.len(), "{what}");
                for (row, packet) in table.shown.iter().enumerate() {
                    for (index, theirs) in printed(packet, plan.len()).into_iter().enumerate() {
                        let kind = &plan[index].value;
                        let is_date = matches!(
                            kind,
                            ValueType::Date(_)
                                | ValueType::DateTime(..)
                                | ValueType::Timestamp(..)
                                | ValueType::OldDateTime(_)
                                | ValueType::OldTimestamp(_)
                        );
                        if is_date && zero_dates == ZeroDates::Null {
                            continue;
                        }
                        let ours = shown(streamed.column(index), row);
                        let name = &definition.columns[index].name;
                        assert!(agree(kind, &ours, &theirs), "{what} {name} row {row}:\n ours   {ours:?}\n server {theirs:?}");
                        values += 1;
                    }
                }
            }
        }
    }
    assert!(values > 1000, "{values}");
}
