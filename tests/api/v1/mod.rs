//! `/api/{okmsId}/v1`

mod config;
mod cost;
mod cross;
mod data;
mod keys;
mod lists;
mod metadata;
mod races;
mod versions;

use serde_json::Value;

use crate::support::{Answer, Domain};

/// What stands in `data` of a success.
#[track_caller]
fn data(answer: &Answer) -> Value {
    let value = answer.ok();
    assert_eq!(value["request_id"].as_str(), answer.header("x-request-id"), "{value}");
    value["data"].clone()
}

impl Domain {
    /// Writes data by the KV2 API.
    async fn kv_put(&self, path: &str, data: &str) -> Answer {
        self.client.put(&self.kv(&format!("data/{path}")), format!(r#"{{"data":{data}}}"#)).await
    }

    async fn kv_get(&self, below: &str) -> Answer {
        self.client.get(&self.kv(below)).await
    }
}
