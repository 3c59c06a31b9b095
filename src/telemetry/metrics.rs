//! Measurements for monitoring, in the text form of OpenMetrics that Prometheus reads.
//!
//! What is measured is asked for when somebody looks: nothing is kept here. Names and labels are fixed
//! words, names of files and of authorities; never a path of a secret, an identity or a value.

use std::{fmt, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};

use crate::{audit::Counts, server::CertificateStatus};

/// Where measurements come from.
pub trait Measured: Send + Sync + 'static {
    /// Certificates and revocation lists in use.
    fn certificates(&self) -> Arc<CertificateStatus>;

    /// What became of audit records.
    fn audit_counts(&self) -> Counts;

    /// Whether records can be written now.
    fn audit_is_ready(&self) -> bool;
}

/// The routes of the operations listener.
pub fn operations_router(measured: Arc<dyn Measured>) -> Router {
    let mut registry = Registry::with_prefix("okmsd");
    registry.register_collector(Box::new(Collected(measured)));
    Router::new().route("/metrics", get(metrics)).with_state(Arc::new(registry))
}

async fn metrics(State(registry): State<Arc<Registry>>) -> Response {
    let mut body = String::new();
    match text::encode(&mut body, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], body).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

struct Collected(Arc<dyn Measured>);

impl fmt::Debug for Collected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collected(…)")
    }
}

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut expiries = encoder.encode_descriptor(
            "certificate_expiry_timestamp",
            "When a certificate or revocation list ends, in seconds since 1970",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        for one in &self.0.certificates().certificates {
            let labels = [("kind", one.kind.as_str()), ("name", one.name.as_str())];
            let seconds = one.ends.as_millis().div_euclid(1_000);
            ConstGauge::new(seconds).encode(expiries.encode_family(&labels)?)?;
        }
        let counts = self.0.audit_counts();
        for (name, help, number) in [
            ("audit_records", "Audit records that were written", counts.written),
            (
                "audit_failures",
                "Requests answered with an error because writing their audit record failed",
                counts.failed,
            ),
            (
                "audit_late_records",
                "Audit records written after an error was answered",
                counts.late,
            ),
            ("audit_lost_records", "Audit records that will never be written", counts.lost),
        ] {
            let counter = ConstCounter::new(number);
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        let mut refusals = encoder.encode_descriptor(
            "audit_refusals",
            "Requests answered with an error because they could not be recorded",
            None,
            MetricType::Counter,
        )?;
        let refused = counts.refused;
        for (reason, number) in [
            ("unavailable", refused.unavailable),
            ("queue_full", refused.queue_full),
            ("timed_out", refused.timed_out),
        ] {
            let counter = ConstCounter::new(number);
            counter.encode(refusals.encode_family(&[("reason", reason)])?)?;
        }
        let ready = ConstGauge::new(i64::from(self.0.audit_is_ready()));
        let help = "Whether audit records can be written now";
        ready.encode(encoder.encode_descriptor("audit_ready", help, None, MetricType::Gauge)?)
    }
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;
    use crate::{
        audit::Refusals,
        domain::Timestamp,
        server::{CertificateExpiry, CertificateKind},
    };

    struct Fixed;

    impl Measured for Fixed {
        fn certificates(&self) -> Arc<CertificateStatus> {
            let ends = Timestamp::from_millis(1_795_425_000_999);
            let (kind, name) = (CertificateKind::Server, "a\"b".to_owned());
            let begins = Timestamp::from_millis(0);
            let one = CertificateExpiry { kind, name, fingerprint: [0; 32], begins, ends };
            Arc::new(CertificateStatus { certificates: vec![one] })
        }

        fn audit_counts(&self) -> Counts {
            let refused = Refusals { unavailable: 3, queue_full: 4, timed_out: 5 };
            Counts { written: 7, failed: 2, late: 1, lost: 6, refused }
        }

        fn audit_is_ready(&self) -> bool {
            false
        }
    }

    #[tokio::test]
    async fn measurements_are_written_as_open_metrics() {
        let router = operations_router(Arc::new(Fixed));
        let request = |path: &str| Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request("/metrics")).await.unwrap();
        assert_eq!(response.headers()[header::CONTENT_TYPE], OPEN_METRICS);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        for line in [
            "okmsd_certificate_expiry_timestamp_seconds{kind=\"server\",name=\"a\\\"b\"} 1795425000",
            "okmsd_audit_records_total 7",
            "okmsd_audit_failures_total 2",
            "okmsd_audit_late_records_total 1",
            "okmsd_audit_lost_records_total 6",
            "okmsd_audit_refusals_total{reason=\"unavailable\"} 3",
            "okmsd_audit_refusals_total{reason=\"queue_full\"} 4",
            "okmsd_audit_refusals_total{reason=\"timed_out\"} 5",
            "okmsd_audit_ready 0",
            "# EOF",
        ] {
            assert!(body.lines().any(|found| found == line), "{line}\n{body}");
        }
        let elsewhere = router.oneshot(request("/")).await.unwrap();
        assert_eq!(elsewhere.status(), StatusCode::NOT_FOUND);
    }
}
