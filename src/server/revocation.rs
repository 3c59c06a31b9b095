//! Lists of revoked certificates: read, checked, the newest of each issuer kept.
//!
//! A list that can't be used is an error and never ignored: whoever configured it counts on it. The one
//! exception is a list beside a usable one of the same issuer and scope: publishers leave old files
//! lying about, and rustls, which takes the first list that fits, must not meet the old one.

use rustls::pki_types::{CertificateRevocationListDer, pem::PemObject};
use x509_parser::{
    certificate::X509Certificate, prelude::FromDer, revocation_list::CertificateRevocationList,
};

use super::{Error, RevocationList, authorities::Authorities};
use crate::domain::{OkmsId, Timestamp};

/// A list that can be used.
pub(super) struct UsableList {
    /// The name of its file.
    pub(super) name: String,
    pub(super) der: CertificateRevocationListDer<'static>,
    /// The public key that it is signed with, in DER.
    pub(super) issuer_key: Vec<u8>,
    /// The name of its issuer, in DER.
    pub(super) issuer_name: Vec<u8>,
    /// What the list is about: issuer and extensions that narrow it down.
    scope: (Vec<u8>, Vec<u8>, Vec<u8>),
    /// The groups of authorities that it is for; `None` is our own.
    pub(super) domains: Vec<Option<OkmsId>>,
    pub(super) begins: Timestamp,
    /// From then on it is stale.
    pub(super) ends: Timestamp,
}

/// Reads the configured lists and keeps the newest usable one of each issuer and scope.
///
/// # Errors
///
/// If a file holds no list, a list is not signed by one of the configured authorities (intermediates
/// included), can't be read, or an issuer is left without a list that is valid at `now`.
pub(super) fn usable_lists(
    files: &[RevocationList],
    authorities: &Authorities,
    now: Timestamp,
) -> Result<Vec<UsableList>, Error> {
    let mut usable: Vec<UsableList> = Vec::new();
    let mut unusable: Vec<(UsableList, &'static str)> = Vec::new();
    for file in files {
        for der in lists(file)? {
            let list = read(&file.name, der, authorities)?;
            let why = if list.begins > now {
                Some("it is from the future")
            } else if list.ends <= now {
                Some("it is stale: its next update is overdue")
            } else {
                None
            };
            match why {
                Some(why) => unusable.push((list, why)),
                None => match usable.iter_mut().find(|other| other.replaces(&list)) {
                    Some(other) if other.begins < list.begins => *other = list,
                    Some(_) => {}
                    None => usable.push(list),
                },
            }
        }
    }
    let left = unusable.iter().find(|(list, _)| !usable.iter().any(|other| other.replaces(list)));
    match left {
        None => Ok(usable),
        Some((list, why)) => Err(Error::new(format!("revocation list {}: {why}", list.name))),
    }
}

impl UsableList {
    fn replaces(&self, other: &Self) -> bool {
        self.scope == other.scope && self.issuer_key == other.issuer_key
    }
}

fn lists(file: &RevocationList) -> Result<Vec<CertificateRevocationListDer<'static>>, Error> {
    let bad = |why: &str| Error::new(format!("revocation list {}: {why}", file.name));
    if file.content.len() > MAX_BYTES {
        return Err(bad("larger than 16 MiB"));
    }
    // DER begins with a SEQUENCE.
    if file.content.first() == Some(&0x30) {
        return Ok(vec![CertificateRevocationListDer::from(file.content.clone())]);
    }
    let found: Vec<_> = CertificateRevocationListDer::pem_slice_iter(&file.content)
        .collect::<Result<_, _>>()
        .map_err(|_| bad("neither PEM nor DER"))?;
    if found.is_empty() { Err(bad("neither PEM nor DER")) } else { Ok(found) }
}

fn read(
    name: &str,
    der: CertificateRevocationListDer<'static>,
    authorities: &Authorities,
) -> Result<UsableList, Error> {
    let bad = |why: &str| Error::new(format!("revocation list {name}: {why}"));
    let Ok(([], list)) = CertificateRevocationList::from_der(&der) else {
        return Err(bad("not an X.509 certificate revocation list"));
    };
    if WEAK_SIGNATURES.contains(&list.signature_algorithm.algorithm.to_id_string().as_str()) {
        return Err(bad("signed with SHA-1"));
    }
    let mut issuer_key = None;
    let mut domains = Vec::new();
    for (domain, certificate) in authorities.all() {
        let Ok((_, issuer)) = X509Certificate::from_der(certificate) else { continue };
        if issuer.subject().as_raw() != list.issuer().as_raw()
            || list.verify_signature(issuer.public_key()).is_err()
        {
            continue;
        }
        if !may_sign_lists(&issuer) {
            return Err(bad("its issuer may not sign revocation lists"));
        }
        issuer_key = Some(issuer.public_key().raw.to_vec());
        if !domains.contains(&domain) {
            domains.push(domain);
        }
    }
    let issuer_key =
        issuer_key.ok_or_else(|| bad("not signed by any of the configured authorities"))?;
    let next_update = list.next_update().ok_or_else(|| bad("it has no next update"))?;
    let extension = |oid: &str| {
        let found = list.extensions().iter().find(|found| found.oid.to_id_string() == oid);
        found.map_or_else(Vec::new, |found| found.value.to_vec())
    };
    let issuer_name = list.issuer().as_raw().to_vec();
    let scope =
        (issuer_name.clone(), extension(AUTHORITY_KEY_ID), extension(ISSUING_DISTRIBUTION_POINT));
    let (begins, ends) = (
        Timestamp::from_millis(list.last_update().timestamp().saturating_mul(1_000)),
        Timestamp::from_millis(next_update.timestamp().saturating_mul(1_000)),
    );
    Ok(UsableList {
        name: name.to_owned(),
        issuer_key,
        issuer_name,
        scope,
        domains,
        begins,
        ends,
        der: der.clone(),
    })
}

fn may_sign_lists(issuer: &X509Certificate<'_>) -> bool {
    issuer.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| usage.value.crl_sign()))
}

/// Bytes of a file: some 400,000 certificates. Each verifier keeps the list in a form that is several
/// times as large.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// RSA with SHA-1 (two names) and ECDSA with SHA-1. rustls refuses them too, but only when a client is
/// there to be refused.
const WEAK_SIGNATURES: [&str; 3] = ["1.2.840.113549.1.1.5", "1.3.14.3.2.29", "1.2.840.10045.4.1"];

const AUTHORITY_KEY_ID: &str = "2.5.29.35";
const ISSUING_DISTRIBUTION_POINT: &str = "2.5.29.28";
