//! `okmsd policy check`: would this be allowed, and why.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::super::{
    Failure,
    act::Act,
    bootstrap,
    config_args::ConfigArguments,
    domain::okms_id,
    group::identity,
    output::{self, Format},
    reload::TlsFiles,
    services::{self, Services},
};
use crate::{
    clock::SystemClock,
    config::{Config, Environment},
    domain::{
        Claim, Clock, Credential, CredentialId, CredentialStatus, IdentityUrn, OkmsDomain, OkmsId,
        PeerCertificate, SecretPath, resource_urn,
    },
    iam::{Action, Decision, Ground, Miss, NearMiss, PolicySet},
    server::check_client_certificate,
};

/// Something that somebody might do.
#[derive(Debug, Args)]
#[group(id = "who", required = true, multiple = false, args = ["identities", "credential", "certificate"])]
pub(in crate::cli) struct Check {
    #[command(flatten)]
    config: ConfigArguments,
    /// Identity of the caller, such as urn:v1:eu:identity:user:ab12345-ovh/deploy; several times for
    /// one who has several. Its groups are looked up
    #[arg(long = "identity", value_name = "URN", value_parser = identity)]
    identities: Vec<IdentityUrn>,
    /// Id of the credential of the caller
    #[arg(long, value_name = "ID", value_parser = credential_id)]
    credential: Option<CredentialId>,
    /// Certificate of the caller (PEM), of our authority or another one
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// Id of the domain
    #[arg(long, value_name = "OKMS_ID", value_parser = okms_id)]
    domain: OkmsId,
    /// Action, such as okms:apikms:secret/get
    #[arg(long, value_name = "ACTION", value_parser = action)]
    action: Action,
    /// Path of the secret, not percent-encoded; for all actions but those on the domain's defaults
    #[arg(long, value_name = "PATH", value_parser = path)]
    path: Option<SecretPath>,
    /// Form of the answer
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Who would act.
struct Caller {
    identities: Vec<String>,
    /// Why the credential does not count here, whatever policies say.
    refusal: Option<String>,
}

impl Check {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let path = match (&self.path, self.action.is_of_secret()) {
            (Some(path), true) => Some(path),
            (None, false) => None,
            (None, true) => return Err(Failure::usage("this action needs --path")),
            (Some(_), false) => {
                return Err(Failure::usage("this action is about the domain: leave out --path"));
            }
        };
        let config = self.config.load(environment)?;
        let certificate = self.certificate.as_deref().map(|file| Self::read(&config, file));
        let certificate = certificate.transpose()?;
        let act = Act::new("policy check")
            .about("okmsId", self.domain)
            .about("action", self.action.as_str());
        let (domain, caller, policies) = services::with(&config, act, async |services| {
            let found = services.domains.find(self.domain).await;
            let domain = found.map_err(|error| Failure::refused(self.domain, &error))?;
            let caller = self.caller(services, certificate).await?;
            let policies = services.policies.snapshot().await;
            let deciding =
                policies.and_then(|policies| policies.deciding_about(&caller.identities));
            let policies =
                deciding.map_err(|error| Failure::refused("cannot read the policies", &error))?;
            Ok((domain, caller, policies))
        })?;
        let answer = Answer::new(&policies, &domain, caller, self.action, path);
        output::answer(self.format, || answer.text(), || answer.json())?;
        if answer.is_allowed() { Ok(()) } else { Err(Failure::new("denied")) }
    }

    async fn caller(
        &self,
        services: &Services,
        certificate: Option<PeerCertificate>,
    ) -> Result<Caller, Failure> {
        let id = match (certificate, self.credential) {
            (Some(certificate), _) => return self.owner(services, certificate).await,
            (None, Some(id)) => id,
            (None, None) => {
                let identities = self.identities.iter().map(IdentityUrn::to_string).collect();
                return Ok(Caller { identities, refusal: None });
            }
        };
        let credential = find(services, id).await?;
        Ok(self.holder(services, credential))
    }

    /// Reads a certificate as the server would: what it would refuse has no rights to ask about.
    fn read(config: &Config, file: &Path) -> Result<PeerCertificate, Failure> {
        let material = TlsFiles::new(config).read()?;
        let pem = bootstrap::read(file)?;
        check_client_certificate(&material, &pem, SystemClock.now()).map_err(|error| {
            Failure::because(format!("the server would refuse {}", file.display()), &error)
        })
    }

    /// Whoever holds the key of a certificate.
    async fn owner(
        &self,
        services: &Services,
        certificate: PeerCertificate,
    ) -> Result<Caller, Failure> {
        let registered = match certificate.claim {
            Claim::Issued(id) => Some(find(services, id).await?),
            Claim::External(_) => {
                let found = services.credentials.find_of_certificate(certificate.fingerprint);
                found.await.map_err(|error| Failure::refused("cannot read credentials", &error))?
            }
        };
        match (registered, certificate.claim) {
            (Some(credential), _) if credential.fingerprint == certificate.fingerprint => {
                Ok(self.holder(services, credential))
            }
            (Some(credential), _) => Err(Failure::new(format!(
                "it is another certificate than that of the credential {}",
                credential.id
            ))),
            (None, Claim::External(identities)) => {
                let domain = certificate.okms_id;
                let refusal = (domain != self.domain)
                    .then(|| format!("the certificate counts in the domain {domain} only"));
                Ok(Caller { identities, refusal })
            }
            (None, Claim::Issued(id)) => Err(Failure::new(format!("{id}: no such credential"))),
        }
    }

