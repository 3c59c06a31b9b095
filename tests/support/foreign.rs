//! Authorities of others: their certificates, clients and lists, made by other means than ours.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber,
};
use time::OffsetDateTime;

/// A certificate, with what its client sends after it, and its key; PEM.
pub type Identity = (String, String);

/// An authority.
pub struct Ca {
    pub pem: String,
    key: String,
}

impl Ca {
    /// One that signed itself.
    pub fn root(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let certificate = ca_params(name).self_signed(&key).expect("a certificate");
        Self { pem: certificate.pem(), key: key.serialize_pem() }
    }

    /// One below this one.
    pub fn intermediate(&self, name: &str) -> Self {
        self.intermediate_with(name, |_| {})
    }

    pub fn intermediate_with(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let mut params = ca_params(name);
        params.serial_number = Some(SerialNumber::from(7_u64));
        change(&mut params);
        let (pem, key) = self.sign(&params);
        Self { pem, key }
    }

    /// A client certificate that names an identity.
    pub fn client(&self, urn: &str) -> Identity {
        self.client_with(|params| params.subject_alt_names.push(uri(urn)))
    }

    /// A client certificate with the serial number 42.
    pub fn client_with(&self, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "Alice Smith");
        params.serial_number = Some(SerialNumber::from(42_u64));
        params.is_ca = IsCa::ExplicitNoCa;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        self.sign(&params)
    }

    /// Whatever it is.
    pub fn sign(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.issuer()).expect("a certificate");
        (signed.pem(), key.serialize_pem())
    }

    /// A list of revoked serial numbers.
    pub fn list(&self, revoked: &[u64], begins: OffsetDateTime, ends: OffsetDateTime) -> Vec<u8> {
        self.list_with(revoked, begins, ends, |_| {})
    }

    pub fn list_with(
        &self,
        revoked: &[u64],
        begins: OffsetDateTime,
        ends: OffsetDateTime,
        change: impl FnOnce(&mut CertificateRevocationListParams),
    ) -> Vec<u8> {
        let revoked_certs = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: begins,
            reason_code: None,
            invalidity_date: None,
        });
        let mut params = CertificateRevocationListParams {
            this_update: begins,
            next_update: ends,
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        change(&mut params);
        let list = params.signed_by(&self.issuer()).expect("a list");
        list.pem().expect("PEM").into_bytes()
    }

    /// As a folder of an operator would hold it.
    pub fn key_pem(&self) -> &str {
        &self.key
    }

    /// Of a certificate and a key that lie somewhere.
    pub fn of(pem: &str, key: &str) -> Self {
        Self { pem: pem.to_owned(), key: key.to_owned() }
    }

    fn issuer(&self) -> Issuer<'static, KeyPair> {
        let key = KeyPair::from_pem(&self.key).expect("a key");
        Issuer::from_ca_cert_pem(&self.pem, key).expect("a CA")
    }
}

pub fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("ASCII"))
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}
