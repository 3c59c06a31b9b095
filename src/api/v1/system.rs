//! `/sys`: where secrets are mounted, and whether the server works.
//!
//! All of it is told to callers of the domain only. Vault tells some of it to anyone; here a stranger learns
//! nothing, not even that there is such an address. Whoever watches the server asks its operations listener.

use std::collections::BTreeMap;

use axum::extract::{RawPathParams, State};
use serde::Serialize;
use utoipa::ToSchema;

use super::envelope::{Answer, MountAnswer, MountsAnswer, UiMountsAnswer};
use crate::{
    api::{
        ApiState,
        body::JsonAnswer,
        docs::{MountParam, OkmsIdParam},
        envelope::RequestId,
        error::{ApiError, ErrorResponses},
    },
    service::Caller,
};

/// Where secrets are.
#[derive(Serialize, ToSchema)]
pub(super) struct Mount {
    accessor: &'static str,
    config: MountConfig,
    description: &'static str,
    external_entropy_access: bool,
    local: bool,
    options: BTreeMap<&'static str, &'static str>,
    /// Absent in lists, which have it as the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    path: Option<&'static str>,
    seal_wrap: bool,
    #[serde(rename = "type")]
    kind: &'static str,
    uuid: String,
}

/// Settings of a mount that Vault would have.
#[derive(Serialize, ToSchema)]
pub(super) struct MountConfig {
    default_lease_ttl: u64,
    force_no_cache: bool,
    max_lease_ttl: u64,
}

/// The mounts that a user interface shows.
#[derive(Serialize, ToSchema)]
pub(super) struct UiMounts {
    /// Ways to log in; none is shown.
    auth: BTreeMap<&'static str, Mount>,
    secret: BTreeMap<&'static str, Mount>,
}

/// Whether the server works.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    initialized: bool,
    sealed: bool,
    standby: bool,
    performance_standby: bool,
    replication_performance_mode: &'static str,
    replication_dr_mode: &'static str,
    /// Seconds since 1970.
    server_time_utc: i64,
    /// Of this server, not of a Vault.
    version: &'static str,
}

/// Whether the server has its keys: one that answers always has.
#[derive(Serialize, ToSchema)]
pub(super) struct SealStatus {
    #[serde(rename = "type")]
    kind: &'static str,
    initialized: bool,
    sealed: bool,
    /// Shares of a key, which there are none of.
    t: u32,
    n: u32,
    progress: u32,
    nonce: &'static str,
    /// Of this server, not of a Vault.
    version: &'static str,
    migration: bool,
    recovery_seal: bool,
    storage_type: &'static str,
}

/// Whether the server was set up: one that answers was.
#[derive(Serialize, ToSchema)]
pub(super) struct InitStatus {
    initialized: bool,
}

/// Which of several servers leads: all do the same work, so there is none to look for.
#[derive(Serialize, ToSchema)]
pub(super) struct LeaderStatus {
    ha_enabled: bool,
    is_self: bool,
    leader_address: &'static str,
    leader_cluster_address: &'static str,
}

impl Mount {
    fn of(caller: &Caller, path: Option<&'static str>) -> Self {
        Self {
            accessor: "kv_secret",
            config: MountConfig { default_lease_ttl: 0, force_no_cache: false, max_lease_ttl: 0 },
            description: "",
            external_entropy_access: false,
            local: false,
            // Clients take anything but this text for the first version of the engine.
            options: BTreeMap::from([("version", "2")]),
            path,
            seal_wrap: false,
            kind: "kv",
            uuid: caller.okms_id().to_string(),
        }
    }
}

/// List the mounts that the caller may see
#[utoipa::path(
    get,
    path = "/sys/internal/ui/mounts",
    operation_id = "ListInternalUiMounts",
    tag = "Vault API",
    params(OkmsIdParam),
    responses(
        (status = 200, description = "The mounts", body = UiMountsAnswer),
        ErrorResponses
    )
)]
pub(super) async fn list_ui_mounts(caller: Caller, id: RequestId) -> JsonAnswer<Answer<UiMounts>> {
    let secret = BTreeMap::from([(SECRET, Mount::of(&caller, None))]);
    JsonAnswer(Answer::new(id, UiMounts { auth: BTreeMap::new(), secret }))
}

/// Read the mount of a path
///
/// Clients of Vault ask this before anything else, to find out which version of the engine they talk to.
#[utoipa::path(
    get,
    path = "/sys/internal/ui/mounts/{mount}",
    operation_id = "GetInternalUiMount",
    tag = "Vault API",
    params(OkmsIdParam, MountParam),
    responses(
        (status = 200, description = "The mount", body = MountAnswer),
        ErrorResponses
    )
)]
pub(super) async fn read_ui_mount(
    caller: Caller,
    params: RawPathParams,
    id: RequestId,
) -> Result<JsonAnswer<Answer<Mount>>, ApiError> {
    read_mount(caller, params, id).await
}

