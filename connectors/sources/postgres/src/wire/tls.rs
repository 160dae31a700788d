use std::{fmt, path::PathBuf};

use rustls::crypto::aws_lc_rs;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use source_tailing::{Check, TlsSettings};

/// Whether the connection is encrypted, and what of the server's certificate is checked. The modes and their meaning are libpq's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted only if the server lets nobody in otherwise; the certificate is not checked.
    Allow,
    /// Encrypted if the server offers it; the certificate is not checked. Not encrypted if that is the only way in.
    #[default]
    Prefer,
    /// Encrypted; the certificate is checked only where `sslrootcert` is given (as by `verify-ca`).
    Require,
    /// Encrypted; the certificate must come from a trusted authority.
    VerifyCa,
    /// Encrypted; the certificate must come from a trusted authority and bear the host's name.
    VerifyFull,
}

impl fmt::Display for SslMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        })
    }
}

impl SslMode {
    /// How to try it, and how again should the server refuse the login: it may have other rules for connections that are encrypted, or that
    /// are not.
    pub(super) fn attempts(self) -> (Self, Option<Self>) {
        match self {
            Self::Allow => (Self::Disable, Some(Self::Require)),
            Self::Prefer => (Self::Prefer, Some(Self::Disable)),
            _ => (self, None),
        }
    }
}

/// libpq's modes as what is checked.
pub(crate) fn tls_settings(mode: SslMode, root_file: Option<PathBuf>) -> TlsSettings {
    let check = match (mode, &root_file) {
        (SslMode::VerifyFull, _) => Check::Name,
        (SslMode::VerifyCa, _) | (SslMode::Require, Some(_)) => Check::Authority,
        (SslMode::Require, None) | (SslMode::Prefer | SslMode::Allow | SslMode::Disable, _) => Check::Nothing,
    };
    TlsSettings { check, root_file, root_setting: "sslrootcert" }
}

/// What binds a login to the server's certificate (RFC 5929, `tls-server-end-point`): the certificate hashed with the hash of its own signature; MD5 and SHA-1 count as SHA-256 (RFC 5929, 4.1).
pub(super) fn end_point_hash(certificate: &[u8]) -> Option<Vec<u8>> {
    // Object identifiers, DER encoded: the RSA family 1.2.840.113549.1.1.x and ECDSA with SHA-2 1.2.840.10045.4.3.x.
    const RSA: [u8; 8] = [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01];
    const ECDSA_SHA2: [u8; 7] = [0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03];
    let suite = match signature_algorithm(certificate)? {
        [prefix @ .., 4 | 5 | 11] if prefix == RSA => aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
        [prefix @ .., 2] if prefix == ECDSA_SHA2 => aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
        [prefix @ .., 12] if prefix == RSA => aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
        [prefix @ .., 3] if prefix == ECDSA_SHA2 => aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
        _ => return None,
    };
    Some(suite.tls13()?.common.hash_provider.hash(certificate).as_ref().to_vec())
}

/// `Certificate ::= SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE { OBJECT IDENTIFIER, … }, … }`
fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    let (fields, _) = der(certificate, 0x30)?;
    let (_, after_tbs) = der(fields, 0x30)?;
    let (algorithm, _) = der(after_tbs, 0x30)?;
    der(algorithm, 0x06).map(|(oid, _)| oid)
}

/// Content and rest of a DER value of that tag.
fn der(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let [found, length, rest @ ..] = bytes else { return None };
    let (length, rest) = match length {
        0..=0x7F => (usize::from(*length), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length - 0x80))?;
            (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    (*found == tag).then(|| rest.split_at_checked(length)).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_signature_algorithm_is_found() {
        let oid = [0x06, 3, 1, 2, 3];
        let certificate = [&[0x30, 13, 0x30, 2, 5, 0, 0x30, 7][..], &oid, &[5, 0]].concat();
        assert_eq!(signature_algorithm(&certificate), Some(&[1u8, 2, 3][..]));
    }

    proptest! {
        #[test]
        fn no_certificate_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = end_point_hash(&bytes);
            let _ = end_point_hash(&[&[0x30, 0x82, 0, 60, 0x30], bytes.as_slice()].concat());
        }
    }
}
