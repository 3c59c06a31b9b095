//! A certificate authority: made, loaded, checked, and its server certificates.

use std::{fmt, net::IpAddr};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls::pki_types::{CertificateDer, DnsName};
use time::OffsetDateTime;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};
use zeroize::Zeroizing;

use crate::domain::Timestamp;

use super::{Error, key::Key, pem, validity::Validity};

/// A certificate authority: its certificate and its private key.
pub struct Authority {
    certificate_pem: String,
    certificate_der: CertificateDer<'static>,
    private_key_pem: Zeroizing<String>,
    key: Key,
    not_after: OffsetDateTime,
}

impl Authority {
    /// Makes a self-signed authority with an ECDSA key on P-256.
    ///
    /// # Errors
    ///
    /// If the name does not fit a certificate or the validity is impossible.
    pub fn generate(common_name: &str, now: Timestamp, validity_days: u32) -> Result<Self, Error> {
        let length = common_name.chars().count();
        if length == 0 || length > MAX_COMMON_NAME_LEN {
            return Err(Error::new(format!(
                "the name of an authority has 1 to {MAX_COMMON_NAME_LEN} characters, not {length}"
            )));
        }
        let validity = Validity::days(now, validity_days)?;
        let mut params = CertificateParams::default();
        params.not_before = validity.not_before;
        params.not_after = validity.not_after;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        // Path length 0: what it issues can't issue.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];

        let key = Key::generate_ecdsa()?;
        let certificate = params
            .self_signed(key.pair())
            .map_err(|error| Error::new(format!("the authority could not be made: {error}")))?;
        Ok(Self {
            certificate_pem: certificate.pem(),
            certificate_der: certificate.into(),
            private_key_pem: key.to_pem(),
            key,
            not_after: validity.not_after,
        })
    }

    /// Loads an authority from its certificate and its private key, both PEM.
    ///
    /// # Errors
    ///
    /// If one of them can't be read, they do not belong together, the certificate is not one of an
    /// authority that may sign certificates, or what it signs would not lead back to it.
    pub fn load(certificate_pem: &str, private_key_pem: &str) -> Result<Self, Error> {
        let certificate_der = pem::single_certificate(certificate_pem, "authority certificate")?;
        let key_der = pem::single_private_key(private_key_pem, "authority key")?;
        let key = Key::read(&key_der, "authority key")?;
        let certificate = parse(&certificate_der)?;
        check_authority(&certificate)?;
        if !key.belongs_to(&certificate.public_key().subject_public_key.data) {
            return Err(Error::new("the authority's key is not the key of its certificate"));
        }
        let not_after = certificate.validity().not_after.to_datetime();
        let authority = Self {
            certificate_pem: certificate_pem.to_owned(),
            certificate_der: certificate_der.clone(),
            private_key_pem: Zeroizing::new(private_key_pem.to_owned()),
            key,
            not_after,
        };
        authority.check_reproduces(&certificate)?;
        Ok(authority)
    }

    /// The certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The private key, PEM.
    pub fn private_key_pem(&self) -> &Zeroizing<String> {
        &self.private_key_pem
    }

    /// Makes a certificate for a TLS server, with an ECDSA key on P-256.
    ///
    /// `names` are DNS names, of which the leftmost label may be `*`, and IP addresses.
    ///
    /// # Errors
    ///
    /// If there is no name or one is neither DNS name nor IP address, or the validity is
    /// impossible, longer than browsers accept (398 days), or outlives the authority.
    pub fn issue_server(
        &self,
        names: &[String],
        now: Timestamp,
        validity_days: u32,
    ) -> Result<Issued, Error> {
        if validity_days > MAX_SERVER_DAYS {
            return Err(Error::new(format!(
                "a server certificate of {validity_days} days would be refused by browsers; at \
                 most {MAX_SERVER_DAYS}"
            )));
        }
        let first = names
            .first()
            .ok_or_else(|| Error::new("a server certificate needs at least one name"))?;
        let validity = Validity::days(now, validity_days)?;
        let mut params = CertificateParams::default();
        params.not_before = validity.not_before;
        params.not_after = validity.not_after;
        params.subject_alt_names =
            names.iter().map(|name| alternative_name(name)).collect::<Result<_, _>>()?;
        // Clients only look at the alternative names; the subject is for people.
        let subject = if first.len() <= MAX_COMMON_NAME_LEN { first } else { "okmsd" };
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, subject);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;

