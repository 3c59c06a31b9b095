//! Logs and measurements: what is told about the program's own work.
//!
//! Everything else of the crate only emits `tracing` events; this is the one place that decides
//! where they go: to standard error. Measurements are in `metrics`, what monitoring is answered in `operations`,
//! what a collector of traces is sent in `otlp`.

mod metrics;
mod operations;
#[cfg(feature = "otel")]
mod otlp;

use std::{
    fmt, io,
    panic::{self, PanicHookInfo},
};

use tracing_subscriber::{EnvFilter, fmt as lines};

pub use self::operations::operations_router;
#[cfg(feature = "otel")]
pub use self::otlp::export_spans;
use crate::config::{Log, LogFormat};

/// Starts writing logs.
///
/// # Errors
///
/// [`NotAFilter`] where the level is not one that `tracing` understands.
pub fn start(log: &Log) -> Result<(), NotAFilter> {
    let filter = EnvFilter::try_new(log.level.as_str()).map_err(|_| NotAFilter)?;
    let logs = lines()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(false)
        // A line that cannot be written is lost. Saying so in the same place panics, and that is logged:
        // a full disk would end the process.
        .log_internal_errors(false);
    // Refused only where logs are written already, as in tests that start several servers.
    let _already_started = match log.format {
        LogFormat::Text => logs.try_init(),
        LogFormat::Json => logs.json().flatten_event(true).with_span_list(false).try_init(),
    };
    panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Logs where a panic happened, and its message only where that is fixed text of a program: one made
/// at run time, such as that of slicing a string in the middle of a character, quotes the data.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(tracing::field::display);
    let message = panic.payload().downcast_ref::<&'static str>().copied();
    tracing::error!(code.location = location, message.fixed = message, "panicked");
}

/// The log level is not one that `tracing` understands; it can only come from `RUST_LOG`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAFilter;

impl fmt::Display for NotAFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RUST_LOG must be a level or levels by module, such as info,okmsd=debug")
    }
}

impl std::error::Error for NotAFilter {}
