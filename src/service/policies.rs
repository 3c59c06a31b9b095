//! Policies and groups: what operators do with them, and the snapshot that requests are decided by.

use std::{
    collections::HashSet,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    domain::{Clock, Error, IdentityKind, IdentityUrn},
    iam::{Policy, PolicySet, documents},
    store::{Applied, Store, StoredPolicy},
};

/// The policies and groups in memory, as recent as each request demands.
///
/// A request knows the revision as of which its credential was found; where that is another one than
/// of the snapshot at hand, policies and groups are read anew before anything is decided. So a change
/// acts on the next request of every server, however it reached the store.
pub struct PolicyCache {
    store: Store,
    current: RwLock<Arc<PolicySet>>,
    /// How often they were read.
    loads: AtomicU64,
    /// Of many requests that find the snapshot too old at once, one reads.
    loading: tokio::sync::Mutex<()>,
}

impl PolicyCache {
    /// Reads policies and groups of `store` when they are first needed.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            current: RwLock::new(Arc::new(PolicySet::new(NEVER_READ, Vec::new(), Vec::new()))),
            loads: AtomicU64::new(0),
            loading: tokio::sync::Mutex::new(()),
        }
    }

    /// The policies and groups as of a revision that was just read, or later.
    ///
    /// # Errors
    ///
    /// When storage fails, or holds what this program cannot read: then nothing is decided.
    pub async fn at(&self, revision: i64) -> Result<Arc<PolicySet>, Error> {
        let current = self.current();
        if current.revision() == revision {
            return Ok(current);
        }
        let loads_before = self.loads.load(Ordering::Acquire);
        let _loading = self.loading.lock().await;
        let current = self.current();
        // One that others have read while this request waited may be newer than what it asks for.
        let is_newer =
            self.loads.load(Ordering::Acquire) != loads_before && current.revision() > revision;
        if current.revision() == revision || is_newer {
            return Ok(current);
        }
        let loaded = Arc::new(load(&self.store).await?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&loaded);
        self.loads.fetch_add(1, Ordering::AcqRel);
        Ok(loaded)
    }

    fn current(&self) -> Arc<PolicySet> {
        // A set is replaced as a whole, so a panic elsewhere leaves none half done.
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Revisions of the store begin at 0.
const NEVER_READ: i64 = -1;

async fn load(store: &Store) -> Result<PolicySet, Error> {
    let stored = store.load_iam().await?;
    let read = move || {
        let policies = stored.documents.iter().map(|document| read_stored(document));
        let policies = policies.collect::<Result<Vec<_>, _>>()?;
        Ok(PolicySet::new(stored.revision, policies, stored.members))
    };
    // All the policies that there can be take a second to read, in which other requests go on.
    let reading = tokio::task::spawn_blocking(read).await;
    reading.map_err(|_| Error::Internal("reading the policies panicked".into()))?
}

fn read_stored(document: &str) -> Result<Policy, Error> {
    // It was read before it was stored; a later program may know more than this one.
    Policy::parse(document)
        .map_err(|error| Error::Internal(format!("a stored policy cannot be read: {error:?}")))
}

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
    /// The group.
    pub urn: String,
    /// Its members.
    pub members: Vec<String>,
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

    /// All policies, by name.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn list(&self) -> Result<Vec<(StoredPolicy, Policy)>, Error> {
        let stored = self.store.list_policies().await?;
        let read = |stored: StoredPolicy| {
            let policy = read_stored(&stored.document)?;
            Ok((stored, policy))
        };
        stored.into_iter().map(read).collect()
    }

    /// A policy, `None` where there is none of that name.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn find(&self, name: &str) -> Result<Option<StoredPolicy>, Error> {
        self.store.find_policy(name).await
    }

    /// Removes a policy; `false` where there is none of that name.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn delete(&self, name: &str) -> Result<bool, Error> {
        self.store.delete_policy(name).await
    }

    /// All policies and groups, as the next request will be decided by.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn snapshot(&self) -> Result<PolicySet, Error> {
        load(&self.store).await
    }

    /// All groups that have members, with these.
    ///
    /// # Errors
    ///
    /// When storage fails.
    pub async fn groups(&self) -> Result<Vec<Group>, Error> {
        let mut groups: Vec<Group> = Vec::new();
        for (urn, member) in self.store.list_group_members().await? {
            match groups.last_mut() {
                Some(group) if group.urn == urn => group.members.push(member),
                _ => groups.push(Group { urn, members: vec![member] }),
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

    /// Takes all members out of a group, and gives their number.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] where the group is none; or when storage fails.
    pub async fn delete_group(&self, group: IdentityUrn) -> Result<u64, Error> {
        check_group(&group)?;
        self.store.delete_group(group).await
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
    Err(Error::malformed(format!(
        "{group} is no group, whose URN is urn:v1:<region>:identity:group:<name>"
    )))
}
