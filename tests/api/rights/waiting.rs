//! What has happened while an answer waited for its turn, or grew long, counts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use okmsd::{
    domain::{Claim, Error, Peer, PeerCertificate, SecretPath, Timestamp},
    pki::AccessKey,
    server::peer_certificate,
    service::{Caller, NewCredential, NewToken, Presented, PresentedToken},
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::time::timeout;

use super::{
    GET, apply, policies, resource,
    trail::UseCases,
    turns::{MANY_HIDDEN, VERY_LONG, certified, fill, poll_once, search, searching, seeing},
    user,
};
use crate::support::{Server, both_engines};

both_engines!(
    what_happens_while_lists_wait_counts,
    what_happens_while_versions_wait_counts,
    what_happens_while_a_very_long_list_waits_counts,
    what_happens_in_a_long_search_counts,
    rights_that_change_all_the_time_end_in_a_refusal,
);

fn id(certificate: &PeerCertificate) -> okmsd::domain::CredentialId {
    let Claim::Issued(id) = certificate.claim else { panic!("one of our own") };
    id
}

async fn what_happens_while_lists_wait_counts(server: Server) {
    let domain = server.domain().await;
    for path in ["a", "b"] {
        domain.create(path, "{}").await;
    }
    fill(&server, "h", MANY_HIDDEN).await;
    let (okms_id, cases) = (domain.okms_id, UseCases::new(&server).await);
    let holding = searching(&server, &cases, &domain).await;
    let short_lived = {
        let new = NewCredential {
            okms_id,
            name: "short".to_owned(),
            description: String::new(),
            identity_urns: vec![user("same")],
            validity_days: 1,
            key: AccessKey::Ecdsa,
        };
        let issued = server.credentials.create(&server.authority, new).await.expect("one");
        let pem = issued.credential.certificate_pem;
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
        peer_certificate(&der).expect("an identity")
    };
    let same = seeing(&server, okms_id, "same", "/secret/a").await;
    let revoked = certified(&server, okms_id, "same").await;
    let more = seeing(&server, okms_id, "more", "/secret/a").await;
    let less = seeing(&server, okms_id, "less", "/secret/a").await;
    let mut callers = Vec::new();
    for certificate in [&same, &short_lived, &revoked, &more, &less] {
        callers.push(cases.enter(&domain, certificate).await);
    }
    let new = NewToken {
        okms_id,
        identity_urns: vec![user("same")],
        description: String::new(),
        validity_seconds: 365 * 86_400,
    };
    let token = server.tokens.create(new).await.expect("a token");
    let presented = PresentedToken::parse(token.text.expose()).expect("a token");
    let presented = Presented::Token(Arc::new(presented));
    callers.push(cases.present(&domain, None, &presented).await);

    let mut holders: Vec<_> =
        holding.iter().take(3).map(|caller| Box::pin(search(&cases, caller))).collect();
    for holder in &mut holders {
        assert!(!poll_once(holder).await, "it waits");
    }
    let mut lists: Vec<_> =
        callers.iter().map(|(caller, _)| Box::pin(cases.secrets.list(caller, None, 10))).collect();
    for list in &mut lists {
        assert!(!poll_once(list).await, "it waits");
    }
    server.clock.advance(Duration::from_secs(2 * 86_400));
    assert!(server.credentials.revoke(id(&revoked)).await.expect("a store"));
    assert!(server.tokens.revoke(token.token.id).await.expect("a store"));
    let both = [resource(okms_id, "/secret/a"), resource(okms_id, "/secret/b")];
    apply(&server, "more", &user("more"), &both, &[("allow", &[GET])]).await;
    assert!(policies(&server).delete("less").await.expect("a store"));
    drop(holders);
    let found = join_all(lists).await;
    let found = found.into_iter().map(|found| found.map(|page| page.items.len()));
    assert_eq!(
        found.collect::<Vec<_>>(),
        [
            Ok(1),
            Err(Error::Unauthenticated("expired credential")),
            Err(Error::Unauthenticated("revoked credential")),
            Ok(2),
            Ok(0),
            Err(Error::Unauthenticated("revoked token")),
        ]
    );
    let (_, trail) = &callers[4];
    assert!(trail.read().decisions.last().is_some_and(|last| !last.allowed));
}

