//! Measurements for monitoring, in the text form of OpenMetrics that Prometheus reads.
//!
//! What is measured is asked for when somebody looks: nothing is kept here. Names and labels are fixed
//! words, names of files and of authorities; never a path of a secret, an identity or a value.

use std::{collections::BTreeMap, fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, NoLabelSet, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};

use crate::{
    api::RequestMeasures,
    app::{Observed, StoreObserved},
    audit::{Counts, Lag},
    domain::Timestamp,
    measure::{FindsMeasured, TIME_BOUNDS, TimesMeasured},
    server::{CertificateExpiry, CertificateStatus, ConnectionCounts},
    service::KeyOperations,
    store::WriterMeasures,
};

/// What was measured at one moment.
#[derive(Debug)]
pub(super) struct Measurements {
    /// Certificates and revocation lists in use.
    certificates: Arc<CertificateStatus>,
    /// Connections and handshakes, by listener.
    connections: [(&'static str, ConnectionCounts); 2],
    /// Requests beyond the rate of their caller, by the setting.
    refused_requests: [(&'static str, u64); 3],
    /// The store.
    store: StoreObserved,
    /// What became of audit records.
    audit: Counts,
    /// Whether records can be written now.
    audit_is_ready: bool,
    /// Records that are not written yet.
    audit_lag: Lag,
    /// How long records took to be written.
    audit_times: TimesMeasured,
    /// Requests, by operation.
    requests: Vec<RequestMeasures>,
    /// What was found in memory, by what it is of.
    finds: Vec<(&'static str, FindsMeasured)>,
    /// How often keys were used.
    keys: KeyOperations,
}

impl Measurements {
    /// Measures a server.
    pub(super) async fn of(observed: &Observed) -> Self {
        Self {
            certificates: observed.certificates(),
            connections: observed.connections(),
            refused_requests: observed.refused_requests(),
            store: observed.store().await,
            audit: observed.audit().counts(),
            audit_is_ready: observed.audit().is_ready(),
            audit_lag: observed.audit().lag(),
            audit_times: observed.audit().times(),
            requests: observed.requests(),
            finds: observed.finds(),
            keys: observed.key_operations(),
        }
    }
}

/// Writes measurements down.
///
/// # Errors
///
/// None that could happen: writing to a string does not fail.
pub(super) fn encode(measurements: Measurements) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("okmsd");
    registry.register_collector(Box::new(measurements));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

impl Collector for Measurements {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        requests(&mut page, &self.requests)?;
        certificates(&mut page, &self.certificates)?;
        connections(&mut page, &self.connections)?;
        page.counters(
            "request_refusals",
            "Requests refused with 429 before anything of them was read, by the setting in [limits]",
            self.refused_requests.map(|(limit, number)| ([("limit", limit)], number)),
        )?;
        store(&mut page, &self.store)?;
        memory(&mut page, &self.finds, &self.keys)?;
        audit(&mut page, &self.audit)?;
        audit_lag(&mut page, &self.audit_lag, &self.audit_times)?;
        let help = "Whether audit records can be written now";
        page.gauge("audit_ready", help, None, self.audit_is_ready.into())
    }
}

/// Operations that nobody has asked for are left out.
fn requests(page: &mut Page<'_>, requests: &[RequestMeasures]) -> fmt::Result {
    page.counters(
        "requests",
        "Requests to the API, by operation of the OpenAPI document and by status; abandoned, where the caller went away",
        requests.iter().flat_map(|one| {
            let labels = |status| [("operation", &*one.operation), ("status", status)];
            one.statuses.iter().map(move |(status, number)| (labels(*status), *number))
        }),
    )?;
    let times = requests.iter().map(|one| ([("operation", &*one.operation)], &one.times));
    page.times(
        "request_duration",
        "Time from the head of a request until its answer, its audit record included",
        times.filter(|(_, times)| times.counts.iter().any(|count| *count > 0)),
    )
}

fn memory(
    page: &mut Page<'_>,
    finds: &[(&'static str, FindsMeasured)],
    keys: &KeyOperations,
) -> fmt::Result {
    let labels = |cache: &'static str| [("cache", cache)];
    page.counters(
        "cache_hits",
        "What was found in memory",
        finds.iter().map(|(cache, finds)| (labels(cache), finds.hits)),
    )?;
    page.counters(
        "cache_misses",
        "What was not in memory, or not any more of use",
        finds.iter().map(|(cache, finds)| (labels(cache), finds.misses)),
    )?;
    page.counters(
        "key_operations",
        "How often keys of domains encrypted and decrypted data, and the store key the keys of domains",
        [
            ("domain", "encrypt", keys.domain_seals),
            ("domain", "decrypt", keys.domain_opens),
            ("store", "encrypt", keys.store_seals),
            ("store", "decrypt", keys.store_opens),
        ]
        .map(|(key, operation, number)| ([("key", key), ("operation", operation)], number)),
    )
}

/// Of several under one name, such as those of a bundle, the one that ends first: a series is told once.
fn certificates(page: &mut Page<'_>, status: &CertificateStatus) -> fmt::Result {
    let mut first: BTreeMap<(&str, &str), &CertificateExpiry> = BTreeMap::new();
    for one in &status.certificates {
        let kept = first.entry((one.kind.as_str(), &one.name)).or_insert(one);
        if one.ends < kept.ends {
            *kept = one;
        }
    }
    let seconds = |time: Timestamp| time.as_millis().div_euclid(1_000);
    let labels = |(kind, name)| [("kind", kind), ("name", name)];
    page.gauges(
        "certificate_begin_timestamp",
        "From when on a certificate or revocation list counts, in seconds since 1970",
        Some(&Unit::Seconds),
        first.iter().map(|(key, one)| (labels(*key), seconds(one.begins))),
    )?;
    page.gauges(
        "certificate_expiry_timestamp",
        "When a certificate or revocation list ends, in seconds since 1970",
        Some(&Unit::Seconds),
        first.iter().map(|(key, one)| (labels(*key), seconds(one.ends))),
    )
}

fn connections(page: &mut Page<'_>, listeners: &[(&'static str, ConnectionCounts)]) -> fmt::Result {
    page.gauges(
        "connections",
        "Connections that are open, those in their handshake included",
        None,
        listeners.iter().map(|(listener, counts)| ([("listener", *listener)], counts.open as i64)),
    )?;
    page.counters(
        "connection_refusals",
        "Connections closed as there was no place for them, by the setting in [limits]",
        listeners.iter().flat_map(|(listener, counts)| {
            counts
                .refused
                .map(|(limit, number)| ([("listener", *listener), ("limit", limit)], number))
        }),
    )?;
    page.counters(
        "connection_waits",
        "Connections that were left unread for a while, as more HTTP/2 control frames came than may",
        listeners
            .iter()
            .map(|(listener, counts)| ([("listener", *listener)], counts.waited_connections)),
    )?;
    page.counters(
        "handshakes",
        "TLS handshakes that succeeded",
        listeners.iter().flat_map(|(listener, counts)| {
            let kinds = [("full", counts.full_handshakes), ("resumed", counts.resumed_handshakes)];
            kinds.map(|(kind, number)| ([("listener", *listener), ("kind", kind)], number))
        }),
    )?;
    page.counters(
        "handshake_waits",
        "TLS handshakes that waited, as there were more of their address than its rate allows",
        listeners
            .iter()
            .map(|(listener, counts)| ([("listener", *listener)], counts.waited_handshakes)),
    )?;
    page.counters(
        "handshake_failures",
        "TLS handshakes that failed, by reason",
        listeners.iter().flat_map(|(listener, counts)| {
            counts
                .failed_handshakes
                .map(|(reason, number)| ([("listener", *listener), ("reason", reason)], number))
        }),
    )
}

/// What the database does not answer in time is left out: it is not 0.
fn store(page: &mut Page<'_>, store: &StoreObserved) -> fmt::Result {
    let connections = store.present.connections;
    page.gauges(
        "database_connections",
        "Connections to the database; on SQLite, those for reads",
        None,
        [("idle", connections.idle), ("used", connections.used)]
            .map(|(state, number)| ([("state", state)], number.into())),
    )?;
    let writer = store.present.writer.as_ref();
    let queues = [
        Some(("connections", connections.waiting, connections.refused)),
        writer.map(|writer| ("writer", writer.waiting, writer.refused)),
    ];
    let queues = queues.into_iter().flatten();
    page.gauges(
        "database_queue_length",
        "Work that waits for a connection to the database, and on SQLite for its writer",
        None,
        queues.clone().map(|(queue, waiting, _)| ([("queue", queue)], waiting as i64)),
    )?;
    page.counters(
        "database_refusals",
        "Work that was refused because too much waited",
        queues.map(|(queue, _, refused)| ([("queue", queue)], refused)),
    )?;
    if let Some(writer) = writer {
        write_groups(page, writer)?;
    }
    if let Some(bytes) = store.database_bytes {
        let help = "What the database takes on the disk, its log included on SQLite";
        page.gauge("database_size", help, Some(&Unit::Bytes), bytes as i64)?;
    }
    if let Some(is_current) = store.store_key_is_current {
        let help = "Whether this server has the store key of now; where not, it lacks the root key that was put in \
                    place, and could not start again";
        page.gauge("store_key_current", help, None, is_current.into())?;
    }
    let Some(keys) = store.keys else { return Ok(()) };
    page.gauges(
        "domain_keys",
        "Keys of domains: those that seal, and old ones under which data still is",
        None,
        [("newest", keys.newest), ("old", keys.old)]
            .map(|(state, number)| ([("state", state)], number as i64)),
    )?;
    let help = "How often the most used key that seals has sealed or may do so before it asks again; at \
                2^28 it gets a successor";
    page.gauge("domain_key_uses", help, None, keys.most_uses as i64)
}

fn write_groups(page: &mut Page<'_>, writer: &WriterMeasures) -> fmt::Result {
    let help = "Units of work that the writer of SQLite put into one transaction";
    let histogram = page.0.encode_descriptor("write_group_size", help, None, MetricType::Histogram);
    let bounds = writer.groups.iter().map(|(bound, groups)| (f64::from(*bound), *groups));
    let bounds: Vec<_> = bounds.chain([(f64::INFINITY, 0)]).collect();
    let groups = writer.groups.iter().map(|(_, groups)| groups).sum();
    histogram?.encode_histogram::<NoLabelSet>(writer.units as f64, groups, &bounds, None)
}

fn audit(page: &mut Page<'_>, counts: &Counts) -> fmt::Result {
    for (name, help, number) in [
        ("audit_records", "Audit records that were written", counts.written),
        (
            "audit_failures",
            "Requests answered with an error because writing their audit record failed",
            counts.failed,
        ),
        ("audit_late_records", "Audit records written after an error was answered", counts.late),
        ("audit_lost_records", "Audit records that will never be written", counts.lost),
    ] {
        page.counters(name, help, [(NO_LABELS, number)])?;
    }
    let refused = counts.refused;
    page.counters(
        "audit_refusals",
        "Requests answered with an error because they could not be recorded",
        [
            ("unavailable", refused.unavailable),
            ("queue_full", refused.queue_full),
            ("timed_out", refused.timed_out),
        ]
        .map(|(reason, number)| ([("reason", reason)], number)),
    )
}

fn audit_lag(page: &mut Page<'_>, lag: &Lag, times: &TimesMeasured) -> fmt::Result {
    page.gauges(
        "audit_queue_length",
        "Audit records that are not written yet: queued for the thread that writes, or taken by it",
        None,
        [("queued", lag.queued), ("taken", lag.taken)]
            .map(|(state, number)| ([("state", state)], number as i64)),
    )?;
    let help = "How long the oldest audit record has waited that is not written yet";
    let mut family =
        page.0.encode_descriptor("audit_lag", help, Some(&Unit::Seconds), MetricType::Gauge)?;
    ConstGauge::new(lag.age.as_secs_f64()).encode(family.encode_family(&NO_LABELS)?)?;
    let help = "Time from the end of a request until its audit record was in the file";
    page.times("audit_write_duration", help, [(NO_LABELS, times)])
}

/// Where measurements are written to.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn gauge(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: i64) -> fmt::Result {
        self.gauges(name, help, unit, [(NO_LABELS, value)])
    }

    fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        values: impl IntoIterator<Item = (L, i64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        values.into_iter().try_for_each(|(labels, value)| {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)
        })
    }

    fn times<'t, L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        all: impl IntoIterator<Item = (L, &'t TimesMeasured)>,
    ) -> fmt::Result {
        let unit = Some(&Unit::Seconds);
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Histogram)?;
        let bounds =
            TIME_BOUNDS.map(|micros| micros as f64 / 1e6).into_iter().chain([f64::INFINITY]);
        let bounds: Vec<_> = bounds.collect();
        all.into_iter().try_for_each(|(labels, times)| {
            let buckets: Vec<_> = bounds.iter().copied().zip(times.counts).collect();
            let (sum, count) = (times.sum.as_secs_f64(), times.counts.iter().sum());
            let mut family = family.encode_family(&labels)?;
            family.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
        })
    }

    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        values.into_iter().try_for_each(|(labels, value)| {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)
        })
    }
}

