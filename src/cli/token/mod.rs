//! `okmsd token`: tokens, which callers send with a request.

mod create;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use self::create::Create;
use super::{
    Failure,
    act::Act,
    config_args::ConfigArguments,
    domain::okms_id,
    output::{self, Format},
    services,
};
use crate::{
    clock::SystemClock,
    config::Environment,
    domain::{Argument, Clock, Error, OkmsId, Timestamp, Token, TokenId},
    service::ListedToken,
};

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a personal access token, and show it once
    Create(Create),
    /// List the tokens of a domain, those that certificates asked for included
    List(List),
    /// Revoke a token: it no longer counts from the next request on
    Revoke(Revoke),
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    config: ConfigArguments,
    /// Id of the domain
    #[arg(long, visible_alias = "okms-id", value_name = "OKMS_ID", value_parser = okms_id)]
    domain: OkmsId,
    /// Form of the answer
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct Revoke {
    #[command(flatten)]
    config: ConfigArguments,
    /// Id of the token, which is not the token itself
    #[arg(value_name = "ID")]
    id: String,
}

impl Command {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        match self {
            Self::Create(arguments) => arguments.run(environment),
            Self::List(arguments) => arguments.run(environment),
            Self::Revoke(arguments) => arguments.run(environment),
        }
    }
}

impl List {
    fn run(self, environment: &Environment) -> Result<(), Failure> {
        let config = self.config.load(environment)?;
        let tokens = services::with(
            &config,
            Act::new("token list").about("okmsId", self.domain),
            async |services| {
                let listed = services.tokens.list(self.domain).await;
                listed.map_err(|error| Failure::refused(self.domain, &error))
            },
        )?;
        let now = SystemClock.now();
        let row = |listed: &ListedToken| match &listed.token {
            Some(token) => [
                token.id.to_string(),
                kind(token).to_owned(),
                token.status(now).as_str().to_owned(),
                token.expires_at.to_rfc3339_seconds(),
                // None where a certificate asked for it, whose identities count.
                token.identity_urns.join(", "),
                token.description.clone(),
            ],
            // Whoever changed it may have written anything.
            None => {
                let id = listed.id.escape_debug().to_string();
                let unknown = String::new;
                [id, unknown(), TAMPERED.to_owned(), unknown(), unknown(), unknown()]
            }
        };
        let rows: Vec<_> = tokens.iter().map(row).collect();
        output::answer(
            self.format,
            || {
                let head = ["ID", "KIND", "STATUS", "EXPIRES", "IDENTITIES", "DESCRIPTION"];
                output::table(head, &rows)
            },
            || {
                let json = |listed: &ListedToken| match &listed.token {
                    Some(token) => json(token, now),
                    None => json!({"id": listed.id, "status": TAMPERED}),
                };
                tokens.iter().map(json).collect()
            },
        )
    }
}

impl Revoke {
    fn run(self, environment: &Environment) -> Result<(), Failure> {
        let id = token_id(&self.id)?;
        let config = self.config.load(environment)?;
        services::with(&config, Act::new("token revoke").about("tokenId", id), async |services| {
            let revoked = services.tokens.revoke(id).await;
            let existed = revoked.map_err(|error| Failure::refused(id, &error))?;
            let no_such = || Failure::new(format!("{id}: there is no such token"));
            existed.then_some(()).ok_or_else(no_such)
        })?;
        output::print(&format!("Revoked {id}.\n"))
    }
}

/// Not read by clap, which would repeat the text: somebody may have given the token itself.
fn token_id(text: &str) -> Result<TokenId, Failure> {
    text.parse().map_err(|_| {
        let rule = "its id is a UUID, which okmsd token list shows";
        Failure::refused("cannot revoke the token", &Error::argument(Argument::FieldRequired, rule))
    })
}

/// The status of a token whose row does not prove itself: it does not count.
const TAMPERED: &str = "TAMPERED";

const fn kind(token: &Token) -> &'static str {
    if token.binding.is_some() { "login" } else { "personal" }
}

fn text(token: &Token, now: Timestamp) -> String {
    let mut fields = vec![
        ("ID", token.id.to_string()),
        ("OKMS id", token.okms_id.to_string()),
        ("Kind", kind(token).to_owned()),
        ("Description", token.description.clone()),
        ("Status", token.status(now).as_str().to_owned()),
        ("Identities", token.identity_urns.join(", ")),
        ("Created", token.created_at.to_rfc3339_seconds()),
        ("Expires", token.expires_at.to_rfc3339_seconds()),
    ];
    fields.retain(|(_, value)| !value.is_empty());
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    output::fields(&fields)
}

fn json(token: &Token, now: Timestamp) -> Value {
    let credential = token.binding.as_ref().and_then(|binding| binding.credential_id);
    json!({
        "id": token.id.to_string(),
        "okmsId": token.okms_id.to_string(),
        "kind": kind(token),
        "description": token.description,
        "status": token.status(now).as_str(),
        "identityURNs": token.identity_urns,
        "credentialId": credential.map(|id| id.to_string()),
        "createdAt": token.created_at.to_rfc3339_seconds(),
        "expiredAt": token.expires_at.to_rfc3339_seconds(),
        "revokedAt": token.revoked_at.map(Timestamp::to_rfc3339_seconds),
    })
}
