//! `/auth/token` and `/auth/cert`: what a caller asks about its token, and how a certificate gets one.

use std::collections::BTreeMap;

use axum::{extract::State, http::StatusCode};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::envelope::{Answer, LookupSelfAnswer, TokenAnswer};
use crate::{
    api::{
        ApiState,
        body::JsonAnswer,
        docs::OkmsIdParam,
        envelope::RequestId,
        error::{ApiError, ErrorResponses},
        token::OwnToken,
    },
    domain::{Error, Timestamp, Token},
    service::{Caller, Lifetime},
};

/// What is known of the caller's token. Where a certificate speaks for itself, it is described as the token
/// that clients expect, without one.
#[derive(Serialize, ToSchema)]
pub(super) struct LookupSelfData {
    /// The token's id, which is not the token. Empty for a certificate.
    accessor: String,
    /// Seconds since 1970.
    creation_time: i64,
    /// Seconds for which it counted when it was given.
    creation_ttl: u64,
    display_name: String,
    entity_id: &'static str,
    #[schema(format = DateTime, example = "2026-11-23T09:30:00.123000000Z")]
    expire_time: Option<String>,
    /// Seconds from its creation after which no renewal lets it count any more; 0 for a certificate.
    explicit_max_ttl: u64,
    /// The token that the caller sent. Empty for a certificate.
    #[serde(serialize_with = "wiped_text")]
    #[schema(value_type = String)]
    id: Zeroizing<String>,
    meta: BTreeMap<&'static str, String>,
    num_uses: u64,
    orphan: bool,
    path: &'static str,
    /// Always empty: who may do what is not told here.
    #[schema(value_type = Vec<String>)]
    policies: [&'static str; 0],
    renewable: bool,
    /// Seconds for which it still counts; 0 where that is not known.
    ttl: u64,
    #[serde(rename = "type")]
    kind: &'static str,
}

/// A token that was given, or prolonged.
#[derive(Serialize, ToSchema)]
pub(super) struct TokenAuth {
    /// The token, shown only now.
    #[serde(serialize_with = "wiped_text")]
    #[schema(value_type = String)]
    client_token: Zeroizing<String>,
    /// The token's id, which is not the token.
    accessor: String,
    /// Always empty: who may do what is not told here.
    #[schema(value_type = Vec<String>)]
    policies: [&'static str; 0],
    #[schema(value_type = Vec<String>)]
    token_policies: [&'static str; 0],
    metadata: BTreeMap<&'static str, String>,
    /// Seconds for which it counts.
    lease_duration: u64,
    renewable: bool,
    entity_id: &'static str,
    token_type: &'static str,
    orphan: bool,
    num_uses: u64,
}

/// Read what is known of the caller
///
/// Of the token that the request has; where it has none, of the certificate.
#[utoipa::path(
    get,
    path = "/auth/token/lookup-self",
    operation_id = "GetTokenLookupSelf",
    tag = "Vault API",
    params(OkmsIdParam),
    responses(
        (status = 200, description = "What is known", body = LookupSelfAnswer),
        ErrorResponses
    )
)]
pub(super) async fn lookup_self(
    State(state): State<ApiState>,
    caller: Caller,
    OwnToken(own): OwnToken,
    id: RequestId,
) -> JsonAnswer<Answer<LookupSelfData>> {
    let token = caller.token();
    let end = token.map(|token| token.expires_at).or(caller.credential_expires_at());
    let created_at = token.map_or_else(|| state.tokens.now(), |token| token.created_at);
    let lifetime = match token {
        Some(token) => Lifetime::of(token),
        // Without a token there is nothing that could be prolonged.
        None => Lifetime { first: end.map_or(0, |end| created_at.seconds_until(end)), longest: 0 },
    };
    let own = own.map_or_else(String::new, |own| own.expose().to_owned());
    let data = LookupSelfData {
        accessor: token.map_or_else(String::new, |token| token.id.to_string()),
        creation_time: created_at.as_millis().div_euclid(1_000),
        creation_ttl: lifetime.first,
        display_name: token.map_or_else(String::new, |token| token.description.clone()),
        entity_id: "",
        expire_time: end.map(Timestamp::to_rfc3339_nanos),
        explicit_max_ttl: lifetime.longest,
        id: Zeroizing::new(own),
        meta: metadata(&caller),
        num_uses: 0,
        orphan: true,
        path: match token {
            Some(Token { binding: None, .. }) => "auth/token/create",
            _ => "auth/cert/login",
        },
        policies: [],
        renewable: token.is_some_and(|token| token.binding.is_some()),
        ttl: end.map_or(0, |end| state.tokens.seconds_until(end)),
        kind: "service",
    };
    JsonAnswer(Answer::new(id, data))
}

/// Renew the caller's token
///
/// A token that a certificate asked for counts for another hour, for a day in all and never longer than the
/// certificate's credential. A personal access token is not renewable.
#[utoipa::path(
    post,
    path = "/auth/token/renew-self",
    operation_id = "PostTokenRenewSelf",
    tag = "Vault API",
    params(OkmsIdParam),
    responses(
        (status = 200, description = "The token", body = TokenAnswer),
        ErrorResponses
    )
)]
pub(super) async fn renew_self(
    State(state): State<ApiState>,
    caller: Caller,
    OwnToken(own): OwnToken,
    id: RequestId,
) -> Result<JsonAnswer<TokenAnswer>, ApiError> {
    let token = state.tokens.renew(&caller, own.as_deref()).await?;
    // Who has a token that is known has sent it.
    let own = own.ok_or_else(|| Error::Internal("a token that was not sent".into()))?;
    Ok(JsonAnswer(TokenAnswer::new(id, token_auth(&state, &caller, &token, own.expose()))))
}

