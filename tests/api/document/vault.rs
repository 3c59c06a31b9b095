//! What clients of Vault ask beside secrets, in the document.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{conformance::check_documented, document, operations};
use crate::support::{Server, both_engines};

/// Method, path below the domain, operation id. None needs an action.
const OPERATIONS: [(&str, &str, &str); 12] = [
    ("GET", "/v1/auth/token/lookup-self", "GetTokenLookupSelf"),
    ("POST", "/v1/auth/token/renew-self", "PostTokenRenewSelf"),
    ("POST", "/v1/auth/token/revoke-self", "PostTokenRevokeSelf"),
    ("POST", "/v1/auth/cert/login", "PostCertLogin"),
    ("GET", "/v1/sys/internal/ui/mounts", "ListInternalUiMounts"),
    ("GET", "/v1/sys/internal/ui/mounts/{mount}", "GetInternalUiMount"),
    ("GET", "/v1/sys/mounts", "ListMounts"),
    ("GET", "/v1/sys/mounts/{mount}", "GetMount"),
    ("GET", "/v1/sys/health", "GetHealth"),
    ("GET", "/v1/sys/seal-status", "GetSealStatus"),
    ("GET", "/v1/sys/init", "GetInit"),
    ("GET", "/v1/sys/leader", "GetLeader"),
];

both_engines!(answers_to_tokens_have_their_documented_form);

#[test]
fn the_operations_of_vault_are_those_that_clients_need() {
    let operations = operations();
    let found: BTreeSet<_> = operations
        .iter()
        .filter(|operation| operation.is_of_vault())
        .map(|operation| {
            let path = operation.path.strip_prefix("/api/{okmsId}").expect("the base");
            assert!(operation.actions().is_empty(), "{}", operation.id());
            (operation.method.as_str(), path, operation.id())
        })
        .collect();
    assert_eq!(found, BTreeSet::from(OPERATIONS));
}

async fn answers_to_tokens_have_their_documented_form(server: Server) {
    let document = document();
    let domain = server.domain().await;
    let base = format!("/api/{}", domain.okms_id);
    let login = domain.client.post(&format!("{base}/v1/auth/cert/login"), "{}").await.ok();
    let token = login["auth"]["client_token"].as_str().expect("a token").to_owned();
    let operations = operations();
    for (_, _, id) in OPERATIONS {
        // The last of all ends the token.
        if id == "PostTokenRevokeSelf" {
            continue;
        }
        let operation =
            operations.iter().find(|operation| operation.id() == id).expect("an operation");
        let address = operation.address(&domain.okms_id.to_string());
        let headers = [("x-vault-token", &*token)];
        let answer =
            domain.client.send(operation.method.clone(), &address, &headers, Bytes::new()).await;
        assert_eq!(answer.status, 200, "{id}: {}", answer.text());
        check_documented(&document, operation, &answer);
    }
    let revoke = operations.iter().find(|operation| operation.id() == "PostTokenRevokeSelf");
    let revoke = revoke.expect("an operation");
    let (address, headers) =
        (revoke.address(&domain.okms_id.to_string()), [("x-vault-token", &*token)]);
    let answer = domain.client.send(revoke.method.clone(), &address, &headers, Bytes::new()).await;
    answer.gone();
    check_documented(&document, revoke, &answer);
}
