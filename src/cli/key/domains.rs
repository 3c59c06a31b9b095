//! `okmsd key rotate-domain` and `rewrap`: keys of domains.

use std::time::{Duration, Instant};

use clap::Args;

use crate::{
    cli::{
        Failure,
        act::Act,
        config_args::ConfigArguments,
        domain::okms_id,
        output,
        services::{self, Services},
    },
    config::Environment,
    domain::{OkmsId, SecretPath, VersionId},
    service::RewrapReport,
};

/// Give a domain a new key at once
///
/// What is written from then on is under the new key, on every server from its next request on. What is
/// there stays readable; running servers seal it anew, as `okmsd key rewrap` does, and then destroy the
/// old key.
#[derive(Debug, Args)]
pub(in crate::cli) struct RotateDomain {
    #[command(flatten)]
    config: ConfigArguments,
    /// Id of the domain
    #[arg(value_name = "OKMS_ID", value_parser = okms_id, required_unless_present = "all")]
    okms_id: Option<OkmsId>,
    /// All domains
    #[arg(long, conflicts_with = "okms_id")]
    all: bool,
}

/// Seal everything anew that is under an old key, and destroy old keys
///
/// Can be ended at any time and given again: it goes on with what is left.
#[derive(Debug, Args)]
pub(in crate::cli) struct Rewrap {
    #[command(flatten)]
    config: ConfigArguments,
    /// Id of the domain [default: all domains]
    #[arg(value_name = "OKMS_ID", value_parser = okms_id)]
    okms_id: Option<OkmsId>,
}

impl RotateDomain {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let config = self.config.load(environment)?;
        let act = act("key rotate-domain", self.okms_id);
        services::with(&config, act, async |services| {
            let mut failures = Vec::new();
            for okms_id in domains(services, self.okms_id).await? {
                match services.keys.rotate_domain(okms_id).await {
                    Ok(generation) => {
                        let generation = generation.get();
                        let done = format!("{okms_id} has the key of generation {generation}.\n");
                        output::print(&done)?;
                    }
                    // Those after it can be done all the same.
                    Err(error) => failures.push(Failure::refused(okms_id, &error).to_string()),
                }
            }
            ended(&failures)
        })
    }
}

impl Rewrap {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let config = self.config.load(environment)?;
        services::with(&config, act("key rewrap", self.okms_id), async |services| {
            let mut failures = Vec::new();
            for okms_id in domains(services, self.okms_id).await? {
                let mut told = Instant::now();
                let progress = |report: &RewrapReport| {
                    if told.elapsed() >= PROGRESS_INTERVAL {
                        told = Instant::now();
                        let versions = report.versions;
                        output::tell(&format!("{okms_id}: {versions} versions sealed anew so far"));
                    }
                };
                let report = match services.keys.rewrap(okms_id, progress).await {
                    Ok(report) => report,
                    // Those after it can be done all the same.
                    Err(error) => {
                        failures.push(Failure::refused(okms_id, &error).to_string());
                        continue;
                    }
                };
                let (versions, destroyed) = (report.versions, report.destroyed);
                output::print(&format!(
                    "{okms_id}: {versions} versions sealed anew, {destroyed} keys destroyed\n"
                ))?;
                failures.extend(failure(okms_id, &report));
            }
            ended(&failures)
        })
    }
}

fn ended(failures: &[String]) -> Result<(), Failure> {
    if failures.is_empty() { Ok(()) } else { Err(Failure::new(failures.join("\n"))) }
}

fn failure(okms_id: OkmsId, report: &RewrapReport) -> Option<String> {
    if !report.refused.is_empty() || !report.unreadable.is_empty() {
        let name = |(path, version): &(SecretPath, Option<VersionId>)| match version {
            Some(version) => format!("{} version {}", path.as_str(), version.get()),
            None => format!("{} itself", path.as_str()),
        };
        let unreadable = report.unreadable.iter();
        let unreadable = unreadable.map(|id| format!("the secret with the secret_id {id}"));
        let names: Vec<_> = report.refused.iter().map(name).chain(unreadable).collect();
        let names = names.join(", ");
        return Some(format!(
            "{okms_id}: an old key is kept, for what does not verify under any key: {names}"
        ));
    }
    report.pending.then(|| {
        format!("{okms_id}: something was written under an old key all the time; try again later")
    })
}

async fn domains(services: &Services, one: Option<OkmsId>) -> Result<Vec<OkmsId>, Failure> {
    if let Some(okms_id) = one {
        let found = services.domains.find(okms_id).await;
        return found.map(|domain| vec![domain.okms_id]).map_err(|e| Failure::refused(okms_id, &e));
    }
    let listed = services.domains.list_ids().await;
    listed.map_err(|error| Failure::refused("cannot list the domains", &error))
}

fn act(operation: &'static str, okms_id: Option<OkmsId>) -> Act {
    let act = Act::new(operation);
    match okms_id {
        Some(okms_id) => act.about("okmsId", okms_id),
        None => act,
    }
}

/// Seldom enough not to fill a screen, often enough to see that it goes on.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
