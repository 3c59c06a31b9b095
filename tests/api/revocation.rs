//! Lists of revoked certificates: what is on one is nobody, and no list is ever taken for an empty one.

use std::{sync::Arc, time::Duration};

use okmsd::{
    domain::{Clock, Timestamp},
    server::{LiveTls, RevocationList, TlsMaterial},
};
use rcgen::{
    CertificateRevocationListParams, CrlDistributionPoint, CrlIssuingDistributionPoint, CrlScope,
    KeyIdMethod,
};
use rustls::HandshakeKind;

use crate::{
    authorities::{bind, client, counts, counts_on, date, external, refuses},
    codes::UNAUTHENTICATED,
    operations::Operations,
    reload::connect,
    support::{Ca, Domain, Server, both_engines},
};

both_engines!(
    a_listed_certificate_is_refused_on_open_and_new_connections,
    a_listed_certificate_cannot_resume_its_session,
    a_listed_intermediate_takes_its_clients_along,
    a_certificate_whose_issuer_has_no_list_is_refused_where_there_are_lists,
    a_list_that_grows_stale_closes_its_authority_and_a_fresh_one_opens_it,
    lists_that_cannot_be_used_are_refused,
    the_newest_fresh_list_counts_beside_old_ones,
    an_old_list_hides_no_newer_one_of_its_issuer,
    a_late_publisher_does_not_keep_out_what_the_others_revoke,
    lists_of_authorities_of_one_name_are_told_apart,
    our_own_authority_can_have_a_list,
    monitoring_is_told_when_a_list_was_made_and_when_it_ends,
);

const USER: &str = "urn:v1:eu:identity:user:ab12345-ovh/alice";

/// The serial numbers of clients and intermediates of the tests.
const CLIENT: u64 = 42;
const INTERMEDIATE: u64 = 7;

async fn a_listed_certificate_is_refused_on_open_and_new_connections(server: Server) {
    let (domain, ca) = (server.domain().await, Ca::root("Example root"));
    bind(&server, domain.okms_id, &ca.pem).unwrap();
    let (alice, bob) = (ca.client(USER), bob(&ca));
    let open = client(&server, &alice);
    counts_on(&open, &domain).await;
    lists(&server, &[fresh(&server, &ca, &[])]).unwrap();
    counts_on(&open, &domain).await;
    lists(&server, &[fresh(&server, &ca, &[CLIENT])]).unwrap();
    open.get(&domain.secret("a")).await.error(401, UNAUTHENTICATED);
    assert!(refuses(&server, &alice).await);
    counts(&server, &domain, &bob).await;
    domain.create("a", "{}").await;
    // Its authority may take it back.
    lists(&server, &[fresh(&server, &ca, &[])]).unwrap();
    counts_on(&open, &domain).await;
    counts(&server, &domain, &alice).await;
}

async fn a_listed_certificate_cannot_resume_its_session(server: Server) {
    let (domain, ca) = (server.domain().await, Ca::root("Example root"));
    bind(&server, domain.okms_id, &ca.pem).unwrap();
    lists(&server, &[fresh(&server, &ca, &[])]).unwrap();
    let (certificate, key) = ca.client(USER);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut tls = server.tls(Some((&certificate, &key)));
        if version.version == rustls::ProtocolVersion::TLSv1_2 {
            tls = crate::reload::tls12(&server, &(certificate.clone(), key.clone()));
        }
        let tls = Arc::new(tls);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let (answer, seen) = connect(&server, tls.clone(), &domain).await.unwrap();
            assert_ne!(answer, 401);
            assert_eq!(seen == HandshakeKind::Resumed, kind == HandshakeKind::Resumed);
        }
        lists(&server, &[fresh(&server, &ca, &[CLIENT])]).unwrap();
        connect(&server, tls, &domain).await.unwrap_err();
        lists(&server, &[fresh(&server, &ca, &[])]).unwrap();
    }
}

async fn a_listed_intermediate_takes_its_clients_along(server: Server) {
    let (domain, root) = (server.domain().await, Ca::root("Example root"));
    let middle = root.intermediate("Example middle");
    bind(&server, domain.okms_id, &format!("{}{}", root.pem, middle.pem)).unwrap();
    let (below, beside) = (middle.client(USER), root.client(USER));
    let lists_of = |revoked: &[u64]| {
        [fresh(&server, &root, revoked), fresh(&server, &middle, &[])].map(|list| list)
    };
    lists(&server, &lists_of(&[])).unwrap();
    let open = client(&server, &below);
    counts_on(&open, &domain).await;
    lists(&server, &lists_of(&[INTERMEDIATE])).unwrap();
    open.get(&domain.secret("a")).await.error(401, UNAUTHENTICATED);
    assert!(refuses(&server, &below).await);
    counts(&server, &domain, &beside).await;
}

