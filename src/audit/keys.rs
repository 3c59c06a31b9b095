//! The signing keys, and their destruction.
//!
//! Two keys evolve: one with each checkpoint, one with each file. The next key of each is made ahead and
//! kept beside the present one, because its public half stands in the line that the present one signs:
//! a process that is killed between writing that line and putting its keys forward finds both.

use std::{io, path::Path};

use aws_lc_rs::{
    rand,
    signature::{Ed25519KeyPair, KeyPair},
};
use zeroize::Zeroizing;

use super::{
    folder,
    line::{hex, unhex},
};

/// The private half of a signing key.
pub(super) struct Seed {
    bytes: Zeroizing<[u8; 32]>,
    pair: Ed25519KeyPair,
}

impl Seed {
    fn generate() -> io::Result<Self> {
        let mut bytes = Zeroizing::new([0; 32]);
        rand::fill(bytes.as_mut()).map_err(|_| io::Error::other("no randomness"))?;
        Self::new(bytes).ok_or_else(|| io::Error::other("a signing key is refused"))
    }

    fn new(bytes: Zeroizing<[u8; 32]>) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(bytes.as_ref()).ok()?;
        Some(Self { bytes, pair })
    }

    fn parse(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(unhex(text)?);
        Self::new(Zeroizing::new(bytes.as_slice().try_into().ok()?))
    }

    /// The public half, hex.
    pub(super) fn public(&self) -> String {
        hex(self.pair.public_key().as_ref())
    }

    /// Signs, in hex.
    pub(super) fn sign(&self, message: &[u8]) -> String {
        hex(self.pair.sign(message).as_ref())
    }
}

/// A key and the one that follows on it.
pub(super) struct Evolving {
    pub(super) current: Seed,
    pub(super) next: Seed,
}

impl Evolving {
    fn generate() -> io::Result<Self> {
        Ok(Self { current: Seed::generate()?, next: Seed::generate()? })
    }

    fn advance(&mut self) -> io::Result<()> {
        let after = Seed::generate()?;
        self.current = std::mem::replace(&mut self.next, after);
        Ok(())
    }
}

/// The signing keys of a chain.
pub(super) struct Keys {
    /// Of checkpoints, and of `head`.
    pub(super) line: Evolving,
    /// Of the first lines of files.
    pub(super) file: Evolving,
    /// Whether the disk has them.
    saved: bool,
}

impl Keys {
    pub(super) fn generate() -> io::Result<Self> {
        Ok(Self { line: Evolving::generate()?, file: Evolving::generate()?, saved: false })
    }

    /// Reads the keys of the chain `folder`.
    ///
    /// # Errors
    ///
    /// Where there are none, or what is there is not such keys.
    pub(super) fn load(folder: &Path) -> io::Result<Self> {
        let text = Zeroizing::new(folder::read_text(&folder.join(FILE), MAX_BYTES)?);
        let mut seeds = text.lines().map(Seed::parse);
        let mut next = || seeds.next().flatten().ok_or(io::ErrorKind::InvalidData);
        Ok(Self {
            line: Evolving { current: next()?, next: next()? },
            file: Evolving { current: next()?, next: next()? },
            saved: true,
        })
    }

    /// Puts the checkpoint's key forward: the present one is gone.
    pub(super) fn advance_line(&mut self) -> io::Result<()> {
        self.saved = false;
        self.line.advance()
    }

    /// Puts the file's key forward: the present one is gone.
    pub(super) fn advance_file(&mut self) -> io::Result<()> {
        self.saved = false;
        self.file.advance()
    }

    /// Puts these keys in the place of those on the disk, which are overwritten. Until that is done, none
    /// may sign again: a crash would lose the key that is named as the next one.
    pub(super) fn save(&mut self, folder: &Path) -> io::Result<()> {
        if self.saved {
            return Ok(());
        }
        replace(folder, &self.text())?;
        self.saved = true;
        Ok(())
    }

    /// Takes note that the disk has them.
    pub(super) fn are_saved(&mut self) {
        self.saved = true;
    }

    /// What the disk is to have.
    pub(super) fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(MAX_BYTES));
        for seed in [&self.line.current, &self.line.next, &self.file.current, &self.file.next] {
            text.push_str(&Zeroizing::new(hex(seed.bytes.as_ref())));
            text.push('\n');
        }
        text
    }
}

/// Puts the text of keys in the place of that on the disk, which is overwritten.
pub(super) fn replace(folder: &Path, text: &str) -> io::Result<()> {
    folder::replace_and_wipe(&folder.join(FILE), text.as_bytes())
}

/// The name of the file of keys. An auditor's copy of a chain does without it.
pub(super) const FILE: &str = "signing_keys";

/// Four keys of 64 digits, a line each.
const MAX_BYTES: usize = 4 * 65;
