use mysql_async::SslOpts;
use rustls::CertificateError;

use crate::{
    config::{MySqlSettings, SslMode},
    error::{JdbcError, certificate_error},
};

/// What to check of a server's certificate.
pub(crate) fn options(settings: &MySqlSettings) -> Result<SslOpts, JdbcError> {
    // The driver takes the process's provider, and there are two in the build. Whoever set one before us keeps it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let verify = match settings.sslmode {
        SslMode::Disable | SslMode::Prefer => false,
        SslMode::Require => settings.ca.is_some(),
        SslMode::VerifyCa | SslMode::VerifyFull => true,
    };
    let options = SslOpts::default();
    if !verify {
        return Ok(options.with_danger_accept_invalid_certs(true));
    }
    let options =
        options.with_disable_built_in_roots(true).with_danger_skip_domain_validation(settings.sslmode != SslMode::VerifyFull);
    Ok(options.with_root_certs(roots(settings)?.into_iter().map(Into::into).collect()))
}

/// The authorities to trust: those of the file that the settings name (in PEM form), else those of the system (each in binary form).
fn roots(settings: &MySqlSettings) -> Result<Vec<Vec<u8>>, JdbcError> {
    let Some(path) = &settings.ca else {
        return Ok(rustls_native_certs::load_native_certs().certs.iter().map(|certificate| certificate.to_vec()).collect());
    };
    let failed = |cause| JdbcError::Certificate { path: path.clone(), cause };
    let text = std::fs::read(path).map_err(failed)?;
    // The driver would take what is no PEM for a certificate in binary form.
    let begin = b"-----BEGIN CERTIFICATE-----";
    if !text.windows(begin.len()).any(|window| window == begin) {
        return Err(failed(std::io::Error::other("it holds no certificate in PEM form")));
    }
    Ok(vec![text])
}

/// A name of the server's certificate, if all that is wrong with it is that it has no other: the name is looked at last.
pub(crate) fn presented_name(error: &mysql_async::Error) -> Option<String> {
    let CertificateError::NotValidForNameContext { presented, .. } = certificate_error(error)? else { return None };
    // They are printed as `DnsName("host")` and `IpAddress(address)`.
    let name = presented.first()?.split_once('(')?.1.trim_end_matches(')').trim_matches('"');
    Some(name.replacen("*.", "any.", 1))
}
