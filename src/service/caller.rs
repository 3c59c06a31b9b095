//! Who acts, in which domain.

use std::sync::Arc;

use super::{Authenticated, Once};
use crate::{
    domain::{
        Error, NotedResource, OkmsId, Principal, RequestTrail, Revisions, SecretPath, Timestamp,
        Token,
    },
    iam::{Action, Rights},
    store::Looked,
};

/// An authenticated caller inside its own domain.
///
/// Every use case of secrets takes one, and takes the domain from it alone: there is no way to name
/// another domain than the one that was checked here.
#[derive(Debug, Clone)]
pub struct Caller {
    authenticated: Authenticated,
    trail: Arc<RequestTrail>,
    once: Option<Arc<Once>>,
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
        Ok(Self { authenticated, trail, once: None })
    }

    /// The same caller, who wants its request to be done once. It counts for use cases that add a version.
    #[must_use]
    pub fn once(self, once: Once) -> Self {
        Self { once: Some(Arc::new(once)), ..self }
    }

    /// That its request is to be done once, where it is.
    pub(super) fn wanted_once(&self) -> Option<&Arc<Once>> {
        self.once.as_ref()
    }

    /// The domain.
    pub fn okms_id(&self) -> OkmsId {
        self.authenticated.principal.okms_id
    }

    /// Who it is.
    pub fn principal(&self) -> &Principal {
        &self.authenticated.principal
    }

    /// What is known of the token that it sent.
    pub fn token(&self) -> Option<&Token> {
        self.authenticated.token.as_deref()
    }

    /// When the credential of its certificate ends, where there is one.
    pub fn credential_expires_at(&self) -> Option<Timestamp> {
        self.authenticated.credential_expires_at
    }

    /// How recent what is kept in memory must be to serve this request.
    pub fn revisions(&self) -> Revisions {
        self.authenticated.revisions
    }

    /// See [`Authenticated`].
    pub(super) fn looked(&self) -> Option<Looked> {
        self.authenticated.looked
    }

    /// The same caller as of now: whether it still counts, with the groups and rights that it has.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthenticated`] or [`Error::DomainNotFound`] where it does not count here any more; or when
    /// storage fails.
    pub(super) async fn renewed(&self) -> Result<Self, Error> {
        let authenticated = self.authenticated.renewed().await?;
        self.trail.note_principal(Arc::clone(&authenticated.principal));
        let renewed = Self::enter(authenticated, self.okms_id(), Arc::clone(&self.trail))?;
        Ok(Self { once: self.once.clone(), ..renewed })
    }

    /// Where to note what the request turns out to be.
    pub fn trail(&self) -> &RequestTrail {
        &self.trail
    }

    /// Notes what the request is about, and lets it go on where the caller may do this with it: with a
    /// secret, or with the domain itself.
    ///
    /// Asked before storage is, and on the very path that storage will use: so the answer, and the time
    /// it takes, are the same whether there is such a secret or not.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`].
    pub(super) fn authorize(&self, action: Action, path: Option<&SecretPath>) -> Result<(), Error> {
        self.authorize_all(&[action], path)
    }

    /// Lets a request go on where the caller may do all of this with it. What comes after the first that it may
    /// not do is not decided about.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`].
    pub(super) fn authorize_all(
        &self,
        actions: &[Action],
        path: Option<&SecretPath>,
    ) -> Result<(), Error> {
        self.note_resource(path);
        let rights = self.rights();
        for (action, decision) in rights.decide_each(actions, path) {
            self.trail.note_decision(decision.noted(action));
            if !decision.is_allowed() {
                return Err(Error::Forbidden(action.as_str()));
            }
        }
        Ok(())
    }

    /// Lets a request go on where the caller may do one of two things with a secret, and tells which: it turns
    /// out under the store's lock which of them the request comes to, and is [noted](Self::note_decision)
    /// then.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`], the same whatever it would have come to, where the caller may do neither.
    pub(super) fn authorize_either(
        &self,
        first: Action,
        second: Action,
        path: &SecretPath,
    ) -> Result<(bool, bool), Error> {
        self.note_resource(Some(path));
        let may = |action| self.rights().decide(action, Some(path)).is_allowed();
        let (may_first, may_second) = (may(first), may(second));
        if !may_first && !may_second {
            self.note_decision(first, path);
            self.note_decision(second, path);
            return Err(Error::Forbidden(first.as_str()));
        }
        Ok((may_first, may_second))
    }

    /// Notes what was decided about an action on a secret.
    pub(super) fn note_decision(&self, action: Action, path: &SecretPath) {
        self.trail.note_decision(self.rights().decide(action, Some(path)).noted(action));
    }

    /// What the caller may do in the domain.
    pub(super) fn rights(&self) -> Rights<'_> {
        let Principal { identity_urns, region, okms_id, .. } = self.principal();
        self.authenticated.policies.rights(identity_urns, region, *okms_id)
    }

    /// Whether it may do just what the other one may, who is in the same domain.
    pub(super) fn may_as_much_as(&self, other: &Self) -> bool {
        let (one, two) = (&self.authenticated, &other.authenticated);
        // Nearly always; to compare policies takes far longer.
        let same = Arc::ptr_eq(&one.policies, &two.policies)
            && one.principal.identity_urns == two.principal.identity_urns;
        same || self.rights() == other.rights()
    }

    /// Notes what the request is about.
    pub(super) fn note_resource(&self, path: Option<&SecretPath>) {
        let principal = Arc::clone(&self.authenticated.principal);
        let (okms_id, path) = (principal.okms_id, path.cloned());
        self.trail.note_resource(NotedResource { principal, okms_id, path });
    }
}
