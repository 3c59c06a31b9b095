//! All policies and groups, and the decision.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{
    action::Action,
    policy::{Located, Policy, ROOT},
    resource::{ResourcePattern, below},
    scope::{ListScope, PathRange, merge, without},
};
use crate::domain::{IdentityKind, IdentityUrn, NotedDecision, OkmsId, SecretPath};

/// All policies and groups as they were at one revision. It never changes: a change is a new one.
#[derive(Debug, Default)]
pub struct PolicySet {
    revision: i64,
    /// By name, so that the same policy decides every time.
    policies: Vec<Policy>,
    by_identity: HashMap<String, Vec<usize>>,
    groups_by_member: HashMap<String, Vec<String>>,
}

/// What somebody may do in one domain.
#[derive(Debug, PartialEq, Eq)]
pub struct Rights<'s> {
    is_root: bool,
    policies: Vec<Applicable<'s>>,
}

/// A policy that names the caller, with those of its resources that are in the domain.
#[derive(Debug, PartialEq, Eq)]
struct Applicable<'s> {
    policy: &'s Policy,
    identity_line: usize,
    resources: Vec<&'s Located<ResourcePattern>>,
}

/// Whether something may be done, and what says so.
#[derive(Debug, Clone, Copy)]
pub enum Decision<'s> {
    /// Allowed: the caller is root.
    Root,
    /// Allowed by a policy.
    Allowed(Ground<'s>),
    /// Denied by a policy.
    Denied(Ground<'s>),
    /// Denied: no policy allows it.
    NoPolicy,
}

/// The policy that decided, and the lines of its document that did.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'s> {
    /// The policy.
    pub policy: &'s Policy,
    /// Where it names the caller.
    pub identity_line: usize,
    /// Where it names the resource.
    pub resource_line: usize,
    /// Where it allows or denies the action.
    pub action_line: usize,
}

/// A policy that names the caller and still did not allow something.
#[derive(Debug, Clone, Copy)]
pub struct NearMiss<'s> {
    /// The policy.
    pub policy: &'s Policy,
    /// Why not.
    pub miss: Miss,
}

/// Why a policy that names the caller did not allow something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// It is about other resources.
    Resource,
    /// It does not allow the action.
    Action,
    /// It takes the action out of what it allows, on this line.
    Excepted(usize),
}

impl PolicySet {
    /// Makes a set of all policies and of all members of groups, as pairs of group and member.
    pub fn new(
        revision: i64,
        mut policies: Vec<Policy>,
        members: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        policies.sort_by(|one, other| one.name().cmp(other.name()));
        let mut by_identity: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, policy) in policies.iter().enumerate() {
            // Named twice, it still is one policy.
            let identities: HashSet<_> = policy.identities().map(IdentityUrn::as_str).collect();
            for identity in identities {
                by_identity.entry(identity.to_owned()).or_default().push(index);
            }
        }
        let mut groups_by_member: HashMap<String, Vec<String>> = HashMap::new();
        for (group, member) in members {
            groups_by_member.entry(member).or_default().push(group);
        }
        Self { revision, policies, by_identity, groups_by_member }
    }

    /// How often policies and groups had changed when this set was read.
    pub const fn revision(&self) -> i64 {
        self.revision
    }

    /// Identities with the groups that they are members of.
    pub fn with_groups(&self, mut identities: Vec<String>) -> Vec<String> {
        let groups = identities.iter().filter_map(|identity| self.groups_by_member.get(identity));
        let groups: BTreeSet<String> = groups.flatten().cloned().collect();
        let more: Vec<String> =
            groups.into_iter().filter(|group| !identities.contains(group)).collect();
        identities.extend(more);
        identities
    }

    /// Whether nothing could give these identities a right anywhere: none is root, and no policy names
    /// one of them or a group of theirs.
    pub fn is_without_rights(&self, identities: &[String]) -> bool {
        let identities = self.with_groups(identities.to_vec());
        let is_named = |identity: &String| self.by_identity.contains_key(identity);
        !is_root(&identities) && !identities.iter().any(is_named)
    }

    /// What a caller with these identities, those of its groups included, may do in a domain.
    pub fn rights(&self, identities: &[String], region: &str, okms_id: OkmsId) -> Rights<'_> {
        if is_root(identities) {
            // Whatever policies say.
            return Rights { is_root: true, policies: Vec::new() };
        }
        let named = identities.iter().filter_map(|identity| self.by_identity.get(identity));
        let mut named: Vec<usize> = named.flatten().copied().collect();
        named.sort_unstable();
        named.dedup();
        let policies = named.into_iter().filter_map(|index| self.policies.get(index));
        let applicable = policies.map(|policy| {
            let is_caller = |identity: &&Located<IdentityUrn>| {
                identities.iter().any(|caller| caller == identity.value.as_str())
            };
            let identity = policy.identities.iter().find(is_caller);
            let is_here = |resource: &&Located<ResourcePattern>| {
                resource.value.okms_id == okms_id && resource.value.region == region
            };
            Applicable {
                policy,
                identity_line: identity.map_or(0, |identity| identity.line),
                resources: policy.resources.iter().filter(is_here).collect(),
            }
        });
        Rights { is_root: false, policies: applicable.collect() }
    }
}

