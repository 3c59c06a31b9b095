//! What a caller sees of the secrets of its domain.

use std::collections::BTreeSet;

use super::Caller;
use crate::{
    domain::{NotedDecision, SecretPath},
    iam::{Action, ListScope, PathRange, ROOT, Rights},
};

/// Decides about the secrets of a list one by one. They are noted as one decision, by what allowed those that
/// are seen, when the list ends in whatever way: allowed where there could be anything to see.
pub(super) struct Sight<'a> {
    caller: &'a Caller,
    rights: Rights<'a>,
    scope: ListScope,
    /// What allows what was seen: the names of policies, or root.
    deciding: BTreeSet<&'a str>,
}

impl<'a> Sight<'a> {
    /// As of when the caller was found out.
    pub(super) fn of(caller: &'a Caller) -> Self {
        let rights = caller.rights();
        let scope = rights.scope(Action::SecretGet);
        Self { caller, rights, scope, deciding: BTreeSet::new() }
    }

    /// Where there may be secrets to see, in ascending order and apart from each other.
    pub(super) fn ranges(&self) -> Vec<PathRange> {
        match &self.scope {
            ListScope::All => vec![PathRange::all()],
            ListScope::Ranges(ranges) => ranges.clone(),
        }
    }

    pub(super) fn sees(&mut self, path: &SecretPath) -> bool {
        let decision = self.rights.decide(Action::SecretGet, Some(path));
        if decision.is_allowed() {
            self.deciding.extend(decision.decided_by());
        }
        decision.is_allowed()
    }
}

impl Drop for Sight<'_> {
    fn drop(&mut self) {
        let is_root = self.scope == ListScope::All;
        let allowed = self.scope != ListScope::Ranges(Vec::new());
        let names: Vec<_> = self.deciding.iter().take(NOTED_POLICIES).copied().collect();
        let decided_by = match names.as_slice() {
            [] => is_root.then(|| ROOT.to_owned()),
            names => Some(names.join(", ")),
        };
        let action = Action::SecretGet.as_str();
        self.caller.trail().note_decision(NotedDecision { action, allowed, decided_by });
    }
}

/// Names of policies in the record of a list: enough to see where the rights come from.
const NOTED_POLICIES: usize = 10;
