//! What the operations listener answers: whether the server lives, whether it is ready, measurements.

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Map, Value, json};

use super::metrics::{self, Measurements};
use crate::app::Observed;

/// The routes of the operations listener.
pub fn operations_router(observed: Observed) -> Router {
    Router::new()
        .route("/healthz", get(health))
        .route("/readyz", get(readiness))
        .route("/metrics", get(measurements))
        .with_state(observed)
}

/// That there is an answer is all that it says: who is not ready is not to be restarted for it.
async fn health() -> Response {
    json_answer(StatusCode::OK, &json!({ "alive": true }))
}

async fn readiness(State(observed): State<Observed>) -> Response {
    let readiness = observed.readiness().await;
    let ready = readiness.is_ready();
    let checks: Map<String, Value> = readiness
        .checks
        .into_iter()
        .map(|(name, outcome)| {
            let outcome = match outcome {
                Ok(()) => json!({ "ok": true }),
                Err(why) => json!({ "ok": false, "reason": why }),
            };
            (name.to_owned(), outcome)
        })
        .collect();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json_answer(status, &json!({ "ready": ready, "checks": checks }))
}

async fn measurements(State(observed): State<Observed>) -> Response {
    match metrics::encode(Measurements::of(&observed).await) {
        Ok(text) => not_kept(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text)),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn json_answer(status: StatusCode, body: &Value) -> Response {
    not_kept((status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")))
}

/// Each answer is of its moment.
fn not_kept(answer: impl IntoResponse) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], answer).into_response()
}
