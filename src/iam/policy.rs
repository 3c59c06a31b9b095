//! Policy documents, read strictly, with the lines where things stand.

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{
    action::{Action, ActionPattern},
    resource::ResourcePattern,
};
use crate::domain::{Error, IdentityKind, IdentityUrn, OkmsId};

/// A policy: what some identities may or must not do with some resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    name: String,
    description: String,
    pub(super) identities: Vec<Located<IdentityUrn>>,
    pub(super) resources: Vec<Located<ResourcePattern>>,
    allow: Vec<Located<ActionPattern>>,
    except: Vec<Located<ActionPattern>>,
    deny: Vec<Located<ActionPattern>>,
    warnings: Vec<String>,
}

/// Something with the line of the document on which it stands; the first line is 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) line: usize,
}

/// The texts of the policy documents in a file: one document, or an array of them.
///
/// One document keeps the whole text of its file, so that its lines are those of the file.
///
/// # Errors
///
/// [`Error::Malformed`] where the text is not JSON, or an array without documents.
pub fn documents(text: &str) -> Result<Vec<&str>, Error> {
    if !text.trim_start().starts_with('[') {
        return Ok(vec![text]);
    }
    let documents: Vec<&RawValue> = serde_json::from_str(text)
        .map_err(|error| Error::malformed(format!("the file is not JSON: {error}")))?;
    if documents.is_empty() {
        return Err(Error::malformed("the file has no policies"));
    }
    Ok(documents.into_iter().map(RawValue::get).collect())
}

impl Policy {
    /// The largest number of characters of a name.
    pub const MAX_NAME_LEN: usize = 64;
    /// The largest number of bytes of a document: room for hundreds of identities and resources.
    pub const MAX_DOCUMENT_BYTES: usize = 64 * 1024;
    /// The largest number of identities, of resources, and of actions in each list: every one of them
    /// may be looked at in a decision.
    pub const MAX_ENTRIES: usize = 500;

    /// Reads a document.
    ///
    /// What is not understood is refused: a document that says more than is enforced must not pass for
    /// one that is in force.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] names the rule that it breaks, and the line.
    pub fn parse(document: &str) -> Result<Self, Error> {
        let read = Self::read(document).and_then(|policy| {
            // The record of a list joins the names of the policies that allow it with commas.
            if policy.name.contains(',') {
                return Err("name must not have commas".to_owned());
            }
            Ok(policy)
        });
        read.map_err(|text| Error::malformed(format!("the policy: {text}")))
    }

    /// Reads the document of a policy that is stored under a name, whose rules may have been wider when it
    /// was.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse_stored(name: &str, document: &str) -> Result<Self, String> {
        let policy = Self::read(document)?;
        if policy.name != name {
            let other = policy.name.escape_debug();
            return Err(format!("its document is that of a policy named {other}"));
        }
        Ok(policy)
    }

    fn read(text: &str) -> Result<Self, String> {
        if text.len() > Self::MAX_DOCUMENT_BYTES {
            return Err("a document has at most 64 KiB".to_owned());
        }
        let document: Document<'_> =
            serde_json::from_str(text).map_err(|error| error.to_string())?;
        check_name(&document.name)?;
        for (name, is_set) in [
            ("conditions", document.conditions.is_some()),
            ("expiredAt", document.expired_at.is_some()),
        ] {
            if is_set {
                return Err(format!("{name} is not enforced here, so it must not be there"));
            }
        }
        let Permissions { allow, except, deny } = document.permissions;
        let reader = Reader::new(text);
        let mut policy = Self {
            name: document.name,
            description: document.description.unwrap_or_default(),
            identities: reader.list("identities", &document.identities, identity)?,
            resources: reader.list("resources", &document.resources, resource)?,
            allow: reader.list("permissions.allow", &allow.unwrap_or_default(), action)?,
            except: reader.list("permissions.except", &except.unwrap_or_default(), action)?,
            deny: reader.list("permissions.deny", &deny.unwrap_or_default(), action)?,
            warnings: Vec::new(),
        };
        for (list, is_empty) in [
            ("identities", policy.identities.is_empty()),
            ("resources", policy.resources.is_empty()),
            ("permissions.allow and permissions.deny", policy.says_nothing()),
        ] {
            if is_empty {
                return Err(format!("without {list}, it says nothing"));
            }
        }
        policy.warnings = policy.without_effect();
        Ok(policy)
    }

    /// Its name; there is one policy of each name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is for, in the words of its author.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// What its author should know: what has no effect here.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The identities that it names.
    pub fn identities(&self) -> impl Iterator<Item = &IdentityUrn> {
        self.identities.iter().map(|identity| &identity.value)
    }

    /// The regions and domains of its resources.
    pub fn domains(&self) -> impl Iterator<Item = (&str, OkmsId)> {
        self.resources
            .iter()
            .map(|resource| (resource.value.region.as_str(), resource.value.okms_id))
    }

    /// How many resources it names.
    pub const fn resource_count(&self) -> usize {
        self.resources.len()
    }

    /// The line on which it allows an action.
    pub(super) fn allows(&self, action: Action) -> Option<usize> {
        line_of(&self.allow, action)
    }

    /// The line on which it takes an action out of what it allows.
    pub(super) fn excepts(&self, action: Action) -> Option<usize> {
        line_of(&self.except, action)
    }

    /// The line on which it denies an action.
    pub(super) fn denies(&self, action: Action) -> Option<usize> {
        line_of(&self.deny, action)
    }

    fn says_nothing(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    fn without_effect(&self) -> Vec<String> {
        let lists = [&self.allow, &self.except, &self.deny];
        let actions = lists.into_iter().flatten().filter(|action| action.value.is_empty());
        let resources = self.resources.iter().filter(|resource| resource.value.is_empty());
        let actions = actions.map(|action| ("action has no effect here", action.line));
        let resources = resources.map(|resource| ("resource has no effect here", resource.line));
        let is_root =
            |identity: &&Located<IdentityUrn>| identity.value.kind() == IdentityKind::Account;
        let roots = self.identities.iter().filter(is_root);
        let roots = roots.map(|root| ("identity is root, whom no policy binds", root.line));
        roots
            .chain(resources)
            .chain(actions)
            .map(|(what, line)| format!("line {line}: this {what}"))
            .collect()
    }
}