async fn a_certificate_whose_issuer_has_no_list_is_refused_where_there_are_lists(server: Server) {
    let (domain, root) = (server.domain().await, Ca::root("Example root"));
    let middle = root.intermediate("Example middle");
    bind(&server, domain.okms_id, &format!("{}{}", root.pem, middle.pem)).unwrap();
    let (below, beside) = (middle.client(USER), root.client(USER));
    lists(&server, &[fresh(&server, &root, &[])]).unwrap();
    counts(&server, &domain, &beside).await;
    assert!(refuses(&server, &below).await);
    // The other way round, the intermediate itself need not be on any list.
    lists(&server, &[fresh(&server, &middle, &[])]).unwrap();
    counts(&server, &domain, &below).await;
    assert!(refuses(&server, &beside).await);
    // Other authorities are not concerned.
    let other = Ca::root("Other root");
    bind(&server, domain.okms_id, &other.pem).unwrap();
    counts(&server, &domain, &other.client(USER)).await;
    domain.create("a", "{}").await;
}

async fn a_list_that_grows_stale_closes_its_authority_and_a_fresh_one_opens_it(server: Server) {
    let (domain, ca) = (server.domain().await, Ca::root("Example root"));
    bind(&server, domain.okms_id, &ca.pem).unwrap();
    let alice = ca.client(USER);
    lists(&server, &[fresh(&server, &ca, &[])]).unwrap();
    let open = client(&server, &alice);
    server.clock.advance(Duration::from_secs(HOUR - 2));
    counts_on(&open, &domain).await;
    server.clock.advance(Duration::from_secs(3));
    open.get(&domain.secret("a")).await.error(401, UNAUTHENTICATED);
    assert!(refuses(&server, &alice).await);
    domain.client.get(&domain.secret("a")).await.error(404, crate::codes::SECRET_NOT_FOUND);
    lists(&server, &[fresh(&server, &ca, &[])]).unwrap();
    counts_on(&open, &domain).await;
    counts(&server, &domain, &alice).await;
}

async fn lists_that_cannot_be_used_are_refused(server: Server) {
    let (domain, ca) = (server.domain().await, Ca::root("Example root"));
    // An authority of the file that may sign certificates alone.
    let no_signer = ca.intermediate_with("Example signer", |params| {
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    });
    bind(&server, domain.okms_id, &format!("{}{}", ca.pem, no_signer.pem)).unwrap();
    let now = server.clock.now();
    let at = |begins: i64, ends: i64| {
        let at = |hours: i64| date(Timestamp::from_millis(now.as_millis() + hours * 3_600_000));
        move |ca: &Ca| ca.list(&[CLIENT], at(begins), at(ends))
    };
    let good = at(-1, 1)(&ca);
    let der = rustls::pki_types::pem::PemObject::from_pem_slice(&good);
    let der: rustls::pki_types::CertificateRevocationListDer<'static> = der.unwrap();
    let mut tampered = der.to_vec();
    let last = tampered.len() - 1;
    tampered[last] ^= 1;
    // A namesake with another key.
    let namesake = Ca::root("Example root");
    let padded = |size: usize| {
        let mut padded = good.clone();
        padded.resize(size, b'\n');
        padded
    };
    for (what, content, reason) in [
        ("nothing", Vec::new(), "neither PEM nor DER"),
        ("no list", b"hello".to_vec(), "neither PEM nor DER"),
        ("a certificate", ca.pem.clone().into_bytes(), "neither PEM nor DER"),
        ("half a list", der[..der.len() / 2].to_vec(), "not an X.509 certificate revocation list"),
        ("from the future", at(1, 3)(&ca), "from the future"),
        ("of somebody else", at(-1, 1)(&Ca::root("Other")), "not signed by any"),
        ("of a namesake", at(-1, 1)(&namesake), "not signed by any"),
        ("of one who may not", no_signer_list(&no_signer, now), "may not sign revocation lists"),
        ("too large", padded(RevocationList::MAX_BYTES + 1), "larger than 16 MiB"),
        ("changed", tampered, "not signed by any"),
        ("without end", without_next_update(&der, &ca), "no next update"),
    ] {
        let before = server.certificates();
        let error = lists(&server, std::slice::from_ref(&content)).unwrap_err();
        assert!(error.contains(reason), "{what}: {error}");
        assert!(error.contains("list 0"), "the file is named: {error}");
        assert_eq!(server.certificates(), before, "{what}");
        // Nor does a good one of the same authority excuse it, unless it is just early.
        let beside = lists(&server, &[good.clone(), content]);
        assert_eq!(beside.is_ok(), reason == "from the future", "{what}");
        lists(&server, &[]).unwrap();
    }
    // DER is as good as PEM.
    let alice = ca.client(USER);
    counts(&server, &domain, &alice).await;
    lists(&server, &[der.to_vec()]).unwrap();
    assert!(refuses(&server, &alice).await);
    // The largest is not too large.
    lists(&server, &[]).unwrap();
    lists(&server, &[padded(RevocationList::MAX_BYTES)]).unwrap();
    assert!(refuses(&server, &alice).await);
}

