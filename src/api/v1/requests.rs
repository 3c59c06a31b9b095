//! What requests of v1 say, read from JSON.
//!
//! Clients of KV2 write numbers and booleans as such or as text (`bao write … cas=1` knows nothing else), so
//! both are taken. Null is what Vault makes of it: a setting that is null goes back to its default, but for
//! `delete_version_after` where it is written and not patched: that stays.

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderName, request::Parts},
};

use crate::{
    api::{
        ApiState,
        body::{JSON, JsonBody, is_declared_as},
        error::ApiError,
        extract::path_param,
        fields::Fields,
        query::{asks_for_list, number},
    },
    domain::{
        Argument, CustomMetadata, CustomMetadataPatch, Error, Held, MAX_VERSION, MetadataPatch,
        SecretConfigPatch, SecretData, SecretPath, VersionId, VersionLifetime, json::Json,
    },
    service::{Caller, Presented},
};

/// A body of JSON, with the caller as of the moment when all of it was there.
///
/// Many clients of KV2 do not say what their body is, or say something else. That is taken where the request
/// has something that no other web site can make a browser send.
pub(super) struct KvBody {
    pub(super) caller: Caller,
    pub(super) json: Json,
    _held: Option<Held>,
}

impl FromRequest<ApiState> for KvBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, ApiError> {
        let is_declared = is_declared_as(request.headers(), &[JSON, MERGE_PATCH]);
        if !is_declared && !is_of_a_client(&request) {
            return Err(ApiError::UnsupportedMediaType(
                "the body must be sent with the header Content-Type: application/json, or \
                 application/merge-patch+json",
            ));
        }
        let JsonBody { caller, json, held } = JsonBody::read(request, state).await?;
        Ok(Self { caller, json, _held: held })
    }
}

/// Whether a request has something that no other web site can make a browser send: the header of clients of
/// KV2, or a token, which was taken out of the headers when its sender was found out.
fn is_of_a_client(request: &Request) -> bool {
    let presented = request.extensions().get::<Presented>();
    request.headers().contains_key(X_VAULT_REQUEST)
        || matches!(presented, Some(Presented::Token(_)))
}

/// What a path below `metadata` is asked for.
pub(super) enum MetadataTarget {
    /// What stands in this folder.
    Folder(SecretPath),
    /// The secret itself.
    Secret(SecretPath),
}

impl<S: Send + Sync> FromRequestParts<S> for MetadataTarget {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        if asks_for_list(parts.uri.query())? {
            let text = path_param(parts, state, "path").await?;
            // A folder is written with a slash at its end or without.
            return Ok(Self::Folder(SecretPath::parse(text.strip_suffix('/').unwrap_or(&text))?));
        }
        Ok(Self::Secret(SecretPath::from_request_parts(parts, state).await?))
    }
}

/// What `POST /secret/data/{path}` says.
pub(super) struct KvWrite {
    pub(super) data: SecretData,
    pub(super) cas: Option<u32>,
}

impl KvWrite {
    pub(super) fn read(body: &Json) -> Result<Self, Error> {
        let mut fields = Fields::of_body(body)?;
        let cas = options(&mut fields)?;
        let data = fields.data()?.ok_or_else(no_data)?;
        check_cas_beside_data(&mut fields)?;
        fields.refuse_unknown()?;
        Ok(Self { data, cas })
    }
}

/// Takes a `cas` beside the data that asks for nothing: Terraform's provider sends a 0 there with every write, and Vault
/// looks at none. Of any other its sender believes that it is compared.
fn check_cas_beside_data(fields: &mut Fields<'_>) -> Result<(), Error> {
    match fields.take("cas") {
        None | Some(Json::Null) => Ok(()),
        Some(Json::Number(text)) if text.as_str() == "0" => Ok(()),
        Some(_) => Err(Error::malformed("cas is compared in options alone, not beside data")),
    }
}

/// What `PATCH /secret/data/{path}` says: the merge patch, and the check-and-set.
pub(super) fn patch(body: &Json) -> Result<(Json, Option<u32>), Error> {
    let mut fields = Fields::of_body(body)?;
    let cas = options(&mut fields)?;
    let data = fields.take("data").ok_or_else(no_data)?;
    fields.refuse_unknown()?;
    // A patch that is no object would take the place of all data.
    SecretData::from_json(data)?;
    Ok((data.clone(), cas))
}

