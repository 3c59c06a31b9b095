//! From a certificate of our own authority to credential and domain.

use x509_parser::{
    asn1_rs::{TaggedExplicit, Utf8String},
    certificate::X509Certificate,
    error::X509Error,
    extensions::GeneralName,
    prelude::FromDer,
};

use super::{Error, trust::sha256};
use crate::domain::{Claim, CredentialId, OkmsId, PeerCertificate};

/// Reads the identity in an access certificate (DER).
///
/// It reads one form only, that of the certificates we issue: serial number = UUID of the
/// credential, subject common name = okmsId, one subject alternative name of type UPN with
/// `okms.domain:<okmsId>`, usage client authentication only. Its signature, chain and dates are the
/// business of the TLS handshake.
///
/// # Errors
///
/// If the certificate has any other form. The text names the rule, never what the certificate says.
pub fn peer_certificate(der: &[u8]) -> Result<PeerCertificate, Error> {
    let Ok(([], certificate)) = X509Certificate::from_der(der) else {
        return Err(Error::new("not an X.509 certificate"));
    };
    let credential_id = credential_id(certificate.raw_serial())?;
    check_usage(&certificate)?;
    let okms_id = common_name(&certificate)?;
    if alternative_name(&certificate)? != okms_id {
        return Err(Error::new("subject and subject alternative name are different domains"));
    }
    let claim = Claim::Issued(credential_id);
    Ok(PeerCertificate { okms_id, fingerprint: sha256(der), claim })
}

/// `serial` is the content of a DER integer: signed, big-endian, as short as can be.
fn credential_id(serial: &[u8]) -> Result<CredentialId, Error> {
    let magnitude = match serial {
        [] | [0] => return Err(Error::new("the serial number is not positive")),
        [first, ..] if first & 0x80 != 0 => {
            return Err(Error::new("the serial number is not positive"));
        }
        // Two spellings of one number would be two certificates with one credential.
        [0, second, ..] if second & 0x80 == 0 => {
            return Err(Error::new("the serial number is not in DER form"));
        }
        [0, magnitude @ ..] => magnitude,
        magnitude => magnitude,
    };
    let mut bytes = [0; 16];
    let start = bytes
        .len()
        .checked_sub(magnitude.len())
        .ok_or_else(|| Error::new("the serial number is longer than 16 bytes"))?;
    bytes[start..].copy_from_slice(magnitude);
    Ok(CredentialId::new(uuid::Uuid::from_bytes(bytes)))
}

fn check_usage(certificate: &X509Certificate<'_>) -> Result<(), Error> {
    // A chain without any extended key usage would pass rustls; a certificate that does not say it
    // is for clients was not made to be an access certificate.
    let usage = certificate
        .extended_key_usage()
        .map_err(|error| bad("extended key usage", &error))?
        .ok_or_else(|| Error::new("no extended key usage"))?
        .value;
    let others = usage.any
        || usage.server_auth
        || usage.code_signing
        || usage.email_protection
        || usage.time_stamping
        || usage.ocsp_signing
        || !usage.other.is_empty();
    if !usage.client_auth || others {
        return Err(Error::new("the extended key usage is not client authentication only"));
    }
    if certificate.is_ca() {
        return Err(Error::new("it is the certificate of an authority"));
    }
    Ok(())
}

fn common_name(certificate: &X509Certificate<'_>) -> Result<OkmsId, Error> {
    let mut names = certificate.subject().iter_common_name();
    match (names.next(), names.next()) {
        (Some(name), None) => name
            .as_str()
            .ok()
            .and_then(|name| name.parse().ok())
            .ok_or_else(|| Error::new("the subject's common name is not an okmsId")),
        _ => Err(Error::new("the subject does not have exactly one common name")),
    }
}

fn alternative_name(certificate: &X509Certificate<'_>) -> Result<OkmsId, Error> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| bad("subject alternative name", &error))?
        .ok_or_else(|| Error::new("no subject alternative name"))?
        .value;
    let [GeneralName::OtherName(oid, value)] = names.general_names.as_slice() else {
        return Err(Error::new("the subject alternative name is not exactly one otherName"));
    };
    if oid.as_bytes() != UPN_OID {
        return Err(Error::new("the otherName is not a user principal name"));
    }
    let text = match TaggedExplicit::<Utf8String<'_>, _, 0>::from_der(value) {
        Ok(([], text)) => text.into_inner(),
        _ => return Err(Error::new("the user principal name is not one UTF8String")),
    };
    text.as_ref()
        .strip_prefix("okms.domain:")
        .and_then(|id| id.parse().ok())
        .ok_or_else(|| Error::new("the user principal name is not okms.domain:<okmsId>"))
}

fn bad(extension: &str, error: &X509Error) -> Error {
    Error::new(match error {
        X509Error::DuplicateExtensions => format!("more than one {extension}"),
        _ => format!("bad {extension}"),
    })
}

/// 1.3.6.1.4.1.311.20.2.3, the content of the object identifier.
const UPN_OID: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x14, 0x02, 0x03];
