//! Who acts, in which domain.

use std::sync::Arc;

use crate::domain::{Error, OkmsId, Principal};

/// An authenticated caller inside its own domain.
///
/// Every use case of secrets takes one, and takes the domain from it alone: there is no way to name
/// another domain than the one that was checked here.
#[derive(Debug, Clone)]
pub struct Caller(Arc<Principal>);

impl Caller {
    /// Lets a principal into the domain that its request names.
    ///
    /// # Errors
    ///
    /// [`Error::DomainNotFound`] for any domain but its own: the same answer whether the other one
    /// exists or not.
    pub fn enter(principal: Arc<Principal>, okms_id: OkmsId) -> Result<Self, Error> {
        if principal.okms_id != okms_id {
            return Err(Error::DomainNotFound);
        }
        Ok(Self(principal))
    }

    /// The domain.
    pub fn okms_id(&self) -> OkmsId {
        self.0.okms_id
    }

    /// Who it is.
    pub fn principal(&self) -> &Principal {
        &self.0
    }
}