async fn what_happens_while_versions_wait_counts(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    fill(&server, "h", MANY_HIDDEN).await;
    domain.client.put(&domain.kv("metadata/a"), r#"{"max_versions":24000}"#).await.gone();
    for _ in 0..1_000 {
        domain.add_version("a").await;
    }
    let (okms_id, cases) = (domain.okms_id, UseCases::new(&server).await);
    let holding = searching(&server, &cases, &domain).await;
    let path = SecretPath::parse("a").expect("a path");
    for patience in PATIENCE {
        let revoked = seeing(&server, okms_id, "revoked", "/secret/a").await;
        let denied = seeing(&server, okms_id, "denied", "/secret/a").await;
        let mut callers = Vec::new();
        for certificate in [&revoked, &denied] {
            callers.push(cases.enter(&domain, certificate).await.0);
        }
        let mut holders: Vec<_> =
            holding.iter().take(3).map(|caller| Box::pin(search(&cases, caller))).collect();
        for holder in &mut holders {
            assert!(!poll_once(holder).await, "it waits");
        }
        let read = |caller| cases.secrets.metadata(caller, &path);
        let mut reads = Box::pin(join_all(callers.iter().map(read)));
        timeout(patience, &mut reads).await.expect_err("they have no turn");
        assert!(server.credentials.revoke(id(&revoked)).await.expect("a store"));
        assert!(policies(&server).delete("denied").await.expect("a store"));
        drop(holders);
        let read = reads.await;
        if read.iter().any(Result::is_ok) {
            // It had not even come to where it waits.
            continue;
        }
        let refusals: Vec<_> = read.into_iter().filter_map(Result::err).collect();
        let expected = [Error::Unauthenticated("revoked credential"), Error::Forbidden(GET)];
        assert_eq!(refusals, expected);
        return;
    }
    panic!("the versions were shown");
}

async fn what_happens_while_a_very_long_list_waits_counts(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    fill(&server, "many", VERY_LONG).await;
    let (okms_id, cases) = (domain.okms_id, UseCases::new(&server).await);
    let mut callers = Vec::new();
    for _ in 0..2 {
        let certificate = seeing(&server, okms_id, "all", "").await;
        callers.push(cases.enter(&domain, &certificate).await.0);
    }
    let list = async |caller: &Caller| cases.secrets.list_folder(caller, "many", None, None).await;
    for patience in PATIENCE {
        let revoked = certified(&server, okms_id, "all").await;
        let (caller, _) = cases.enter(&domain, &revoked).await;
        let unwritten = [list(&callers[0]).await, list(&callers[1]).await];
        assert!(unwritten.iter().all(Result::is_ok));
        let mut third = Box::pin(list(&caller));
        timeout(patience, &mut third).await.expect_err("it has no turn");
        assert!(server.credentials.revoke(id(&revoked)).await.expect("a store"));
        drop(unwritten);
        match third.await {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error, Error::Unauthenticated("revoked credential"));
                return;
            }
        }
    }
    panic!("the list was shown");
}

/// In one of these times, what can go on has come to where it waits.
const PATIENCE: [Duration; 3] =
    [Duration::from_millis(300), Duration::from_secs(3), Duration::from_secs(30)];

/// A client whose certificate an authority vouches for so many times.
#[derive(Debug)]
struct Vouched {
    certificate: Arc<PeerCertificate>,
    times: u32,
    asked: AtomicU32,
}

impl Vouched {
    fn new(certificate: &PeerCertificate, times: u32) -> Arc<Self> {
        let certificate = Arc::new(certificate.clone());
        Arc::new(Self { certificate, times, asked: AtomicU32::new(0) })
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Peer for Vouched {
    fn certificate(&self, _: Timestamp) -> Result<Arc<PeerCertificate>, &'static str> {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        (asked < self.times).then(|| self.certificate.clone()).ok_or("no more")
    }

    fn fingerprint(&self) -> [u8; 32] {
        self.certificate.fingerprint
    }
}

async fn what_happens_in_a_long_search_counts(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    fill(&server, "h", MANY_HIDDEN).await;
    let long = seeing(&server, domain.okms_id, "long", "/secret/*y").await;
    let short = seeing(&server, domain.okms_id, "short", "/secret/a").await;
    let cases = UseCases::new(&server).await;
    // Some twenty looks, and the caller is found out again after ten.
    let peer = Vouched::new(&long, u32::MAX);
    let (caller, _) = cases.enter_by(&domain, peer.clone()).await;
    assert_eq!((search(&cases, &caller).await, peer.asked()), (0, 2));
    let peer = Vouched::new(&long, 1);
    let (caller, trail) = cases.enter_by(&domain, peer.clone()).await;
    let refused = cases.secrets.list(&caller, None, 10).await.err();
    assert_eq!(refused, Some(Error::Unauthenticated("no more")));
    // What was decided until then is on record.
    let noted = trail.read().decisions;
    assert_eq!(
        noted.iter().map(|one| (one.action, one.allowed)).collect::<Vec<_>>(),
        [(GET, true)]
    );
    // In a short one it is not.
    let peer = Vouched::new(&short, 1);
    let (caller, _) = cases.enter_by(&domain, peer.clone()).await;
    assert_eq!((search(&cases, &caller).await, peer.asked()), (1, 1));
}

/// A client of another authority, whose certificate names another user each time.
#[derive(Debug)]
struct Fickle {
    domain: okmsd::domain::OkmsId,
    asked: AtomicU32,
}

impl Peer for Fickle {
    fn certificate(&self, _: Timestamp) -> Result<Arc<PeerCertificate>, &'static str> {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        let claim = Claim::External(vec![user(&format!("u{}", asked % 2))]);
        Ok(Arc::new(PeerCertificate {
            okms_id: self.domain,
            fingerprint: self.fingerprint(),
            claim,
        }))
    }

    fn fingerprint(&self) -> [u8; 32] {
        [7; 32]
    }
}

async fn rights_that_change_all_the_time_end_in_a_refusal(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    fill(&server, "h", MANY_HIDDEN).await;
    for name in ["u0", "u1"] {
        let here = [resource(domain.okms_id, "/secret/*y")];
        apply(&server, name, &user(name), &here, &[("allow", &[GET])]).await;
    }
    let cases = UseCases::new(&server).await;
    let peer = Arc::new(Fickle { domain: domain.okms_id, asked: AtomicU32::new(0) });
    let (caller, trail) = cases.enter_by(&domain, peer.clone()).await;
    let refused = cases.secrets.list(&caller, None, 10).await.err();
    assert!(matches!(refused, Some(Error::Unavailable(_))), "{refused:?}");
    assert_eq!((peer.asked.load(Ordering::SeqCst), trail.read().decisions.len()), (5, 4));
}
