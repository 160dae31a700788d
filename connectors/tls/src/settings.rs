use std::{io, path::PathBuf, sync::Arc};

use rustls::{CertificateError, ClientConfig, crypto::aws_lc_rs};

use crate::{authorities::Authorities, verifier::Verifier};

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
    /// PEM file of trusted authorities; the system's if `None`. A certificate in it that is the server's own is trusted as well.
    pub root_file: Option<PathBuf>,
    /// The name of the setting that gives this file, for messages.
    pub root_setting: &'static str,
}

/// Why TLS cannot be set up. All of it is about settings and the machine, so trying again does not help.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The file of authorities cannot be used.
    #[error("cannot read {path}, named by `{setting}`")]
    RootFile {
        /// Name of the setting.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Neither a file nor the system names an authority.
    #[error("the system has no trusted authorities; give a file with them as `{setting}`")]
    NoAuthorities {
        /// Name of the setting.
        setting: &'static str,
    },
    /// The TLS library refused.
    #[error("cannot set up TLS")]
    Library(#[source] rustls::Error),
}

/// A client that checks what the settings say. Reads the file of authorities.
pub fn client_config(settings: &TlsSettings) -> Result<ClientConfig, SetupError> {
    let authorities = match settings.check {
        Check::Nothing => Authorities::none(),
        Check::Authority | Check::Name => Authorities::load(settings)?,
    };
    // Named, because two providers are in the build, and rustls does not choose between them.
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(Verifier { authorities, check: settings.check, provider: Arc::clone(&provider) });
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(SetupError::Library)?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// A failed handshake in words, with what to do where that is known.
pub fn explain(error: &rustls::Error, settings: &TlsSettings) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            format!("the server's certificate comes from no trusted authority; give its authority as `{}`", settings.root_setting)
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::{error::Error, fs};

    use super::*;

    fn complaint(check: Check, root_file: PathBuf) -> Option<String> {
        let settings = TlsSettings { check, root_file: Some(root_file), root_setting: "sslrootcert" };
        let error = client_config(&settings).err()?;
        Some(error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}")))
    }

    #[test]
    fn a_file_that_holds_no_authorities_is_named_with_its_setting() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing.pem");
        let named = format!("cannot read {}, named by `sslrootcert`: ", missing.display());
        assert!(complaint(Check::Authority, missing.clone()).unwrap().starts_with(&named));
        for text in
            ["no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "-----BEGIN CERTIFICATE-----\n?"]
        {
            let path = folder.path().join("ca.pem");
            fs::write(&path, text).unwrap();
            let complaint = complaint(Check::Name, path).unwrap();
            assert!(complaint.contains("ca.pem, named by `sslrootcert`: "), "{text}: {complaint}");
        }
        // Who checks nothing reads nothing.
        assert_eq!(complaint(Check::Nothing, missing), None);
    }
}
