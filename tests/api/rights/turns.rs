//! Lists take turns: a long search holds up no short one, and no caller those of others.

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use futures_util::future::{join_all, select_all};
use okmsd::{
    domain::{OkmsId, PeerCertificate},
    server::peer_certificate,
    service::{Caller, Unsent},
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::time::timeout;

use super::{GET, apply, identified, resource, trail::UseCases, user};
use crate::support::{Domain, Server, both_engines};

both_engines!(
    a_list_is_answered_while_long_searches_go_on,
    whoever_asks_for_many_lists_holds_up_nobody_elses,
    a_caller_has_one_very_long_list_until_it_is_sent,
);

/// The certificate of a caller who may get what matches, as the server sees it.
pub(super) async fn seeing(
    server: &Server,
    okms_id: OkmsId,
    name: &str,
    below: &str,
) -> PeerCertificate {
    apply(server, name, &user(name), &[resource(okms_id, below)], &[("allow", &[GET])]).await;
    certified(server, okms_id, name).await
}

/// Another certificate of a user.
pub(super) async fn certified(server: &Server, okms_id: OkmsId, name: &str) -> PeerCertificate {
    let (certificate, _) = identified(server, okms_id, &[&user(name)]).await;
    let der = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate");
    peer_certificate(&der).expect("an identity")
}

/// Puts so many secrets there at once, from `<folder>/100000` on. They prove nothing, so that one that is looked
/// at closer than by its path would show. There is a secret `a`.
pub(super) async fn fill(server: &Server, folder: &str, many: u32) {
    let copies = format!(
        "INSERT INTO secrets (okms_id, path, cas_required, max_versions, \
         deactivate_version_after, custom_metadata, current_version, oldest_version, created_at, \
         updated_at, incarnation) \
         WITH RECURSIVE numbers (n) AS (SELECT 100000 UNION ALL SELECT n + 1 FROM numbers \
         WHERE n < 99999 + {many}) \
         SELECT okms_id, '{folder}/' || n, 0, 0, '0s', '{{}}', 0, 0, created_at, updated_at, \
         incarnation FROM secrets, numbers WHERE path = 'a'"
    );
    assert_eq!(server.database.execute(&copies).await, u64::from(many));
}

/// So many hidden secrets that a search among them takes some twenty looks.
pub(super) const MANY_HIDDEN: u32 = 40_000;

/// Callers with a credential each who see nothing of what [`fill`] put there, and have to look through it.
pub(super) async fn searching(server: &Server, cases: &UseCases, domain: &Domain) -> Vec<Caller> {
    let mut callers = Vec::new();
    for _ in 0..6 {
        let certificate = seeing(server, domain.okms_id, "searching", "/secret/*y").await;
        callers.push(cases.enter(domain, &certificate).await.0);
    }
    callers
}

pub(super) async fn search(cases: &UseCases, caller: &Caller) -> usize {
    cases.secrets.list(caller, None, 10).await.expect("a list").items.len()
}

async fn a_list_is_answered_while_long_searches_go_on(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    fill(&server, "h", MANY_HIDDEN).await;
    let quick = seeing(&server, domain.okms_id, "quick", "/secret/a").await;
    let cases = UseCases::new(&server).await;
    // More than there are turns. All of them wait for a turn, or have one, before the short list asks for
    // its own.
    let callers = searching(&server, &cases, &domain).await;
    let mut searches: Vec<_> =
        callers.iter().map(|caller| Box::pin(search(&cases, caller))).collect();
    for search in &mut searches {
        assert!(!poll_once(search).await, "a search among 40,000 secrets ends at once");
    }
    let (caller, _) = cases.enter(&domain, &quick).await;
    // The list is behind six looks, of which each search takes more than six: not one search has ended
    // when it is answered.
    let page = tokio::select! {
        biased;
        _ = select_all(searches.iter_mut()) => panic!("a long search came first"),
        page = cases.secrets.list(&caller, None, 10) => page.expect("a list"),
    };
    assert_eq!(page.items.len(), 1);
    assert_eq!(join_all(searches).await, [0; 6]);
}

async fn whoever_asks_for_many_lists_holds_up_nobody_elses(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    fill(&server, "h", MANY_HIDDEN).await;
    let quick = seeing(&server, domain.okms_id, "quick", "/secret/a").await;
    let cases = UseCases::new(&server).await;
    let callers = searching(&server, &cases, &domain).await;
    let mut searches: Vec<_> = (0..20).map(|_| Box::pin(search(&cases, &callers[0]))).collect();
    for search in &mut searches {
        assert!(!poll_once(search).await, "it waits");
    }
    // They go no further, and have what they ever will of the turns.
    for certificate in [&quick, &certified(&server, domain.okms_id, "quick").await] {
        let (caller, _) = cases.enter(&domain, certificate).await;
        assert_eq!(within_patience(search(&cases, &caller)).await, 1);
    }
    // Nor do they hold up those of the same caller for good.
    assert_eq!(join_all(searches).await, [0; 20]);
}

async fn a_caller_has_one_very_long_list_until_it_is_sent(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    fill(&server, "many", VERY_LONG).await;
    let cases = UseCases::new(&server).await;
    let mut callers = Vec::new();
    for _ in 0..3 {
        let certificate = seeing(&server, domain.okms_id, "all", "").await;
        callers.push(cases.enter(&domain, &certificate).await.0);
    }
    let list = async |caller: &Caller| -> Unsent {
        let list = cases.secrets.list_folder(caller, "many", None, None).await.expect("a list");
        assert_eq!(list.page.items.len(), VERY_LONG as usize);
        list.written()
    };
    // As many as there are turns in all have not read what they got: that keeps nobody else from the next one.
    let unsent = [list(&callers[0]).await, list(&callers[1]).await];
    let mut second = Box::pin(list(&callers[0]));
    // Several, one after another: a second one that had its turn would have ended before the last of them.
    let others = async {
        for _ in 0..4 {
            drop(within_patience(list(&callers[2])).await);
        }
        // A list by pages waits for none of them, but for looks of the second one that go on beside it.
        let page = cases.secrets.list_folder(&callers[0], "many", None, Some(500));
        assert_eq!(within_patience(page).await.expect("a page").page.items.len(), 500);
    };
    tokio::select! {
        biased;
        _ = &mut second => panic!("a second one of the same caller"),
        () = others => {}
    }
    drop(unsent);
    within_patience(second).await;
}

/// Names that make a list a very long one.
pub(super) const VERY_LONG: u32 = 25_000;

/// What would never end otherwise.
async fn within_patience<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(60), future).await.expect("an end")
}

/// Goes as far as it goes without waiting, and says whether that is to its end.
pub(super) async fn poll_once(future: &mut (impl Future + Unpin)) -> bool {
    poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context).is_ready())).await
}
