//! The use cases: authorize → seal → store → open.
//!
//! Both API dialects and the command line call these, and nothing below them. A method takes words of
//! [`domain`](crate::domain) and gives words of it; it knows no HTTP and no SQL. Rules are asked of
//! [`rules`](crate::domain::rules), under the store's lock.
//!
//! | file | what it owns |
//! |---|---|
//! | `caller` | who acts, in which domain; the only way to the secrets |
//! | `authentication` | whether a certificate's credential, or a token, counts for this request |
//! | `secrets` | the use cases of secrets, versions and a domain's defaults |
//! | `kv2` | the same where the KV2 API set has rules of its own |
//! | `changes` | how a secret is changed and read under keys that change meanwhile |
//! | `idempotency` | writes that are done once, however often they are sent |
//! | `listing` | the secrets that a caller may see, by pages |
//! | `lookups` | turns to look tokens up that anybody may have made up |
//! | `folders` | what stands in a folder of paths, as KV2 lists it |
//! | `turns` | how lists wait for each other, and what counts of their callers after it |
//! | `sight` | what a caller sees in a list |
//! | `policies` | what operators do with policies and groups |
//! | `policy_cache` | the policies and groups in memory, by which requests are decided |
//! | `cursors` | cursors of lists, bound to caller and list |
//! | `keyring` | keys of domains, unwrapped in memory |
//! | `keys` | rotation of keys, and sealing anew after it |
//! | `rewrapping` | that servers seal anew by themselves |
//! | `backup` | the whole store in one sealed stream, and back |
//! | `troubles` | what goes wrong with single domains time and again |
//! | `store_key` | the key that wraps them, and how a root key opens it |
//! | `rows` | that nothing of a stored row is used before it is verified |
//! | `old_rows` | proving the rows of a store of before, once |
//! | `tokens` | tokens: what operators do, and what callers do with their own |
//! | `token_key` | the key of the MACs of tokens |
//! | `domains`, `credentials` | what operators do |

mod authentication;
mod backup;
mod caller;
mod changes;
mod credentials;
mod cursors;
mod domains;
mod folders;
mod idempotency;
mod keyring;
mod keys;
mod kv2;
mod listing;
mod lookups;
mod old_rows;
mod policies;
mod policy_cache;
mod rewrapping;
mod rows;
mod secrets;
mod sight;
mod store_key;
mod token_key;
mod tokens;
mod troubles;
mod turns;

pub use self::{
    authentication::{Authenticated, Authentication, Presented, PresentedToken},
    backup::{BackupContent, Backups, VerifiedBackup},
    caller::Caller,
    credentials::{Credentials, IssuedCredential, NewCredential, NewRegistration},
    domains::Domains,
    folders::{Folder, Unsent},
    idempotency::Once,
    keyring::{KeyOperations, Keyring},
    keys::{KeyStatus, Keys, OtherRootKey, RewrapReport, RootKeyStatus},
    kv2::{NewVersionView, OpenedVersion},
    policies::{AppliedPolicy, DamagedMember, Group, Member, Policies},
    policy_cache::{PolicyCache, Snapshot},
    secrets::{Page, SecretView, Secrets, VersionView, Written},
    store_key::RootKeySource,
    tokens::{IssuedToken, Lifetime, ListedToken, NewToken, Tokens},
};
