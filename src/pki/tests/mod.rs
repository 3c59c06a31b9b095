//! Reads back, with another library, what this module writes.

mod access;
mod authority;
mod pkcs12;

use x509_parser::{certificate::X509Certificate, pem::Pem, prelude::FromDer};

use crate::domain::Timestamp;

use super::Authority;

/// 2026-03-04T05:06:07Z
const NOW: Timestamp = Timestamp::from_millis(1_772_600_767_000);

fn authority() -> Authority {
    Authority::generate("okmsd test CA", NOW, 3650).unwrap()
}

/// The DER inside a PEM text with exactly one block.
fn der(pem: &str) -> Vec<u8> {
    let blocks: Vec<_> = Pem::iter_from_buffer(pem.as_bytes()).map(Result::unwrap).collect();
    assert_eq!(blocks.len(), 1, "{pem}");
    blocks.into_iter().next().unwrap().contents
}

fn parse(der: &[u8]) -> X509Certificate<'_> {
    let (rest, certificate) = X509Certificate::from_der(der).unwrap();
    assert!(rest.is_empty());
    certificate
}

/// The extensions by dotted identifier, and whether they are critical.
fn extensions(certificate: &X509Certificate<'_>) -> Vec<(String, bool)> {
    let mut found: Vec<_> = certificate
        .extensions()
        .iter()
        .map(|extension| (extension.oid.to_id_string(), extension.critical))
        .collect();
    found.sort();
    found
}

fn seconds(time: Timestamp) -> i64 {
    time.as_millis() / 1_000
}
