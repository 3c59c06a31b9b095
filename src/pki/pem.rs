//! PEM text that leaves no copies.

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use zeroize::{Zeroize, Zeroizing};

use super::Error;

/// A private key as PEM. The ready-made encoders copy the key into buffers that nobody wipes.
pub(super) fn private_key(pkcs8: &[u8]) -> Zeroizing<String> {
    let mut encoded = Zeroizing::new(STANDARD.encode(pkcs8));
    // All the room at once: a string that grows leaves its old self behind in memory.
    let lines = encoded.len() / LINE_LEN + 1;
    let mut text =
        Zeroizing::new(String::with_capacity(encoded.len() + lines + BEGIN.len() + END.len()));
    text.push_str(BEGIN);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        // Base64 is ASCII, so every index is a character boundary.
        let (line, after) = rest.split_at(rest.len().min(LINE_LEN));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(END);
    encoded.zeroize();
    text
}

/// A certificate as PEM.
pub(super) fn certificate(der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        // Base64 is ASCII, so every index is a character boundary.
        let (line, after) = rest.split_at(rest.len().min(LINE_LEN));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

/// The one certificate in `text`.
///
/// # Errors
///
/// If there is none, or more than one: which one is meant must not be a guess.
pub(super) fn single_certificate(text: &str, what: &str) -> Result<CertificateDer<'static>, Error> {
    let mut found = CertificateDer::pem_slice_iter(text.as_bytes());
    let certificate = found
        .next()
        .ok_or_else(|| Error::new(format!("{what}: no PEM certificate found")))?
        .map_err(|error| Error::new(format!("{what}: not valid PEM: {error}")))?;
    match found.next() {
        None => Ok(certificate),
        Some(_) => Err(Error::new(format!("{what}: more than one PEM block, expected one"))),
    }
}

/// The one private key in `text`, wiped when dropped.
///
/// # Errors
///
/// If there is no private key in a form that we read.
pub(super) fn single_private_key(text: &str, what: &str) -> Result<WipedDer, Error> {
    PrivateKeyDer::from_pem_slice(text.as_bytes()).map(WipedDer).map_err(|_| {
        Error::new(format!(
            "{what}: no unencrypted PEM private key found (PKCS#8, SEC 1 or PKCS#1)"
        ))
    })
}

/// A private key in DER that is wiped when dropped.
pub(super) struct WipedDer(pub(super) PrivateKeyDer<'static>);

impl Drop for WipedDer {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----\n";
const END: &str = "-----END PRIVATE KEY-----\n";

/// Characters per line of PEM (RFC 7468, section 2).
const LINE_LEN: usize = 64;
