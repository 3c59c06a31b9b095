//! Private keys that are wiped.

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, PublicKeyData, RsaKeySize};
use zeroize::{Zeroize, Zeroizing};

use super::{
    Error,
    pem::{self, WipedDer},
};

/// A key pair whose encoded form is wiped when dropped; rcgen's own is not.
pub(super) struct Key(KeyPair);

impl Key {
    /// A new ECDSA key on P-256: what every TLS client and browser accepts.
    ///
    /// # Errors
    ///
    /// If the machine has no randomness to give.
    pub(super) fn generate_ecdsa() -> Result<Self, Error> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(Self).map_err(|error| failed(&error))
    }

    /// A new RSA key of 3072 bits, as strong as P-256 (NIST SP 800-57). Takes up to some seconds.
    ///
    /// # Errors
    ///
    /// If the machine has no randomness to give.
    pub(super) fn generate_rsa() -> Result<Self, Error> {
        KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072)
            .map(Self)
            .map_err(|error| failed(&error))
    }

    /// Reads a private key.
    ///
    /// # Errors
    ///
    /// If the key is of a kind that we do not use.
    pub(super) fn read(der: &WipedDer, what: &str) -> Result<Self, Error> {
        KeyPair::try_from(&der.0).map(Self).map_err(|_| {
            Error::new(format!("{what}: not a key of a supported kind (ECDSA, RSA, Ed25519)"))
        })
    }

    /// The key pair, to sign with.
    pub(super) fn pair(&self) -> &KeyPair {
        &self.0
    }

    /// The private key as PEM.
    pub(super) fn to_pem(&self) -> Zeroizing<String> {
        pem::private_key(self.0.serialized_der())
    }

    /// Whether `subject_public_key`, the bits in a certificate, is the other half of this key.
    pub(super) fn belongs_to(&self, subject_public_key: &[u8]) -> bool {
        self.0.der_bytes() == subject_public_key
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

fn failed(error: &rcgen::Error) -> Error {
    Error::new(format!("a new private key could not be made: {error}"))
}
