//! URNs: of identities, which act, and of resources, which are acted on.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{OkmsId, SecretPath};

/// The URN of an identity: `urn:v1:<region>:identity:<account|user|group|credential>:<name>`.
///
/// Two identities are the same where their URNs are, byte by byte: nothing is folded, decoded or taken
/// for a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdentityUrn {
    text: String,
    kind: IdentityKind,
}

/// What an identity is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IdentityKind {
    /// An account: root, whom no policy holds back.
    Account,
    /// A user of an account.
    User,
    /// A group of users and service accounts.
    Group,
    /// A service account.
    Credential,
}

impl IdentityUrn {
    /// The largest number of characters of an identity URN. Those of the service have fewer than 100.
    pub const MAX_LEN: usize = 256;

    /// Reads a URN; `None` where it has another form.
    ///
    /// It has letters, digits and `-._~/@+=:`, and no `*` or `%`: a name is never a pattern, and has one
    /// spelling.
    pub fn parse(text: &str) -> Option<Self> {
        Self::kind_of(text).map(|kind| Self { text: text.to_owned(), kind })
    }

    /// What kind of identity a text names; `None` where it names none.
    pub fn kind_of(text: &str) -> Option<IdentityKind> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/@+=:".contains(&byte);
        if text.len() > Self::MAX_LEN || !text.bytes().all(is_name) {
            return None;
        }
        let rest = text.strip_prefix("urn:v1:")?;
        let (region, rest) = rest.split_once(':')?;
        let (kind, name) = rest.strip_prefix("identity:")?.split_once(':')?;
        if region.is_empty() || name.is_empty() {
            return None;
        }
        match kind {
            "account" => Some(IdentityKind::Account),
            "user" => Some(IdentityKind::User),
            "group" => Some(IdentityKind::Group),
            "credential" => Some(IdentityKind::Credential),
            _ => None,
        }
    }

    /// The URN as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What the identity is.
    pub const fn kind(&self) -> IdentityKind {
        self.kind
    }
}

impl fmt::Display for IdentityUrn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The URN of a domain, or of a secret in it: `urn:v1:<region>:resource:okms:<okmsId>`, with
/// `/secret/<percent-encoded path>` for a secret.
pub fn resource_urn(region: &str, okms_id: OkmsId, path: Option<&SecretPath>) -> String {
    // Piece by piece, as each read has two of them: `format!` takes thrice as long.
    let length = path.map_or(0, |path| "/secret/".len() + 2 * path.as_str().len());
    let mut urn = String::with_capacity(USUAL_URN_BYTES + length);
    let mut id = OkmsId::buffer();
    for piece in ["urn:v1:", region, ":resource:okms:", okms_id.write(&mut id)] {
        urn.push_str(piece);
    }
    if let Some(path) = path {
        urn.push_str("/secret/");
        urn.extend(utf8_percent_encode(path.as_str(), URN_ENCODED));
    }
    urn
}

/// Those of a domain whose region has a short name.
const USUAL_URN_BYTES: usize = 80;

/// All but the unreserved characters of RFC 3986, so that a URN reads the same in every client.
const URN_ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_read_with_their_kind() {
        for (urn, kind) in [
            ("urn:v1:eu:identity:account:ab12345-ovh", IdentityKind::Account),
            ("urn:v1:eu:identity:user:ab12345-ovh/deploy", IdentityKind::User),
            ("urn:v1:eu:identity:group:ab12345-ovh/admins", IdentityKind::Group),
            ("urn:v1:eu:identity:credential:a/oauth2-EU.0123:4", IdentityKind::Credential),
        ] {
            let read = IdentityUrn::parse(urn).unwrap();
            assert_eq!((read.as_str(), read.kind()), (urn, kind));
        }
        let longest = format!("urn:v1:eu:identity:user:{}", "x".repeat(232));
        assert!(IdentityUrn::parse(&longest).is_some());
        for urn in [
            "",
            "x",
            "urn:v1:eu:identity:user:a/*",
            "urn:v1:eu:identity:user:a%2Fb",
            "urn:v1:eu:identity:account:",
            "urn:v1:eu:identity:account",
            "urn:v1::identity:account:a",
            "urn:v2:eu:identity:account:a",
            "URN:v1:eu:identity:account:a",
            "urn:v1:eu:resource:account:a",
            "urn:v1:eu:identity:Account:a",
            "urn:v1:eu:identity:robot:a",
            "urn:v1:eu:identity:account:a b",
            "urn:v1:eu:identity:account:é",
            &format!("{longest}x"),
        ] {
            assert_eq!(IdentityUrn::parse(urn), None, "{urn}");
        }
    }

    #[test]
    fn resources_are_written_with_their_path_encoded() {
        let id = "7e5bb0b2-0a6b-4a0c-9a3f-5c9d0e1f2a3b".parse().unwrap();
        let domain = "urn:v1:eu:resource:okms:7e5bb0b2-0a6b-4a0c-9a3f-5c9d0e1f2a3b";
        assert_eq!(resource_urn("eu", id, None), domain);
        let path = SecretPath::parse("prod/My_SQL.x-1:a=b@c").unwrap();
        let expected = format!("{domain}/secret/prod%2FMy_SQL.x-1%3Aa%3Db%40c");
        assert_eq!(resource_urn("eu", id, Some(&path)), expected);
    }
}
