//! What is noted for the record: each decision, with what decided, what it was about.

use std::sync::Arc;

use okmsd::{
    crypto::RootKey,
    domain::{
        ConnectionInfo, Error, MetadataPatch, Noted, Peer, PeerCertificate, RequestTrail,
        SecretData, SecretPath, Timestamp, VersionId, VersionState,
    },
    server::peer_certificate,
    service::{Authentication, Caller, Keyring, PolicyCache, Presented, Secrets},
};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{GET, GET_DATA, apply, identified, resource, user};
use crate::support::{Domain, Server, both_engines};

both_engines!(each_decision_is_noted_with_what_it_was_about);

/// A client whose certificate an authority vouches for.
#[derive(Debug)]
struct Known(Arc<PeerCertificate>);

impl Peer for Known {
    fn certificate(&self, _: Timestamp) -> Result<Arc<PeerCertificate>, &'static str> {
        Ok(self.0.clone())
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
        let connection = ConnectionInfo {
            peer_address: "127.0.0.1:1".parse().expect("an address"),
            peer: Some(Arc::new(Known(Arc::new(certificate.clone())))),
        };
        let trail = Arc::new(RequestTrail::default());
        let authenticated = self
            .authentication
            .authenticate(&connection, &Presented::Nothing, &trail)
            .await
            .expect("a caller");
        let caller = Caller::enter(authenticated, domain.okms_id, trail.clone());
        (caller.expect("the domain"), trail)
    }
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
    assert_eq!((noted.resource_urn, noted.versions), (Some(team_a.clone()), vec![first]));

    let (caller, trail) = cases.enter(&domain, &certificate).await;
    let refused = secrets.read(&caller, &path("other"), None, true).await.err();
    assert_eq!(refused, Some(Error::Forbidden(GET)));
    let noted = trail.read();
    assert_eq!(decisions(&noted), [(GET, false, None)]);
    assert_eq!(noted.resource_urn, Some(resource(domain.okms_id, "/secret/other")));
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
    assert_eq!((noted.resource_urn, noted.versions), (Some(team_a), vec![second]));

    let (caller, trail) = cases.enter(&domain, &certificate).await;
    let made = secrets.create(&caller, path("team/b"), MetadataPatch::default(), data()).await;
    made.expect("a secret");
    assert_eq!(trail.read().versions, [first]);

    let (caller, trail) = cases.enter(&domain, &certificate).await;
    let page = secrets.list(&caller, None, 10).await.expect("a list");
    assert_eq!(page.items.len(), 2);
    let noted = trail.read();
    assert_eq!(decisions(&noted), [(GET, true, by_team)]);
    assert_eq!(noted.resource_urn, Some(resource(domain.okms_id, "")));

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
