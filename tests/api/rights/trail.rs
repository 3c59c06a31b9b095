//! What is noted for the record: each decision, with what decided, what it was about.

use std::sync::Arc;

use okmsd::{
    crypto::RootKey,
    domain::{
        ClientMemory, ConnectionInfo, Error, MetadataPatch, Noted, NotedResource, Peer,
        PeerCertificate, RequestTrail, SecretData, SecretPath, Timestamp, VersionId, VersionState,
    },
    server::peer_certificate,
    service::{Authentication, Caller, Keyring, PolicyCache, Presented, Secrets},
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::json;

use super::{GET, GET_DATA, apply, client_of, identified, resource, user};
use crate::support::{Answer, Domain, Server, both_engines};

both_engines!(
    each_decision_is_noted_with_what_it_was_about,
    what_decided_is_recorded_of_what_fails_midway,
);

/// A client whose certificate an authority vouches for.
#[derive(Debug)]
struct Known(Arc<PeerCertificate>);

impl Peer for Known {
    fn certificate(&self, _: Timestamp) -> Result<Arc<PeerCertificate>, &'static str> {
        Ok(self.0.clone())
    }

    fn fingerprint(&self) -> [u8; 32] {
        self.0.fingerprint
    }
}

/// The use cases as a server has them.
pub(super) struct UseCases {
    authentication: Authentication,
    pub(super) secrets: Secrets,
}

impl UseCases {
    pub(super) async fn new(server: &Server) -> Self {
        let key = RootKey::from_text(&server.root_key).expect("a root key");
        let keyring = Keyring::open(key, server.store.clone(), server.clock.clone()).await;
        let (store, keyring) = (server.store.clone(), Arc::new(keyring.expect("a keyring")));
        let policies = Arc::new(PolicyCache::new(store.clone()));
        let clock = server.clock.clone();
        Self {
            authentication: Authentication::new(
                store.clone(),
                keyring.clone(),
                policies,
                clock.clone(),
            ),
            secrets: Secrets::new(store, keyring, clock),
        }
    }

    pub(super) async fn enter(
        &self,
        domain: &Domain,
        certificate: &PeerCertificate,
    ) -> (Caller, Arc<RequestTrail>) {
        self.enter_by(domain, Arc::new(Known(Arc::new(certificate.clone())))).await
    }

    pub(super) async fn enter_by(
        &self,
        domain: &Domain,
        peer: Arc<dyn Peer>,
    ) -> (Caller, Arc<RequestTrail>) {
        self.present(domain, Some(peer), &Presented::Nothing).await
    }

    pub(super) async fn present(
        &self,
        domain: &Domain,
        peer: Option<Arc<dyn Peer>>,
        presented: &Presented,
    ) -> (Caller, Arc<RequestTrail>) {
        let peer_address = "127.0.0.1:1".parse().expect("an address");
        let memory = ClientMemory::new(usize::MAX);
        let connection = ConnectionInfo { peer_address, peer, memory };
        let trail = Arc::new(RequestTrail::default());
        let authenticated = self.authentication.authenticate(&connection, presented, &trail).await;
        let caller = Caller::enter(authenticated.expect("a caller"), domain.okms_id, trail.clone());
        (caller.expect("the domain"), trail)
    }
}

fn urn(noted: &Noted) -> Option<String> {
    noted.resource.as_ref().map(NotedResource::urn)
}

fn decisions(noted: &Noted) -> Vec<(&str, bool, Option<&str>)> {
    let decisions = noted.decisions.iter();
    decisions.map(|one| (one.action, one.allowed, one.decided_by.as_deref())).collect()
}

