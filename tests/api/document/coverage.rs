//! Every operation of the document is tried without a certificate and with a foreign one, so that a
//! new one cannot be forgotten.

use uuid::Uuid;

use super::{document, operations};
use crate::{
    codes::*,
    support::{Server, both_engines},
};

both_engines!(
    every_operation_needs_a_certificate,
    no_operation_is_done_in_a_foreign_domain,
    no_operation_is_done_after_revocation,
);

async fn every_operation_needs_a_certificate(server: Server) {
    let domain = server.domain().await;
    let (document, nobody) = (document(), server.client(None));
    for operation in operations() {
        let address = operation.address(&domain.okms_id.to_string());
        let body = operation.example(&document);
        let answer = nobody.json(operation.method.clone(), &address, body).await;
        answer.error(401, UNAUTHENTICATED);
    }
    assert_eq!(domain.client.get(&domain.secret("")).await.text(), "[]");
}

async fn no_operation_is_done_in_a_foreign_domain(server: Server) {
    let (own, foreign) = (server.domain().await, server.domain().await);
    let document = document();
    foreign.create(super::EXAMPLE_PATH, r#"{"password":"CANARY"}"#).await;
    let before = foreign.client.get(&foreign.secret("")).await.text();
    let unknown = Uuid::new_v4();
    for operation in operations() {
        let mut answers = Vec::new();
        for id in [foreign.okms_id.to_string(), unknown.to_string()] {
            let address = operation.address(&id);
            let body = operation.example(&document);
            let answer = own.client.json(operation.method.clone(), &address, body).await;
            answer.error(404, DOMAIN_NOT_FOUND);
            answers.push(answer.text_without_request_id());
        }
        assert_eq!(answers[0], answers[1], "{}", operation.id());
    }
    assert_eq!(foreign.client.get(&foreign.secret("")).await.text(), before);
}

async fn no_operation_is_done_after_revocation(server: Server) {
    let domain = server.domain().await;
    let document = document();
    domain.create(super::EXAMPLE_PATH, "{}").await;
    assert!(server.credentials.revoke(domain.credential.id).await.expect("a store"));
    for operation in operations() {
        let address = operation.address(&domain.okms_id.to_string());
        let body = operation.example(&document);
        let answer = domain.client.json(operation.method.clone(), &address, body).await;
        answer.error(401, UNAUTHENTICATED);
    }
}
