use std::{fmt, io, net::TcpStream, path::PathBuf, sync::Arc};

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

/// What of the server's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Nothing: the connection is encrypted, to whomever.
    Nothing,
    /// That it comes from a trusted authority.
    Authority,
    /// That, and that it bears the host's name.
    Name,
}

/// What TLS needs to know.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// What of the server's certificate is checked.
    pub check: Check,
    /// PEM file of trusted authorities; the system's if `None`.
    pub root_file: Option<PathBuf>,
    /// The name of the setting that gives this file, for messages.
    pub root_setting: &'static str,
}

/// Why TLS did not come about.
#[derive(Debug)]
pub enum TlsError {
    /// The socket broke.
    Io(io::Error),
    /// One side refused; the text says why, and what to do where that is known.
    Refused(String),
}

/// An encrypted connection.
pub(crate) type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// Shakes hands on a connected socket.
pub(crate) fn start(settings: &TlsSettings, host: &str, mut socket: TcpStream) -> Result<TlsStream, TlsError> {
    let config = client_config(settings).map_err(TlsError::Refused)?;
    let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Refused(format!("`{host}` is no host name")))?;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(|error| TlsError::Refused(error.to_string()))?;
    while connection.is_handshaking() {
        // A certificate that is refused comes as an I/O error that holds the TLS error; only the latter is worth showing.
        connection.complete_io(&mut socket).map_err(|error| {
            match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(tls) => TlsError::Refused(explain(tls, settings.root_setting)),
                None => TlsError::Io(error),
            }
        })?;
    }
    Ok(StreamOwned::new(connection, socket))
}

fn explain(error: &rustls::Error, root_setting: &str) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            format!("the server's certificate comes from no trusted authority; give its authority as `{root_setting}`")
        }
        other => other.to_string(),
    }
}

fn client_config(settings: &TlsSettings) -> Result<ClientConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let roots = if settings.check == Check::Nothing { Roots::none() } else { Roots::load(settings)? };
    let verifier = Arc::new(Verifier { roots, check: settings.check, provider: Arc::clone(&provider) });
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
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
                Err(format!("the system has no trusted authorities; give a file with them as `{}`", settings.root_setting))
            } else {
                Ok(roots)
            };
        };
        let unreadable = |error: &dyn fmt::Display| format!("cannot read `{}` {}: {error}", settings.root_setting, file.display());
        for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unreadable(&error))? {
            let certificate = certificate.map_err(|error| unreadable(&error))?;
            roots.given.push(certificate.clone());
            roots.store.add(certificate).map_err(|error| unreadable(&error))?;
        }
        if roots.given.is_empty() { Err(unreadable(&"it holds no certificate")) } else { Ok(roots) }
    }
}

/// A [`Check`] as a verifier.
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