async fn the_newest_fresh_list_counts_beside_old_ones(server: Server) {
    let (domain, ca) = (server.domain().await, Ca::root("Example root"));
    bind(&server, domain.okms_id, &ca.pem).unwrap();
    let now = server.clock.now();
    let at = |hours: i64| date(Timestamp::from_millis(now.as_millis() + hours * 3_600_000));
    let alice = ca.client(USER);
    let stale = ca.list(&[], at(-9), at(-8));
    let older = ca.list(&[], at(-2), at(2));
    let newest = ca.list(&[CLIENT], at(-1), at(1));
    for order in [[&stale, &older, &newest], [&newest, &older, &stale], [&older, &newest, &stale]] {
        let order: Vec<Vec<u8>> = order.into_iter().cloned().collect();
        lists(&server, &order).unwrap();
        assert!(refuses(&server, &alice).await);
        // In one file, too.
        lists(&server, &[]).unwrap();
        counts(&server, &domain, &alice).await;
        lists(&server, &[order.concat()]).unwrap();
        assert!(refuses(&server, &alice).await);
        lists(&server, &[]).unwrap();
    }
    lists(&server, &[stale, older.clone()]).unwrap();
    counts(&server, &domain, &alice).await;
    // One that lies there too early counts once its time has come and the files are read again.
    let early = ca.list(&[CLIENT], at(1), at(3));
    assert!(!lists(&server, &[early, older]).unwrap());
    let open = client(&server, &alice);
    counts_on(&open, &domain).await;
    server.clock.advance(Duration::from_secs(HOUR));
    assert!(server.reload(|_| {}).unwrap());
    open.get(&domain.secret("a")).await.error(401, UNAUTHENTICATED);
    assert!(refuses(&server, &alice).await);
}