/// Revoke the caller's token
///
/// It no longer counts from the next request on.
#[utoipa::path(
    post,
    path = "/auth/token/revoke-self",
    operation_id = "PostTokenRevokeSelf",
    tag = "Vault API",
    params(OkmsIdParam),
    responses((status = 204, description = "It is revoked"), ErrorResponses)
)]
pub(super) async fn revoke_self(
    State(state): State<ApiState>,
    caller: Caller,
) -> Result<StatusCode, ApiError> {
    state.tokens.revoke_own(&caller).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Get a token for a client certificate
///
/// It counts for an hour, together with this very certificate only, and has its rights.
#[utoipa::path(
    post,
    path = "/auth/cert/login",
    operation_id = "PostCertLogin",
    tag = "Vault API",
    params(OkmsIdParam),
    responses(
        (status = 200, description = "The token, shown only now", body = TokenAnswer),
        ErrorResponses
    )
)]
pub(super) async fn login(
    State(state): State<ApiState>,
    caller: Caller,
    id: RequestId,
) -> Result<JsonAnswer<TokenAnswer>, ApiError> {
    if !state.authentication.takes_tokens() {
        return Err(ApiError::NoTokens);
    }
    let issued = state.tokens.login(&caller).await?;
    let auth = token_auth(&state, &caller, &issued.token, issued.text.expose());
    Ok(JsonAnswer(TokenAnswer::new(id, auth)))
}

fn token_auth(state: &ApiState, caller: &Caller, token: &Token, text: &str) -> TokenAuth {
    TokenAuth {
        client_token: Zeroizing::new(text.to_owned()),
        accessor: token.id.to_string(),
        policies: [],
        token_policies: [],
        metadata: metadata(caller),
        lease_duration: state.tokens.seconds_until(token.expires_at),
        renewable: true,
        entity_id: "",
        token_type: "service",
        orphan: true,
        num_uses: 0,
    }
}

/// Ids that the caller may know of itself.
fn metadata(caller: &Caller) -> BTreeMap<&'static str, String> {
    let mut metadata = BTreeMap::from([("okms_id", caller.okms_id().to_string())]);
    metadata.extend(caller.principal().credential_id.map(|id| ("credential_id", id.to_string())));
    metadata
}

/// Writes a text that is wiped when it is dropped; the buffer that it is written to is so too.
fn wiped_text<S: Serializer>(text: &Zeroizing<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}
