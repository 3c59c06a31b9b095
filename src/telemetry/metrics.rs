//! Measurements for monitoring, in the text form of OpenMetrics that Prometheus reads.
//!
//! What is measured is asked for when somebody looks: nothing is kept here. Names and labels are fixed
//! words, names of files and of authorities; never a path of a secret, an identity or a value.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};

use crate::{app::Observed, audit::Counts, server::CertificateStatus};

/// What was measured at one moment.
#[derive(Debug)]
pub(super) struct Measurements {
    /// Certificates and revocation lists in use.
    certificates: Arc<CertificateStatus>,
    /// What became of audit records.
    audit: Counts,
    /// Whether records can be written now.
    audit_is_ready: bool,
}

impl Measurements {
    /// Measures a server.
    pub(super) fn of(observed: &Observed) -> Self {
        Self {
            certificates: observed.certificates(),
            audit: observed.audit().counts(),
            audit_is_ready: observed.audit().is_ready(),
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
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut expiries = encoder.encode_descriptor(
            "certificate_expiry_timestamp",
            "When a certificate or revocation list ends, in seconds since 1970",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        for one in &self.certificates.certificates {
            let labels = [("kind", one.kind.as_str()), ("name", one.name.as_str())];
            let seconds = one.ends.as_millis().div_euclid(1_000);
            ConstGauge::new(seconds).encode(expiries.encode_family(&labels)?)?;
        }
        let counts = self.audit;
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
        let ready = ConstGauge::new(i64::from(self.audit_is_ready));
        let help = "Whether audit records can be written now";
        ready.encode(encoder.encode_descriptor("audit_ready", help, None, MetricType::Gauge)?)
    }
}

/// The type of the text.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::Refusals,
        domain::Timestamp,
        server::{CertificateExpiry, CertificateKind},
    };

    fn fixed() -> Measurements {
        let ends = Timestamp::from_millis(1_795_425_000_999);
        let (kind, name) = (CertificateKind::Server, "a\"b".to_owned());
        let begins = Timestamp::from_millis(0);
        let one = CertificateExpiry { kind, name, fingerprint: [0; 32], begins, ends };
        let refused = Refusals { unavailable: 3, queue_full: 4, timed_out: 5 };
        Measurements {
            certificates: Arc::new(CertificateStatus { certificates: vec![one] }),
            audit: Counts { written: 7, failed: 2, late: 1, lost: 6, refused },
            audit_is_ready: false,
        }
    }

    #[test]
    fn measurements_are_written_as_open_metrics() {
        let text = encode(fixed()).unwrap();
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
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
