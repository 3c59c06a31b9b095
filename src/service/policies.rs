//! What operators do with policies and groups.

use std::{borrow::Cow, collections::HashSet, sync::Arc};

use super::policy_cache::{Snapshot, check_member, read_stored};
use crate::{
    domain::{Clock, Error, IdentityKind, IdentityUrn},
    iam::{Policy, documents},
    store::{Applied, RowHandle, Store, StoredPolicy},
};

/// The use cases of policies and groups.
#[derive(Clone)]
pub struct Policies {
    store: Store,
    clock: Arc<dyn Clock>,
}

/// What came of applying a policy.
#[derive(Debug, Clone)]
pub struct AppliedPolicy {
    /// Its name.
    pub name: String,
    /// What was done.
    pub applied: Applied,
    /// What its author should know.
    pub warnings: Vec<String>,
}

/// A group and its members, in the order of their bytes.
#[derive(Debug, Clone)]
pub struct Group {
    /// The group, as far as it is text.
    pub urn: String,
    /// Its members.
    pub members: Vec<Member>,
}

/// A member of a group.
#[derive(Debug, Clone)]
pub struct Member {
    /// The member, as far as it is text.
    pub urn: String,
    /// What is wrong with the row, if anything is: then no policy is applied to anybody.
    pub damage: Option<DamagedMember>,
}

/// A membership that cannot be read.
#[derive(Debug, Clone)]
pub struct DamagedMember {
    /// By this it is removed.
    pub handle: RowHandle,
    /// What is wrong with it.
    pub why: String,
}

impl Policies {
    /// Works on `store`.
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// Makes the policies of a file, or puts them in the place of those of the same name: all of them
    /// or none.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] names the rule that a document breaks; or when storage fails.
    pub async fn apply(&self, file: &str) -> Result<Vec<AppliedPolicy>, Error> {
        let documents = documents(file)?;
        let mut names = HashSet::new();
        let mut policies = Vec::new();
        for (index, document) in documents.iter().enumerate() {
            let policy = Policy::parse(document).map_err(|error| match error {
                Error::Malformed(text) if documents.len() > 1 => {
                    Error::malformed(format!("policy {} of the file: {text}", index + 1))
                }
                error => error,
            })?;
            if !names.insert(policy.name().to_owned()) {
                let name = policy.name();
                return Err(Error::malformed(format!("the file has two policies named {name}")));
            }
            policies.push(policy);
        }
        let mut warnings = Vec::new();
        for policy in &policies {
            let more = self.check_domains(policy).await?;
            warnings.push([policy.warnings(), &more].concat());
        }
        let named = policies.iter().zip(&documents);
        let named = named.map(|(policy, text)| (policy.name().to_owned(), (*text).to_owned()));
        let applied = self.store.apply_policies(named.collect(), self.clock.now()).await?;
        let done = policies.iter().zip(applied).zip(warnings);
        Ok(done
            .map(|((policy, applied), warnings)| AppliedPolicy {
                name: policy.name().to_owned(),
                applied,
                warnings,
            })
            .collect())
    }

