//! Lists take turns: a long search holds up no short one, and rights count as of the first turn.

use std::{future::poll_fn, pin::Pin, task::Poll};

use futures_util::future::{join_all, maybe_done, select_all};
use okmsd::{
    domain::{OkmsId, PeerCertificate},
    server::peer_certificate,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{GET, apply, identified, resource, trail::UseCases, user};
use crate::support::{Server, both_engines};

both_engines!(
    a_list_is_answered_while_long_searches_go_on,
    a_right_that_is_taken_away_while_a_list_waits_does_not_count,
);

/// The certificate of a caller who may get what matches, as the server sees it.
async fn seeing(server: &Server, okms_id: OkmsId, name: &str, below: &str) -> PeerCertificate {
    apply(server, name, &user(name), &[resource(okms_id, below)], &[("allow", &[GET])]).await;
    let (certificate, _) = identified(server, okms_id, &[&user(name)]).await;
    let der = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate");
    peer_certificate(&der).expect("an identity")
}

/// So many secrets that a search among them takes some twenty looks.
const HIDDEN: &str = "INSERT INTO secrets (okms_id, path, cas_required, max_versions, \
    deactivate_version_after, custom_metadata, current_version, oldest_version, created_at, \
    updated_at, incarnation) \
    WITH RECURSIVE numbers (n) AS (SELECT 100000 UNION ALL SELECT n + 1 FROM numbers \
    WHERE n < 139999) \
    SELECT okms_id, 'h/' || n, 0, 0, '0s', '{}', 0, 0, created_at, updated_at, incarnation \
    FROM secrets, numbers WHERE path = 'a'";

async fn a_list_is_answered_while_long_searches_go_on(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    assert_eq!(server.database.execute(HIDDEN).await, 40_000);
    let searching = seeing(&server, domain.okms_id, "searching", "/secret/*y").await;
    let quick = seeing(&server, domain.okms_id, "quick", "/secret/a").await;
    let cases = UseCases::new(&server).await;
    // More than there are turns. All of them wait for a turn, or have one, before the short list asks for
    // its own.
    let callers = join_all((0..6).map(|_| cases.enter(&domain, &searching))).await;
    let search =
        async |caller| cases.secrets.list(caller, None, 10).await.expect("a list").items.len();
    let mut searches: Vec<_> = callers.iter().map(|(caller, _)| Box::pin(search(caller))).collect();
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

async fn a_right_that_is_taken_away_while_a_list_waits_does_not_count(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let certificate = seeing(&server, domain.okms_id, "p", "").await;
    let cases = UseCases::new(&server).await;
    let callers = join_all((0..8).map(|_| cases.enter(&domain, &certificate))).await;
    let list =
        async |caller| cases.secrets.list(caller, None, 10).await.expect("a list").items.len();
    for _ in 0..TRIES {
        let lists = callers.iter().map(|(caller, _)| Box::pin(maybe_done(list(caller))));
        let mut lists: Vec<_> = lists.collect();
        // The first ones have their turn and get no further, the others wait.
        for list in &mut lists {
            poll_once(list).await;
        }
        if lists.iter_mut().any(|list| list.as_mut().output_mut().is_some()) {
            // The database was so quick that somebody's turn is over already: nothing to see.
            join_all(lists).await;
            continue;
        }
        assert!(super::policies(&server).delete("p").await.expect("a store"));
        join_all(lists.iter_mut().map(|list| list.as_mut())).await;
        let found = lists.iter_mut().map(|list| list.as_mut().take_output().expect("its end"));
        let found: Vec<_> = found.collect();
        assert_eq!(found, [1, 1, 1, 0, 0, 0, 0, 0]);
        let allowed = callers
            .iter()
            .map(|(_, trail)| trail.read().decisions.last().is_some_and(|last| last.allowed));
        assert!(allowed.eq(found.iter().map(|found| *found == 1)));
        return;
    }
    panic!("a list was always over before the last one began");
}

/// More than enough to meet a database that takes a moment.
const TRIES: usize = 1_000;

/// Goes as far as it goes without waiting, and says whether that is to its end.
pub(super) async fn poll_once(future: &mut (impl Future + Unpin)) -> bool {
    poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context).is_ready())).await
}