/// The versions that a body names; those that no secret can have are left out, as others that are not there
/// are passed over later.
pub(super) fn versions(body: &Json) -> Result<Vec<VersionId>, Error> {
    let mut fields = Fields::of_body(body)?;
    let texts: Vec<&str> = match fields.take("versions") {
        None | Some(Json::Null) => Vec::new(),
        Some(Json::Array(items)) => items.iter().map(number_text).collect::<Result<_, _>>()?,
        Some(Json::String(text)) if text.is_empty() => Vec::new(),
        Some(Json::String(text)) => text.split(',').map(str::trim).collect(),
        Some(other) => vec![number_text(other)?],
    };
    fields.refuse_unknown()?;
    if texts.is_empty() {
        return Err(Error::argument(Argument::FieldRequired, "versions: no version is named"));
    }
    let numbers = texts.into_iter().map(|text| number(text).ok_or_else(not_a_version));
    let numbers = numbers.collect::<Result<BTreeSet<_>, _>>()?;
    let versions: Vec<_> =
        numbers.into_iter().filter_map(|number| VersionId::new(number).ok()).collect();
    if versions.len() > MAX_VERSIONS_AT_ONCE {
        return Err(Error::argument(Argument::Version, "versions must be at most 1000 at once"));
    }
    Ok(versions)
}

fn number_text(json: &Json) -> Result<&str, Error> {
    match json {
        Json::Number(text) | Json::String(text) => Ok(text),
        _ => Err(not_a_version()),
    }
}

fn not_a_version() -> Error {
    Error::argument(Argument::Version, "versions must be a list of whole numbers")
}

/// What `POST /secret/config` says.
pub(super) fn config(body: &Json) -> Result<SecretConfigPatch, Error> {
    let mut fields = Fields::of_body(body)?;
    let patch = settings(&mut fields, Null::IsZeroButForTimes)?;
    fields.refuse_unknown()?;
    Ok(patch)
}

/// What `POST /secret/metadata/{path}` says.
pub(super) fn metadata(body: &Json) -> Result<MetadataPatch, Error> {
    let mut fields = Fields::of_body(body)?;
    let config = settings(&mut fields, Null::IsZeroButForTimes)?;
    let custom_metadata = match fields.take(CUSTOM_METADATA) {
        None => None,
        Some(Json::Null) => Some(CustomMetadata::default()),
        Some(json) => {
            let pairs = pairs(&fields, json)?.into_iter();
            let pairs =
                pairs.map(|(key, value)| value.map(|value| (key, value)).ok_or_else(no_text));
            Some(CustomMetadata::new(pairs.collect::<Result<_, _>>()?)?)
        }
    };
    fields.refuse_unknown()?;
    Ok(MetadataPatch { config, custom_metadata })
}

/// What `PATCH /secret/metadata/{path}` says.
pub(super) fn metadata_patch(
    body: &Json,
) -> Result<(SecretConfigPatch, CustomMetadataPatch), Error> {
    let mut fields = Fields::of_body(body)?;
    let config = settings(&mut fields, Null::IsZero)?;
    let custom_metadata = match fields.take(CUSTOM_METADATA) {
        None => CustomMetadataPatch::default(),
        Some(Json::Null) => CustomMetadataPatch::Clear,
        Some(json) => CustomMetadataPatch::Merge(pairs(&fields, json)?),
    };
    fields.refuse_unknown()?;
    Ok((config, custom_metadata))
}

/// What a null in the place of a setting stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Null {
    /// The default.
    IsZero,
    /// The default, but for durations: those stay as they are.
    IsZeroButForTimes,
}