/// Whether one of these identities is an account, which may do everything whatever policies say.
pub fn is_root(identities: &[String]) -> bool {
    let is_account = |urn: &String| IdentityUrn::kind_of(urn) == Some(IdentityKind::Account);
    identities.iter().any(is_account)
}

impl<'s> Rights<'s> {
    /// Whether an action may be done with a secret, or with the domain itself.
    ///
    /// It is the same whether there is such a secret or not.
    pub fn decide(&self, action: Action, path: Option<&SecretPath>) -> Decision<'s> {
        self.decide_about(action, path.map(below).as_deref())
    }

    /// As [`Rights::decide`], of several actions, each when it is asked for.
    pub fn decide_each<'a>(
        &'a self,
        actions: &'a [Action],
        path: Option<&SecretPath>,
    ) -> impl Iterator<Item = (Action, Decision<'s>)> + 'a {
        let below = path.map(below);
        actions.iter().map(move |action| (*action, self.decide_about(*action, below.as_deref())))
    }

    fn decide_about(&self, action: Action, below: Option<&str>) -> Decision<'s> {
        if self.is_root {
            return Decision::Root;
        }
        let mut allowed = None;
        for applicable in &self.policies {
            let Some(resource_line) = applicable.resource_line(below) else { continue };
            let ground = |action_line| Ground {
                policy: applicable.policy,
                identity_line: applicable.identity_line,
                resource_line,
                action_line,
            };
            if let Some(line) = applicable.policy.denies(action) {
                return Decision::Denied(ground(line));
            }
            if let Some(line) = applicable.allows(action) {
                allowed.get_or_insert(ground(line));
            }
        }
        allowed.map_or(Decision::NoPolicy, Decision::Allowed)
    }

    /// Among which paths there may be secrets with which an action may be done. What is denied by the beginning
    /// of its path is left out, so that a list skips it and takes no longer because of it.
    pub fn scope(&self, action: Action) -> ListScope {
        if self.is_root {
            return ListScope::All;
        }
        let denying = self.policies.iter().filter(|policy| policy.policy.denies(action).is_some());
        let denied = denying.flat_map(|policy| &policy.resources);
        let denied = denied.filter_map(|resource| resource.value.whole_prefix());
        let denied = merge(denied.map(PathRange::of_prefix).collect());
        let allowing = self.policies.iter().filter(|policy| policy.allows(action).is_some());
        let resources = allowing.flat_map(|policy| &policy.resources);
        let prefixes = resources.filter_map(|resource| resource.value.path_prefix());
        let ranges = prefixes.map(|(prefix, is_whole)| {
            if is_whole { PathRange::of_path(prefix) } else { PathRange::of_prefix(prefix) }
        });
        ListScope::Ranges(without(merge(ranges.collect()), &denied))
    }

    /// Why the policies that name the caller did not allow something that none of them denies.
    pub fn near_misses(&self, action: Action, path: Option<&SecretPath>) -> Vec<NearMiss<'s>> {
        let below = path.map(below);
        let miss = |applicable: &Applicable<'s>| {
            let policy = applicable.policy;
            let miss = match (applicable.resource_line(below.as_deref()), policy.allows(action)) {
                (None, _) => Miss::Resource,
                (Some(_), None) => Miss::Action,
                (Some(_), Some(_)) => Miss::Excepted(policy.excepts(action)?),
            };
            Some(NearMiss { policy, miss })
        };
        self.policies.iter().filter_map(miss).collect()
    }
}

impl Applicable<'_> {
    fn resource_line(&self, below: Option<&str>) -> Option<usize> {
        let mut resources = self.resources.iter();
        resources.find(|resource| resource.value.matches(below)).map(|resource| resource.line)
    }

    /// The line that allows an action which nothing in the same policy takes back.
    fn allows(&self, action: Action) -> Option<usize> {
        let line = self.policy.allows(action)?;
        self.policy.excepts(action).is_none().then_some(line)
    }
}

impl<'s> Decision<'s> {
    /// Whether it may be done.
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Root | Self::Allowed(_))
    }

    /// The policy that decided, if one did.
    pub const fn ground(&self) -> Option<Ground<'s>> {
        match self {
            Self::Allowed(ground) | Self::Denied(ground) => Some(*ground),
            Self::Root | Self::NoPolicy => None,
        }
    }

    /// What decided: a policy's name, `root`, or nothing where no policy speaks for it.
    pub fn decided_by(&self) -> Option<&'s str> {
        match self {
            Self::Root => Some(ROOT),
            Self::Allowed(ground) | Self::Denied(ground) => Some(ground.policy.name()),
            Self::NoPolicy => None,
        }
    }

    /// The decision about an action, as it is noted for the record.
    pub fn noted(&self, action: Action) -> NotedDecision {
        NotedDecision {
            action: action.as_str(),
            allowed: self.is_allowed(),
            decided_by: self.decided_by().map(str::to_owned),
        }
    }
}

/// The largest number of policies of a store: every server keeps all of them in memory, and reads all
/// of them after a change.
pub const MAX_POLICIES: u32 = 1_000;
/// The largest number of memberships of a store, all groups taken together; for the same reason.
pub const MAX_GROUP_MEMBERS: u32 = 10_000;
