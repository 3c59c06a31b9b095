//! `okmsd token create`: a personal access token, shown once.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::super::{
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
    domain::{Clock, OkmsId},
    service::NewToken,
};

/// A new personal access token.
#[derive(Debug, Args)]
pub(in crate::cli) struct Create {
    #[command(flatten)]
    config: ConfigArguments,
    /// Id of the domain, the only one in which the token counts
    #[arg(long, visible_alias = "okms-id", value_name = "OKMS_ID", value_parser = okms_id)]
    domain: OkmsId,
    /// Identity that it acts for, such as urn:v1:eu:identity:user:ab12345-ovh/deploy; up to 25 times
    #[arg(long = "identity", value_name = "URN", required = true)]
    identities: Vec<String>,
    /// What it is for: up to 200 characters
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,
    /// How long it counts, such as 12h or 90d: 1m to 365d
    #[arg(long, value_name = "DURATION", default_value = "365d", value_parser = duration)]
    valid_for: Duration,
    /// Form of the answer
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

impl Create {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let config = self.config.load(environment)?;
        let new = NewToken {
            okms_id: self.domain,
            identity_urns: self.identities.clone(),
            description: self.description,
            validity_seconds: self.valid_for.as_secs(),
        };
        let act = Act::new("token create")
            .about("okmsId", self.domain)
            .about_all("identities", &self.identities);
        let (issued, has_rights) = services::with(&config, act, async |services| {
            let issued = services.tokens.create(new).await;
            let issued =
                issued.map_err(|error| Failure::refused("cannot make the token", &error))?;
            services.notes.add("tokenId", issued.token.id);
            services.notes.add("expiresAt", issued.token.expires_at.to_rfc3339_seconds());
            let has_rights = services.has_rights(&issued.token.identity_urns).await;
            Ok((issued, has_rights))
        })?;
        if !config.tokens.enabled {
            output::complain(
                "tokens.enabled is false: a server of this configuration takes no tokens",
            );
        }
        if !has_rights {
            output::complain(
                "the token may do nothing yet: it has no account identity, and no policy names it or \
                 a group of it (okmsd policy apply)",
            );
        }
        let now = SystemClock.now();
        let (token, secret) = (&issued.token, issued.text.expose());
        output::answer(
            self.format,
            || format!("{}\nToken, shown only now: {secret}\n", super::text(token, now)),
            || {
                let mut answer = super::json(token, now);
                answer["token"] = json!(secret);
                answer
            },
        )
    }
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    // humantime also reads months and years, of which nobody knows how long they are, and milliseconds.
    let known = text.bytes().all(|byte| byte.is_ascii_digit() || b"smhd".contains(&byte));
    let known = known && !text.contains("ms");
    let duration = known.then(|| humantime::parse_duration(text).ok()).flatten();
    duration.ok_or("must be a duration such as 30m, 12h or 90d")
}
