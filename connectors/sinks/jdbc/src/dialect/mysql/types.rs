use connector_api::{Column, ColumnType, TableSchema};

/// Which of the two relatives a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavor {
    MySql,
    MariaDb,
}

impl Flavor {
    /// The collation of all texts: it compares bytes, and does not fill up with spaces, so two texts are equal only if they are the same.
    pub(crate) const fn collation(self) -> &'static str {
        match self {
            Self::MySql => "utf8mb4_0900_bin",
            Self::MariaDb => "utf8mb4_nopad_bin",
        }
    }
}

/// The most digits of a DECIMAL, and the most of them after the point.
const DECIMAL_DIGITS_MAX: u8 = 65;
const DECIMAL_SCALE_MAX: u8 = 30;

/// The most bytes that the columns of an InnoDB index have together.
const INDEX_BYTES_MAX: u32 = 3072;

/// A column type of MySQL or MariaDB, as far as this sink tells them apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MyType {
    /// `tinyint(1)`, a boolean.
    TinyInt,
    SmallInt,
    Int,
    BigInt,
    Float,
    Double,
    /// Precision and scale.
    Decimal(u8, u8),
    LongText,
    /// So many characters.
    VarChar(u32),
    LongBlob,
    /// So many bytes.
    VarBinary(u32),
    Date,
    /// Digits after the second.
    Time(u8),
    /// Digits after the second.
    DateTime(u8),
    /// `char(36)`.
    Uuid,
    /// Another type for texts, which only a table made by somebody else can have.
    OtherText(String),
    /// Any other type that only a table made by somebody else can have, as the server prints it.
    Other(String),
}

/// How a column of the target comes to hold values of another type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// It can already.
    None,
    /// It has to become this type first, which keeps the values it has.
    Widen(MyType),
    /// No type holds both without touching values.
    Impossible,
}

impl MyType {
    /// The types for the columns of a schema. Texts and bytes in the key share what an index can hold.
    pub(crate) fn of_schema(schema: &TableSchema) -> Vec<Self> {
        let mut types: Vec<Self> = schema.columns().iter().map(Self::of).collect();
        let bytes: Vec<Option<u32>> = schema.key().iter().filter_map(|&index| types.get(index)).map(Self::index_bytes).collect();
        let fixed: u32 = bytes.iter().flatten().sum();
        let unbounded = bytes.iter().filter(|bytes| bytes.is_none()).count() as u32;
        let share = INDEX_BYTES_MAX.saturating_sub(fixed) / unbounded.max(1);
        for &index in schema.key() {
            let Some(kind) = types.get_mut(index) else { continue };
            match kind {
                // A character has up to four bytes.
                Self::LongText => *kind = Self::VarChar(share / 4),
                Self::LongBlob => *kind = Self::VarBinary(share),
                _ => {}
            }
        }
        types
    }

    /// The type for a column that is not part of a key.
    fn of(column: &Column) -> Self {
        match &column.kind {
            ColumnType::Bool => Self::TinyInt,
            ColumnType::Int16 => Self::SmallInt,
            ColumnType::Int32 => Self::Int,
            ColumnType::Int64 => Self::BigInt,
            ColumnType::Float32 => Self::Float,
            ColumnType::Float64 => Self::Double,
            ColumnType::Decimal { precision, scale } => Self::decimal(u16::from(*precision), u16::from(*scale)),
            ColumnType::Bytes => Self::LongBlob,
            ColumnType::Date => Self::Date,
            ColumnType::Time | ColumnType::Duration => Self::Time(6),
            ColumnType::Timestamp | ColumnType::TimestampTz => Self::DateTime(6),
            ColumnType::Uuid => Self::Uuid,
            // MySQL's JSON puts numbers through a double and forgets keys that come twice: as text it is what it was.
            ColumnType::Text | ColumnType::Json | ColumnType::Interval | ColumnType::List(_) => Self::LongText,
        }
    }