/// List the mounts
#[utoipa::path(
    get,
    path = "/sys/mounts",
    operation_id = "ListMounts",
    tag = "Vault API",
    params(OkmsIdParam),
    responses(
        (status = 200, description = "The mounts", body = MountsAnswer),
        ErrorResponses
    )
)]
pub(super) async fn list_mounts(
    caller: Caller,
    id: RequestId,
) -> JsonAnswer<Answer<BTreeMap<&'static str, Mount>>> {
    let mounts = BTreeMap::from([(SECRET, Mount::of(&caller, None))]);
    JsonAnswer(Answer::new(id, mounts))
}

/// Read a mount
#[utoipa::path(
    get,
    path = "/sys/mounts/{mount}",
    operation_id = "GetMount",
    tag = "Vault API",
    params(OkmsIdParam, MountParam),
    responses(
        (status = 200, description = "The mount", body = MountAnswer),
        ErrorResponses
    )
)]
pub(super) async fn read_mount(
    caller: Caller,
    params: RawPathParams,
    id: RequestId,
) -> Result<JsonAnswer<Answer<Mount>>, ApiError> {
    check_mount(&params)?;
    Ok(JsonAnswer(Answer::new(id, Mount::of(&caller, Some(SECRET)))))
}

/// Read whether the server works
#[utoipa::path(
    get,
    path = "/sys/health",
    operation_id = "GetHealth",
    tag = "Vault API",
    params(OkmsIdParam),
    responses((status = 200, description = "It works", body = Health), ErrorResponses)
)]
pub(super) async fn health(State(state): State<ApiState>, _: Caller) -> JsonAnswer<Health> {
    // Who gets here was found in the store, with the keys of the domain at hand.
    JsonAnswer(Health {
        initialized: true,
        sealed: false,
        standby: false,
        performance_standby: false,
        replication_performance_mode: "disabled",
        replication_dr_mode: "disabled",
        server_time_utc: state.tokens.now().as_millis().div_euclid(1_000),
        version: VERSION,
    })
}

/// Read whether the server has its keys
#[utoipa::path(
    get,
    path = "/sys/seal-status",
    operation_id = "GetSealStatus",
    tag = "Vault API",
    params(OkmsIdParam),
    responses((status = 200, description = "It has", body = SealStatus), ErrorResponses)
)]
pub(super) async fn seal_status(_: Caller) -> JsonAnswer<SealStatus> {
    JsonAnswer(SealStatus {
        kind: "okmsd",
        initialized: true,
        sealed: false,
        t: 0,
        n: 0,
        progress: 0,
        nonce: "",
        version: VERSION,
        migration: false,
        recovery_seal: false,
        storage_type: "okmsd",
    })
}

/// Read whether the server was set up
#[utoipa::path(
    get,
    path = "/sys/init",
    operation_id = "GetInit",
    tag = "Vault API",
    params(OkmsIdParam),
    responses((status = 200, description = "It was", body = InitStatus), ErrorResponses)
)]
pub(super) async fn init_status(_: Caller) -> JsonAnswer<InitStatus> {
    JsonAnswer(InitStatus { initialized: true })
}

/// Read which server leads
///
/// None does, also where several share a store. The status commands of clients of Vault ask this.
#[utoipa::path(
    get,
    path = "/sys/leader",
    operation_id = "GetLeader",
    tag = "Vault API",
    params(OkmsIdParam),
    responses((status = 200, description = "None does", body = LeaderStatus), ErrorResponses)
)]
pub(super) async fn leader(_: Caller) -> JsonAnswer<LeaderStatus> {
    JsonAnswer(LeaderStatus {
        ha_enabled: false,
        is_self: false,
        leader_address: "",
        leader_cluster_address: "",
    })
}

/// Refuses any mount but the one that there is: with 403, since clients take a 404 for the sign of an engine
/// that can't be asked, and go on with its first version.
fn check_mount(params: &RawPathParams) -> Result<(), ApiError> {
    let mount = params.iter().find(|(name, _)| *name == "mount").map(|(_, mount)| mount);
    let is_secret = mount.is_some_and(|mount| mount == "secret" || mount.starts_with(SECRET));
    if is_secret { Ok(()) } else { Err(ApiError::OtherMount) }
}

const SECRET: &str = "secret/";
const VERSION: &str = env!("CARGO_PKG_VERSION");