/// rustls takes the first list of an issuer that fits: it must be the newest, whatever else differs.
async fn an_old_list_hides_no_newer_one_of_its_issuer(server: Server) {
    type Change = fn(&mut CertificateRevocationListParams);
    const PLAIN: Change = |_| {};
    const OTHER_KEY_NAME: Change =
        |params| params.key_identifier_method = KeyIdMethod::PreSpecified(vec![1; 20]);
    const FOR_CLIENTS: Change = |params| {
        params.issuing_distribution_point = Some(CrlIssuingDistributionPoint {
            distribution_point: CrlDistributionPoint {
                uris: vec!["http://example.org/clients.crl".to_owned()],
            },
            scope: Some(CrlScope::UserCertsOnly),
        });
    };
    const NUMBER_9: Change = |params| params.crl_number = 9_u64.into();
    const NUMBER_255: Change = |params| params.crl_number = 255_u64.into();
    const NUMBER_256: Change = |params| params.crl_number = 256_u64.into();

    let (domain, ca) = (server.domain().await, Ca::root("Example root"));
    bind(&server, domain.okms_id, &ca.pem).unwrap();
    let (alice, bob) = (ca.client(USER), bob(&ca));
    let now = server.clock.now();
    let at = |hours: i64| date(Timestamp::from_millis(now.as_millis() + hours * 3_600_000));
    let list = |revoked: &[u64], begins: i64, ends: i64, change: Change| {
        ca.list_with(revoked, at(begins), at(ends), change)
    };
    for (what, older, newer) in [
        ("of all", list(&[], -2, 5, PLAIN), list(&[CLIENT], -1, 5, FOR_CLIENTS)),
        ("of clients", list(&[], -2, 5, FOR_CLIENTS), list(&[CLIENT], -1, 5, PLAIN)),
        ("that ends later", list(&[], -2, 9, PLAIN), list(&[CLIENT], -1, 5, PLAIN)),
        ("that names another key", list(&[], -2, 5, OTHER_KEY_NAME), list(&[CLIENT], -1, 5, PLAIN)),
        ("of a lower number", list(&[], -1, 5, NUMBER_255), list(&[CLIENT], -1, 5, NUMBER_256)),
        ("of a higher number", list(&[], -2, 5, NUMBER_9), list(&[CLIENT], -1, 5, PLAIN)),
    ] {
        lists(&server, std::slice::from_ref(&older)).unwrap();
        counts(&server, &domain, &alice).await;
        for order in [[&older, &newer], [&newer, &older]] {
            lists(&server, &order.map(Clone::clone)).unwrap();
            assert!(refuses(&server, &alice).await, "an old one {what}");
            counts(&server, &domain, &bob).await;
        }
    }
    // The name of the key does not make a list one of its own, which nothing replaces: neither an old
    // one that has ended, nor one that is early.
    let fresh = list(&[CLIENT], -1, 1, PLAIN);
    for other in [list(&[], -9, -8, OTHER_KEY_NAME), list(&[], 1, 3, OTHER_KEY_NAME)] {
        for order in [[&fresh, &other], [&other, &fresh]] {
            lists(&server, &order.map(Clone::clone)).unwrap();
            starts(&server).unwrap();
            assert!(refuses(&server, &alice).await);
            counts(&server, &domain, &bob).await;
        }
    }
    // A newer one that has ended is not excused by an older one that has not: what it revoked would
    // count again.
    let ended = ca.list(&[CLIENT], at(-1), date(now.minus_seconds(1)));
    lists(&server, &[list(&[], -2, 5, PLAIN), ended]).unwrap();
    assert!(refuses(&server, &alice).await);
    assert!(refuses(&server, &bob).await);
}

/// Of two authorities, one publishes its list in time and the other does not.
async fn a_late_publisher_does_not_keep_out_what_the_others_revoke(server: Server) {
    let domain = server.domain().await;
    let (punctual, late) = (Ca::root("Punctual root"), Ca::root("Late root"));
    let roots = || [&punctual, &late].map(|ca| external(domain.okms_id, &ca.pem));
    server.reload(|material| material.external_authorities = roots().to_vec()).unwrap();
    let (alice, bob, carol) = (punctual.client(USER), bob(&punctual), late.client(USER));
    let of_late = fresh(&server, &late, &[]);
    lists(&server, &[fresh(&server, &punctual, &[]), of_late.clone()]).unwrap();
    starts(&server).unwrap();
    let [of_alice, of_bob, of_carol] = [&alice, &bob, &carol].map(|it| client(&server, it));
    for open in [&of_alice, &of_bob, &of_carol] {
        counts_on(open, &domain).await;
    }
    server.clock.advance(Duration::from_secs(HOUR + 1));
    let revoking = fresh(&server, &punctual, &[CLIENT]);
    assert!(lists(&server, &[revoking.clone(), of_late]).unwrap());
    let closed = || async {
        of_alice.get(&domain.secret("a")).await.error(401, UNAUTHENTICATED);
        assert!(refuses(&server, &alice).await, "revoked by a list that is in time");
        counts_on(&of_bob, &domain).await;
        counts(&server, &domain, &bob).await;
        of_carol.get(&domain.secret("a")).await.error(401, UNAUTHENTICATED);
        assert!(refuses(&server, &carol).await, "of the authority whose list is late");
        domain.client.get(&domain.secret("a")).await.error(404, crate::codes::SECRET_NOT_FOUND);
    };
    closed().await;
    // At a start, somebody is there to see to it.
    let error = starts(&server).unwrap_err();
    assert_eq!(error, "revocation list list 1: it is stale: its next update is overdue");
    // Another one that is late as well.
    let now = server.clock.now();
    let again = late.list(&[], date(now.minus_seconds(3_600)), date(now.minus_seconds(1)));
    assert!(lists(&server, &[revoking.clone(), again]).unwrap());
    closed().await;
    // One that is nobody's is still no list, late or not.
    let stranger = Ca::root("Late root");
    let forged = stranger.list(&[], date(now.minus_seconds(3_600)), date(now.minus_seconds(1)));
    let error = lists(&server, &[revoking.clone(), forged]).unwrap_err();
    assert!(error.contains("list 1: not signed by any"), "{error}");
    closed().await;
    // The rest of the files is not held up either.
    let third = Ca::root("Third root");
    bind(&server, domain.okms_id, &third.pem).unwrap();
    counts(&server, &domain, &third.client(USER)).await;
    lists(&server, &[revoking, fresh(&server, &late, &[])]).unwrap();
    counts_on(&of_carol, &domain).await;
    starts(&server).unwrap();
}

