use crate::support::{Server, both_engines};

both_engines!(create_then_read);

async fn create_then_read(server: Server) {
    let domain = server.domain().await;
    let made = domain.create("prod/database/MySQL", r#"{"password":"x","n":1.10}"#).await;
    assert_eq!(made["metadata"]["currentVersion"], 1, "{made}");
    let read = domain.client.get(&domain.secret("prod/database/MySQL?includeData=true")).await;
    read.ok();
    assert!(read.text().contains(r#""data":{"password":"x","n":1.10}"#), "{}", read.text());
    domain.client.get(&domain.secret("nothing")).await.error(404, 17_125_377);
    server.client(None).get(&domain.secret("a")).await.error(401, 50_475_011);
}