fn settings(fields: &mut Fields<'_>, null: Null) -> Result<SecretConfigPatch, Error> {
    let cas_required = match fields.take(CAS_REQUIRED) {
        None => None,
        Some(Json::Null) => Some(false),
        Some(json) => {
            Some(boolean(json).ok_or_else(|| fields.wrong_type(CAS_REQUIRED, "a boolean", json))?)
        }
    };
    let max_versions = match fields.take(MAX_VERSIONS) {
        None => None,
        Some(Json::Null) => Some(0),
        Some(Json::Number(text) | Json::String(text)) => {
            // Anything but a plain integer becomes a number that is out of bounds.
            Some(SecretConfigPatch::check_max_versions(number(text).map_or(u64::MAX, u64::from))?)
        }
        Some(other) => return Err(fields.wrong_type(MAX_VERSIONS, "a number", other)),
    };
    let deactivate_version_after = match fields.take(DELETE_VERSION_AFTER) {
        None => None,
        Some(Json::Null) => (null == Null::IsZero).then(VersionLifetime::default),
        // A bare number is seconds.
        Some(Json::Number(text) | Json::String(text)) => Some(VersionLifetime::parse(text)?),
        Some(other) => return Err(fields.wrong_type(DELETE_VERSION_AFTER, "a duration", other)),
    };
    Ok(SecretConfigPatch { cas_required, max_versions, deactivate_version_after })
}

/// The check-and-set of `options`. What else stands in there is Vault's, and has no meaning here.
fn options(fields: &mut Fields<'_>) -> Result<Option<u32>, Error> {
    let Some(mut options) = fields.object("options", "options.")? else { return Ok(None) };
    match options.take("cas") {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Number(text) | Json::String(text)) => {
            let number = number(text).filter(|number| *number <= MAX_VERSION);
            number.map(Some).ok_or_else(not_a_cas)
        }
        Some(_) => Err(not_a_cas()),
    }
}

/// Not the error of a `cas` that does not match: to read again and to try again does not help.
fn not_a_cas() -> Error {
    Error::malformed("options.cas must be a number from 0 to 24000")
}

