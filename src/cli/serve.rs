//! `okmsd serve`: run the server of a configuration.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
    time::timeout,
};
use tracing::{info, warn};

use super::{
    Failure, config_args,
    listen_flags::{ListenFlags, LogFlags},
    process,
    reload::{self, Reloader, TlsFiles},
    services::{self, Services},
};
use crate::{
    api::{ApiLimits, SpanQueue},
    app::{AppOptions, RunningApp},
    audit::AuditLog,
    clock::SystemClock,
    config::{ClientCertificate, Config, Environment, Tls},
    domain::Clock,
    server::{Limits, api_tls, check_server_certificate, serve_operations},
    store::IfAbsent,
    telemetry::{self, operations_router},
};

/// Run the server
///
/// Settings come from the configuration file, then the environment, then these flags; `okmsd config
/// example` tells them all. SIGTERM and Ctrl-C end it after the requests under way; SIGHUP has it read
/// certificates, authorities and revocation lists again, as it does when their files change.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Configuration file [env: OKMSD_CONFIG] [default: the environment alone]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    listen: ListenFlags,
    #[command(flatten)]
    log: LogFlags,
}

impl Arguments {
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        services::block_on(async {
            // First of all: who sends SIGHUP means "read again", at whatever moment it comes.
            let _hangup = reload::hangup()?;
            let file = self.config.clone().or_else(|| config_args::of_environment(environment));
            let flags = self.log.add_to(self.listen.flags());
            let config = Config::load(file.as_deref(), environment, &flags)?;
            telemetry::start(&config.log).map_err(|error| Failure::because("log", &error))?;
            for variable in config_args::unknown_variables(environment) {
                warn!(
                    variable,
                    "nothing reads this variable of the environment: `okmsd config example` has \
                     the names of all settings"
                );
            }
            Server::start(&config).await?.run(OnHangup::Reload).await
        })
    }
}

/// What SIGHUP means.
#[derive(Debug, Clone, Copy)]
pub(super) enum OnHangup {
    /// Read the files again: what service managers and scripts send it for.
    Reload,
    /// The terminal was closed; a trial ends with it.
    End,
}

/// A server that answers.
pub(super) struct Server {
    app: RunningApp,
    api_url: String,
    reloader: Reloader,
    hangup: Signal,
    /// SIGTERM and Ctrl-C.
    ends: (Signal, Signal),
    operations_address: Option<SocketAddr>,
    /// Ends when all that was to be told of requests is sent.
    exporting: JoinSet<()>,
    /// Health and metrics are served for as long as this lives, the shutdown included.
    _operations: JoinSet<()>,
}

impl Server {
    /// Starts the server of a configuration.
    pub(super) async fn start(config: &Config) -> Result<Self, Failure> {
        let hangup = reload::hangup()?;
        // Before anybody is told that it serves: whoever then ends it must not cut it off.
        let failed = |error| Failure::because("cannot wait for signals", &error);
        let terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let files = TlsFiles::new(config);
        // The state from before they are read: what changes meanwhile is read again.
        let used = files.stamp();
        let tls = files.read()?;
        // Before the store: of two servers by mistake, the second should touch nothing.
        let api_listener = bind("the API", "server.api_listen", config.server.api_listen.0).await?;
        let docs_listener = match config.server.docs_listen.0 {
            None => None,
            Some(address) => Some(bind("the documentation", "server.docs_listen", address).await?),
        };
        let operations_listener = match config.server.operations_listen.0 {
            None => None,
            Some(address) => {
                let listener =
                    bind("health and metrics", "server.operations_listen", address).await?;
                Some((local_address(&listener)?, listener))
            }
        };
        let api_address = local_address(&api_listener)?;
        let api_url = match &config.server.api_url {
            Some(url) => url.as_str().to_owned(),
            None => origin(api_address),
        };
        let store = services::Closed::find(config)?;
        store.hold_for_server()?;
        let clock = Arc::new(SystemClock);
        let audit = AuditLog::start(&config.audit.options(config.limits.audit_queue), clock)
            .map_err(|error| Failure::because("cannot start the server", &error))?;
        let mut exporting = JoinSet::new();
        let spans = spans(config, &mut exporting);
        let app = async {
            let opened = store.open(IfAbsent::Make).await?;
            let Services { store, keyring, clock, .. } = opened;
            if store.is_new() {
                // A path that is mistyped would show in empty answers alone.
                let database = services::database_url(config)?;
                warn!(%database, "there was no store here: a new one was made");
            }
            RunningApp::start(AppOptions {
                store,
                spans,
                keyring,
                audit: audit.clone(),
                clock,
                tls,
                require_client_certificate: requires_client_certificate(&config.tls),
                tokens: config.tokens.enabled,
                limits: limits(config),
                api_limits: api_limits(config),
                api_listener,
                docs_listener,
                api_url: api_url.clone(),
            })
            .map_err(|error| Failure::because("cannot start the server", &error))
        };
        let app = match app.await {
            Ok(app) => app,
            Err(failure) => {
                // Or the chain would tell of a crash.
                audit.close().await;
                return Err(failure);
            }
        };
        let (api, docs) = (app.api_address, app.docs_address);
        info!(api.address = %api, docs.address = docs.map(tracing::field::display), "serving");
        let reloader = Reloader::new(files, app.tls().clone(), used);
        let mut operations = JoinSet::new();
        let operations_address = operations_listener.as_ref().map(|(address, _)| *address);
        if let Some((address, listener)) = operations_listener {
            info!(operations.address = %address, "serving health and metrics");
            let router = operations_router(app.observed().clone());
            operations.spawn(serve_operations(listener, router));
        }
        let ends = (terminate, interrupt);
        Ok(Self {
            app,
            api_url,
            reloader,
            hangup,
            ends,
            operations_address,
            exporting,
            _operations: operations,
        })
    }

