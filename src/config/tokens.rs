//! Whether tokens are taken.

use super::{Error, source::Source};

/// Whether tokens are taken.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// Whether requests may identify themselves by a token, and get one.
    pub enabled: bool,
}

impl Tokens {
    pub(super) fn settings(&mut self, source: &mut impl Source) -> Result<(), Error> {
        source.setting("tokens.enabled", "OKMSD_TOKENS_ENABLED", &mut self.enabled)?;
        Ok(())
    }
}

impl Default for Tokens {
    fn default() -> Self {
        Self { enabled: true }
    }
}
