//! Every operation of the document leaves one record.

use super::{document, operations};
use crate::support::{Server, both_engines};

both_engines!(every_operation_leaves_exactly_one_record_of_what_it_was);

async fn every_operation_leaves_exactly_one_record_of_what_it_was(server: Server) {
    let domain = server.domain().await;
    let (document, nobody) = (document(), server.client(None));
    domain.create(super::EXAMPLE_PATH, r#"{"password":"CANARY"}"#).await;
    let mut sent = 1;
    for operation in operations() {
        let address = operation.address(&domain.okms_id.to_string());
        let central =
            address.replacen("/api/", "/v2/okms/resource/", 1).replacen("/v2/secret", "/secret", 1);
        let mut requests = vec![(&domain.client, &address), (&nobody, &address)];
        if address.contains("/v2/") {
            requests.push((&domain.client, &central));
        }
        for (client, address) in requests {
            let body = operation.example(&document);
            let answer = client.json(operation.method.clone(), address, body).await;
            sent += 1;
            // The record is there when the answer is.
            let id = answer.header("x-request-id").expect("an id");
            let records = server.records();
            let found: Vec<_> =
                records.iter().filter(|record| record["request_id"] == id).collect();
            assert_eq!(found.len(), 1, "{} {address}", operation.id());
            let record = found[0];
            assert_eq!(record["operation"], operation.id(), "{record}");
            assert_eq!(record["method"], operation.method.as_str());
            assert_eq!(record["status"], answer.status, "{record}");
            let code = (answer.status >= 400).then(|| answer.value()["error_code"].clone());
            assert_eq!(record.get("error_code"), code.as_ref(), "{record}");
            let credential = domain.credential.id.to_string();
            let known = (answer.status != 401).then_some(credential.as_str());
            assert_eq!(record["credential_id"].as_str(), known, "{record}");
            assert!(record["client_address"].as_str().is_some_and(|text| text.starts_with("127.")));
            assert!(!record.to_string().contains("CANARY"));
        }
    }
    assert_eq!(server.records().len(), sent, "no request has two records");
}