fn boolean(json: &Json) -> Option<bool> {
    match json {
        Json::Bool(value) => Some(*value),
        Json::String(text) | Json::Number(text) => match text.as_str() {
            // The spellings that Go reads.
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// The pairs of custom metadata; a null is a pair without a value.
fn pairs(fields: &Fields<'_>, json: &Json) -> Result<BTreeMap<String, Option<String>>, Error> {
    let Json::Object(members) = json else {
        return Err(fields.wrong_type(CUSTOM_METADATA, "an object", json));
    };
    let pairs = members.iter().map(|(key, value)| match value {
        Json::String(text) => Ok((key.to_string(), Some(text.to_string()))),
        Json::Null => Ok((key.to_string(), None)),
        _ => Err(no_text()),
    });
    pairs.collect()
}

fn no_text() -> Error {
    Error::argument(Argument::CustomMetadata, "custom_metadata values must be strings")
}

fn no_data() -> Error {
    Error::argument(Argument::FieldRequired, "no data provided: data is required")
}

const CAS_REQUIRED: &str = "cas_required";
const MAX_VERSIONS: &str = "max_versions";
const DELETE_VERSION_AFTER: &str = "delete_version_after";
const CUSTOM_METADATA: &str = "custom_metadata";

/// The content type of a merge patch.
const MERGE_PATCH: &str = "application/merge-patch+json";
/// What clients of Vault always send. A browser does not send it to another site without asking that first, and
/// is told no.
const X_VAULT_REQUEST: HeaderName = HeaderName::from_static("x-vault-request");
/// Versions that one request may name: a hundred times as many as a secret keeps by default. All of them
/// change in one transaction, for which others wait.
const MAX_VERSIONS_AT_ONCE: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn versions_are_taken_in_every_form_that_clients_send() {
        for (body, expected) in [
            (r#"{"versions":[1,2]}"#, vec![1, 2]),
            (r#"{"versions":["1","2"]}"#, vec![1, 2]),
            (r#"{"versions":"1,2"}"#, vec![1, 2]),
            (r#"{"versions":"3"}"#, vec![3]),
            (r#"{"versions":3}"#, vec![3]),
            (r#"{"versions":[0,24000,24001,4294967295]}"#, vec![24_000]),
        ] {
            let found: Vec<_> = versions(&json(body)).unwrap().iter().map(|id| id.get()).collect();
            assert_eq!(found, expected, "{body}");
        }
        for body in [
            "{}",
            r#"{"versions":[]}"#,
            r#"{"versions":null}"#,
            r#"{"versions":""}"#,
            r#"{"versions":[-1]}"#,
            r#"{"versions":[1.5]}"#,
            r#"{"versions":"1,x"}"#,
            r#"{"versions":["+1"]}"#,
            r#"{"versions":"1,"}"#,
            r#"{"versions":{"1":1}}"#,
            r#"{"versions":[[1]]}"#,
            r#"{"versions":[1],"more":1}"#,
        ] {
            assert!(versions(&json(body)).is_err(), "{body}");
        }
        let many = |count: u32| {
            let numbers: Vec<_> = (1..=count).map(|number| number.to_string()).collect();
            json(&format!(r#"{{"versions":[1,{}]}}"#, numbers.join(",")))
        };
        assert_eq!(versions(&many(1_000)).map(|versions| versions.len()), Ok(1_000));
        assert!(versions(&many(1_001)).is_err());
    }

    #[test]
    fn cas_is_a_number_or_its_text() {
        let cas = |options: &str| {
            let body = format!(r#"{{"data":{{}},"options":{options}}}"#);
            KvWrite::read(&json(&body)).map(|write| write.cas)
        };
        for (options, expected) in [
            ("{}", None),
            ("null", None),
            (r#"{"cas":null}"#, None),
            (r#"{"cas":0}"#, Some(0)),
            (r#"{"cas":"7"}"#, Some(7)),
            (r#"{"cas":1,"version":"2"}"#, Some(1)),
        ] {
            assert_eq!(cas(options), Ok(expected), "{options}");
        }
        for options in [
            r#"{"cas":-1}"#,
            r#"{"cas":"+1"}"#,
            r#"{"cas":"x"}"#,
            r#"{"cas":true}"#,
            r#"{"cas":1.0}"#,
            "[]",
            r#"{"cas":24001}"#,
        ] {
            assert!(matches!(cas(options), Err(Error::Malformed(_))), "{options}");
        }
    }

    #[test]
    fn a_cas_beside_data_is_taken_where_it_asks_for_nothing() {
        let cas = |cas: &str| {
            let body = format!(r#"{{"cas":{cas},"data":{{}},"options":{{"cas":3}}}}"#);
            KvWrite::read(&json(&body)).map(|write| write.cas)
        };
        for nothing in ["0", "null"] {
            assert_eq!(cas(nothing), Ok(Some(3)));
        }
        for refused in ["1", "3", "-1", r#""0""#, "[]", "{}"] {
            assert!(matches!(cas(refused), Err(Error::Malformed(_))), "{refused}");
        }
        // A patch comes from nobody who sends one.
        assert!(patch(&json(r#"{"cas":0,"data":{}}"#)).is_err());
    }

    #[test]
    fn null_is_a_default_or_nothing() {
        let body = json(
            r#"{"cas_required":null,"max_versions":null,"delete_version_after":null,"custom_metadata":null}"#,
        );
        let written = metadata(&body).unwrap();
        assert_eq!(written.config.cas_required, Some(false));
        assert_eq!(written.config.max_versions, Some(0));
        assert_eq!(written.config.deactivate_version_after, None);
        assert_eq!(written.custom_metadata, Some(CustomMetadata::default()));
        let (config, custom_metadata) = metadata_patch(&body).unwrap();
        assert_eq!(config.deactivate_version_after, Some(VersionLifetime::default()));
        assert_eq!(custom_metadata, CustomMetadataPatch::Clear);
        assert_eq!(metadata(&json("{}")).unwrap(), MetadataPatch::default());
    }

    #[test]
    fn unknown_fields_are_refused_by_name_and_without_their_values() {
        for body in [r#"{"data":{},"dta":"hunter2"}"#, r#"{"data":{},"casRequired":"hunter2"}"#] {
            let Err(Error::Malformed(text)) = KvWrite::read(&json(body)).map(|_| ()) else {
                panic!("{body}")
            };
            assert!(!text.contains("hunter2") && text.contains("unknown field"), "{text}");
        }
    }
}