async fn each_decision_is_noted_with_what_it_was_about(server: Server) {
    let domain = server.domain().await;
    domain.create("team/a", r#"{"k":"v"}"#).await;
    domain.create("other", "{}").await;
    let resources = [resource(domain.okms_id, "/secret/team/*")];
    let allowed = [GET, GET_DATA, "okms:apikms:secret/version/*", "okms:apikms:secret/create"];
    apply(&server, "team", &user("a"), &resources, &[("allow", &allowed)]).await;
    apply(&server, "never", &user("a"), &resources, &[("deny", &["*/version/delete"])]).await;
    let (certificate, _) = identified(&server, domain.okms_id, &[&user("a")]).await;
    let der = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate");
    let certificate = peer_certificate(&der).expect("an identity");
    let cases = UseCases::new(&server).await;
    let secrets = &cases.secrets;
    let path = |text: &str| SecretPath::parse(text).expect("a path");
    let (first, second) = (VersionId::FIRST, VersionId::new(2).expect("a number"));
    let team_a = resource(domain.okms_id, "/secret/team%2Fa");
    let by_team = Some("team");

    let (caller, trail) = cases.enter(&domain, &certificate).await;
    secrets.read(&caller, &path("team/a"), None, true).await.expect("a secret");
    let noted = trail.read();
    assert_eq!(decisions(&noted), [(GET, true, by_team), (GET_DATA, true, by_team)]);
    assert_eq!((urn(&noted), noted.versions), (Some(team_a.clone()), vec![first]));

    let (caller, trail) = cases.enter(&domain, &certificate).await;
    let refused = secrets.read(&caller, &path("other"), None, true).await.err();
    assert_eq!(refused, Some(Error::Forbidden(GET)));
    let noted = trail.read();
    assert_eq!(decisions(&noted), [(GET, false, None)]);
    assert_eq!(urn(&noted), Some(resource(domain.okms_id, "/secret/other")));
    assert_eq!(noted.versions, []);

    let (caller, trail) = cases.enter(&domain, &certificate).await;
    let deleted = VersionState::Deleted;
    let refused = secrets.set_version_state(&caller, path("team/a"), first, deleted).await.err();
    let delete = "okms:apikms:secret/version/delete";
    assert_eq!(refused, Some(Error::Forbidden(delete)));
    assert_eq!(decisions(&trail.read()), [(delete, false, Some("never"))]);

    let (caller, trail) = cases.enter(&domain, &certificate).await;
    let data = || SecretData::from_stored(b"{}".to_vec().into()).expect("data");
    secrets.add_version(&caller, path("team/a"), None, data()).await.expect("a version");
    let noted = trail.read();
    assert_eq!(decisions(&noted), [("okms:apikms:secret/version/create", true, by_team)]);
    assert_eq!((urn(&noted), noted.versions), (Some(team_a), vec![second]));

    let (caller, trail) = cases.enter(&domain, &certificate).await;
    let made = secrets.create(&caller, path("team/b"), MetadataPatch::default(), data()).await;
    made.expect("a secret");
    assert_eq!(trail.read().versions, [first]);

    let (caller, trail) = cases.enter(&domain, &certificate).await;
    let page = secrets.list(&caller, None, 10).await.expect("a list");
    assert_eq!(page.items.len(), 2);
    let noted = trail.read();
    assert_eq!(decisions(&noted), [(GET, true, by_team)]);
    assert_eq!(urn(&noted), Some(resource(domain.okms_id, "")));

    let (caller, trail) = cases.enter(&domain, &certificate).await;
    secrets.config(&caller).await.expect_err("no right");
    assert_eq!(decisions(&trail.read()), [("okms:apikms:secretConfig/get", false, None)]);

    let root = CertificateDer::from_pem_slice(domain.certificate_pem.as_bytes());
    let root = peer_certificate(&root.expect("a certificate")).expect("an identity");
    let (caller, trail) = cases.enter(&domain, &root).await;
    let page = secrets.list(&caller, None, 10).await.expect("a list");
    assert_eq!(page.items.len(), 3);
    secrets.config(&caller).await.expect("a right");
    let by_root = Some("root");
    let expected = [(GET, true, by_root), ("okms:apikms:secretConfig/get", true, by_root)];
    assert_eq!(decisions(&trail.read()), expected);
}

async fn what_decided_is_recorded_of_what_fails_midway(server: Server) {
    let domain = server.domain().await;
    domain.create("t/a", "{}").await;
    let here = [resource(domain.okms_id, "/secret/t/*")];
    apply(&server, "team", &user("a"), &here, &[("allow", &["*"])]).await;
    let never = [("deny", &["okms:apikms:secret/create"][..])];
    apply(&server, "never", &user("a"), &here, &never).await;
    let client = client_of(&server, domain.okms_id, &[&user("a")]).await;
    let recorded = |answer: Answer| {
        assert!(answer.status >= 500, "{}", answer.status);
        let id = answer.header("x-request-id").expect("an id");
        let record = server.records().into_iter().find(|record| record["request_id"] == id);
        record.expect("a record")["decisions"].clone()
    };
    // More rows that cannot be read than a list passes over, behind one that the caller sees.
    let damaged = "INSERT INTO secrets (okms_id, path, cas_required, max_versions, \
                   deactivate_version_after, custom_metadata, current_version, oldest_version, \
                   created_at, updated_at, incarnation) \
                   WITH RECURSIVE numbers (n) AS (SELECT 10000 UNION ALL SELECT n + 1 FROM numbers \
                   WHERE n < 24999) \
                   SELECT okms_id, 't/h ' || n, 0, 0, '0s', '[', 0, 0, created_at, updated_at, \
                   incarnation FROM secrets, numbers WHERE path = 't/a'";
    assert_eq!(server.database.execute(damaged).await, 15_000);
    let by_team = json!([{"action": GET, "allowed": true, "decided_by": "team"}]);
    for list in [domain.secret(""), domain.kv("metadata/t?list=true")] {
        assert_eq!(recorded(client.get(&list).await), by_team, "{list}");
    }
    server.database.execute("ALTER TABLE secrets RENAME TO hidden").await;
    let put = client.put(&domain.kv("data/t/a"), r#"{"data":{}}"#).await;
    let either = json!([
        {"action": "okms:apikms:secret/create", "allowed": false, "decided_by": "never"},
        {"action": "okms:apikms:secret/version/create", "allowed": true, "decided_by": "team"},
    ]);
    assert_eq!(recorded(put), either);
}