const NO_LABELS: [(&str, &str); 0] = [];

/// The type of the text.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        audit::Refusals,
        server::CertificateKind,
        store::{Connections, KeyMeasures, StoreMeasures},
    };

    fn certificate(name: &str, begins: i64, ends: i64) -> CertificateExpiry {
        let (begins, ends) = (Timestamp::from_millis(begins), Timestamp::from_millis(ends));
        let (kind, name) = (CertificateKind::Server, name.to_owned());
        CertificateExpiry { kind, name, fingerprint: [0; 32], begins, ends }
    }

    /// So many of a second each, and one that took longer than can be told.
    fn times(number: u64) -> TimesMeasured {
        let mut times = TimesMeasured::default();
        if number > 0 {
            (times.counts[12], times.counts[16]) = (number, 1);
            times.sum = Duration::from_secs(number + 20);
        }
        times
    }

    fn fixed() -> Measurements {
        let refused = Refusals { unavailable: 3, queue_full: 4, timed_out: 5 };
        let certificates = vec![
            certificate("a\"b", 0, 1_795_425_000_999),
            certificate("bundle", 3_000, 9_000),
            certificate("bundle", 1_000, 8_000),
            certificate("bundle", 2_000, 9_000),
        ];
        let connections = ConnectionCounts {
            open: 9,
            full_handshakes: 8,
            resumed_handshakes: 7,
            waited_handshakes: 6,
            waited_connections: 5,
            failed_handshakes: "timeout b c d e f g h i j k l"
                .split(' ')
                .zip(1..)
                .collect::<Vec<_>>()
                .try_into()
                .unwrap(),
            refused: [("connections", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 5)],
        };
        let groups =
            [(1, 5), (2, 0), (4, 3), (8, 0), (16, 0), (32, 0), (64, 0), (128, 0), (256, 1)];
        Measurements {
            certificates: Arc::new(CertificateStatus { certificates }),
            connections: [("api", connections.clone()), ("docs", connections)],
            refused_requests: [
                ("requests_per_address", 6),
                ("requests_per_credential", 5),
                ("memory_mib_per_address", 4),
            ],
            store: StoreObserved {
                store_key_is_current: Some(false),
                present: StoreMeasures {
                    connections: Connections { idle: 3, used: 1, waiting: 8, refused: 9 },
                    writer: Some(WriterMeasures { waiting: 2, refused: 10, units: 273, groups }),
                },
                database_bytes: Some(1 << 40),
                keys: Some(KeyMeasures { most_uses: 65_536, newest: 10, old: 1 }),
            },
            audit: Counts { written: 7, failed: 2, late: 1, lost: 6, refused },
            audit_is_ready: false,
            audit_lag: Lag { queued: 3, taken: 4, age: Duration::from_millis(1_500) },
            audit_times: times(2),
            requests: vec![
                RequestMeasures {
                    operation: "ListSecretV2".into(),
                    statuses: vec![("200", 3), ("abandoned", 1)],
                    times: times(3),
                },
                RequestMeasures { operation: "x".into(), statuses: Vec::new(), times: times(0) },
            ],
            finds: vec![("secrets", FindsMeasured { hits: 8, misses: 9 })],
            keys: KeyOperations {
                domain_seals: 1,
                domain_opens: 2,
                store_seals: 3,
                store_opens: 4,
            },
        }
    }

    #[test]
    fn measurements_are_written_as_open_metrics() {
        let text = encode(fixed()).unwrap();
        for line in [
            "okmsd_certificate_expiry_timestamp_seconds{kind=\"server\",name=\"a\\\"b\"} 1795425000",
            "okmsd_certificate_begin_timestamp_seconds{kind=\"server\",name=\"bundle\"} 1",
            "okmsd_certificate_expiry_timestamp_seconds{kind=\"server\",name=\"bundle\"} 8",
            "okmsd_connections{listener=\"docs\"} 9",
            "okmsd_request_refusals_total{limit=\"requests_per_address\"} 6",
            "okmsd_connection_refusals_total{listener=\"api\",limit=\"connections\"} 1",
            "okmsd_connection_waits_total{listener=\"docs\"} 5",
            "okmsd_handshakes_total{listener=\"api\",kind=\"full\"} 8",
            "okmsd_handshakes_total{listener=\"api\",kind=\"resumed\"} 7",
            "okmsd_handshake_waits_total{listener=\"api\"} 6",
            "okmsd_handshake_failures_total{listener=\"api\",reason=\"timeout\"} 1",
            "okmsd_database_connections{state=\"idle\"} 3",
            "okmsd_database_connections{state=\"used\"} 1",
            "okmsd_database_size_bytes 1099511627776",
            "okmsd_database_queue_length{queue=\"connections\"} 8",
            "okmsd_database_queue_length{queue=\"writer\"} 2",
            "okmsd_database_refusals_total{queue=\"connections\"} 9",
            "okmsd_database_refusals_total{queue=\"writer\"} 10",
            "okmsd_write_group_size_sum 273.0",
            "okmsd_write_group_size_count 9",
            "okmsd_write_group_size_bucket{le=\"1.0\"} 5",
            "okmsd_write_group_size_bucket{le=\"4.0\"} 8",
            "okmsd_write_group_size_bucket{le=\"+Inf\"} 9",
            "okmsd_store_key_current 0",
            "okmsd_domain_keys{state=\"newest\"} 10",
            "okmsd_domain_keys{state=\"old\"} 1",
            "okmsd_domain_key_uses 65536",
            "okmsd_audit_records_total 7",
            "okmsd_audit_failures_total 2",
            "okmsd_audit_late_records_total 1",
            "okmsd_audit_lost_records_total 6",
            "okmsd_audit_refusals_total{reason=\"unavailable\"} 3",
            "okmsd_audit_refusals_total{reason=\"queue_full\"} 4",
            "okmsd_audit_refusals_total{reason=\"timed_out\"} 5",
            "okmsd_audit_ready 0",
            "okmsd_audit_queue_length{state=\"queued\"} 3",
            "okmsd_audit_queue_length{state=\"taken\"} 4",
            "okmsd_audit_lag_seconds 1.5",
            "okmsd_audit_write_duration_seconds_count 3",
            "okmsd_requests_total{operation=\"ListSecretV2\",status=\"200\"} 3",
            "okmsd_requests_total{operation=\"ListSecretV2\",status=\"abandoned\"} 1",
            "okmsd_request_duration_seconds_sum{operation=\"ListSecretV2\"} 23.0",
            "okmsd_request_duration_seconds_bucket{le=\"0.5\",operation=\"ListSecretV2\"} 0",
            "okmsd_request_duration_seconds_bucket{le=\"1.0\",operation=\"ListSecretV2\"} 3",
            "okmsd_request_duration_seconds_bucket{le=\"+Inf\",operation=\"ListSecretV2\"} 4",
            "okmsd_cache_hits_total{cache=\"secrets\"} 8",
            "okmsd_cache_misses_total{cache=\"secrets\"} 9",
            "okmsd_key_operations_total{key=\"domain\",operation=\"decrypt\"} 2",
            "okmsd_key_operations_total{key=\"store\",operation=\"encrypt\"} 3",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        let name = |line: &str| line.rsplit_once(' ').unwrap().0.to_owned();
        let samples: Vec<_> =
            text.lines().filter(|line| !line.starts_with('#')).map(name).collect();
        let distinct: std::collections::BTreeSet<_> = samples.iter().collect();
        assert_eq!(distinct.len(), samples.len(), "{text}");
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let mut measurements = fixed();
        measurements.store.present.writer = None;
        measurements.store.database_bytes = None;
        measurements.store.keys = None;
        let text = encode(measurements).unwrap();
        assert!(!text.contains("operation=\"x\""), "{text}");
        for name in ["write_group", "database_size", "domain_key"] {
            assert!(!text.contains(&format!("okmsd_{name}")), "{text}");
        }
        assert!(!text.contains("queue=\"writer\""), "{text}");
        assert!(text.contains("okmsd_database_connections"));
    }
}
