//! Access certificates, in the form that the okms CLI reads.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    SerialNumber,
};
use zeroize::Zeroizing;

use crate::domain::{CredentialId, OkmsId, Timestamp};

use super::{Authority, Error, csr, key::Key, validity::Validity};

/// What an access certificate is to say.
#[derive(Debug, Clone)]
pub struct AccessCertificate {
    /// The credential; becomes the serial number.
    pub credential_id: CredentialId,
    /// The only domain in which it counts; becomes the subject and the alternative name.
    pub okms_id: OkmsId,
    /// First second of its validity.
    pub not_before: Timestamp,
    /// Last second of its validity.
    pub not_after: Timestamp,
    /// Where its key comes from.
    pub key: AccessKey,
}

/// Where the key of an access certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessKey {
    /// Make an ECDSA key on P-256. The default of the API.
    Ecdsa,
    /// Make an RSA key of 3072 bits. Slow: not for a thread that serves requests.
    Rsa,
    /// Take the public key of this certificate signing request (PEM), and nothing else of it.
    Csr(String),
}

/// An access certificate that was made.
pub struct IssuedAccess {
    /// The certificate, without its authority's.
    pub certificate_pem: String,
    /// The key, PKCS#8, if it was made here. It exists nowhere else.
    pub private_key_pem: Option<Zeroizing<String>>,
    /// SHA-256 of the certificate in DER.
    pub fingerprint: [u8; 32],
}

impl Authority {
    /// Makes an access certificate.
    ///
    /// # Errors
    ///
    /// If the signing request is refused, the validity is impossible or outlives the authority, or
    /// the credential id is the nil UUID, which is no serial number.
    pub fn issue_access(&self, certificate: AccessCertificate) -> Result<IssuedAccess, Error> {
        let validity = Validity::new(certificate.not_before, certificate.not_after)?;
        let params = params(&certificate, validity)?;
        let (certificate, private_key_pem) = match &certificate.key {
            AccessKey::Ecdsa => self.sign_with_new_key(&params, Key::generate_ecdsa()?)?,
            AccessKey::Rsa => self.sign_with_new_key(&params, Key::generate_rsa()?)?,
            AccessKey::Csr(pem) => (self.sign(&params, &csr::public_key(pem)?)?, None),
        };
        let fingerprint = fingerprint(certificate.der());
        Ok(IssuedAccess { certificate_pem: certificate.pem(), private_key_pem, fingerprint })
    }

    fn sign_with_new_key(
        &self,
        params: &CertificateParams,
        key: Key,
    ) -> Result<(rcgen::Certificate, Option<Zeroizing<String>>), Error> {
        Ok((self.sign(params, key.pair())?, Some(key.to_pem())))
    }
}

impl fmt::Debug for IssuedAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedAccess")
            .field("certificate_pem", &self.certificate_pem)
            .finish_non_exhaustive()
    }
}

/// SHA-256 of a certificate in DER.
pub(super) fn fingerprint(der: &[u8]) -> [u8; 32] {
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest(&SHA256, der).as_ref());
    fingerprint
}

fn params(access: &AccessCertificate, validity: Validity) -> Result<CertificateParams, Error> {
    let serial = access.credential_id.as_bytes();
    if serial.iter().all(|byte| *byte == 0) {
        return Err(Error::new("the nil UUID can't be a credential: serial numbers are positive"));
    }
    let okms_id = access.okms_id.to_string();

    let mut params = CertificateParams::default();
    params.not_before = validity.not_before;
    params.not_after = validity.not_after;
    // An unsigned number: the writer adds the zero byte that keeps a high first bit from being a
    // sign, and drops leading zero bytes, as DER wants it.
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, okms_id.as_str());
    // No basic constraints and no key usage: the form has neither.
    params.is_ca = IsCa::NoCa;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.custom_extensions = vec![alternative_name(&okms_id)];
    Ok(params)
}

/// The critical subject alternative name with a single otherName of type UPN. Written by hand
/// because rcgen marks alternative names critical only if the subject is empty.
fn alternative_name(okms_id: &str) -> CustomExtension {
    let text = element(UTF8_STRING, format!("okms.domain:{okms_id}").as_bytes());
    let mut other_name = UPN_OID.to_vec();
    other_name.extend(element(CONTEXT_0, &text));
    let content = element(SEQUENCE, &element(CONTEXT_0, &other_name));
    let mut extension = CustomExtension::from_oid_content(SUBJECT_ALT_NAME, content);
    extension.set_criticality(true);
    extension
}

/// One DER element.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    // The longest content here, around a 48-character text, has 66 bytes; up to 127 the length is
    // one byte.
    debug_assert!(content.len() < 0x80, "long form not written here");
    let mut der = vec![tag, content.len() as u8];
    der.extend_from_slice(content);
    der
}

/// 2.5.29.17
const SUBJECT_ALT_NAME: &[u64] = &[2, 5, 29, 17];

/// The object identifier 1.3.6.1.4.1.311.20.2.3, user principal name, in DER.
const UPN_OID: &[u8] = &[0x06, 0x0a, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x14, 0x02, 0x03];

const SEQUENCE: u8 = 0x30;
const UTF8_STRING: u8 = 0x0c;
/// `[0]`, constructed.
const CONTEXT_0: u8 = 0xa0;