/// As when an authority gets a new key and keeps its name.
async fn lists_of_authorities_of_one_name_are_told_apart(server: Server) {
    let domain = server.domain().await;
    let (old, new) = (Ca::root("Example root"), Ca::root("Example root"));
    bind(&server, domain.okms_id, &format!("{}{}", old.pem, new.pem)).unwrap();
    let both = |old_revoked: &[u64], new_revoked: &[u64]| {
        let one = fresh(&server, &old, old_revoked);
        let other = fresh(&server, &new, new_revoked);
        [[one.clone(), other.clone()], [other, one]]
    };
    for order in both(&[CLIENT], &[]) {
        lists(&server, &order).unwrap();
        assert!(refuses(&server, &old.client(USER)).await);
        counts(&server, &domain, &new.client(USER)).await;
    }
    for order in both(&[], &[CLIENT]) {
        lists(&server, &order).unwrap();
        counts(&server, &domain, &old.client(USER)).await;
        assert!(refuses(&server, &new.client(USER)).await);
    }
    // With a list of one alone, nobody knows about the other's.
    lists(&server, &[fresh(&server, &old, &[])]).unwrap();
    counts(&server, &domain, &old.client(USER)).await;
    assert!(refuses(&server, &new.client(USER)).await);
}

async fn our_own_authority_can_have_a_list(server: Server) {
    let domain = server.domain().await;
    let ours = Ca::of(server.authority.certificate_pem(), server.authority.private_key_pem());
    lists(&server, &[fresh(&server, &ours, &[])]).unwrap();
    domain.create("a", "{}").await;
    let list = own_list(&server, &ours, &domain);
    lists(&server, &[list]).unwrap();
    domain.client.get(&domain.secret("a")).await.error(401, UNAUTHENTICATED);
    let identity = (domain.certificate_pem.clone(), domain.private_key_pem.clone());
    assert!(refuses(&server, &identity).await);
    // The store knows nothing of it: without the list the credential counts again.
    lists(&server, &[]).unwrap();
    domain.client.get(&domain.secret("a")).await.ok();
}

/// Puts lists in the place of those that the running server has.
pub fn lists(server: &Server, contents: &[Vec<u8>]) -> Result<bool, String> {
    server.reload(|material| {
        material.revocation_lists = contents
            .iter()
            .enumerate()
            .map(|(n, content)| RevocationList {
                name: format!("list {n}"),
                content: content.clone(),
            })
            .collect();
    })
}

async fn monitoring_is_told_when_a_list_was_made_and_when_it_ends(server: Server) {
    let (domain, ca) = (server.domain().await, Ca::root("Example root"));
    bind(&server, domain.okms_id, &ca.pem).unwrap();
    let operations = Operations::of(&server).await;
    let read = async |what: &str| {
        let (_, _, text) = operations.get("/metrics").await;
        let name = format!("okmsd_certificate_{what}_timestamp_seconds{{kind=\"revocation_list\",");
        let value = text.lines().find(|line| line.starts_with(&name))?.rsplit(' ').next();
        value?.parse::<i64>().ok()
    };
    assert_eq!(read("expiry").await, None);
    lists(&server, &[fresh(&server, &ca, &[])]).unwrap();
    let now = server.clock.now().as_millis() / 1_000;
    assert_eq!((read("begin").await, read("expiry").await), (Some(now - 60), Some(now + 3_600)));
    lists(&server, &[]).unwrap();
    assert_eq!(read("expiry").await, None);
}

/// Whether a server starts with what the running one has.
fn starts(server: &Server) -> Result<(), String> {
    let mut present = None;
    server.reload(|material| present = Some(material.clone()))?;
    let started = LiveTls::new(&present.unwrap(), false, server.clock.clone());
    started.map(|_| ()).map_err(|error| error.to_string())
}

/// A list that counts for an hour.
fn fresh(server: &Server, ca: &Ca, revoked: &[u64]) -> Vec<u8> {
    let now = server.clock.now();
    ca.list(revoked, date(now.minus_seconds(60)), date(now.plus_seconds(HOUR)))
}

