//! Key, certificate and CA in one file that a browser imports.

use aws_lc_rs::digest::{SHA256, digest};
use p12_keystore::{
    Certificate, EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm, PrivateKey,
    PrivateKeyChain,
};
use rustls::pki_types::PrivateKeyDer;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};
use zeroize::Zeroizing;

use super::{Error, key::Key, pem};

/// Makes a PKCS#12 file of a certificate, its private key (PKCS#8) and its authority, all PEM.
///
/// Encrypted with AES-256 under a key from PBKDF2 with HMAC-SHA-256, authenticated with
/// HMAC-SHA-256: what OpenSSL 3, NSS, Java, macOS and Windows read today. Deriving the keys is slow
/// on purpose: not for a thread that serves requests.
///
/// # Errors
///
/// If an input can't be read, key and certificate do not belong together, or the password is empty
/// or has characters outside the Basic Multilingual Plane (readers disagree about both).
pub fn pkcs12(
    certificate_pem: &str,
    private_key_pem: &str,
    ca_pem: &str,
    friendly_name: &str,
    password: &str,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    if password.is_empty() {
        return Err(Error::new("PKCS#12: the password must not be empty"));
    }
    if let Some((what, _)) = [("password", password), ("name", friendly_name)]
        .iter()
        .find(|(_, text)| text.chars().any(|character| character > '\u{ffff}'))
    {
        return Err(Error::new(format!("PKCS#12: the {what} has characters that it can't hold")));
    }
    let certificate = pem::single_certificate(certificate_pem, "certificate")?;
    let authority = pem::single_certificate(ca_pem, "authority certificate")?;
    let key_der = pem::single_private_key(private_key_pem, "private key")?;
    let key = Key::read(&key_der, "private key")?;
    let (_, parsed) = X509Certificate::from_der(&certificate)
        .map_err(|_| Error::new("certificate: not an X.509 certificate"))?;
    if !key.belongs_to(&parsed.public_key().subject_public_key.data) {
        return Err(Error::new("the private key is not the key of the certificate"));
    }
    let PrivateKeyDer::Pkcs8(pkcs8) = &key_der.0 else {
        return Err(Error::new("private key: not in PKCS#8 form"));
    };

    let failed = |error: p12_keystore::error::Error| Error::new(format!("PKCS#12: {error}"));
    let chain = PrivateKeyChain::new(
        // Any bytes that tie key and certificate together.
        &digest(&SHA256, &certificate).as_ref()[..LOCAL_KEY_ID_LEN],
        PrivateKey::from_der(pkcs8.secret_pkcs8_der()).map_err(failed)?,
        [
            Certificate::from_der(&certificate).map_err(failed)?,
            Certificate::from_der(&authority).map_err(failed)?,
        ],
    );
    let mut store = KeyStore::new();
    store.add_entry(friendly_name, KeyStoreEntry::PrivateKeyChain(chain));
    store
        .writer(password)
        .encryption_algorithm(EncryptionAlgorithm::PbeWithHmacSha256AndAes256)
        .encryption_iterations(ITERATIONS)
        .mac_algorithm(MacAlgorithm::HmacSha256)
        .mac_iterations(ITERATIONS)
        .write()
        .map(Zeroizing::new)
        .map_err(failed)
}

/// As long as the SHA-1 value that other tools put there.
const LOCAL_KEY_ID_LEN: usize = 20;

/// Rounds of each key derivation, of which there are three. Together about a quarter of a second;
/// the password is the only protection once the file is out.
const ITERATIONS: u32 = 100_000;
