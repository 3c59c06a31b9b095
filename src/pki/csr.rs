//! Certificate signing requests: proof of possession and the public key, nothing else.

use rcgen::SubjectPublicKeyInfo;
use rustls::pki_types::{CertificateSigningRequestDer, pem::PemObject};
use x509_parser::{
    certification_request::X509CertificationRequest,
    prelude::FromDer,
    public_key::{PublicKey, RSAPublicKey},
};

use super::Error;

/// Takes the public key out of a request (PEM) whose sender proved to hold the private key.
///
/// Subject, names and extensions of the request are not even looked at: a requester who could
/// choose them could choose who he is.
///
/// # Errors
///
/// If the text is no request, its signature is wrong, or its key is too weak or of a kind that TLS
/// clients do not commonly use.
pub(super) fn public_key(pem: &str) -> Result<SubjectPublicKeyInfo, Error> {
    if pem.len() > MAX_PEM_LEN {
        return Err(Error::new("certificate signing request: too long"));
    }
    let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).map_err(|_| {
        Error::new("certificate signing request: not PEM with a CERTIFICATE REQUEST block")
    })?;
    let (rest, request) = X509CertificationRequest::from_der(&der)
        .map_err(|_| Error::new("certificate signing request: not a PKCS#10 structure"))?;
    if !rest.is_empty() {
        return Err(Error::new("certificate signing request: followed by other data"));
    }

    let key = &request.certification_request_info.subject_pki;
    // The key comes first: verifying with a key of absurd size would be expensive, and "wrong
    // signature" would be a misleading answer for one that is too small.
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => check_rsa(&rsa)?,
        Ok(PublicKey::EC(_)) => {}
        _ => return Err(unsupported()),
    }
    // rcgen reads the kind of key from the request's signature, which may name another hash; the
    // key's own algorithm identifier is the truth.
    let public_key = SubjectPublicKeyInfo::from_der(key.raw).map_err(|_| unsupported())?;
    request
        .verify_signature()
        .map_err(|_| Error::new("certificate signing request: its signature is not its key's"))?;
    Ok(public_key)
}

fn check_rsa(key: &RSAPublicKey<'_>) -> Result<(), Error> {
    let bits = bit_len(key.modulus);
    if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
        return Err(Error::new(format!(
            "certificate signing request: an RSA key of {bits} bits; accepted are \
             {MIN_RSA_BITS} to {MAX_RSA_BITS}"
        )));
    }
    match key.try_exponent() {
        Ok(exponent) if exponent >= MIN_RSA_EXPONENT && exponent % 2 == 1 => Ok(()),
        _ => Err(Error::new("certificate signing request: an RSA key with an unusual exponent")),
    }
}

fn bit_len(big_endian: &[u8]) -> usize {
    let Some(first) = big_endian.iter().position(|byte| *byte != 0) else { return 0 };
    let significant = &big_endian[first..];
    significant.len() * 8 - significant[0].leading_zeros() as usize
}

fn unsupported() -> Error {
    Error::new(
        "certificate signing request: a key of an unsupported kind; accepted are RSA (2048 to \
         4096 bits) and ECDSA on P-256 or P-384",
    )
}

/// Bytes of PEM. A request with a 4096-bit key and many names has about 4 KiB.
const MAX_PEM_LEN: usize = 32 * 1024;

/// NIST SP 800-131A; also the least that rustls verifies.
const MIN_RSA_BITS: usize = 2048;

/// Each handshake verifies a signature with this key; more bits only cost the server time.
const MAX_RSA_BITS: usize = 4096;

/// What every common tool uses. Smaller ones have a history of attacks.
const MIN_RSA_EXPONENT: u64 = 65_537;