        let key = Key::generate_ecdsa()?;
        let certificate = self.sign(&params, key.pair())?;
        Ok(Issued { certificate_pem: certificate.pem(), private_key_pem: key.to_pem() })
    }

    /// Signs a certificate.
    pub(super) fn sign(
        &self,
        params: &CertificateParams,
        public_key: &impl PublicKeyData,
    ) -> Result<rcgen::Certificate, Error> {
        // What outlives its authority fails at some clients and passes at others.
        if params.not_after > self.not_after {
            return Err(Error::new(format!(
                "the certificate would end at {}, after its authority at {}; renew the authority \
                 or ask for less",
                params.not_after, self.not_after
            )));
        }
        Issuer::from_ca_cert_der(&self.certificate_der, self.key.pair())
            .and_then(|issuer| params.signed_by(public_key, &issuer))
            .map_err(|error| Error::new(format!("the certificate could not be signed: {error}")))
    }

    /// Proves that what this authority signs leads back to its certificate.
    ///
    /// rcgen takes the authority's name apart and writes it anew; a name that it can't write in
    /// the same bytes (two units, a rare text form) would make chains that no client can follow.
    fn check_reproduces(&self, certificate: &X509Certificate<'_>) -> Result<(), Error> {
        let mut params = CertificateParams::default();
        params.not_after = self.not_after;
        params.not_before = OffsetDateTime::UNIX_EPOCH;
        let probe = self.sign(&params, Key::generate_ecdsa()?.pair())?;
        let probe = parse(probe.der())?;
        if probe.issuer().as_raw() != certificate.subject().as_raw() {
            return Err(Error::new("the authority's name has a form that can't be used here"));
        }
        probe.verify_signature(Some(certificate.public_key())).map_err(|_| {
            Error::new(
                "the authority's key is of an unsupported kind; accepted are ECDSA on P-256 or \
                 P-384, RSA and Ed25519",
            )
        })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("certificate_pem", &self.certificate_pem)
            .finish_non_exhaustive()
    }
}

/// A certificate that was made, with its key.
pub struct Issued {
    /// The certificate, without its authority's.
    pub certificate_pem: String,
    /// The key, PKCS#8.
    pub private_key_pem: Zeroizing<String>,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("certificate_pem", &self.certificate_pem)
            .finish_non_exhaustive()
    }
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Error> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(Error::new("not an X.509 certificate")),
    }
}

fn check_authority(certificate: &X509Certificate<'_>) -> Result<(), Error> {
    let basic = certificate
        .basic_constraints()
        .map_err(|_| Error::new("the authority's certificate has bad basic constraints"))?;
    if !basic.is_some_and(|extension| extension.value.ca) {
        return Err(Error::new("the certificate is not that of an authority (CA is not TRUE)"));
    }
    let usage = certificate
        .key_usage()
        .map_err(|_| Error::new("the authority's certificate has a bad key usage"))?;
    if usage.is_some_and(|extension| !extension.value.key_cert_sign()) {
        return Err(Error::new("the authority's key usage does not include signing certificates"));
    }
    Ok(())
}

fn alternative_name(name: &str) -> Result<SanType, Error> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let bad = || Error::new(format!("{name:?} is neither a DNS name nor an IP address"));
    // Clients compare without the final dot, so a certificate with it matches nothing.
    if name.ends_with('.') {
        return Err(bad());
    }
    DnsName::try_from(name.strip_prefix("*.").unwrap_or(name)).map_err(|_| bad())?;
    name.try_into().map(SanType::DnsName).map_err(|_| bad())
}

/// The upper bound of a common name (RFC 5280, appendix A.1).
const MAX_COMMON_NAME_LEN: usize = 64;

/// Days of validity that browsers accept for a server certificate.
const MAX_SERVER_DAYS: u32 = 398;
