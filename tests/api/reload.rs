//! Authorities and the server's certificate, replaced while the server runs.

use std::{sync::Arc, time::Duration};

use okmsd::{
    domain::Clock,
    pki::{Authority, Issued},
    server::CertificateKind,
};
use rustls::{
    ClientConfig, HandshakeKind,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{
    authorities::{bind, client, counts, counts_on, external, refuses},
    codes::UNAUTHENTICATED,
    support::{Ca, Domain, Identity, Server, both_engines},
};

both_engines!(
    an_authority_that_is_taken_away_stops_its_clients_at_their_next_request,
    our_own_authority_can_be_replaced,
    a_new_server_certificate_is_shown_to_new_connections,
    a_bad_set_leaves_the_old_one_in_use,
    a_server_certificate_out_of_its_time_replaces_none,
    tickets_die_with_the_set_that_made_them,
    there_is_no_early_data,
);

const USER: &str = "urn:v1:eu:identity:user:ab12345-ovh/alice";
/// Seconds.
const DAY: u32 = 86_400;

async fn an_authority_that_is_taken_away_stops_its_clients_at_their_next_request(server: Server) {
    let domain = server.domain().await;
    let (old, new) = (Ca::root("Old root"), Ca::root("New root"));
    let swap = |roots: &[&Ca]| {
        let roots: Vec<_> = roots.iter().map(|ca| external(domain.okms_id, &ca.pem)).collect();
        server.reload(|material| material.external_authorities = roots).unwrap()
    };
    assert!(swap(&[&old]));
    let (alice, bob) = (client(&server, &old.client(USER)), new.client(USER));
    counts_on(&alice, &domain).await;
    assert!(refuses(&server, &bob).await);
    assert!(swap(&[&old, &new]));
    let bob = client(&server, &bob);
    counts_on(&alice, &domain).await;
    counts_on(&bob, &domain).await;
    assert!(swap(&[&new]));
    alice.get(&domain.secret("a")).await.error(401, UNAUTHENTICATED);
    counts_on(&bob, &domain).await;
    assert!(!swap(&[&new]), "nothing has changed");
    counts_on(&bob, &domain).await;
    // The same authority, for another domain.
    let other = server.domain().await;
    server
        .reload(|material| material.external_authorities = vec![external(other.okms_id, &new.pem)])
        .unwrap();
    counts_on(&bob, &other).await;
    bob.get(&domain.secret("a")).await.error(404, crate::codes::DOMAIN_NOT_FOUND);
}

async fn our_own_authority_can_be_replaced(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    // A look-alike.
    let other = Authority::generate("okmsd test CA", server.clock.now(), 365).unwrap();
    let ours = server.authority.certificate_pem().to_owned();
    let both = format!("{ours}{}", other.certificate_pem());
    server.reload(|material| material.client_ca_pems = vec![both]).unwrap();
    domain.client.get(&domain.secret("a")).await.ok();
    let only = other.certificate_pem().to_owned();
    server.reload(|material| material.client_ca_pems = vec![only]).unwrap();
    domain.client.get(&domain.secret("a")).await.error(401, UNAUTHENTICATED);
    server.reload(|material| material.client_ca_pems = vec![ours]).unwrap();
    domain.client.get(&domain.secret("a")).await.ok();
}

async fn a_new_server_certificate_is_shown_to_new_connections(server: Server) {
    let domain = server.domain().await;
    domain.create("a", "{}").await;
    let (first, docs) =
        (shown(&server, &server.api_url).await, shown(&server, &server.docs_url).await);
    assert_eq!(first, docs);
    let issued = server.authority.issue_server(&["localhost".into()], server.clock.now(), 20);
    let issued = issued.unwrap();
    let expected = CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap();
    server
        .reload(|material| {
            material.certificate_chain_pem = issued.certificate_pem;
            material.private_key_pem = issued.private_key_pem;
        })
        .unwrap();
    // The open connection goes on.
    domain.client.get(&domain.secret("a")).await.ok();
    assert_ne!(first, expected);
    assert_eq!(shown(&server, &server.api_url).await, expected);
    assert_eq!(shown(&server, &server.docs_url).await, expected);
    let status = server.certificates();
    let own = status.certificates.iter().find(|one| one.kind == CertificateKind::Server).unwrap();
    let days = (own.ends.as_millis() - server.clock.now().as_millis()) / 86_400_000;
    assert!((19..=20).contains(&days), "{own:?}");
    assert!(status.certificates.iter().any(|one| one.kind == CertificateKind::OwnAuthority));
}

async fn a_bad_set_leaves_the_old_one_in_use(server: Server) {
    let domain = server.domain().await;
    let ca = Ca::root("Example root");
    bind(&server, domain.okms_id, &ca.pem).unwrap();
    let alice = ca.client(USER);
    let open = client(&server, &alice);
    let other = server.authority.issue_server(&["localhost".into()], server.clock.now(), 20);
    let other = other.unwrap();
    let id = domain.okms_id;
    type Change = Box<dyn FnOnce(&mut okmsd::server::TlsMaterial)>;
    let changes: [(&str, Change); 6] = [
        ("is not the key of", Box::new(|m| m.certificate_chain_pem = other.certificate_pem)),
        ("server certificate", Box::new(|m| m.certificate_chain_pem.truncate(100))),
        ("server key", Box::new(|m| m.private_key_pem = "x".to_owned().into())),
        ("client authority 1", Box::new(|m| m.client_ca_pems = vec!["x".to_owned()])),
        ("there is no authority", Box::new(|m| m.client_ca_pems.clear())),
        ("example.pem", Box::new(move |m| m.external_authorities = vec![external(id, "")])),
    ];
    for (reason, change) in changes {
        let before = server.certificates();
        let error = server.reload(change).unwrap_err();
        assert!(error.contains(reason), "{error}");
        assert_eq!(server.certificates(), before);
        counts_on(&open, &domain).await;
        counts(&server, &domain, &alice).await;
    }
}

async fn a_server_certificate_out_of_its_time_replaces_none(server: Server) {
    let domain = server.domain().await;
    let ca = Ca::root("Example root");
    let issue = |now| server.authority.issue_server(&["localhost".into()], now, 30).unwrap();
    let replace = |issued: Issued| {
        server.reload(|material| {
            material.certificate_chain_pem = issued.certificate_pem;
            material.private_key_pem = issued.private_key_pem;
        })
    };
    let own = || {
        let status = server.certificates();
        let mut all = status.certificates.iter();
        all.find(|one| one.kind == CertificateKind::Server).unwrap().fingerprint
    };
    let refused = |issued: Issued, start: &str| {
        let before = own();
        let error = replace(issued).unwrap_err();
        assert!(error.starts_with(start), "{error}");
        assert_eq!(own(), before);
    };
    let (ended, early) =
        ("the server certificate has ended at ", "the server certificate is not valid before ");
    let now = server.clock.now();
    refused(issue(now.minus_seconds(31 * DAY)), ended);
    refused(issue(now.plus_seconds(u64::from(DAY))), early);
    domain.create("a", "{}").await;

    // What comes along counts: a revocation would be as much in need of it as an authority.
    let (other, before) = (Ca::root("Other root"), own());
    let next = issue(now.plus_seconds(u64::from(DAY)));
    let reloaded = server.reload(|material| {
        material.certificate_chain_pem = next.certificate_pem;
        material.private_key_pem = next.private_key_pem;
        material.external_authorities = vec![external(domain.okms_id, &other.pem)];
    });
    assert!(reloaded.unwrap_err().starts_with("the server certificate is not valid before "));
    assert_eq!(own(), before);
    counts(&server, &domain, &other.client(USER)).await;

    // Nor does it when the one in use has ended, which is no reason to miss what else is new.
    server.clock.advance(Duration::from_secs(u64::from(31 * DAY)));
    assert!(bind(&server, domain.okms_id, &ca.pem).unwrap());
    let now = server.clock.now();
    refused(issue(now.minus_seconds(31 * DAY)), ended);
    refused(issue(now.plus_seconds(u64::from(DAY))), early);
    let before = own();
    assert!(replace(issue(now)).unwrap());
    assert_ne!(own(), before);
}

async fn tickets_die_with_the_set_that_made_them(server: Server) {
    let domain = server.domain().await;
    let ca = Ca::root("Example root");
    bind(&server, domain.okms_id, &ca.pem).unwrap();
    let alice = ca.client(USER);
    for tls in [Arc::new(tls12(&server, &alice)), Arc::new(tls(&server, &alice))] {
        let again = || async { connect(&server, tls.clone(), &domain).await.unwrap().1 };
        assert_ne!(again().await, HandshakeKind::Resumed);
        assert_eq!(again().await, HandshakeKind::Resumed);
        // What changes nothing leaves them alone.
        assert!(!server.reload(|_| {}).unwrap());
        assert_eq!(again().await, HandshakeKind::Resumed);
        let other = Ca::root("Other root");
        bind(&server, domain.okms_id, &other.pem).unwrap();
        assert_ne!(again().await, HandshakeKind::Resumed);
        assert_eq!(again().await, HandshakeKind::Resumed);
        // The same certificates in one file rather than two: what a list is for may change by that.
        let one_file = external(domain.okms_id, &format!("{}{}", ca.pem, other.pem));
        assert!(server.reload(|m| m.external_authorities = vec![one_file]).unwrap());
        assert_ne!(again().await, HandshakeKind::Resumed);
        // Its authority is gone: there is no way in.
        let domain_id = domain.okms_id;
        server.reload(|m| m.external_authorities = vec![external(domain_id, &other.pem)]).unwrap();
        connect(&server, tls.clone(), &domain).await.unwrap_err();
        server.reload(|m| m.external_authorities = vec![external(domain_id, &ca.pem)]).unwrap();
    }
}

/// Data that comes before the handshake ends could be sent again by whoever saw it.
async fn there_is_no_early_data(server: Server) {
    let domain = server.domain().await;
    let mut tls = tls(&server, &(domain.certificate_pem.clone(), domain.private_key_pem.clone()));
    tls.enable_early_data = true;
    let tls = Arc::new(tls);
    connect(&server, tls.clone(), &domain).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut session = rustls::ClientConnection::new(tls.clone(), name).unwrap();
    assert!(session.early_data().is_none(), "the ticket allows none");
    assert_eq!(connect(&server, tls, &domain).await.unwrap().1, HandshakeKind::Resumed);
}

fn tls(server: &Server, (certificate, key): &Identity) -> ClientConfig {
    server.tls(Some((certificate, key)))
}

/// A client of TLS 1.2 alone.
pub fn tls12(server: &Server, (certificate, key): &Identity) -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(server.authority.certificate_pem().as_bytes());
    roots.add(ca.unwrap()).unwrap();
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes());
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain.collect::<Result<_, _>>().unwrap(), key)
        .unwrap()
}