    /// A DECIMAL of so many digits, or text if there is none.
    fn decimal(precision: u16, scale: u16) -> Self {
        match (u8::try_from(precision), u8::try_from(scale)) {
            (Ok(precision), Ok(scale)) if precision <= DECIMAL_DIGITS_MAX && scale <= DECIMAL_SCALE_MAX => {
                Self::Decimal(precision, scale)
            }
            _ => Self::LongText,
        }
    }

    /// The most bytes that a value has in an index; `None` for types without a bound.
    fn index_bytes(&self) -> Option<u32> {
        match self {
            Self::LongText | Self::LongBlob | Self::OtherText(_) | Self::Other(_) => None,
            Self::TinyInt => Some(1),
            Self::SmallInt => Some(2),
            Self::Int | Self::Float => Some(4),
            Self::BigInt | Self::Double | Self::DateTime(_) => Some(8),
            Self::Date => Some(3),
            Self::Time(_) => Some(6),
            Self::Decimal(..) => Some(32),
            Self::Uuid => Some(36),
            Self::VarChar(length) => Some(length * 4),
            Self::VarBinary(length) => Some(*length),
        }
    }

    /// The type's name in SQL.
    pub(crate) fn sql(&self, flavor: Flavor) -> String {
        let text = |name: &str| format!("{name} CHARACTER SET utf8mb4 COLLATE {}", flavor.collation());
        match self {
            Self::LongText => text("longtext"),
            Self::VarChar(length) => text(&format!("varchar({length})")),
            Self::Uuid => "char(36) CHARACTER SET ascii COLLATE ascii_bin".into(),
            other => other.name(),
        }
    }