    /// Where the API listens.
    pub(super) const fn api_address(&self) -> SocketAddr {
        self.app.api_address
    }

    /// Where the public documentation listens.
    pub(super) const fn docs_address(&self) -> Option<SocketAddr> {
        self.app.docs_address
    }

    /// Where health and metrics are served.
    pub(super) const fn operations_address(&self) -> Option<SocketAddr> {
        self.operations_address
    }

    /// The origin of the API as clients write it.
    pub(super) fn api_url(&self) -> &str {
        &self.api_url
    }

    /// Serves until SIGTERM or Ctrl-C, then ends after the requests under way.
    pub(super) async fn run(self, on_hangup: OnHangup) -> Result<(), Failure> {
        let (mut terminate, mut interrupt) = self.ends;
        let mut exporting = self.exporting;
        let mut closed = reload::hangup()?;
        let (reload, ends) = match on_hangup {
            OnHangup::Reload => (Some(self.hangup), false),
            OnHangup::End => (None, true),
        };
        tokio::select! {
            () = self.reloader.run(reload) => {}
            _ = terminate.recv() => info!("SIGTERM: shutting down"),
            _ = interrupt.recv() => info!("Ctrl-C: shutting down"),
            _ = closed.recv(), if ends => info!("SIGHUP: shutting down"),
        }
        tokio::select! {
            () = self.app.shutdown() => {
                // A collector that does not answer keeps nobody waiting for long.
                let _over = timeout(EXPORT_TIME, exporting.join_next()).await;
                Ok(())
            }
            // A person who is in a hurry has a second one.
            _ = interrupt.recv() => Err(Failure::new("stopped with requests under way")),
        }
    }
}

/// Starts to send spans, where that is wanted.
#[cfg(feature = "otel")]
fn spans(config: &Config, exporting: &mut JoinSet<()>) -> Option<SpanQueue> {
    let endpoint = config.telemetry.otlp_endpoint.as_ref()?;
    let (queue, export) = telemetry::export_spans(endpoint.authority().to_owned());
    exporting.spawn(export);
    Some(queue)
}

#[cfg(not(feature = "otel"))]
fn spans(_: &Config, _: &mut JoinSet<()>) -> Option<SpanQueue> {
    None
}

/// Checks that a server could use the certificates and keys of a configuration, and clients its certificate.
pub(super) fn check_tls(config: &Config) -> Result<(), Failure> {
    let required = requires_client_certificate(&config.tls);
    let material = TlsFiles::new(config).read()?;
    api_tls(&material, required, Arc::new(SystemClock))
        .map_err(|error| Failure::because("cannot start the server", &error))?;
    check_server_certificate(&material, SystemClock.now()).map_err(|error| {
        let file = config.tls.certificate_file.display();
        Failure::because(format!("clients would refuse {file}"), &error)
    })
}

async fn bind(what: &str, setting: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure::because(format!("{what} cannot listen on {address} ({setting})"), &error)
    })
}

fn local_address(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener.local_addr().map_err(|error| Failure::because("a listener has no address", &error))
}

fn requires_client_certificate(tls: &Tls) -> bool {
    tls.client_certificate == ClientCertificate::Required
}

fn limits(config: &Config) -> Limits {
    let wanted = config.limits.connections.get();
    // Two listeners share what the system grants.
    let granted = process::raise_open_files().saturating_sub(RESERVED_FILES) / 2;
    let max_connections =
        u32::try_from(granted).map_or(wanted, |granted| wanted.min(granted)).max(1);
    // A little less than wanted is no news.
    if max_connections < wanted / 2 {
        warn!(
            wanted,
            granted = max_connections,
            "limits.connections is more than the limit of open files allows (ulimit -n)"
        );
    }
    let limits = &config.limits;
    Limits {
        max_connections,
        max_connections_per_address: limits.connections_per_address.or_max(),
        max_handshakes: limits.handshakes.get(),
        max_handshakes_per_address: limits.handshakes_per_address.or_max(),
        handshake_rate_per_address: limits.handshake_rate_per_address.0,
        max_header_bytes: limits.header_kib.get() * 1_024,
        max_concurrent_streams: limits.streams.get(),
        max_streams_per_address: limits.streams_per_address.or_max(),
        control_frames_per_connection: limits.control_frames_per_connection.0,
        max_memory_per_address: match limits.memory_mib_per_address.0 {
            0 => usize::MAX,
            mib => (mib as usize).saturating_mul(1_024 * 1_024),
        },
        handshake_time: limits.handshake_timeout,
        header_time: limits.header_timeout,
        idle_time: limits.idle_timeout,
        drain_time: limits.shutdown_timeout,
    }
}