    /// All policies, by name; or what is wrong with one that cannot be read.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn list(&self) -> Result<Vec<(StoredPolicy, Result<Policy, String>)>, Error> {
        let stored = self.store.list_policies().await?;
        Ok(stored.into_iter().map(with_policy).collect())
    }

    /// A policy, or what is wrong with it; `None` where there is none of that name.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn find(
        &self,
        name: &str,
    ) -> Result<Option<(StoredPolicy, Result<Policy, String>)>, Error> {
        Ok(self.store.find_policy(name).await?.map(with_policy))
    }

    /// Removes a policy, which need not be one that can be read; `false` where there is none of that name.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn delete(&self, name: &str) -> Result<bool, Error> {
        self.store.delete_policy(name).await
    }

    /// Removes a policy by its row, whatever that holds; `false` where there is none.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn delete_row(&self, row: RowHandle) -> Result<bool, Error> {
        self.store.delete_policy_row(row).await
    }

    /// All policies and groups, as the next request will be decided by.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        Snapshot::load(&self.store).await
    }

    /// All groups that have members, with these.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn groups(&self) -> Result<Vec<Group>, Error> {
        let mut groups: Vec<Group> = Vec::new();
        for row in self.store.list_group_members().await? {
            let damage = check_member(row.stored.clone()).err();
            let mut texts = row.handle.texts().map(Cow::into_owned);
            let (urn, member) =
                (texts.next().unwrap_or_default(), texts.next().unwrap_or_default());
            drop(texts);
            let damage = damage.map(|why| DamagedMember { handle: row.handle, why });
            if groups.last().is_none_or(|group| group.urn != urn) {
                groups.push(Group { urn, members: Vec::new() });
            }
            if let Some(group) = groups.last_mut() {
                group.members.push(Member { urn: member, damage });
            }
        }
        Ok(groups)
    }

    /// Adds members to a group, and gives the number of those who were none.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] where the group or a member may not be one; or when storage fails.
    pub async fn add_members(
        &self,
        group: IdentityUrn,
        members: Vec<IdentityUrn>,
    ) -> Result<u64, Error> {
        check_group(&group)?;
        for member in &members {
            // A group would lend an account's rights, which no policy bounds; and groups in groups are
            // rights that nobody oversees.
            if !matches!(member.kind(), IdentityKind::User | IdentityKind::Credential) {
                return Err(Error::malformed(format!(
                    "{member} is no user and no service account (credential), so it cannot be a member"
                )));
            }
        }
        self.store.add_group_members(group, members, self.clock.now()).await
    }

    /// Takes members out of a group, and gives the number of those who were members.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] where the group is none; or when storage fails.
    pub async fn remove_members(
        &self,
        group: IdentityUrn,
        members: Vec<IdentityUrn>,
    ) -> Result<u64, Error> {
        check_group(&group)?;
        self.store.remove_group_members(group, members).await
    }

    /// Takes all members out of a group, and gives their number. Whatever stands where the URN of a group
    /// should be can be removed by that text.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] where the group is none; or when storage fails.
    pub async fn delete_group(&self, group: &str) -> Result<u64, Error> {
        let removed = self.store.delete_group(group).await?;
        if removed == 0 {
            let urn = IdentityUrn::parse(group);
            check_group(&urn.ok_or_else(|| Error::malformed(no_group(group)))?)?;
        }
        Ok(removed)
    }

    /// Removes a membership by its row, whatever that holds; `false` where there is none.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn delete_member_row(&self, row: RowHandle) -> Result<bool, Error> {
        self.store.delete_member_row(row).await
    }

    /// Refuses a region that is not the domain's own, and tells of domains that there are not.
    async fn check_domains(&self, policy: &Policy) -> Result<Vec<String>, Error> {
        let mut warnings = Vec::new();
        let domains: HashSet<_> = policy.domains().collect();
        for (region, okms_id) in domains {
            match self.store.find_domain(okms_id).await? {
                None => warnings.push(format!("there is no domain {okms_id} yet")),
                Some(domain) if domain.region != region => {
                    return Err(Error::malformed(format!(
                        "the policy {}: the domain {okms_id} is in the region {}, not {region}",
                        policy.name(),
                        domain.region
                    )));
                }
                Some(_) => {}
            }
        }
        warnings.sort_unstable();
        Ok(warnings)
    }
}

fn check_group(group: &IdentityUrn) -> Result<(), Error> {
    if group.kind() == IdentityKind::Group {
        return Ok(());
    }
    Err(Error::malformed(no_group(group.as_str())))
}

fn no_group(text: &str) -> String {
    let text = text.escape_debug();
    format!("{text} is no group, whose URN is urn:v1:<region>:identity:group:<name>")
}

fn with_policy(stored: StoredPolicy) -> (StoredPolicy, Result<Policy, String>) {
    let policy = read_stored(stored.name.as_deref(), stored.document.as_deref());
    (stored, policy)
}
