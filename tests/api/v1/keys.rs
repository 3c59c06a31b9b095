//! What stands in the place of key management.

use hyper::Method;
use serde_json::json;

use crate::{
    codes::*,
    support::{Server, both_engines},
};

both_engines!(there_are_no_keys_and_the_answer_says_why);

async fn there_are_no_keys_and_the_answer_says_why(server: Server) {
    let domain = server.domain().await;
    let base = format!("/api/{}/v1", domain.okms_id);
    let none = json!({"objects_list": [], "continuation_token": "", "is_truncated": false});
    for address in ["servicekey", "servicekey/", "servicekey?state=ACTIVE&max=10"] {
        assert_eq!(domain.client.get(&format!("{base}/{address}")).await.ok(), none);
    }
    for (method, address) in [
        (Method::GET, "servicekey/7e5bb0b2-0a6b-4a0c-9a3f-5c9d0e1f2a3b"),
        (Method::POST, "servicekey/7e5bb0b2-0a6b-4a0c-9a3f-5c9d0e1f2a3b/encrypt"),
        (Method::DELETE, "servicekey/x"),
        (Method::POST, "servicekey"),
        (Method::GET, "random/bytes"),
    ] {
        let answer = domain.client.json(method, &format!("{base}/{address}"), "{}").await;
        let text = answer.error(404, KEY_MANAGEMENT);
        assert!(text.contains("secrets only"), "{text}");
    }
    let nobody = server.client(None);
    nobody.get(&format!("{base}/servicekey")).await.error(401, UNAUTHENTICATED);
}
