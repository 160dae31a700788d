use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

use crate::{
    config::{PostgresSettings, SslMode},
    error::JdbcError,
};

/// What to check of a server's certificate.
#[derive(Debug)]
struct Verifier {
    /// Checks the chain and the name; `None` accepts any certificate, as `sslmode=require` does.
    chain: Option<Arc<WebPkiServerVerifier>>,
    check_name: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is looked at last: whoever fails there has a good chain.
            Err(Error::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }))
                if !self.check_name =>
            {
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The authorities to trust: those of the file that the settings name, else those of the system.
fn roots(settings: &PostgresSettings) -> Result<RootCertStore, JdbcError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &settings.ca {
        let failed = |cause| JdbcError::Certificate { path: path.clone(), cause };
        let text = std::fs::read(path).map_err(failed)?;
        for certificate in CertificateDer::pem_slice_iter(&text) {
            let certificate = certificate.map_err(|error| failed(std::io::Error::other(error)))?;
            roots.add(certificate).map_err(|error| failed(std::io::Error::other(error)))?;
        }
        if roots.is_empty() {
            return Err(failed(std::io::Error::other("it holds no certificate in PEM form")));
        }
        return Ok(roots);
    }
    // Single certificates of the system that cannot be read are no reason to trust none of the others.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Ok(roots)
}

/// The TLS settings for a server.
pub(crate) fn client_config(settings: &PostgresSettings) -> Result<ClientConfig, JdbcError> {
    let failed = |cause| JdbcError::Tls { address: settings.address(), cause };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verify = match settings.sslmode {
        SslMode::Disable | SslMode::Prefer => false,
        SslMode::Require => settings.ca.is_some(),
        SslMode::VerifyCa | SslMode::VerifyFull => true,
    };
    let chain = if verify {
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(settings)?), Arc::clone(&provider));
        Some(builder.build().map_err(|error| failed(Error::General(error.to_string())))?)
    } else {
        None
    };
    let verifier = Verifier { chain, check_name: settings.sslmode == SslMode::VerifyFull, provider: Arc::clone(&provider) };
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(failed)?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}