    fn holder(&self, services: &Services, credential: Credential) -> Caller {
        let status = credential.status(services.clock.now());
        let refusal = if credential.okms_id != self.domain {
            Some(format!("the credential counts in the domain {} only", credential.okms_id))
        } else if status != CredentialStatus::Ready {
            Some(format!("the credential is {}", status.as_str()))
        } else {
            None
        };
        Caller { identities: credential.identity_urns, refusal }
    }
}

async fn find(services: &Services, id: CredentialId) -> Result<Credential, Failure> {
    let found = services.credentials.find(id).await;
    let found = found.map_err(|error| Failure::refused(id, &error))?;
    found.ok_or_else(|| Failure::new(format!("{id}: there is no such credential")))
}

/// What comes of it.
struct Answer<'s> {
    action: Action,
    resource: String,
    identities: Vec<String>,
    refusal: Option<String>,
    decision: Decision<'s>,
    near_misses: Vec<NearMiss<'s>>,
}

impl<'s> Answer<'s> {
    fn new(
        policies: &'s PolicySet,
        domain: &OkmsDomain,
        caller: Caller,
        action: Action,
        path: Option<&SecretPath>,
    ) -> Self {
        let identities = policies.with_groups(caller.identities);
        let rights = policies.rights(&identities, &domain.region, domain.okms_id);
        let decision = rights.decide(action, path);
        let near_misses = match decision {
            Decision::NoPolicy => rights.near_misses(action, path),
            _ => Vec::new(),
        };
        let resource = resource_urn(&domain.region, domain.okms_id, path);
        Self { action, resource, identities, refusal: caller.refusal, decision, near_misses }
    }

    fn is_allowed(&self) -> bool {
        self.refusal.is_none() && self.decision.is_allowed()
    }

    const fn word(&self, is_allowed: bool) -> &'static str {
        if is_allowed { "allowed" } else { "denied" }
    }

    fn why(&self) -> String {
        if let Some(refusal) = &self.refusal {
            return refusal.clone();
        }
        match self.decision {
            Decision::Root => "the caller is root: an account may do everything".to_owned(),
            Decision::Allowed(ground) => {
                format!("policy \"{}\", line {}", ground.policy.name(), ground.action_line)
            }
            Decision::Denied(ground) => format!(
                "policy \"{}\", line {}: a deny wins over every allow",
                ground.policy.name(),
                ground.action_line
            ),
            Decision::NoPolicy if self.near_misses.is_empty() => {
                "no policy names the caller".to_owned()
            }
            Decision::NoPolicy => "no policy allows it".to_owned(),
        }
    }

    fn text(&self) -> String {
        let mut text = format!("{}: {}\n", self.word(self.is_allowed()), self.why());
        let identities = self.identities.join(", ");
        let mut fields = vec![
            ("Action", self.action.as_str().to_owned()),
            ("Resource", self.resource.clone()),
            ("Caller", identities),
        ];
        if let Some(ground) = self.ground() {
            fields.push(("Caller named", format!("line {}", ground.identity_line)));
            fields.push(("Resource named", format!("line {}", ground.resource_line)));
        }
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        text.push_str(&output::fields(&fields));
        for near in &self.near_misses {
            text.push_str(&format!("policy \"{}\": {}\n", near.policy.name(), miss(near.miss)));
        }
        text
    }

    /// What decided, where the decision counts.
    fn ground(&self) -> Option<Ground<'s>> {
        self.decision.ground().filter(|_| self.refusal.is_none())
    }

    fn json(&self) -> Value {
        let near_misses = self.near_misses.iter().map(|near| {
            let line = match near.miss {
                Miss::Excepted(line) => Some(line),
                Miss::Resource | Miss::Action => None,
            };
            json!({"policy": near.policy.name(), "why": miss(near.miss), "line": line})
        });
        let near_misses: Vec<Value> = near_misses.collect();
        let ground = self.ground();
        json!({
            "decision": self.word(self.is_allowed()),
            "why": self.why(),
            "action": self.action.as_str(),
            "resource": self.resource,
            "identities": self.identities,
            "decidedBy": self.decision.decided_by().filter(|_| self.refusal.is_none()),
            "line": ground.map(|ground| ground.action_line),
            "identityLine": ground.map(|ground| ground.identity_line),
            "resourceLine": ground.map(|ground| ground.resource_line),
            "policiesOfCaller": near_misses,
        })
    }
}

fn miss(miss: Miss) -> String {
    match miss {
        Miss::Resource => "names the caller, but not this resource".to_owned(),
        Miss::Action => {
            "names the caller and the resource, but does not allow this action".to_owned()
        }
        Miss::Excepted(line) => format!("allows it, but excepts it on line {line}"),
    }
}

fn action(text: &str) -> Result<Action, String> {
    Action::parse(text).ok_or_else(|| {
        let names: Vec<_> = Action::ALL.iter().map(|action| action.as_str()).collect();
        format!("the actions are {}", names.join(", "))
    })
}

fn path(text: &str) -> Result<SecretPath, String> {
    SecretPath::parse(text).map_err(|error| format!("{error:?}"))
}

fn credential_id(text: &str) -> Result<CredentialId, &'static str> {
    text.parse().map_err(|_| "the id of a credential is a UUID")
}