    /// The type's name as the server prints it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::TinyInt => "tinyint(1)".into(),
            Self::SmallInt => "smallint".into(),
            Self::Int => "int".into(),
            Self::BigInt => "bigint".into(),
            Self::Float => "float".into(),
            Self::Double => "double".into(),
            Self::Decimal(precision, scale) => format!("decimal({precision},{scale})"),
            Self::LongText => "longtext".into(),
            Self::VarChar(length) => format!("varchar({length})"),
            Self::LongBlob => "longblob".into(),
            Self::VarBinary(length) => format!("varbinary({length})"),
            Self::Date => "date".into(),
            Self::Time(0) => "time".into(),
            Self::Time(digits) => format!("time({digits})"),
            Self::DateTime(0) => "datetime".into(),
            Self::DateTime(digits) => format!("datetime({digits})"),
            Self::Uuid => "char(36)".into(),
            Self::OtherText(name) | Self::Other(name) => name.clone(),
        }
    }

    /// The type that `information_schema` calls so.
    pub(crate) fn parse(text: &str) -> Self {
        let (name, rest) = text.split_once('(').unwrap_or((text, ""));
        let (arguments, attributes) = rest.split_once(')').unwrap_or(("", ""));
        let number = || arguments.parse::<u32>().ok();
        let digits = || arguments.parse::<u8>().unwrap_or(0);
        if !attributes.is_empty() || name.contains(' ') {
            // `unsigned`, `zerofill`: types that this sink does not make.
            return Self::Other(text.to_owned());
        }
        match name {
            // What stands in brackets behind an integer is how wide it is shown.
            "tinyint" => Self::TinyInt,
            "smallint" => Self::SmallInt,
            "int" => Self::Int,
            "bigint" => Self::BigInt,
            "float" if arguments.is_empty() => Self::Float,
            "double" if arguments.is_empty() => Self::Double,
            "decimal" => match arguments.split_once(',').map(|(precision, scale)| (precision.parse(), scale.parse())) {
                Some((Ok(precision), Ok(scale))) => Self::Decimal(precision, scale),
                _ => Self::Other(text.to_owned()),
            },
            "longtext" => Self::LongText,
            "varchar" => number().map_or_else(|| Self::Other(text.to_owned()), Self::VarChar),
            "longblob" => Self::LongBlob,
            "varbinary" => number().map_or_else(|| Self::Other(text.to_owned()), Self::VarBinary),
            "date" => Self::Date,
            "time" => Self::Time(digits()),
            "datetime" => Self::DateTime(digits()),
            "char" if arguments == "36" => Self::Uuid,
            "char" | "tinytext" | "text" | "mediumtext" => Self::OtherText(text.to_owned()),
            _ => Self::Other(text.to_owned()),
        }
    }

    /// Whether it is a text of ours, of whatever length.
    pub(crate) fn is_text(&self) -> bool {
        matches!(self, Self::LongText | Self::VarChar(_))
    }

    /// The type that values wanted as `wanted` are staged as, on their way to a column of this type.
    pub(crate) fn staged(&self, wanted: &Self, in_key: bool) -> Self {
        match (self, wanted) {
            (Self::VarChar(length), _) if in_key => Self::VarChar(*length),
            (Self::VarBinary(length), Self::VarBinary(_)) if in_key => Self::VarBinary(*length),
            (Self::Uuid, Self::Uuid) => Self::Uuid,
            (Self::LongText | Self::VarChar(_) | Self::OtherText(_) | Self::Uuid, wanted)
                if !matches!(wanted, Self::VarChar(_)) =>
            {
                Self::LongText
            }
            _ => wanted.clone(),
        }
    }

    /// The decimal digits that an integer type can need.
    fn integer_digits(&self) -> Option<u16> {
        match self {
            Self::TinyInt => Some(3),
            Self::SmallInt => Some(5),
            Self::Int => Some(10),
            Self::BigInt => Some(19),
            _ => None,
        }
    }

    /// What has to happen so that a column of this type can hold values of `wanted`, and keep those that it has.
    pub(crate) fn change_to(&self, wanted: &Self) -> Change {
        if self == wanted {
            return Change::None;
        }
        if let (Some(have), Some(want)) = (self.integer_digits(), wanted.integer_digits()) {
            return if have >= want { Change::None } else { Change::Widen(wanted.clone()) };
        }
        match (self, wanted) {
            // Text takes the text of any value but bytes. Whoever made a column of another type wants values to be turned into it.
            (Self::LongText | Self::VarChar(_) | Self::OtherText(_), Self::LongBlob | Self::VarBinary(_)) => Change::Impossible,
            (Self::LongText | Self::VarChar(_) | Self::OtherText(_) | Self::Other(_), _) => Change::None,
            (Self::LongBlob | Self::VarBinary(_), Self::LongBlob | Self::VarBinary(_)) => Change::None,
            // Text of the source need not be text that bytes stand for.
            (Self::LongBlob | Self::VarBinary(_), _) => Change::Impossible,
            (_, Self::LongText | Self::VarChar(_)) => Change::Widen(wanted.clone()),
            (Self::Decimal(precision, scale), wanted) if wanted.integer_digits().is_some() => {
                let (precision, scale) = (u16::from(*precision), u16::from(*scale));
                self.widened(precision - scale.min(precision), scale, wanted.integer_digits().unwrap_or(0), 0)
            }
            (Self::Decimal(precision, scale), Self::Decimal(want_precision, want_scale)) => {
                let [precision, scale, want_precision, want_scale] =
                    [precision, scale, want_precision, want_scale].map(|digits| u16::from(*digits));
                self.widened(precision - scale.min(precision), scale, want_precision - want_scale.min(want_precision), want_scale)
            }
            (have, Self::Decimal(precision, scale)) if have.integer_digits().is_some() => {
                let (precision, scale) = (u16::from(*precision), u16::from(*scale));
                have.widened(have.integer_digits().unwrap_or(0), 0, precision - scale.min(precision), scale)
            }
            // A double holds each of these exactly.
            (Self::Float | Self::TinyInt | Self::SmallInt | Self::Int, Self::Double)
            | (Self::TinyInt | Self::SmallInt | Self::Int, Self::Float) => Change::Widen(Self::Double),
            (Self::Double, Self::Float | Self::TinyInt | Self::SmallInt | Self::Int)
            | (Self::Float, Self::TinyInt | Self::SmallInt) => Change::None,
            (Self::Date, Self::DateTime(_)) => Change::Widen(wanted.clone()),
            (Self::DateTime(_), Self::Date) => Change::None,
            (Self::DateTime(have), Self::DateTime(want)) | (Self::Time(have), Self::Time(want)) => {
                if have >= want {
                    Change::None
                } else {
                    Change::Widen(wanted.clone())
                }
            }
            _ => Change::Impossible,
        }
    }

    fn widened(&self, have_whole: u16, have_scale: u16, want_whole: u16, want_scale: u16) -> Change {
        let scale = have_scale.max(want_scale);
        let wide = Self::decimal(have_whole.max(want_whole) + scale, scale);
        if *self == wide { Change::None } else { Change::Widen(wide) }
    }
}

