//! From the certificate of another authority to the identities in it.

use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use super::Error;
use crate::domain::{Credential, external_identity};

/// Reads the identities in a certificate (DER) whose chain leads to an authority of others.
///
/// They are its URIs that are URNs of users, groups or credentials. There may be none: then it counts
/// only if an operator registered it. Names are data, never patterns: whatever could be read in two ways
/// (a second common name, a NUL byte, `*`, what is not ASCII) refuses the certificate.
///
/// # Errors
///
/// If the certificate is not for clients, is an authority's, or has such names. The text names the rule,
/// never what the certificate says.
pub(super) fn identities(der: &[u8]) -> Result<Vec<String>, Error> {
    let Ok(([], certificate)) = X509Certificate::from_der(der) else {
        return Err(Error::new("not an X.509 certificate"));
    };
    check_usage(&certificate)?;
    check_common_name(&certificate)?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| Error::new("bad or more than one subject alternative name"))?;
    let mut identities = Vec::new();
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::DNSName(text) | GeneralName::RFC822Name(text) => check_name(text)?,
            GeneralName::URI(text) => {
                check_name(text)?;
                identities.extend(external_identity(text).map_err(Error::new)?.map(str::to_owned));
            }
            GeneralName::Invalid(..) => {
                return Err(Error::new("an alternative name is unreadable"));
            }
            // Addresses, directory names and otherNames, our own form among them, say nothing here.
            _ => {}
        }
    }
    if identities.len() > Credential::MAX_IDENTITIES {
        return Err(Error::new("more than 25 identities"));
    }
    Ok(identities)
}

fn check_usage(certificate: &X509Certificate<'_>) -> Result<(), Error> {
    let usage = certificate
        .extended_key_usage()
        .map_err(|_| Error::new("bad or more than one extended key usage"))?
        .ok_or_else(|| Error::new("no extended key usage"))?
        .value;
    if !usage.client_auth || usage.any {
        return Err(Error::new("the extended key usage does not name client authentication"));
    }
    if certificate.is_ca() {
        return Err(Error::new("it is the certificate of an authority"));
    }
    Ok(())
}

fn check_common_name(certificate: &X509Certificate<'_>) -> Result<(), Error> {
    let mut names = certificate.subject().iter_common_name();
    let (first, second) = (names.next(), names.next());
    if second.is_some() {
        return Err(Error::new("the subject has more than one common name"));
    }
    let Some(name) = first else { return Ok(()) };
    let text = name.as_str().map_err(|_| Error::new("the common name is not text"))?;
    // People's names have blanks.
    if text.bytes().all(|byte| (byte.is_ascii_graphic() && byte != b'*') || byte == b' ') {
        return Ok(());
    }
    Err(Error::new("the common name has characters that no name here has"))
}

fn check_name(text: &str) -> Result<(), Error> {
    if text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'*') {
        return Ok(());
    }
    Err(Error::new("an alternative name has characters that no name here has"))
}
