//! `/secret/config`

use serde_json::json;

use super::data;
use crate::{
    codes::*,
    support::{Server, both_engines},
};

both_engines!(
    defaults_are_read_and_changed_in_part,
    both_api_sets_have_the_same_defaults,
    what_is_no_default_is_refused_in_words_of_kv2,
);

async fn defaults_are_read_and_changed_in_part(server: Server) {
    let domain = server.domain().await;
    let address = domain.kv("config");
    let unset = json!({"cas_required": false, "delete_version_after": "0s", "max_versions": 0});
    assert_eq!(data(&domain.client.get(&address).await), unset);
    domain.client.post(&address, r#"{"delete_version_after":"1d","max_versions":24}"#).await.gone();
    domain.client.put(&address, r#"{"cas_required":"TRUE"}"#).await.gone();
    domain.client.put(&address, "{}").await.gone();
    let set = json!({"cas_required": true, "delete_version_after": "24h0m0s", "max_versions": 24});
    assert_eq!(data(&domain.client.get(&address).await), set);
    // As Vault has it: a null is zero, but for durations.
    let nulls = r#"{"cas_required":null,"delete_version_after":null,"max_versions":null}"#;
    domain.client.put(&address, nulls).await.gone();
    let set = json!({"cas_required": false, "delete_version_after": "24h0m0s", "max_versions": 0});
    assert_eq!(data(&domain.client.get(&address).await), set);
    domain.client.put(&address, r#"{"delete_version_after":90}"#).await.gone();
    assert_eq!(data(&domain.client.get(&address).await)["delete_version_after"], "1m30s");
}

async fn both_api_sets_have_the_same_defaults(server: Server) {
    let domain = server.domain().await;
    let (kv, v2) = (domain.kv("config"), format!("{}/secretConfig", domain.base));
    domain.client.post(&kv, r#"{"delete_version_after":"1d","max_versions":24}"#).await.gone();
    let read = domain.client.get(&v2).await.ok();
    let expected = json!({"casRequired": false, "deactivateVersionAfter": "1d", "maxVersions": 24});
    assert_eq!(read, expected);
    domain.client.put(&v2, r#"{"deactivateVersionAfter":"7d1h30m10s"}"#).await.ok();
    assert_eq!(data(&domain.client.get(&kv).await)["delete_version_after"], "169h30m10s");
}

async fn what_is_no_default_is_refused_in_words_of_kv2(server: Server) {
    let domain = server.domain().await;
    for (body, code, word) in [
        (r#"{"max_versions":24001}"#, INVALID_MAX_VERSIONS, "max_versions"),
        (r#"{"max_versions":-1}"#, INVALID_MAX_VERSIONS, "max_versions"),
        (r#"{"max_versions":1.5}"#, INVALID_MAX_VERSIONS, "max_versions"),
        (r#"{"max_versions":[]}"#, MALFORMED, "max_versions"),
        (r#"{"cas_required":"yes"}"#, MALFORMED, "cas_required"),
        (r#"{"delete_version_after":"1w"}"#, INVALID_DURATION, "delete_version_after"),
        (r#"{"delete_version_after":"-1s"}"#, INVALID_DURATION, "delete_version_after"),
        (r#"{"casRequired":true}"#, MALFORMED, "casRequired"),
        (r#"{"custom_metadata":{}}"#, MALFORMED, "custom_metadata"),
        ("[]", MALFORMED, "object"),
        ("", MALFORMED, "empty"),
    ] {
        let text = domain.client.put(&domain.kv("config"), body).await.error(400, code);
        assert!(text.contains(word), "{body}: {text}");
    }
}
