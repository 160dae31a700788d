use std::{fmt, net::TcpStream, path::PathBuf, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::PostgresError;

/// Whether the connection is encrypted, and what of the server's certificate is checked. The modes and their meaning are libpq's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted if the server offers it; the certificate is not checked.
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
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        })
    }
}

/// What TLS needs to know.
#[derive(Debug, Clone)]
pub(crate) struct TlsSettings {
    pub mode: SslMode,
    /// PEM file of trusted authorities; the system's if `None`.
    pub root_file: Option<PathBuf>,
}

/// An encrypted connection.
pub(super) type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// Shakes hands on a connected socket. The second part is the hash of the server's certificate for channel binding (RFC 5929,
/// `tls-server-end-point`), `None` where the certificate's signature has no such hash here.
pub(super) fn start(
    settings: &TlsSettings,
    host: &str,
    mut socket: TcpStream,
    address: &str,
) -> Result<(TlsStream, Option<Vec<u8>>), PostgresError> {
    let failed = |problem: String| PostgresError::Tls { address: address.to_owned(), problem };
    let config = client_config(settings).map_err(&failed)?;
    let name = ServerName::try_from(host.to_owned()).map_err(|_| failed(format!("`{host}` is no host name")))?;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(|error| failed(error.to_string()))?;
    while connection.is_handshaking() {
        // A certificate that is refused comes as an I/O error that holds the TLS error; only the latter is worth showing.
        connection.complete_io(&mut socket).map_err(|error| {
            match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(tls) => failed(explain(tls)),
                None => PostgresError::Connect { address: address.to_owned(), cause: error },
            }
        })?;
    }
    let certificate = connection.peer_certificates().and_then(|chain| chain.first()).and_then(|leaf| end_point_hash(leaf));
    Ok((StreamOwned::new(connection, socket), certificate))
}

fn explain(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the server's certificate comes from no trusted authority; give its authority as `sslrootcert`".to_owned()
        }
        other => other.to_string(),
    }
}

fn client_config(settings: &TlsSettings) -> Result<ClientConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let check = match (settings.mode, &settings.root_file) {
        (SslMode::VerifyFull, _) => Check::Name,
        (SslMode::VerifyCa, _) | (SslMode::Require, Some(_)) => Check::Authority,
        (SslMode::Require, None) | (SslMode::Prefer | SslMode::Disable, _) => Check::Nothing,
    };
    let roots = if check == Check::Nothing { Roots::none() } else { Roots::load(settings)? };
    let verifier = Arc::new(Verifier { roots, check, provider: Arc::clone(&provider) });
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// What of the server's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    Nothing,
    Authority,
    Name,
}

/// The certificates that are trusted.
#[derive(Debug)]
struct Roots {
    store: RootCertStore,
    /// As they stand in the file: a self-signed server certificate may be its own authority.
    given: Vec<CertificateDer<'static>>,
}

impl Roots {
    fn none() -> Self {
        Self { store: RootCertStore::empty(), given: Vec::new() }
    }

    fn load(settings: &TlsSettings) -> Result<Self, String> {
        let mut roots = Self::none();
        let Some(file) = &settings.root_file else {
            let found = rustls_native_certs::load_native_certs();
            roots.store.add_parsable_certificates(found.certs);
            return if roots.store.is_empty() {
                Err("the system has no trusted authorities; give `sslrootcert`".to_owned())
            } else {
                Ok(roots)
            };
        };
        let unreadable = |error: &dyn fmt::Display| format!("cannot read `sslrootcert` {}: {error}", file.display());
        for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unreadable(&error))? {
            let certificate = certificate.map_err(|error| unreadable(&error))?;
            roots.given.push(certificate.clone());
            roots.store.add(certificate).map_err(|error| unreadable(&error))?;
        }
        if roots.given.is_empty() { Err(unreadable(&"it holds no certificate")) } else { Ok(roots) }
    }
}

/// libpq's modes as a verifier.
#[derive(Debug)]
struct Verifier {
    roots: Roots,
    check: Check,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.check == Check::Nothing {
            return Ok(ServerCertVerified::assertion());
        }
        let certificate = ParsedCertificate::try_from(end_entity)?;
        // The very certificate that was given as trusted needs no chain.
        if !self.roots.given.iter().any(|given| given == end_entity) {
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots.store, intermediates, now, algorithms)?;
        }
        if self.check == Check::Name {
            verify_server_name(&certificate, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The certificate hashed with the hash of its own signature; MD5 and SHA-1 count as SHA-256 (RFC 5929, 4.1).
fn end_point_hash(certificate: &[u8]) -> Option<Vec<u8>> {
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