/// One request on a connection of its own: the status, and how the handshake went.
pub async fn connect(
    server: &Server,
    tls: Arc<ClientConfig>,
    domain: &Domain,
) -> Result<(u16, HandshakeKind), String> {
    let failed = |error: std::io::Error| error.to_string();
    let address = server.api_url.strip_prefix("https://").expect("https");
    let socket = TcpStream::connect(address).await.map_err(failed)?;
    let name = ServerName::try_from("localhost").expect("a name");
    let mut connection = TlsConnector::from(tls).connect(name, socket).await.map_err(failed)?;
    let request =
        format!("GET {} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", domain.secret("a"));
    connection.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.map_err(failed)?;
    let kind = connection.get_ref().1.handshake_kind().expect("a handshake");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.expect("a status"), kind))
}

/// The certificate that a listener shows.
async fn shown(server: &Server, url: &str) -> CertificateDer<'static> {
    let address = url.strip_prefix("https://").expect("https");
    let socket = TcpStream::connect(address).await.expect("to connect");
    let name = ServerName::try_from("localhost").expect("a name");
    let tls = Arc::new(server.tls(None));
    let connection = TlsConnector::from(tls).connect(name, socket).await.expect("a handshake");
    let shown = connection.get_ref().1.peer_certificates().expect("a certificate");
    shown.first().expect("a certificate").clone().into_owned()
}
