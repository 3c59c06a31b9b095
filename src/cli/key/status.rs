//! `okmsd key status`: which keys there are, and what is under them.

use clap::Args;
use serde_json::{Value, json};

use crate::{
    cli::{
        Failure,
        act::Act,
        config_args::ConfigArguments,
        output::{self, Format},
        services,
    },
    config::Environment,
    crypto::DomainKey,
    service::{KeyStatus, RootKeyStatus},
    store::KeyUse,
};

#[derive(Debug, Args)]
pub(in crate::cli) struct Status {
    #[command(flatten)]
    config: ConfigArguments,
    /// Form of the answer
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

impl Status {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let config = self.config.load(environment)?;
        let status = services::with(&config, Act::new("key status"), async |services| {
            let status = services.keys.status().await;
            status.map_err(|error| Failure::refused("cannot read the keys", &error))
        })?;
        output::answer(self.format, || text(&status), || json(&status))
    }
}

/// Whether something is yet to be sealed under the newest key of the domain.
fn is_pending(status: &KeyStatus, key: &KeyUse) -> bool {
    let newest = status.keys.iter().filter(|other| other.okms_id == key.okms_id);
    newest
        .max_by_key(|key| key.generation)
        .is_some_and(|newest| newest.generation != key.generation)
}

fn text(status: &KeyStatus) -> String {
    let root_row = |key: &RootKeyStatus| {
        let own = if key.is_own { "configured here" } else { "" };
        let (id, made) = (key.id.to_string(), key.created_at.to_rfc3339_seconds());
        [key.slot.to_string(), id, made, own.to_owned()]
    };
    let root_rows: Vec<_> = status.root_keys.iter().map(root_row).collect();
    let row = |key: &KeyUse| {
        [
            key.okms_id.to_string(),
            key.generation.get().to_string(),
            key.created_at.to_rfc3339_seconds(),
            format!("{:.2} %", used_percent(key)),
            key.versions.to_string(),
            key.secrets.to_string(),
            if is_pending(status, key) { "goes once nothing is under it" } else { "" }.to_owned(),
        ]
    };
    let rows: Vec<_> = status.keys.iter().map(row).collect();
    let pending = status.keys.iter().any(|key| is_pending(status, key));
    let pending = if pending { "\nA rewrap is pending.\n" } else { "" };
    format!(
        "Store key {}\n\n{}\n{}{pending}",
        status.store_key_id,
        output::table(["SLOT", "ROOT KEY", "SINCE", ""], &root_rows),
        output::table(["OKMS ID", "GENERATION", "SINCE", "USED", "VERSIONS", "SECRETS", ""], &rows),
    )
}

fn json(status: &KeyStatus) -> Value {
    let root_key = |key: &RootKeyStatus| {
        json!({
            "slot": key.slot,
            "id": key.id.as_str(),
            "createdAt": key.created_at.to_rfc3339_seconds(),
            "isConfigured": key.is_own,
        })
    };
    let key = |key: &KeyUse| {
        json!({
            "okmsId": key.okms_id.to_string(),
            "generation": key.generation.get(),
            "createdAt": key.created_at.to_rfc3339_seconds(),
            "uses": key.uses,
            "maxUses": DomainKey::MAX_USES,
            "versions": key.versions,
            "secrets": key.secrets,
            "isPending": is_pending(status, key),
        })
    };
    json!({
        "storeKeyId": status.store_key_id.as_str(),
        "rootKeys": status.root_keys.iter().map(root_key).collect::<Value>(),
        "keys": status.keys.iter().map(key).collect::<Value>(),
    })
}

/// How much of the uses that a key may have is gone.
#[expect(clippy::cast_precision_loss, reason = "of what is shown with two digits")]
fn used_percent(key: &KeyUse) -> f64 {
    key.uses as f64 / DomainKey::MAX_USES as f64 * 100.0
}
