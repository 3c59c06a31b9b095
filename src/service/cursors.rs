//! Cursors of lists: made for one caller, one list and one domain, and good for nothing else.
//!
//! What a cursor holds was shown to its caller. It is authenticated so that nobody probes with made-up
//! ones, or uses another caller's; all replicas take each other's cursors, since they share the keys.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{Caller, Keyring};
use crate::{
    crypto::{CursorPlace, SealedCursor},
    domain::{Error, SecretPath},
};

/// What is listed.
#[derive(Debug, Clone, Copy)]
pub(super) enum List<'a> {
    /// The secrets of the caller's domain.
    Secrets,
    /// The versions of a secret.
    Versions(&'a SecretPath),
    /// What stands in a folder, whose path ends in a slash; the empty path is that of the root.
    Folder(&'a str),
}

impl Keyring {
    /// The cursor that leads a caller on from the item with the key `last`.
    pub(super) async fn seal_cursor(
        &self,
        caller: &Caller,
        list: List<'_>,
        last: &str,
    ) -> Result<String, Error> {
        let sealer = self.newest(caller.okms_id(), caller.revisions().keys).await?;
        let (caller, list) = (caller_name(caller), list.name());
        let place = CursorPlace { caller: &caller, list: &list };
        Ok(URL_SAFE_NO_PAD.encode(sealer.key().seal_cursor(place, last).as_bytes()))
    }

    /// The key of the last item that a caller has seen.
    ///
    /// Where the key that made the cursor was destroyed since, the list has to begin anew, as after any
    /// other cursor that does not count here.
    pub(super) async fn open_cursor(
        &self,
        caller: &Caller,
        list: List<'_>,
        cursor: &str,
    ) -> Result<String, Error> {
        // Padded or not: clients treat the cursor as base64url, and some pad.
        let bytes = URL_SAFE_NO_PAD.decode(cursor.trim_end_matches('=')).map_err(|_| refused())?;
        let cursor = SealedCursor::from_client(bytes);
        let generation = cursor.generation().map_err(|_| refused())?;
        let mut keys = self.keys(caller.okms_id(), caller.revisions().keys).await?;
        if keys.generation(generation).is_none() {
            // Another replica may have made it since this request began.
            keys = self.reload(caller.okms_id()).await?;
        }
        let key = keys.generation(generation).ok_or_else(refused)?;
        let (caller, list) = (caller_name(caller), list.name());
        let place = CursorPlace { caller: &caller, list: &list };
        key.open_cursor(place, &cursor).map(str::to_owned).map_err(|_| refused())
    }
}

impl List<'_> {
    fn name(self) -> Vec<u8> {
        match self {
            Self::Secrets => b"secrets".to_vec(),
            // No other list's name begins like this, and the path is the rest.
            Self::Versions(path) => [b"versions\0", path.as_str().as_bytes()].concat(),
            Self::Folder(path) => [b"folder\0", path.as_bytes()].concat(),
        }
    }
}

/// The credential; where there is none, a token that was made by hand; else the certificate itself. So the
/// tokens that a certificate gets for itself, as many as it likes, are the one caller that it is.
pub(super) fn caller_name(caller: &Caller) -> Vec<u8> {
    let principal = caller.principal();
    let is_bound = caller.token().is_some_and(|token| token.binding.is_some());
    match (principal.credential_id, principal.token_id.filter(|_| !is_bound)) {
        (Some(id), _) => [b"credential\0", &id.as_bytes()[..]].concat(),
        (None, Some(id)) => [b"token\0", &id.as_bytes()[..]].concat(),
        (None, None) => {
            let fingerprint = principal.fingerprint.unwrap_or_default();
            [b"certificate\0", &fingerprint[..]].concat()
        }
    }
}

fn refused() -> Error {
    Error::malformed(
        "the cursor is none of this list for this caller, or too old: begin the list anew, without it",
    )
}
