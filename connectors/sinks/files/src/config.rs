use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use connector_api::{ByteSize, Secret, Span};
use parquet::basic::ZstdLevel;
use schemars::JsonSchema;
use serde::Deserialize;

/// The largest `roll.bytes`: a multipart upload has at most 10,000 parts, and a file is read as a whole by most tools.
const ROLL_BYTES_MAX: u64 = 64 << 30;

/// Settings of the sink `files`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilesSinkConfig {
    /// Where the files go: `s3://bucket/prefix` or `file:///folder`. Below it each partition of each topic has a folder
    /// `topic=NAME/partition=NUMBER`. Give each sink a place of its own.
    #[schemars(with = "String")]
    pub url: StoreUrl,
    /// What the files are.
    #[serde(default)]
    pub format: Format,
    /// How the columns are compressed: `zstd` (level 1), `zstd(LEVEL)` with a level of 1 to 22, `snappy`, or `none`.
    #[serde(default)]
    #[schemars(with = "String")]
    pub compression: Compression,
    /// When changes that wait in the log become a file. The first limit that is reached counts.
    #[serde(default)]
    pub roll: RollConfig,
    /// Says that nothing but this one process ever writes to `url`: then a store that can't create a file only where there is none
    /// will do. Without it such a store is refused, because a second writer could overwrite files.
    #[serde(default)]
    pub single_writer: bool,
    /// How to reach S3. Without it, as the AWS tools do: environment, profile, web identity, container, instance metadata.
    #[serde(default)]
    pub s3: Option<S3Config>,
}

/// What the files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Apache Parquet.
    #[default]
    Parquet,
}

/// When changes that wait in the log become a file. A change of the table's schema always begins a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RollConfig {
    /// Size that a file should have, compressed; at most 64GiB.
    pub bytes: ByteSize,
    /// Rows that a file should have at most. Without it rows don't count.
    pub rows: Option<u64>,
    /// A change waits no longer than this before it is written. Short ages make many small files.
    pub age: Span,
}

impl Default for RollConfig {
    fn default() -> Self {
        Self { bytes: ByteSize(128 << 20), rows: None, age: Span(Duration::from_secs(300)) }
    }
}

/// How to reach S3 or a store that speaks its protocol.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct S3Config {
    /// The URL of a store other than AWS, for example `https://minio.internal:9000`.
    pub endpoint: Option<String>,
    /// The region. Without it: `AWS_REGION`, the profile, instance metadata; with an `endpoint`, at last `us-east-1`.
    pub region: Option<String>,
    /// Whether the bucket stands in the path (`https://host/bucket/key`) rather than in the host's name. By default yes with an
    /// `endpoint`, else no.
    pub path_style: Option<bool>,
    /// The profile in `~/.aws/config` and `~/.aws/credentials` to use.
    pub profile: Option<String>,
    /// A fixed access key. Needs `secret_access_key`.
    pub access_key_id: Option<String>,
    /// The secret of `access_key_id`; write `${NAME}` to take it from the environment.
    pub secret_access_key: Option<Secret>,
    /// When requests carry checksums: `supported`, wherever the protocol has them, or `required`, only where it insists, for stores
    /// that do not know the newer ones. By default `required` with an `endpoint`, else `supported`.
    pub checksum: Option<Checksum>,
}

/// When requests carry checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Checksum {
    /// Wherever the protocol has them.
    Supported,
    /// Only where the protocol insists.
    Required,
}

/// Where the files go.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum StoreUrl {
    /// A folder: `file:///folder`.
    Local(PathBuf),
    /// A bucket and the beginning of all keys in it, without slashes at its ends: `s3://bucket/prefix`.
    S3 {
        /// The bucket.
        bucket: String,
        /// The prefix; may be empty.
        prefix: String,
    },
}

impl FromStr for StoreUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLES: &str = "write `s3://bucket/prefix` or `file:///folder`";
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("`{text}` is no URL: {EXAMPLES}"));
        };
        match scheme {
            "file" => {
                let path = url::Url::parse(text).ok().filter(|url| url.query().is_none() && url.fragment().is_none());
                let path = path.and_then(|url| url.to_file_path().ok()).filter(|path| path.parent().is_some());
                path.map(Self::Local).ok_or_else(|| {
                    format!("`{text}` names no folder of this machine: write three slashes and an absolute path, as in `file:///data/lake`")
                })
            }
            "s3" => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                let bucket_ok =
                    !bucket.is_empty() && bucket.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
                if !bucket_ok {
                    return Err(format!("`{text}` names no bucket: {EXAMPLES}"));
                }
                let prefix = prefix.trim_matches('/');
                if prefix.contains(['?', '#']) || prefix.split('/').any(|part| matches!(part, "." | "..")) || prefix.contains("//")
                {
                    return Err(format!(
                        "the prefix of `{text}` holds `?`, `#`, `//`, or a part `.` or `..`, which many tools can't read"
                    ));
                }
                Ok(Self::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
            }
            other => Err(format!("files can't be written to `{other}://`: {EXAMPLES}")),
        }
    }
}

