//! A way in for `tests/fuzz`, which no other build has.

use super::{
    RevocationList, TlsMaterial,
    authorities::Authorities,
    revocation::{Stale, usable_lists},
};
use crate::domain::Timestamp;

/// The lists (DER) of a file that would be used: those that authorities (PEM) signed.
///
/// # Panics
///
/// When the authorities are none.
pub fn usable_revocation_lists(
    content: &[u8],
    authorities_pem: &str,
    now: Timestamp,
) -> Vec<Vec<u8>> {
    let file = RevocationList { name: "fuzzed".to_owned(), content: content.to_vec() };
    let material = TlsMaterial {
        certificate_chain_pem: String::new(),
        private_key_pem: String::new().into(),
        client_ca_pems: vec![authorities_pem.to_owned()],
        external_authorities: Vec::new(),
        revocation_lists: Vec::new(),
    };
    let Ok(authorities) = Authorities::read(&material) else { unreachable!("no authorities") };
    let lists = usable_lists(&[file], &authorities, Stale::RefusesClients, now);
    lists.unwrap_or_default().iter().map(|list| list.der.to_vec()).collect()
}