fn api_limits(config: &Config) -> ApiLimits {
    let limits = &config.limits;
    ApiLimits {
        requests_per_address: limits.requests_per_address.0,
        requests_per_credential: limits.requests_per_credential.0,
        body_kib: limits.body_kib.get(),
        body_time: limits.body_timeout,
        secrets_per_domain: limits.secrets_per_domain.0,
        database_queue: limits.database_queue.get(),
    }
}

/// The origin under which this machine reaches a listener.
pub(super) fn origin(listener: SocketAddr) -> String {
    if is_localhost(listener.ip()) {
        return format!("https://{LOCALHOST}:{}", listener.port());
    }
    format!("https://{listener}")
}

/// Whether the certificate of a trial covers the address as localhost.
pub(super) fn is_localhost(address: IpAddr) -> bool {
    let own = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    own.contains(&address) || address.is_unspecified()
}

/// How long the last spans may take to be sent when the server ends.
const EXPORT_TIME: Duration = Duration::from_secs(2);
/// Files for databases, logs and whatever else is not a connection.
const RESERVED_FILES: u64 = 128;
/// The name of every machine for itself.
pub(super) const LOCALHOST: &str = "localhost";

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, path::Path};

    use super::*;

    #[test]
    fn each_limit_of_the_configuration_is_one_of_the_server() {
        let mut config = Config::defaults(Path::new("/etc/okmsd"));
        let set = &mut config.limits;
        let numbers = [
            &mut set.connections,
            &mut set.handshakes,
            &mut set.streams,
            &mut set.header_kib,
            &mut set.body_kib,
            &mut set.database_queue,
        ];
        for (slot, number) in numbers.into_iter().zip(10..) {
            *slot = NonZeroU32::new(number).unwrap();
        }
        let limits_or_none = [
            &mut set.connections_per_address,
            &mut set.handshakes_per_address,
            &mut set.requests_per_address,
            &mut set.requests_per_credential,
            &mut set.secrets_per_domain,
            &mut set.handshake_rate_per_address,
            &mut set.streams_per_address,
            &mut set.memory_mib_per_address,
            &mut set.control_frames_per_connection,
        ];
        for (slot, number) in limits_or_none.into_iter().zip(20..) {
            slot.0 = number;
        }
        let times = [
            &mut set.handshake_timeout,
            &mut set.header_timeout,
            &mut set.idle_timeout,
            &mut set.shutdown_timeout,
            &mut set.body_timeout,
        ];
        for (slot, number) in times.into_iter().zip(30..) {
            *slot = Duration::from_secs(number);
        }
        let server = Limits {
            max_connections: 10,
            max_handshakes: 11,
            max_concurrent_streams: 12,
            max_header_bytes: 13 * 1_024,
            max_connections_per_address: 20,
            max_handshakes_per_address: 21,
            handshake_rate_per_address: 25,
            max_streams_per_address: 26,
            max_memory_per_address: 27 * 1_024 * 1_024,
            control_frames_per_connection: 28,
            handshake_time: Duration::from_secs(30),
            header_time: Duration::from_secs(31),
            idle_time: Duration::from_secs(32),
            drain_time: Duration::from_secs(33),
        };
        let api = ApiLimits {
            body_kib: 14,
            database_queue: 15,
            requests_per_address: 22,
            requests_per_credential: 23,
            secrets_per_domain: 24,
            body_time: Duration::from_secs(34),
        };
        assert_eq!(limits(&config), server);
        assert_eq!(api_limits(&config), api);
    }

    #[test]
    fn the_server_is_known_by_localhost_or_its_own_address() {
        for (listener, expected) in [
            ("127.0.0.1:1", "https://localhost:1"),
            ("0.0.0.0:1", "https://localhost:1"),
            ("[::]:1", "https://localhost:1"),
            ("[::1]:1", "https://localhost:1"),
            ("192.0.2.7:1", "https://192.0.2.7:1"),
            ("127.0.0.2:1", "https://127.0.0.2:1"),
            ("[2001:db8::1]:1", "https://[2001:db8::1]:1"),
        ] {
            assert_eq!(origin(listener.parse().unwrap()), expected);
        }
    }
}
