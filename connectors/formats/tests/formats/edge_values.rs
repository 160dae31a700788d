//! Every type with the values at its edges, alone, in lists, and in wide tables.
use arrow_buffer::i256;
use connector_api::{ColumnType, Identity, Op};
use formats::Format;

use crate::rows::{Row, Value, check_round_trip, info, table};

const FORMATS: [Format; 2] = [Format::Avro, Format::Json];

pub fn scalar_types() -> Vec<ColumnType> {
    let decimal = |precision, scale| ColumnType::Decimal { precision, scale };
    vec![
        ColumnType::Bool,
        ColumnType::Int16,
        ColumnType::Int32,
        ColumnType::Int64,
        ColumnType::Float32,
        ColumnType::Float64,
        decimal(3, 2),
        decimal(12, 2),
        decimal(38, 0),
        decimal(38, 38),
        decimal(39, 0),
        decimal(65, 30),
        decimal(76, 76),
        ColumnType::Text,
        ColumnType::Json,
        ColumnType::Bytes,
        ColumnType::Date,
        ColumnType::Time,
        ColumnType::Timestamp,
        ColumnType::TimestampTz,
        ColumnType::Duration,
        ColumnType::Interval,
        ColumnType::Uuid,
    ]
}

fn precision_of(kind: &ColumnType) -> u32 {
    let ColumnType::Decimal { precision, .. } = kind else { panic!("{kind:?}") };
    (*precision).into()
}

/// What values of that many digits are below, in size.
pub fn decimal256_limit(precision: u32) -> i256 {
    i256::from_i128(10).checked_pow(precision).unwrap()
}