#[cfg(test)]
mod tests {
    use connector_api::{Identity, TableName};

    use super::*;

    #[test]
    fn names_read_back() {
        for name in [
            "tinyint(1)",
            "decimal(12,2)",
            "longtext",
            "varchar(768)",
            "varbinary(3072)",
            "time(6)",
            "datetime(6)",
            "datetime",
            "char(36)",
            "char(4)",
            "json",
            "int unsigned",
            "enum('a','b')",
        ] {
            assert_eq!(MyType::parse(name).name(), name);
        }
        assert_eq!(MyType::parse("bigint(20)"), MyType::BigInt, "MariaDB says how wide it is shown");
        assert_eq!(MyType::parse("int(10) unsigned"), MyType::Other("int(10) unsigned".into()));
    }

    #[test]
    fn texts_in_a_key_share_the_index() {
        let types = |kinds: &[ColumnType], key: usize| {
            let column = |kind: &ColumnType| Column { name: "c".into(), kind: kind.clone(), source_type: String::new() };
            let columns = kinds.iter().map(column).collect();
            MyType::of_schema(&TableSchema::new(TableName::new("s", "t"), columns, (0..key).collect(), Identity::Key))
        };
        assert_eq!(types(&[ColumnType::Text, ColumnType::Text], 1), [MyType::VarChar(768), MyType::LongText]);
        assert_eq!(types(&[ColumnType::Text, ColumnType::Text], 2), [MyType::VarChar(384), MyType::VarChar(384)]);
        assert_eq!(types(&[ColumnType::Int64, ColumnType::Bytes], 2), [MyType::BigInt, MyType::VarBinary(3064)]);
        let decimal = |precision, scale| ColumnType::Decimal { precision, scale };
        assert_eq!(
            types(&[decimal(65, 30), decimal(66, 0), decimal(38, 31)], 0),
            [MyType::Decimal(65, 30), MyType::LongText, MyType::LongText]
        );
    }

    #[test]
    fn columns_widen_and_never_narrow() {
        let check = |have: &str, want: &str, expected: Option<&str>| {
            let change = MyType::parse(have).change_to(&MyType::parse(want));
            match expected {
                Some("-") => assert_eq!(change, Change::None, "{have} to {want}"),
                Some(wide) => assert_eq!(change, Change::Widen(MyType::parse(wide)), "{have} to {want}"),
                None => assert_eq!(change, Change::Impossible, "{have} to {want}"),
            }
        };
        check("smallint", "bigint", Some("bigint"));
        check("bigint", "smallint", Some("-"));
        check("decimal(10,2)", "decimal(12,4)", Some("decimal(12,4)"));
        check("decimal(10,2)", "decimal(8,4)", Some("decimal(12,4)"));
        check("decimal(60,2)", "decimal(30,30)", Some("longtext"));
        check("int", "decimal(4,2)", Some("decimal(12,2)"));
        check("float", "double", Some("double"));
        check("bigint", "double", None);
        check("int", "longtext", Some("longtext"));
        check("longtext", "int", Some("-"));
        check("longblob", "longtext", None);
        check("longtext", "longblob", None);
        check("date", "datetime(6)", Some("datetime(6)"));
        check("datetime", "datetime(6)", Some("datetime(6)"));
        check("datetime(6)", "date", Some("-"));
        check("datetime(6)", "time(6)", None);
        check("varchar(10)", "longtext", Some("-"));
        check("json", "longtext", Some("-"));
    }
}