fn line_of(actions: &[Located<ActionPattern>], wanted: Action) -> Option<usize> {
    actions.iter().find(|action| action.value.matches(wanted)).map(|action| action.line)
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.chars().count() > Policy::MAX_NAME_LEN {
        return Err("name must have 1 to 64 characters".to_owned());
    }
    if name.chars().any(char::is_control) || name.trim() != name {
        return Err("name must not have control characters, nor blanks at its ends".to_owned());
    }
    if name.eq_ignore_ascii_case(ROOT) {
        return Err("the name root is kept for what root does".to_owned());
    }
    Ok(())
}

/// What decides where no policy is asked.
pub const ROOT: &str = "root";

/// The form of a document.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
struct Document<'a> {
    name: String,
    description: Option<String>,
    #[serde(borrow)]
    identities: Vec<&'a RawValue>,
    #[serde(borrow)]
    resources: Vec<&'a RawValue>,
    #[serde(borrow)]
    permissions: Permissions<'a>,
    /// Not enforced; `null` is how the service writes that there is none.
    conditions: Option<IgnoredAny>,
    /// Not enforced; as above.
    expired_at: Option<IgnoredAny>,
    // What the service adds to a document that it gives out, and which carries no meaning for rights.
    #[serde(default, rename = "id")]
    _id: IgnoredAny,
    #[serde(default, rename = "owner")]
    _owner: IgnoredAny,
    #[serde(default, rename = "readOnly")]
    _read_only: IgnoredAny,
    #[serde(default, rename = "createdAt")]
    _created_at: IgnoredAny,
    #[serde(default, rename = "updatedAt")]
    _updated_at: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `allow`, `except` or `deny`")]
struct Permissions<'a> {
    #[serde(borrow)]
    allow: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    except: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    deny: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with a `urn`")]
struct ResourceEntry {
    urn: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with an `action`")]
struct ActionEntry {
    action: String,
}

fn identity(entry: &str) -> Result<IdentityUrn, String> {
    let text: String = serde_json::from_str(entry).map_err(|error| without_place(&error))?;
    IdentityUrn::parse(&text).ok_or_else(|| {
        "an identity is a URN such as urn:v1:eu:identity:user:ab12345-ovh/deploy, of at most 256 \
         characters"
            .to_owned()
    })
}

fn resource(entry: &str) -> Result<ResourcePattern, String> {
    let entry: ResourceEntry =
        serde_json::from_str(entry).map_err(|error| without_place(&error))?;
    ResourcePattern::parse(&entry.urn)
}

fn action(entry: &str) -> Result<ActionPattern, String> {
    let entry: ActionEntry = serde_json::from_str(entry).map_err(|error| without_place(&error))?;
    ActionPattern::parse(&entry.action)
        .map_err(|rule| format!("{rule}: {}", entry.action.escape_debug()))
}

/// What is wrong with an entry; where, is told by the entry's own place.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(what, _)| what.to_owned())
}

/// Knows where in a document an entry stands.
struct Reader<'a> {
    text: &'a str,
    /// Where its lines end, ascending: counted once, since a document may have thousands of entries.
    line_ends: Vec<usize>,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, line_ends: text.match_indices('\n').map(|(at, _)| at).collect() }
    }

    fn list<T>(
        &self,
        name: &str,
        entries: &[&'a RawValue],
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<Located<T>>, String> {
        if entries.len() > Policy::MAX_ENTRIES {
            return Err(format!("{name} has at most {} entries", Policy::MAX_ENTRIES));
        }
        let located = |entry: &&'a RawValue| {
            let line = self.line(entry.get());
            let value = read(entry.get()).map_err(|rule| format!("line {line}, {name}: {rule}"))?;
            Ok(Located { value, line })
        };
        entries.iter().map(located).collect()
    }

    /// The line on which a part of the text begins.
    fn line(&self, part: &str) -> usize {
        // The part was borrowed from the text; for any other, this is the last line.
        let offset = (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        1 + self.line_ends.partition_point(|end| *end < offset)
    }
}
