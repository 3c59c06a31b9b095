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
//! | `listing` | the secrets that a caller may see, by pages |
//! | `policies` | policies and groups, and the snapshot that requests are decided by |
//! | `cursors` | cursors of lists, bound to caller and list |
//! | `keyring` | keys of domains, unwrapped in memory |
//! | `keys` | rotation of keys, and sealing anew after it |
//! | `store_key` | the key that wraps them, and how a root key opens it |
//! | `rows` | that nothing of a stored row is used before it is verified |
//! | `old_rows` | proving the rows of a store of before, once |
//! | `tokens` | tokens: what operators do, and what callers do with their own |
//! | `domains`, `credentials` | what operators do |

mod authentication;
mod caller;
mod credentials;
mod cursors;
mod domains;
mod keyring;
mod keys;
mod listing;
mod old_rows;
mod policies;
mod rows;
mod secrets;
mod store_key;
mod tokens;

pub use self::{
    authentication::{Authenticated, Authentication, Presented, PresentedToken},
    caller::Caller,
    credentials::{Credentials, IssuedCredential, NewCredential, NewRegistration},
    domains::Domains,
    keyring::Keyring,
    keys::{KeyStatus, Keys, OtherRootKey, RewrapReport, RootKeyStatus},
    policies::{AppliedPolicy, Group, Policies, PolicyCache},
    secrets::{Page, SecretView, Secrets, VersionView, Written},
    store_key::RootKeySource,
    tokens::{IssuedToken, NewToken, Tokens},
};
