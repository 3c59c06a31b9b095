//! Requests, counted for monitoring by their operation: never by anything that a caller has chosen.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use axum::http::{Method, StatusCode};

use super::operations::{OperationId, Operations};
use crate::measure::{Times, TimesMeasured, add, read};

/// The requests of an API since its start.
#[derive(Debug)]
pub struct RequestCounts {
    operations: Operations,
    /// For each operation, and for all that is none.
    counts: Vec<Counts>,
}

/// The requests of an operation since the start.
#[derive(Debug, Clone)]
pub struct RequestMeasures {
    /// The operation's id in the OpenAPI document; `other` for all that is none of it.
    pub operation: Arc<str>,
    /// How many were answered with which status, where any were.
    pub statuses: Vec<(&'static str, u64)>,
    /// How long those took that were answered.
    pub times: TimesMeasured,
}

#[derive(Debug, Default)]
struct Counts {
    statuses: [AtomicU64; STATUSES.len()],
    other_status: AtomicU64,
    abandoned: AtomicU64,
    times: Times,
}

impl RequestCounts {
    /// None so far, of the operations of the OpenAPI document.
    #[expect(clippy::new_without_default, reason = "it reads a document, which is no default")]
    pub fn new() -> Self {
        let operations = Operations::of_document();
        let counts = operations.names().iter().map(|_| Counts::default());
        let counts = counts.chain([Counts::default()]).collect();
        Self { operations, counts }
    }

    /// Those that there were.
    pub fn measured(&self) -> Vec<RequestMeasures> {
        let names = self.operations.names().iter().cloned().chain([OTHER.into()]);
        let measured = |(operation, counts): (Arc<str>, &Counts)| {
            let known = STATUSES.iter().zip(&counts.statuses);
            let statuses = known.map(|((_, name), count)| (*name, count));
            let others = [(OTHER, &counts.other_status), (ABANDONED, &counts.abandoned)];
            let statuses = statuses.chain(others).map(|(name, count)| (name, read(count)));
            let statuses = statuses.filter(|(_, count)| *count > 0).collect();
            RequestMeasures { operation, statuses, times: counts.times.measured() }
        };
        names.zip(&self.counts).map(measured).collect()
    }

    /// The operation of a request, if it is one.
    pub(super) fn operation(&self, method: &Method, route: &str) -> Option<OperationId> {
        self.operations.id(method, route)
    }

    /// Its id in the OpenAPI document.
    pub(super) fn name(&self, operation: OperationId) -> Option<&Arc<str>> {
        self.operations.name(operation)
    }

    /// Counts a request that was answered.
    pub(super) fn answered(
        &self,
        operation: Option<OperationId>,
        status: StatusCode,
        time: Duration,
    ) {
        let Some(counts) = self.of(operation) else { return };
        let place = STATUSES.iter().position(|(known, _)| *known == status.as_u16());
        let count = place.and_then(|place| counts.statuses.get(place));
        add(count.unwrap_or(&counts.other_status));
        counts.times.add(time);
    }

    /// Counts a request whose caller went away before its answer.
    pub(super) fn abandoned(&self, operation: Option<OperationId>) {
        if let Some(counts) = self.of(operation) {
            add(&counts.abandoned);
        }
    }

    fn of(&self, operation: Option<OperationId>) -> Option<&Counts> {
        match operation {
            Some(operation) => self.counts.get(operation.place()),
            None => self.counts.last(),
        }
    }
}

/// What is none of those that have a name.
const OTHER: &str = "other";
/// In the place of a status.
const ABANDONED: &str = "abandoned";
/// The statuses of our answers.
const STATUSES: [(u16, &str); 15] = [
    (200, "200"),
    (204, "204"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (408, "408"),
    (409, "409"),
    (413, "413"),
    (415, "415"),
    (422, "422"),
    (429, "429"),
    (500, "500"),
    (503, "503"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::openapi;

    #[test]
    fn each_status_of_the_document_has_a_name() {
        let document = serde_json::to_value(openapi()).unwrap();
        let paths = document["paths"].as_object().unwrap().values();
        let operations = paths.flat_map(|path| path.as_object().unwrap().values());
        let answers = operations.filter_map(|operation| operation["responses"].as_object());
        let statuses: Vec<_> = answers.flat_map(|answers| answers.keys()).collect();
        assert!(statuses.len() > 100);
        for status in statuses {
            assert!(STATUSES.iter().any(|(_, name)| name == status), "{status}");
        }
        assert!(STATUSES.iter().all(|(number, name)| number.to_string() == *name));
    }

    #[test]
    fn requests_are_counted_by_operation_and_by_what_became_of_them() {
        let counts = RequestCounts::new();
        let list = counts.operation(&Method::GET, "/api/{okmsId}/v2/secret");
        assert!(list.is_some());
        let time = Duration::from_millis(1);
        counts.answered(list, StatusCode::OK, time);
        counts.answered(list, StatusCode::OK, time);
        counts.answered(list, StatusCode::IM_A_TEAPOT, time);
        counts.abandoned(list);
        counts.answered(None, StatusCode::NOT_FOUND, time);
        let measured = counts.measured();
        let any = measured.iter().filter(|operation| !operation.statuses.is_empty());
        let any: Vec<_> = any.map(|one| (&*one.operation, one.statuses.clone())).collect();
        let list = vec![("200", 2), ("other", 1), ("abandoned", 1)];
        assert_eq!(any, [("ListSecretV2", list), ("other", vec![("404", 1)])]);
        let times: u64 = measured.iter().flat_map(|one| one.times.counts).sum();
        assert_eq!(times, 4, "nobody waited for what was abandoned");
    }
}
