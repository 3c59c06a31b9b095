//! Rights: who may do what with which secrets.
//!
//! Everything here is pure: a [`PolicySet`] is a snapshot of all policies and groups, and says what a
//! caller may do. What it must not do: read the store, know HTTP, or know whether a secret exists. The
//! service asks it about the very path that storage will then use.
//!
//! Policies are documents in OVHcloud's own form. In the order of weight:
//!
//! 1. an account identity (root) may do everything in its domain;
//! 2. a `deny` of any policy denies;
//! 3. an `allow` that is not taken back by the `except` of the same policy allows;
//! 4. all else is denied.
//!
//! | file | what it owns |
//! |---|---|
//! | `action` | the actions, and patterns of them |
//! | `glob` | texts with `*`, matched in linear time |
//! | `resource` | patterns of resource URNs; none reaches beyond one domain |
//! | `policy` | policy documents, read strictly, with the lines where things stand |
//! | `set` | all policies and groups, and the decision |
//! | `scope` | which ranges of paths a list has to look at |

mod action;
mod glob;
mod policy;
mod resource;
mod scope;
mod set;
#[cfg(test)]
mod tests;

pub use self::{
    action::Action,
    policy::{Policy, ROOT, documents},
    scope::{ListScope, PathRange},
    set::{
        Decision, Ground, MAX_GROUP_MEMBERS, MAX_POLICIES, Miss, NearMiss, PolicySet, Rights,
        is_root,
    },
};