impl TryFrom<String> for StoreUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => write!(f, "file://{}", path.display()),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// How the columns are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Compression {
    /// Zstandard, with a level of 1 (fast) to 22 (small).
    Zstd(i32),
    /// Snappy.
    Snappy,
    /// Not at all.
    None,
}

impl Default for Compression {
    fn default() -> Self {
        Self::Zstd(1)
    }
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let level = text.strip_prefix("zstd(").and_then(|rest| rest.strip_suffix(')'));
        match (text, level) {
            ("zstd", _) => Ok(Self::default()),
            ("snappy", _) => Ok(Self::Snappy),
            ("none", _) => Ok(Self::None),
            (_, Some(level)) => {
                let level = level.trim().parse().ok().filter(|level| *level >= 1 && ZstdLevel::try_new(*level).is_ok());
                level.map(Self::Zstd).ok_or_else(|| format!("`{text}` has no level of zstd: write `zstd(1)` to `zstd(22)`"))
            }
            _ => Err(format!("unknown compression `{text}`: write `zstd`, `zstd(LEVEL)`, `snappy` or `none`")),
        }
    }
}

impl TryFrom<String> for Compression {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FilesSinkConfig {
    /// Checks what the types can't: the field that is wrong, and why.
    pub(crate) fn validate(&self) -> Result<(), (&'static str, String)> {
        if self.roll.bytes.0 == 0 || self.roll.bytes.0 > ROLL_BYTES_MAX {
            return Err(("roll.bytes", format!("`{}` is no size for a file: write 1B to 64GiB", self.roll.bytes)));
        }
        if self.roll.rows == Some(0) {
            return Err(("roll.rows", "a file has at least one row: write 1 or more".into()));
        }
        let Some(s3) = &self.s3 else { return Ok(()) };
        if matches!(self.url, StoreUrl::Local(_)) {
            return Err(("s3", format!("there is no S3 behind `{}`: remove these settings, or write `url: s3://…`", self.url)));
        }
        if let Some(endpoint) = &s3.endpoint {
            let url = url::Url::parse(endpoint).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
            match url {
                None => return Err(("s3.endpoint", "this is no URL of a store: write `https://host:port`".into())),
                Some(url) if !url.username().is_empty() || url.password().is_some() => {
                    return Err((
                        "s3.endpoint",
                        "credentials don't belong into the URL: use `access_key_id` and `secret_access_key`".into(),
                    ));
                }
                Some(_) => {}
            }
        }
        match (&s3.access_key_id, &s3.secret_access_key, &s3.profile) {
            (Some(_), None, _) => Err(("s3.access_key_id", "`secret_access_key` is missing beside it".into())),
            (None, Some(_), _) => Err(("s3.secret_access_key", "`access_key_id` is missing beside it".into())),
            (Some(_), Some(_), Some(_)) => Err(("s3.profile", "either a profile or an access key, not both".into())),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_folder_or_a_bucket() {
        let s3 = |bucket: &str, prefix: &str| StoreUrl::S3 { bucket: bucket.into(), prefix: prefix.into() };
        assert_eq!("file:///data/my%20lake".parse(), Ok(StoreUrl::Local("/data/my lake".into())));
        assert_eq!("s3://lake".parse(), Ok(s3("lake", "")));
        assert_eq!("s3://lake/".parse(), Ok(s3("lake", "")));
        assert_eq!("s3://lake/a/b c=+é/".parse(), Ok(s3("lake", "a/b c=+é")));
        for wrong in
            ["", "lake", "/data", "file://data/lake", "file://", "s3://", "s3:///x", "s3://b/a?b", "s3://b/../c", "hdfs://h/p"]
        {
            let error = wrong.parse::<StoreUrl>().unwrap_err();
            assert!(error.contains("file://") || error.contains("prefix of"), "{wrong}: {error}");
        }
    }

    #[test]
    fn compressions_have_levels_that_exist() {
        assert_eq!("zstd".parse(), Ok(Compression::Zstd(1)));
        assert_eq!("zstd(19)".parse(), Ok(Compression::Zstd(19)));
        assert_eq!("none".parse(), Ok(Compression::None));
        for wrong in ["", "gzip", "zstd(0)", "zstd(23)", "zstd(-5)", "zstd()", "zstd(x)", "Zstd"] {
            assert!(wrong.parse::<Compression>().is_err(), "{wrong}");
        }
    }
}