/// A client with another serial number than the others.
fn bob(ca: &Ca) -> crate::support::Identity {
    ca.client_with(|params| {
        params.serial_number = Some(43_u64.into());
        params.subject_alt_names.push(crate::support::uri(USER));
    })
}

/// A list with the serial number of the domain's own credential.
fn own_list(server: &Server, ours: &Ca, domain: &Domain) -> Vec<u8> {
    let now = server.clock.now();
    let (begins, ends) = (date(now.minus_seconds(60)), date(now.plus_seconds(HOUR)));
    let params = rcgen::CertificateRevocationListParams {
        this_update: begins,
        next_update: ends,
        crl_number: 1_u64.into(),
        issuing_distribution_point: None,
        revoked_certs: vec![rcgen::RevokedCertParams {
            serial_number: rcgen::SerialNumber::from_slice(domain.credential.id.as_bytes()),
            revocation_time: begins,
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    let key = rcgen::KeyPair::from_pem(ours.key_pem()).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&ours.pem, key).unwrap();
    params.signed_by(&issuer).unwrap().pem().unwrap().into_bytes()
}

/// A good list but for the certificate of its signer, which does not say that it may sign lists.
fn no_signer_list(signer: &Ca, now: Timestamp) -> Vec<u8> {
    // By means of another certificate: those that make lists here keep the rule.
    let ca = Ca::of(&Ca::root("Example signer").pem, signer.key_pem());
    ca.list(&[CLIENT], date(now.minus_seconds(60)), date(now.plus_seconds(HOUR)))
}

/// The same list, signed anew, without the time of its next update, which X.509 allows.
fn without_next_update(der: &[u8], ca: &Ca) -> Vec<u8> {
    use rcgen::SigningKey;
    use x509_parser::prelude::FromDer;

    let (_, list) = x509_parser::revocation_list::CertificateRevocationList::from_der(der).unwrap();
    let inner = list.tbs_cert_list.as_ref().to_vec();
    // The second of two times, which rcgen writes as UTCTime: tag 0x17, 13 bytes.
    let times: Vec<usize> =
        (0..inner.len() - 15).filter(|at| inner[*at..*at + 2] == [0x17, 13]).collect();
    let mut content = inner[header_len(&inner)..].to_vec();
    let second = times[1] - header_len(&inner);
    content.drain(second..second + 15);
    let inner = element(0x30, &content);
    let key = rcgen::KeyPair::from_pem(ca.key_pem()).unwrap();
    let mut signature = vec![0];
    signature.extend(key.sign(&inner).unwrap());
    let algorithm = [0x30, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    element(0x30, &[&inner[..], &algorithm, &element(3, &signature)].concat())
}

fn header_len(der: &[u8]) -> usize {
    if der[1] < 0x80 { 2 } else { 2 + usize::from(der[1] & 0x7f) }
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut der = match length {
        0..0x80 => vec![tag, u8::try_from(length).unwrap()],
        _ => vec![tag, 0x82, u8::try_from(length >> 8).unwrap(), (length & 0xff) as u8],
    };
    der.extend_from_slice(content);
    der
}

const HOUR: u64 = 3_600;

/// A server does not start with a list that it would refuse later.
#[test]
fn a_bad_list_refuses_the_start() {
    use okmsd::{clock::SystemClock, pki::Authority, server::LiveTls};

    let now = SystemClock.now();
    let ours = Authority::generate("okmsd test CA", now, 30).unwrap();
    let issued = ours.issue_server(&["localhost".to_owned()], now, 30).unwrap();
    let ca = Ca::root("Example root");
    let id = "7e5bb0b2-0a6b-4a0c-9a3f-5c9d0e1f2a3b".parse().unwrap();
    let list = |begins: u64| {
        let content = ca.list(&[], date(now.plus_seconds(begins)), date(now.plus_seconds(HOUR)));
        RevocationList { name: "x.crl".to_owned(), content }
    };
    let start = |list| {
        let material = TlsMaterial {
            certificate_chain_pem: issued.certificate_pem.clone(),
            private_key_pem: issued.private_key_pem.clone(),
            client_ca_pems: vec![ours.certificate_pem().to_owned()],
            external_authorities: vec![external(id, &ca.pem)],
            revocation_lists: vec![list],
        };
        LiveTls::new(&material, false, Arc::new(SystemClock)).map(|_| ())
    };
    start(list(0)).unwrap();
    let error = start(list(1_000)).unwrap_err().to_string();
    assert_eq!(error, "revocation list x.crl: it is from the future");
}
