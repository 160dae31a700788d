use std::{env, time::Duration};

use aws_config::{BehaviorVersion, Region, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_s3::{
    Client,
    config::{Credentials, RequestChecksumCalculation, ResponseChecksumValidation, http::HttpResponse},
    error::{ProvideErrorMetadata, SdkError},
};

use crate::{
    config::{Checksum, S3Config},
    error::{FilesError, S3Answer},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Until the first byte of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// For one attempt with its body: a part of 8 MiB at 140 KB/s.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(60);
/// For all attempts and the pauses between them. After that the supervisor takes over, with longer pauses.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(180);
const ATTEMPTS_MAX: u32 = 5;

/// Whether requests to the store carry checksums that S3 does not insist on.
pub(super) fn checksums(settings: &S3Config) -> Checksum {
    // Stores other than AWS often refuse the checksums that the SDK adds on its own.
    settings.checksum.unwrap_or(if settings.endpoint.is_some() { Checksum::Required } else { Checksum::Supported })
}

/// A client for the store. Asks for no credentials yet. `place` is for messages.
pub(super) async fn client(settings: &S3Config, place: &str) -> Result<Client, FilesError> {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX));
    if let Some(region) = region(settings) {
        loader = loader.region(Region::new(region));
    }
    if let Some(profile) = &settings.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(endpoint) = &settings.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let (Some(id), Some(secret)) = (&settings.access_key_id, &settings.secret_access_key) {
        loader = loader.credentials_provider(Credentials::new(id, secret.expose(), None, None, "pipeline file"));
    }
    let shared = loader.load().await;
    if shared.region().is_none() {
        return Err(FilesError::NoRegion { place: place.to_owned() });
    }
    let (calculation, validation) = match checksums(settings) {
        Checksum::Supported => (RequestChecksumCalculation::WhenSupported, ResponseChecksumValidation::WhenSupported),
        Checksum::Required => (RequestChecksumCalculation::WhenRequired, ResponseChecksumValidation::WhenRequired),
    };
    let config = aws_sdk_s3::config::Builder::from(&shared)
        .force_path_style(settings.path_style.unwrap_or(settings.endpoint.is_some()))
        .request_checksum_calculation(calculation)
        .response_checksum_validation(validation);
    Ok(Client::from_conf(config.build()))
}

/// The region, where it need not be looked for in profiles and instance metadata.
fn region(settings: &S3Config) -> Option<String> {
    let from_environment = || env::var("AWS_REGION").or_else(|_| env::var("AWS_DEFAULT_REGION")).ok();
    // A store of one's own has no regions as a rule, and asking the instance metadata service for one takes seconds.
    let fallback = || (settings.endpoint.is_some() && settings.profile.is_none()).then(|| "us-east-1".to_owned());
    settings.region.clone().or_else(from_environment).or_else(fallback)
}

/// What S3 answered, without the debug output of the SDK, which holds whole requests.
pub(super) fn answer<E>(error: SdkError<E, HttpResponse>) -> S3Answer
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    match (status, &error) {
        (Some(status), SdkError::ServiceError(service)) => {
            let metadata = service.err().meta();
            let code = metadata.code().unwrap_or("without an error code").to_owned();
            S3Answer::Error { status, code, message: metadata.message().unwrap_or_default().to_owned() }
        }
        (Some(status), _) => S3Answer::Error { status, code: "with an unreadable body".into(), message: error.to_string() },
        (None, _) => S3Answer::None(error.into()),
    }
}

impl S3Answer {
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Error { status, .. } => Some(*status),
            Self::None(_) => None,
        }
    }

    pub(super) fn code(&self) -> &str {
        match self {
            Self::Error { code, .. } => code,
            Self::None(_) => "",
        }
    }

    /// There is an object of that name, and the request was to create it only if there was none.
    pub(super) fn is_exists_already(&self) -> bool {
        self.status() == Some(412) || self.code() == "PreconditionFailed"
    }

    /// Somebody else was creating the object at the same moment.
    pub(super) fn is_conflict(&self) -> bool {
        self.status() == Some(409) || self.code() == "ConditionalRequestConflict"
    }

    /// The object or the multipart upload is not there.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self.code(), "NoSuchKey" | "NotFound" | "NoSuchUpload")
            || (self.status() == Some(404) && self.code() != "NoSuchBucket")
    }

    /// The error of a request that did not succeed: whether trying again may help, and else what somebody must do.
    pub(super) fn into_error(self, action: &'static str, permission: &'static str, place: String) -> FilesError {
        let advice = match (self.status(), self.code()) {
            // These mend themselves: credentials are renewed, clocks are set, bodies are sent again.
            (
                _,
                "ExpiredToken"
                | "ExpiredTokenException"
                | "RequestTimeTooSkewed"
                | "RequestTimeout"
                | "BadDigest"
                | "IncompleteBody"
                | "SlowDown"
                | "InternalError"
                | "ServiceUnavailable"
                | "OperationAborted",
            ) => None,
            (_, "NoSuchBucket") => Some("create the bucket, or correct `url`".to_owned()),
            (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch") => {
                Some("check the access key and its secret (environment, profile, or `s3` in the pipeline file)".to_owned())
            }
            (_, "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException")
            | (Some(301 | 307), _) => Some("the bucket is in another region: set `s3.region`".to_owned()),
            (Some(401 | 403), _) => Some(format!("grant these credentials {permission} there")),
            (Some(400 | 405 | 411 | 501), _) => Some(
                "this store does not do what the sink asks for; if it lacks conditional writes and nothing else writes there, set \
                 `single_writer: true`, and see `s3.checksum` and `s3.path_style`"
                    .to_owned(),
            ),
            _ => None,
        };
        match advice {
            Some(advice) => FilesError::S3Refused { action, place, advice, answer: self },
            None => FilesError::S3 { action, place, answer: self },
        }
    }
}