pub fn edges(kind: &ColumnType) -> Vec<Value> {
    let ints = |values: &[i64]| values.iter().copied().map(Value::Int).collect::<Vec<_>>();
    let texts = |values: &[&str]| values.iter().map(|text| Value::Text((*text).into())).collect::<Vec<_>>();
    match kind {
        ColumnType::Bool => vec![Value::Bool(true), Value::Bool(false)],
        ColumnType::Int16 => ints(&[-32768, -1, 0, 1, 63, 64, -64, -65, 32767]),
        ColumnType::Int32 => ints(&[i32::MIN.into(), -1, 0, 8191, 8192, i32::MAX.into()]),
        ColumnType::Int64 => {
            ints(&[i64::MIN, -1, 0, 9_007_199_254_740_993, 1_550_166_368_505_037_572, (1 << 55) - 1, 1 << 55, i64::MAX])
        }
        ColumnType::Float32 => [3.3, 0.0, -0.0, f32::MAX, f32::MIN_POSITIVE, 1e-45, f32::NAN, f32::INFINITY, f32::NEG_INFINITY]
            .map(Value::Float32)
            .to_vec(),
        ColumnType::Float64 => [4.44, 0.1 + 0.2, -0.0, f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, 1e23, f64::NAN]
            .into_iter()
            .chain([f64::INFINITY, f64::NEG_INFINITY])
            .map(Value::Float64)
            .collect(),
        ColumnType::Decimal { precision: 1..=38, .. } => {
            let limit = 10_i128.pow(precision_of(kind));
            let inside = [0, 1, -1, 110, 127, 128, -128, -129, 255, 256, 32767, 32768, i64::MAX.into(), i64::MIN.into(), limit - 1];
            let inside = inside.into_iter().chain((0..126).flat_map(|shift| [1_i128 << shift, -(1_i128 << shift)]));
            inside.filter(|value| value.abs() < limit).chain([1 - limit]).map(Value::Decimal).collect()
        }
        ColumnType::Decimal { .. } => {
            let (one, limit) = (i256::from_i128(1), decimal256_limit(precision_of(kind)));
            let powers = (0..253_u8).map(|shift| one << shift).filter(|value| *value < limit);
            let positive = powers.chain([110, i128::MAX].map(i256::from_i128)).chain([limit.wrapping_sub(one)]);
            let signed = positive.flat_map(|value| [value, value.wrapping_neg(), value.wrapping_neg().wrapping_sub(one)]);
            let inside = signed.filter(|value| *value > limit.wrapping_neg());
            [i256::ZERO].into_iter().chain(inside).map(Value::Decimal256).collect()
        }
        ColumnType::Text => texts(&[
            "",
            " ",
            "ž š",
            "😀",
            "\u{ffff}",
            "e\u{301}",
            "שלום",
            "\t\r\n\u{1}\u{1f}\u{7f}",
            "'\"\\",
            "\\N",
            "value\\Ntail",
            "NULL",
            "null",
            "true",
            "0",
            "{}",
            "\u{0}",
            "long enough to be copied in one go, and then some more of it to be sure",
        ]),
        ColumnType::Json => texts(&["{}", "null", r#"{"a": [1, 2.50, "ž\"\\"], "b": null}"#, "12345678901234567890.10"]),
        ColumnType::Bytes => {
            [&b""[..], b"\0", b"\0\x01\x02", b"\xde\xad\xbe\xef", b"\\", &[0xff; 1000]].map(|v| Value::Bytes(v.into())).into()
        }
        ColumnType::Date => ints(&[
            17109,
            0,
            11016,
            -25508,
            2_932_896,
            -719_162,
            -141_438,
            -141_427,
            -735_202,
            -2_440_588,
            2_145_042_905,
            i32::MAX.into(),
            i32::MIN.into(),
        ]),
        ColumnType::Time => ints(&[0, 49_890_000_000, 86_399_999_999, 86_400_000_000]),
        ColumnType::Timestamp | ColumnType::TimestampTz => ints(&[
            1_478_267_490_123_456,
            0,
            -1,
            -1_047_174_587_392_000,
            -62_135_596_800_000_000,
            -62_133_004_800_000_000,
            -30_595_922_954_876_544,
            -63_521_412_467_000_000,
            -210_831_897_600_000_001,
            -210_866_803_200_000_000,
            253_402_300_799_999_999,
            253_402_300_800_000_000,
            601_060_312_290_123_456,
            9_223_371_331_199_999_999,
            i64::MAX,
            i64::MIN,
            i64::MAX - 1,
            i64::MIN + 1,
        ]),
        ColumnType::Duration => {
            ints(&[3_020_399_999_999, -3_020_399_999_999, 1_864_264_780_000, 86_400_000_000, -1, 0, i64::MAX, i64::MIN])
        }
        ColumnType::Interval => [
            (14, 3, 14_706_780_000),
            (0, 0, 0),
            (-1, 15, -86_399_999_999),
            (0, 0, 86_400_000_000),
            (0, 1, 0),
            (0, 60, 0),
            (2, 0, 0),
            (0, 0, -1),
            (i32::MAX, i32::MAX, i64::MAX),
            (i32::MIN, i32::MIN, i64::MIN),
        ]
        .map(|(months, days, micros)| Value::Interval(months, days, micros))
        .to_vec(),
        ColumnType::Uuid => {
            [0, u128::MAX, 0xa0ee_bc99_9c0b_4ef8_bb6d_6bb9_bd38_0a11].map(|v| Value::Uuid(v.to_be_bytes())).to_vec()
        }
        ColumnType::List(item) => {
            let edges = edges(item);
            let mut mixed: Vec<_> = edges.iter().cloned().flat_map(|value| [value, Value::Null]).collect();
            mixed.insert(0, Value::Null);
            let long = edges.iter().cycle().take(200).cloned().collect();
            [vec![], vec![Value::Null], edges[..1].to_vec(), mixed, long].map(Value::List).to_vec()
        }
    }
}

#[test]
fn every_type() {
    for scalar in scalar_types() {
        for kind in [scalar.clone(), ColumnType::List(Box::new(scalar.clone()))] {
            let mut values = edges(&kind);
            values.insert(1, Value::Null);
            let after = |value: &Value| Some(vec![Value::Int(1), value.clone()]);
            let rows: Vec<_> = values
                .iter()
                .zip(values.iter().rev())
                .flat_map(|(value, other)| {
                    [
                        Row::new(Op::Read, None, after(value)),
                        Row::new(Op::Insert, None, after(other)),
                        Row::new(Op::Update, after(other), after(value)),
                        Row::new(Op::Delete, after(value), None),
                    ]
                })
                .collect();
            let schema = table([ColumnType::Int32, kind.clone()], &[0], Identity::Full);
            for format in FORMATS {
                check_round_trip(format, &schema, &info(), &rows);
            }
        }
    }
}

#[test]
fn every_type_as_key() {
    for kind in scalar_types() {
        let schema = table([ColumnType::Text, kind.clone()], &[1], Identity::Key);
        let images: Vec<_> = edges(&kind).into_iter().map(|value| vec![Value::Text("x".into()), value]).collect();
        let rows: Vec<_> = images
            .iter()
            .zip(images.iter().skip(1))
            .flat_map(|(old, new)| {
                let key_only = vec![Value::Null, old[1].clone()];
                [
                    Row::new(Op::Update, None, Some(new.clone())),
                    Row::new(Op::Move, Some(key_only.clone()), Some(new.clone())),
                    Row::new(Op::Delete, Some(key_only), None),
                ]
            })
            .collect();
        for format in FORMATS {
            check_round_trip(format, &schema, &info(), &rows);
        }
    }
}

#[test]
fn wide_tables_with_unchanged_columns() {
    for width in [1, 63, 64, 65, 130, 1600] {
        let kinds = (0..width).map(|index| scalar_types()[index % scalar_types().len()].clone());
        let schema = table(kinds, &[0], Identity::Key);
        let mut after: Vec<_> = schema.columns().iter().map(|column| edges(&column.kind)[0].clone()).collect();
        let mut row = Row::new(Op::Update, None, Some(after.clone()));
        row.unchanged = (1..width).filter(|index| index % 3 == 1 || index + 1 == width).collect();
        row.unchanged.iter().for_each(|index| after[*index] = Value::Null);
        row.after = Some(after.clone());
        let full = Row::new(Op::Insert, None, Some(after));
        for format in FORMATS {
            check_round_trip(format, &schema, &info(), &[full.clone(), row.clone(), full.clone()]);
        }
    }
}

#[test]
fn tables_without_columns_or_key() {
    let none = table([], &[], Identity::Nothing);
    let keyless = table([ColumnType::Text], &[], Identity::Full);
    for format in FORMATS {
        check_round_trip(format, &none, &info(), &[Row::new(Op::Insert, None, Some(vec![])), Row::new(Op::Truncate, None, None)]);
        let image = || Some(vec![Value::Text("x".into())]);
        let rows =
            [Row::new(Op::Insert, None, image()), Row::new(Op::Update, image(), image()), Row::new(Op::Delete, image(), None)];
        check_round_trip(format, &keyless, &info(), &rows);
        check_round_trip(format, &keyless, &info(), &[]);
    }
}
