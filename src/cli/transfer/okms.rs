//! The API of a server like this one.

use std::collections::BTreeMap;

use hyper::{Method, StatusCode, header::HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::{
    super::{Failure, output},
    remote::{Answer, Remote},
    walk::{PAGE_SIZE, encoded},
    words::{Content, Settings, SourceSecret},
};
use crate::domain::{OkmsId, SecretConfig, VersionLifetime, VersionState};

/// A domain of a server, as a caller sees it.
pub(super) struct Domain {
    pub(super) remote: Remote,
    pub(super) okms_id: OkmsId,
}

/// A version as it is there.
pub(super) struct FoundVersion {
    pub(super) state: VersionState,
    pub(super) created_at: String,
    pub(super) deactivated_at: Option<String>,
    /// Where it is active.
    pub(super) content: Content,
}

/// How a write ended that the rules of the server may refuse.
pub(super) enum Write {
    Done,
    /// Refused; why.
    Refused(String),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    cas_required: bool,
    max_versions: u32,
    deactivate_version_after: &'a str,
    /// Null clears it; an empty map would keep what is there.
    custom_metadata: Option<&'a BTreeMap<String, String>>,
}

impl Domain {
    /// Where KV2 clients find the secrets.
    pub(super) fn mount(&self) -> String {
        format!("/api/{}/v1/secret", self.okms_id)
    }

    /// That the caller may ask in this domain at all: an empty list must not be what another's looks like.
    pub(super) async fn check(&mut self) -> Result<(), Failure> {
        let address = format!("/api/{}/v2/secret", self.okms_id);
        let page = [(PAGE_SIZE, HeaderValue::from_static("10"))];
        let answer = self.remote.get(&address, &page).await?;
        match answer.status {
            StatusCode::OK => Ok(()),
            _ => Err(answer.unexpected(&format!("cannot list domain {}", self.okms_id))),
        }
    }

    /// The defaults of its secrets; none where the caller may not see them.
    pub(super) async fn defaults(&mut self) -> Result<Option<SecretConfig>, Failure> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Defaults {
            cas_required: bool,
            max_versions: u32,
            deactivate_version_after: String,
        }
        let address = format!("/api/{}/v2/secretConfig", self.okms_id);
        let answer = self.remote.get(&address, &[]).await?;
        let what = format!("cannot read the defaults of domain {}", self.okms_id);
        match answer.status {
            StatusCode::OK => {}
            StatusCode::FORBIDDEN => {
                output::tell(&format!("{}: those of secrets count", answer.unexpected(&what)));
                return Ok(None);
            }
            _ => return Err(answer.unexpected(&what)),
        }
        let defaults: Defaults = answer.parse(&what)?;
        let lifetime = VersionLifetime::parse(&defaults.deactivate_version_after);
        Ok(Some(SecretConfig {
            cas_required: defaults.cas_required,
            max_versions: defaults.max_versions,
            deactivate_version_after: lifetime.map_err(|error| Failure::refused(&what, &error))?,
        }))
    }

    /// The secret at a path, where there is one.
    pub(super) async fn find(&mut self, path: &str) -> Result<Option<SourceSecret>, Failure> {
        self.look(path).await?
    }

    /// The same; the inner error is that the caller may not.
    pub(super) async fn look(
        &mut self,
        path: &str,
    ) -> Result<Result<Option<SourceSecret>, Failure>, Failure> {
        #[derive(Deserialize)]
        struct Secret {
            metadata: SecretMetadata,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct SecretMetadata {
            #[serde(flatten)]
            settings: Settings,
            current_version: u32,
            oldest_version: u32,
            created_at: String,
            updated_at: String,
        }
        let address = self.address(path, "");
        let answer = self.remote.get(&address, &[]).await?;
        let what = format!("cannot read {path}");
        match answer.status {
            StatusCode::OK => {}
            // The domain is not there either.
            StatusCode::NOT_FOUND if answer.error_code() == Some(SECRET_NOT_FOUND) => {
                return Ok(Ok(None));
            }
            StatusCode::FORBIDDEN => return Ok(Err(answer.unexpected(&what))),
            _ => return Err(answer.unexpected(&what)),
        }
        let Secret { metadata } = answer.parse(&what)?;
        let current_version = metadata.current_version;
        Ok(Ok(Some(SourceSecret {
            path: path.to_owned(),
            metadata: metadata.settings,
            effect: None,
            current_version,
            // The API says 0 until a version was pruned.
            first_version: metadata.oldest_version.max(1).min(current_version),
            created_at: Some(metadata.created_at),
            updated_at: Some(metadata.updated_at),
        })))
    }

    /// A version with its data, where it is (still) there.
    pub(super) async fn version(
        &mut self,
        path: &str,
        number: u32,
    ) -> Result<Option<FoundVersion>, Failure> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version<'a> {
            state: String,
            created_at: String,
            deactivated_at: Option<String>,
            #[serde(borrow)]
            data: Option<&'a RawValue>,
        }
        let address = self.address(path, &format!("/version/{number}?includeData=true"));
        let answer = self.remote.get(&address, &[]).await?;
        let what = format!("cannot read version {number} of {path}");
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(answer.unexpected(&what)),
        }
        let version: Version<'_> = answer.parse(&what)?;
        let state =
            VersionState::parse(&version.state).map_err(|error| Failure::refused(&what, &error))?;
        let content = match (version.data, state) {
            (Some(data), _) => Content::of(data),
            (None, VersionState::Deleted) => Content::Deleted,
            (None, _) => Content::Deactivated(None),
        };
        Ok(Some(FoundVersion {
            state,
            created_at: version.created_at,
            deactivated_at: version.deactivated_at,
            content,
        }))
    }

    /// Makes a secret with its first version.
    pub(super) async fn create(
        &mut self,
        path: &str,
        settings: &Settings,
        data: &str,
    ) -> Result<Write, Failure> {
        let metadata = Metadata::of(settings).to_json()?;
        // A path that the rules take has nothing that JSON escapes.
        let body = joined(&[
            r#"{"path":""#,
            path,
            r#"","metadata":"#,
            &metadata,
            r#","version":{"data":"#,
            data,
            "}}",
        ]);
        let address = format!("/api/{}/v2/secret", self.okms_id);
        let answer = self.remote.send_json(Method::POST, &address, body).await?;
        written(&answer, &format!("cannot make {path}"))
    }

    /// Makes a secret without versions.
    pub(super) async fn create_empty(
        &mut self,
        path: &str,
        settings: &Settings,
    ) -> Result<Write, Failure> {
        let body = serde_json::json!({
            "cas_required": settings.cas_required,
            "max_versions": settings.max_versions,
            "delete_version_after": settings.deactivate_version_after,
            "custom_metadata": settings.custom_metadata,
        });
        let address = format!("{}/metadata/{}", self.mount(), encoded(path));
        let body = Zeroizing::new(body.to_string().into_bytes());
        let answer = self.remote.send_json(Method::POST, &address, body).await?;
        written(&answer, &format!("cannot make {path}"))
    }

    /// Writes version `number`, which must be the next one.
    pub(super) async fn add_version(
        &mut self,
        path: &str,
        number: u32,
        data: &str,
    ) -> Result<Write, Failure> {
        let address = self.address(path, &format!("/version?cas={}", number - 1));
        let body = joined(&[r#"{"data":"#, data, "}"]);
        let answer = self.remote.send_json(Method::POST, &address, body).await?;
        written(&answer, &format!("cannot write version {number} of {path}"))
    }

    /// Brings a version into a state.
    pub(super) async fn set_state(
        &mut self,
        path: &str,
        number: u32,
        state: VersionState,
    ) -> Result<Write, Failure> {
        let address = self.address(path, &format!("/version/{number}"));
        let body = joined(&[r#"{"state":""#, state.as_str(), r#""}"#]);
        let answer = self.remote.send_json(Method::PUT, &address, body).await?;
        written(&answer, &format!("cannot change version {number} of {path}"))
    }

    /// Gives a secret its settings, if `current` is still its newest version.
    pub(super) async fn set_settings(
        &mut self,
        path: &str,
        current: u32,
        settings: &Settings,
    ) -> Result<Write, Failure> {
        let address = self.address(path, &format!("?cas={current}"));
        let metadata = Metadata::of(settings).to_json()?;
        let body = joined(&[r#"{"metadata":"#, &metadata, "}"]);
        let answer = self.remote.send_json(Method::PUT, &address, body).await?;
        written(&answer, &format!("cannot change {path}"))
    }

    /// The path is encoded as a whole: one that ends as an address of versions does is no other's.
    fn address(&self, path: &str, below: &str) -> String {
        let path = encoded(path).replace('/', "%2F");
        format!("/api/{}/v2/secret/{path}{below}", self.okms_id)
    }
}

impl<'a> Metadata<'a> {
    fn of(settings: &'a Settings) -> Self {
        Self {
            cas_required: settings.cas_required,
            max_versions: settings.max_versions,
            deactivate_version_after: &settings.deactivate_version_after,
            custom_metadata: Some(&settings.custom_metadata).filter(|map| !map.is_empty()),
        }
    }

    fn to_json(&self) -> Result<String, Failure> {
        serde_json::to_string(self).map_err(|error| Failure::because("cannot write JSON", &error))
    }
}

impl Answer {
    fn error_code(&self) -> Option<i64> {
        #[derive(Deserialize)]
        struct Coded {
            error_code: i64,
        }
        serde_json::from_slice(&self.body).ok().map(|Coded { error_code }| error_code)
    }
}

fn written(answer: &Answer, what: &str) -> Result<Write, Failure> {
    match answer.status {
        status if status.is_success() => Ok(Write::Done),
        StatusCode::BAD_REQUEST | StatusCode::CONFLICT | StatusCode::PAYLOAD_TOO_LARGE => {
            Ok(Write::Refused(format!("{}{}", answer.status, answer.told())))
        }
        _ => Err(answer.unexpected(what)),
    }
}

/// One text, allocated once and wiped when it was sent: parts of it are secret.
fn joined(parts: &[&str]) -> Zeroizing<Vec<u8>> {
    let mut body = Zeroizing::new(Vec::with_capacity(parts.iter().map(|part| part.len()).sum()));
    for part in parts {
        body.extend_from_slice(part.as_bytes());
    }
    body
}

/// The code of the API for it.
const SECRET_NOT_FOUND: i64 = 17_125_377;
