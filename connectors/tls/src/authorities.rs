use std::io;

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem, pem::PemObject},
};

use crate::{SetupError, TlsSettings};

/// The certificates that are trusted.
#[derive(Debug)]
pub(crate) struct Authorities {
    pub store: RootCertStore,
    /// As they stand in the file: a self-signed server certificate may be its own authority.
    pub given: Vec<CertificateDer<'static>>,
}

impl Authorities {
    pub(crate) fn none() -> Self {
        Self { store: RootCertStore::empty(), given: Vec::new() }
    }

    /// Those of the file that the settings name, else those of the system.
    pub(crate) fn load(settings: &TlsSettings) -> Result<Self, SetupError> {
        let setting = settings.root_setting;
        let mut authorities = Self::none();
        let Some(path) = &settings.root_file else {
            // Single ones that cannot be read are no reason to trust none of the others.
            authorities.store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            return if authorities.store.is_empty() { Err(SetupError::NoAuthorities { setting }) } else { Ok(authorities) };
        };
        let unreadable = |cause| SetupError::RootFile { setting, path: path.clone(), cause };
        let text = std::fs::read(path).map_err(unreadable)?;
        for certificate in CertificateDer::pem_slice_iter(&text) {
            let certificate: CertificateDer<'static> =
                certificate.map_err(|error: pem::Error| unreadable(io::Error::other(error.to_string())))?;
            authorities.given.push(certificate.clone());
            authorities.store.add(certificate).map_err(|error| unreadable(io::Error::other(error)))?;
        }
        if authorities.given.is_empty() {
            return Err(unreadable(io::Error::other("it holds no certificate in PEM form")));
        }
        Ok(authorities)
    }
}
