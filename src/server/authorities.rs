//! The authorities whose certificates count, as the files give them.

use rustls::pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::{Error, TlsMaterial, material::certificates};
use crate::domain::OkmsId;

/// All authorities.
pub(super) struct Authorities {
    /// Our own first, then one group for each file of others.
    pub(super) groups: Vec<AuthorityGroup>,
}

/// Authorities that vouch for the same thing.
pub(super) struct AuthorityGroup {
    /// What an operator calls it.
    pub(super) name: String,
    /// The domain that others may vouch for; `None` is our own authority, whose certificates name
    /// theirs.
    pub(super) domain: Option<OkmsId>,
    /// Trusted as they are.
    pub(super) anchors: Vec<CertificateDer<'static>>,
    /// Not trusted; they help to build chains.
    pub(super) intermediates: Vec<CertificateDer<'static>>,
}

impl Authorities {
    /// Reads the authorities.
    ///
    /// # Errors
    ///
    /// If there is none of our own, a text can't be read, a certificate is not an authority's, a file of
    /// others holds none that is signed by itself, or two files give one authority, as a root or as an
    /// intermediate, to two domains.
    pub(super) fn read(material: &TlsMaterial) -> Result<Self, Error> {
        let mut groups = vec![own(&material.client_ca_pems)?];
        for authority in &material.external_authorities {
            let what = format!("client authority {}", authority.name);
            let mut group = AuthorityGroup {
                name: authority.name.clone(),
                domain: Some(authority.okms_id),
                anchors: Vec::new(),
                intermediates: Vec::new(),
            };
            for certificate in certificates(&authority.pem, &what)? {
                if is_self_signed(&certificate, &what)? {
                    group.anchors.push(certificate);
                } else {
                    group.intermediates.push(certificate);
                }
            }
            if group.anchors.is_empty() {
                return Err(Error::new(format!(
                    "{what}: no root: none of its certificates is signed by itself"
                )));
            }
            groups.push(group);
        }
        let authorities = Self { groups };
        authorities.check_bindings()?;
        Ok(authorities)
    }

    /// Every certificate with the domain of its group.
    pub(super) fn all(&self) -> impl Iterator<Item = (Option<OkmsId>, &CertificateDer<'static>)> {
        self.groups.iter().flat_map(|group| {
            let certificates = group.anchors.iter().chain(&group.intermediates);
            certificates.map(|certificate| (group.domain, certificate))
        })
    }

    /// Of one key with two domains, nobody could say which one it vouches for. That goes for
    /// intermediates too: with a certificate over the key of another domain's root, a file would lead
    /// the clients of that domain to its own root, and so lock them out.
    fn check_bindings(&self) -> Result<(), Error> {
        let mut bound: Vec<(Vec<u8>, &AuthorityGroup)> = Vec::new();
        for group in &self.groups {
            for certificate in group.anchors.iter().chain(&group.intermediates) {
                let key = public_key(certificate)?;
                let mut others = bound.iter().filter(|(_, other)| other.domain != group.domain);
                if let Some((_, other)) = others.find(|(other, _)| *other == key) {
                    return Err(Error::new(format!(
                        "client authority {}: the key of an authority in {}, for another domain",
                        group.name, other.name
                    )));
                }
                bound.push((key, group));
            }
        }
        Ok(())
    }
}

fn own(pems: &[String]) -> Result<AuthorityGroup, Error> {
    let mut anchors = Vec::new();
    for (number, text) in (1..).zip(pems) {
        let what = format!("client authority {number}");
        for certificate in certificates(text, &what)? {
            // rustls takes any certificate as a root; with an access certificate among them its
            // holder would be an authority.
            check_is_authority(&certificate, &what)?;
            anchors.push(certificate);
        }
    }
    if anchors.is_empty() {
        return Err(Error::new("client certificates can't be verified: there is no authority"));
    }
    Ok(AuthorityGroup { name: "own".to_owned(), domain: None, anchors, intermediates: Vec::new() })
}

fn check_is_authority(certificate: &CertificateDer<'_>, what: &str) -> Result<(), Error> {
    match X509Certificate::from_der(certificate) {
        Ok(([], parsed)) if parsed.is_ca() => Ok(()),
        _ => Err(Error::new(format!("{what}: not the certificate of a CA"))),
    }
}

fn is_self_signed(certificate: &CertificateDer<'_>, what: &str) -> Result<bool, Error> {
    check_is_authority(certificate, what)?;
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return Ok(false) };
    Ok(parsed.subject().as_raw() == parsed.issuer().as_raw()
        && parsed.verify_signature(None).is_ok())
}

/// The public key of a certificate, in DER.
pub(super) fn public_key(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, Error> {
    match X509Certificate::from_der(certificate) {
        Ok((_, parsed)) => Ok(parsed.public_key().raw.to_vec()),
        Err(_) => Err(Error::new("not an X.509 certificate")),
    }
}
