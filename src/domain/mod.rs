//! The words and rules of the field.
//!
//! Everything here is pure: no I/O, no HTTP, no SQL, no clock and no randomness of its own. A value
//! that exists is valid by its type ([`SecretPath`], [`SecretData`], [`VersionId`], …), and each
//! rule of secrets (versions, check-and-set, pruning, deactivation) stands here once, in
//! [`rules`]; the service asks the rules what to do and the store carries it out.
//!
//! | file | what it owns |
//! |---|---|
//! | `okms_id`, `okms_domain` | OKMS domains |
//! | `credential` | credentials of a domain |
//! | `token` | tokens of a domain |
//! | `path` | secret paths |
//! | `json` | strict JSON trees: exact numbers, no duplicate keys, bounded |
//! | `data` | the data of a version |
//! | `metadata` | custom metadata |
//! | `lifetime` | durations after which versions close |
//! | `settings` | the settings of a secret and of a domain, and which are effective |
//! | `version` | version numbers, states and rows |
//! | `secret` | a secret and the changes of it |
//! | `rules` | what a request does to a secret |
//! | `peer` | who is at the other end of a connection, by its certificate |
//! | `principal` | who calls |
//! | `urn` | URNs of identities and resources |
//! | `idempotency` | keys of writes that are to be done once |
//! | `trail` | what a request turns out to be, noted for its record |
//! | `time` | points in time, and where "now" comes from |
//! | `error` | what can go wrong, in the words of the API |

mod credential;
mod data;
mod error;
mod idempotency;
pub mod json;
mod lifetime;
mod memory;
mod metadata;
mod okms_domain;
mod okms_id;
mod path;
mod peer;
mod principal;
pub mod rules;
mod secret;
mod settings;
mod time;
mod token;
mod trace;
mod trail;
mod urn;
mod version;

pub use self::{
    credential::{Credential, CredentialStatus},
    data::SecretData,
    error::{Argument, ClosedVersion, Error},
    idempotency::{IdempotencyError, IdempotencyKey, malformed as malformed_idempotency_key},
    lifetime::VersionLifetime,
    memory::{ClientMemory, Held},
    metadata::{CustomMetadata, CustomMetadataPatch},
    okms_domain::OkmsDomain,
    okms_id::{NotAnOkmsId, OkmsId},
    path::SecretPath,
    peer::{Claim, ConnectionInfo, Peer, PeerCertificate, external_identity, network},
    principal::{CredentialId, Principal, Revisions},
    secret::{Secret, SecretChange, SecretSnapshot, Wanted},
    settings::{
        DEFAULT_MAX_VERSIONS, EffectiveConfig, MetadataPatch, SecretConfig, SecretConfigPatch,
    },
    time::{Clock, Timestamp},
    token::{Token, TokenBinding, TokenId},
    trace::{SpanId, Trace, TraceId},
    trail::{Noted, NotedDecision, NotedResource, RequestTrail},
    urn::{IdentityKind, IdentityUrn, resource_urn},
    version::{MAX_VERSION, NewVersion, Version, VersionId, VersionState},
};
