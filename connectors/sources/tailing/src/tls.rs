use std::{error::Error, io, net::TcpStream, sync::Arc};

use connector_tls::{TlsSettings, client_config, explain};
use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};

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
    let config = client_config(settings).map_err(|error| {
        TlsError::Refused(error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}")))
    })?;
    let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Refused(format!("`{host}` is no host name")))?;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(|error| TlsError::Refused(error.to_string()))?;
    while connection.is_handshaking() {
        // A certificate that is refused comes as an I/O error that holds the TLS error; only the latter is worth showing.
        connection.complete_io(&mut socket).map_err(|error| {
            match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(tls) => TlsError::Refused(explain(tls, settings)),
                None => TlsError::Io(error),
            }
        })?;
    }
    Ok(StreamOwned::new(connection, socket))
}
