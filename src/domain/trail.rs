//! What a request turns out to be, noted on its way for the record of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{CredentialId, OkmsId, Principal, SecretPath, TokenId, VersionId, resource_urn};

/// The trail of one request: who made it, what was decided about it, which version it was about.
///
/// Made when the request comes in and taken when its answer leaves. Each layer notes what it finds out,
/// so that a request that fails on the way is recorded as far as it came. It never holds data, bodies
/// or headers: there is no field for them.
#[derive(Debug, Default)]
pub struct RequestTrail(Mutex<Noted>);

/// What was noted on a trail.
#[derive(Debug, Default, Clone)]
pub struct Noted {
    /// The caller, once it is known.
    pub principal: Option<Arc<Principal>>,
    /// The SHA-256 of a certificate that the caller presented and that does not count here.
    pub refused_certificate: Option<[u8; 32]>,
    /// The credential of that certificate, where there is one.
    pub refused_credential: Option<CredentialId>,
    /// A token that the caller sent and that does not count.
    pub refused_token: Option<TokenId>,
    /// A token that the caller was given.
    pub issued_token: Option<TokenId>,
    /// Every decision about the caller's rights, in the order in which they were made.
    pub decisions: Vec<NotedDecision>,
    /// What the request is about.
    pub resource: Option<NotedResource>,
    /// The versions that were read, made or changed.
    pub versions: Vec<VersionId>,
    /// Whether the answer is that of an earlier request with the same idempotency key.
    pub is_replay: bool,
}

/// A domain, or a secret in it. It is noted several times on the way of a request, and written once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotedResource {
    /// Whose domain has that region.
    pub principal: Arc<Principal>,
    /// The domain.
    pub okms_id: OkmsId,
    /// The secret.
    pub path: Option<SecretPath>,
}

impl NotedResource {
    /// Its URN.
    pub fn urn(&self) -> String {
        resource_urn(&self.principal.region, self.okms_id, self.path.as_ref())
    }
}

/// One decision about a caller's rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotedDecision {
    /// The action, such as `okms:apikms:secret/get`.
    pub action: &'static str,
    /// Whether it is allowed.
    pub allowed: bool,
    /// What decided: the name of a policy, `root`, or nothing where no policy speaks for it.
    pub decided_by: Option<String>,
}

impl RequestTrail {
    /// Notes who calls.
    pub fn note_principal(&self, principal: Arc<Principal>) {
        self.noted().principal = Some(principal);
    }

    /// Notes a certificate that does not count, or not beside the token that came with it, and its credential
    /// where it has one.
    pub fn note_refused_certificate(&self, fingerprint: [u8; 32], id: Option<CredentialId>) {
        let mut noted = self.noted();
        noted.refused_certificate = Some(fingerprint);
        noted.refused_credential = id.or(noted.refused_credential);
    }

    /// Notes a token that is known and does not count.
    pub fn note_refused_token(&self, id: TokenId) {
        self.noted().refused_token = Some(id);
    }

    /// Notes a token that the caller was given.
    pub fn note_issued_token(&self, id: TokenId) {
        self.noted().issued_token = Some(id);
    }

    /// Notes what the request is about.
    pub fn note_resource(&self, resource: NotedResource) {
        self.noted().resource = Some(resource);
    }

    /// Notes that the request is about this secret in the domain that was noted before.
    pub fn note_path(&self, path: &SecretPath) {
        if let Some(resource) = &mut self.noted().resource {
            resource.path = Some(path.clone());
        }
    }

    /// Notes a decision.
    pub fn note_decision(&self, decision: NotedDecision) {
        self.noted().decisions.push(decision);
    }

    /// Notes the version that was read, made or changed.
    pub fn note_version(&self, version: VersionId) {
        self.note_versions(&[version]);
    }

    /// Notes the versions that were read, made or changed.
    pub fn note_versions(&self, versions: &[VersionId]) {
        self.noted().versions = versions.to_vec();
    }

    /// Notes that the answer is that of an earlier request with the same idempotency key.
    pub fn note_replay(&self) {
        self.noted().is_replay = true;
    }

    /// All that was noted so far.
    pub fn read(&self) -> Noted {
        self.noted().clone()
    }

    /// Takes all that was noted so far.
    pub fn take(&self) -> Noted {
        std::mem::take(&mut *self.noted())
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        // Each note is complete in itself, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
