//! Who acts, in which domain.

use std::sync::Arc;

use super::Authenticated;
use crate::domain::{Error, OkmsId, Principal, RequestTrail, Revisions};

/// An authenticated caller inside its own domain.
///
/// Every use case of secrets takes one, and takes the domain from it alone: there is no way to name
/// another domain than the one that was checked here.
#[derive(Debug, Clone)]
pub struct Caller {
    authenticated: Authenticated,
    trail: Arc<RequestTrail>,
}

impl Caller {
    /// Lets a principal into the domain that its request names.
    ///
    /// # Errors
    ///
    /// [`Error::DomainNotFound`] for any domain but its own: the same answer whether the other one
    /// exists or not.
    pub fn enter(
        authenticated: Authenticated,
        okms_id: OkmsId,
        trail: Arc<RequestTrail>,
    ) -> Result<Self, Error> {
        if authenticated.principal.okms_id != okms_id {
            return Err(Error::DomainNotFound);
        }
        Ok(Self { authenticated, trail })
    }

    /// The domain.
    pub fn okms_id(&self) -> OkmsId {
        self.authenticated.principal.okms_id
    }

    /// Who it is.
    pub fn principal(&self) -> &Principal {
        &self.authenticated.principal
    }

    /// How recent what is kept in memory must be to serve this request.
    pub fn revisions(&self) -> Revisions {
        self.authenticated.revisions
    }

    /// Where to note what the request turns out to be.
    pub fn trail(&self) -> &RequestTrail {
        &self.trail
    }
}
