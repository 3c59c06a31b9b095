//! The actions, and patterns of them.

use super::glob::Glob;

/// What a caller may need a right for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Make a secret.
    SecretCreate,
    /// See a secret and its versions, apart from data.
    SecretGet,
    /// Remove a secret.
    SecretDelete,
    /// Change the settings and the custom metadata of a secret.
    SecretUpdateMetadata,
    /// Add a version.
    VersionCreate,
    /// Read data.
    VersionGetData,
    /// Activate a version.
    VersionActivate,
    /// Deactivate a version.
    VersionDeactivate,
    /// Delete the data of a version.
    VersionDelete,
    /// See the keys inside data.
    SubKeysGet,
    /// See the defaults of the domain.
    ConfigGet,
    /// Change the defaults of the domain.
    ConfigUpdate,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 12] = [
        Self::SecretCreate,
        Self::SecretGet,
        Self::SecretDelete,
        Self::SecretUpdateMetadata,
        Self::VersionCreate,
        Self::VersionGetData,
        Self::VersionActivate,
        Self::VersionDeactivate,
        Self::VersionDelete,
        Self::SubKeysGet,
        Self::ConfigGet,
        Self::ConfigUpdate,
    ];

    /// The name that policies know it by.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SecretCreate => "okms:apikms:secret/create",
            Self::SecretGet => "okms:apikms:secret/get",
            Self::SecretDelete => "okms:apikms:secret/delete",
            Self::SecretUpdateMetadata => "okms:apikms:secret/updateMetadata",
            Self::VersionCreate => "okms:apikms:secret/version/create",
            Self::VersionGetData => "okms:apikms:secret/version/getData",
            Self::VersionActivate => "okms:apikms:secret/version/activate",
            Self::VersionDeactivate => "okms:apikms:secret/version/deactivate",
            Self::VersionDelete => "okms:apikms:secret/version/delete",
            Self::SubKeysGet => "okms:apikms:secret/subKeys/get",
            Self::ConfigGet => "okms:apikms:secretConfig/get",
            Self::ConfigUpdate => "okms:apikms:secretConfig/update",
        }
    }

    /// Reads the name; `None` where no action has it.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == name)
    }

    /// Whether it is about a secret, and not about the domain itself.
    pub const fn is_of_secret(self) -> bool {
        !matches!(self, Self::ConfigGet | Self::ConfigUpdate)
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// Some of the actions, named by a text with `*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ActionPattern {
    bits: u16,
}

impl ActionPattern {
    /// Reads a pattern. One that names only actions of the service which this server does not have
    /// matches nothing, see [`ActionPattern::is_empty`].
    ///
    /// # Errors
    ///
    /// The rule that it breaks: above all, that it names an action at all, since one that is misspelt
    /// would silently not count.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_ACTION_LEN {
            return Err("an action has at most 128 characters");
        }
        let glob = Glob::plain(text);
        let matching = Action::ALL.into_iter().filter(|action| glob.matches(action.as_str()));
        let bits = matching.fold(0, |bits, action| bits | action.bit());
        if bits == 0 && !is_known_elsewhere(text, &glob) {
            return Err("there is no such action");
        }
        Ok(Self { bits })
    }

    /// Whether it stands for this action.
    pub(super) const fn matches(self, action: Action) -> bool {
        self.bits & action.bit() != 0
    }

    /// Whether it stands for none of the actions of this server.
    pub(super) const fn is_empty(self) -> bool {
        self.bits == 0
    }
}

/// Whether the service has such an action where this server has none.
fn is_known_elsewhere(text: &str, glob: &Glob) -> bool {
    let own = Action::ALL.into_iter().filter_map(|action| action.as_str().strip_prefix(APIKMS));
    own.chain(KEY_ACTIONS).any(|name| glob.matches(&format!("{APIOVH}{name}")))
        || KEY_ACTIONS.iter().any(|name| glob.matches(&format!("{APIKMS}{name}")))
        || CENTRAL_ACTIONS.iter().any(|prefix| text.starts_with(prefix))
}

/// The channel of this API.
const APIKMS: &str = "okms:apikms:";
/// The channel of the service's central API, which has the same actions and some more.
const APIOVH: &str = "okms:apiovh:";
/// Actions on service keys and randomness.
const KEY_ACTIONS: [&str; 14] = [
    "serviceKey/create",
    "serviceKey/import",
    "serviceKey/get",
    "serviceKey/update",
    "serviceKey/delete",
    "serviceKey/activate",
    "serviceKey/deactivate",
    "serviceKey/encrypt",
    "serviceKey/decrypt",
    "serviceKey/sign",
    "serviceKey/verify",
    "serviceKey/dataKey/create",
    "serviceKey/dataKey/decrypt",
    "random/get",
];
/// What the central API has alone.
const CENTRAL_ACTIONS: [&str; 4] = [
    "okms:apiovh:secret/edit",
    "okms:apiovh:secret/version/edit",
    "okms:apiovh:credential/",
    "okms:apiovh:log/",
];
/// The longest name has fewer than 50 characters.
const MAX_ACTION_LEN: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn matching(pattern: &str) -> Option<Vec<Action>> {
        let pattern = ActionPattern::parse(pattern).ok()?;
        Some(Action::ALL.into_iter().filter(|action| pattern.matches(*action)).collect())
    }

    #[test]
    fn each_action_has_its_name_and_is_a_pattern_of_itself() {
        for action in Action::ALL {
            assert_eq!(Action::parse(action.as_str()), Some(action));
            assert_eq!(matching(action.as_str()), Some(vec![action]));
        }
        assert_eq!(Action::parse("okms:apikms:secret/Get"), None);
        assert_eq!(Action::parse("okms:apikms:*"), None);
    }

    #[test]
    fn patterns_name_several() {
        for everything in ["*", "okms:*", "okms:apikms:*", "okms:apikms:secret*"] {
            assert_eq!(matching(everything), Some(Action::ALL.to_vec()), "{everything}");
        }
        assert_eq!(matching("okms:apikms:secretConfig/*").unwrap().len(), 2);
        assert_eq!(matching("okms:apikms:secret/*").unwrap().len(), 10);
        assert_eq!(matching("okms:apikms:secret/version/*").unwrap().len(), 5);
        let gets = [Action::SecretGet, Action::SubKeysGet, Action::ConfigGet];
        assert_eq!(matching("*/get"), Some(gets.to_vec()));
    }

    #[test]
    fn what_the_service_has_elsewhere_is_taken_and_matches_nothing() {
        for other in [
            "okms:apikms:serviceKey/encrypt",
            "okms:apikms:serviceKey/*",
            "okms:apikms:random/get",
            "okms:apiovh:secret/get",
            "okms:apiovh:secret/edit",
            "okms:apiovh:credential/create",
            "okms:apiovh:*",
        ] {
            assert_eq!(matching(other), Some(Vec::new()), "{other}");
        }
    }

    #[test]
    fn what_names_no_action_is_refused() {
        for wrong in [
            "",
            "okms:apikms:secret/list",
            "okms:apikms:secret/gett",
            "okms:apikms:Secret/get",
            "okms:apikms:secret/get ",
            "okms:apikms:secret/get/*",
            "secret/get",
            "okms:apikms:serviceKey/encipher",
            &format!("okms:apikms:secret/get{}", "*".repeat(120)),
        ] {
            assert_eq!(matching(wrong), None, "{wrong}");
        }
    }
}
