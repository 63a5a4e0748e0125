//! The server on its objects.

use quire_api::Error;
use quire_api::rt::Startup;

/// Serves until the client is gone.
pub(crate) fn main(_startup: &'static Startup) -> Result<(), Error> {
    Ok(())
}
