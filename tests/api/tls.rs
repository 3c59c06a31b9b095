//! Who is let in: certificates through the whole server, from the handshake to the answer.

use std::{sync::Arc, time::Duration};

use hyper::Method;
use okmsd::{
    domain::{Clock, OkmsId, Timestamp},
    pki::{AccessCertificate, AccessKey, Authority},
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, SanType, SerialNumber,
};
use rustls::{ClientConfig, HandshakeKind, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    codes::{SECRET_NOT_FOUND, UNAUTHENTICATED},
    support::{Client, Domain, Server, both_engines},
};

both_engines!(
    without_a_certificate_the_answer_is_401,
    what_no_authority_of_ours_signed_fails_the_handshake,
    a_certificate_counts_from_its_beginning_to_its_end,
    a_certificate_for_another_use_fails_the_handshake,
    the_serial_number_alone_is_no_credential,
    a_revocation_counts_on_open_connections,
    a_credential_ends_with_its_domain,
    a_credential_is_nothing_in_another_domain,
    a_body_that_stalls_is_cut_and_hurts_nobody,
    half_open_handshakes_hold_nobody_up,
    old_versions_of_tls_are_refused,
    only_suites_that_keep_past_talks_secret_are_spoken,
);

async fn without_a_certificate_the_answer_is_401(server: Server) {
    let domain = server.domain().await;
    let nobody = server.client(None);
    for (method, target) in [
        (Method::GET, domain.secret("a")),
        (Method::POST, format!("{}/secret", domain.base)),
        (Method::GET, "/no/such/route".to_owned()),
    ] {
        let answer = nobody.json(method, &target, "{}").await;
        answer.error(401, UNAUTHENTICATED);
    }
}

async fn what_no_authority_of_ours_signed_fails_the_handshake(server: Server) {
    let domain = server.domain().await;
    let now = server.clock.now();
    // The same name as ours.
    let other = Authority::generate("okmsd test CA", now, 3650).expect("a CA");
    refused(&server, &issue(&other, &domain, now)).await;
    let (params, key) = (params(&domain), KeyPair::generate().expect("a key"));
    let own = params.self_signed(&key).expect("a certificate");
    refused(&server, &(own.pem(), key.serialize_pem())).await;
    let ours = issue(&server.authority, &domain, now);
    // Well made, but of no credential: that is for the answer to say.
    client(&server, &ours).get(&domain.secret("a")).await.error(401, UNAUTHENTICATED);
}

async fn a_certificate_counts_from_its_beginning_to_its_end(server: Server) {
    let (domain, now) = (server.domain().await, server.clock.now());
    refused(&server, &issue(&server.authority, &domain, now.plus_seconds(2 * DAY))).await;
    let issued = server.credential(domain.okms_id, 1).await;
    let key = issued.private_key_pem.expect("a key").to_string();
    let identity = (issued.credential.certificate_pem, key);
    let open = client(&server, &identity);
    open.get(&domain.secret("a")).await.error(404, SECRET_NOT_FOUND);
    server.clock.advance(Duration::from_secs(DAY - 1));
    open.get(&domain.secret("a")).await.error(404, SECRET_NOT_FOUND);
    client(&server, &identity).get(&domain.secret("a")).await.error(404, SECRET_NOT_FOUND);
    server.clock.advance(Duration::from_secs(1));
    open.get(&domain.secret("a")).await.error(401, UNAUTHENTICATED);
    server.clock.advance(Duration::from_secs(1));
    refused(&server, &identity).await;
    // The domain's other credential lives on.
    domain.client.get(&domain.secret("a")).await.error(404, SECRET_NOT_FOUND);
}

async fn a_certificate_for_another_use_fails_the_handshake(server: Server) {
    let domain = server.domain().await;
    for usages in [
        &[ExtendedKeyUsagePurpose::ServerAuth][..],
        &[ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth],
        &[ExtendedKeyUsagePurpose::Any],
        &[],
    ] {
        let mut params = params(&domain);
        params.extended_key_usages = usages.to_vec();
        refused(&server, &sign(&server, &params)).await;
    }
    let mut authority = params(&domain);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    refused(&server, &sign(&server, &authority)).await;
    // Without the change it is one that passes the handshake.
    let made = sign(&server, &params(&domain));
    client(&server, &made).get(&domain.secret("a")).await.error(401, UNAUTHENTICATED);
}

/// A second certificate of our authority with the serial number, the subject and the names of a valid
/// credential, but another key.
async fn the_serial_number_alone_is_no_credential(server: Server) {
    let domain = server.domain().await;
    let twin = sign(&server, &params(&domain));
    client(&server, &twin).get(&domain.secret("a")).await.error(401, UNAUTHENTICATED);
    domain.client.get(&domain.secret("a")).await.error(404, SECRET_NOT_FOUND);

    // The same with the name of another domain.
    let other = server.domain().await;
    let twin = sign(&server, &params_with(&domain, other.okms_id));
    client(&server, &twin).get(&other.secret("a")).await.error(401, UNAUTHENTICATED);
    client(&server, &twin).get(&domain.secret("a")).await.error(401, UNAUTHENTICATED);
}

async fn a_revocation_counts_on_open_connections(server: Server) {
    let domain = server.domain().await;
    let get = format!("GET {} HTTP/1.1\r\nhost: localhost\r\n\r\n", domain.secret("a"));
    let mut open = connect(&server, tls(&server, &domain)).await;
    assert!(ask(&mut open, &get).await.starts_with("HTTP/1.1 404 "));
    // A session that a client may take up again without showing its certificate anew.
    let shared = Arc::new(tls(&server, &domain));
    let mut resumed = connect_shared(&server, shared.clone()).await;
    assert_ne!(resumed.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
    assert!(ask(&mut resumed, &get).await.starts_with("HTTP/1.1 404 "));
    assert!(server.credentials.revoke(domain.credential.id).await.expect("storage works"));
    assert!(ask(&mut open, &get).await.starts_with("HTTP/1.1 401 "), "the same connection");
    assert!(ask(&mut open, &get).await.starts_with("HTTP/1.1 401 "), "and it stays so");
    let mut resumed = connect_shared(&server, shared).await;
    assert_eq!(resumed.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
    assert!(ask(&mut resumed, &get).await.starts_with("HTTP/1.1 401 "), "a resumed session");
    domain.client.get(&domain.secret("a")).await.error(401, UNAUTHENTICATED);
}

async fn a_credential_ends_with_its_domain(server: Server) {
    let domain = server.domain().await;
    domain.create("a", r#"{"k":"v"}"#).await;
    server.domains.delete(domain.okms_id).await.expect("storage works");
    let answer = domain.client.get(&domain.secret("a?includeData=true")).await;
    answer.error(401, UNAUTHENTICATED);
}

async fn a_credential_is_nothing_in_another_domain(server: Server) {
    let (one, other) = (server.domain().await, server.domain().await);
    other.create("a", r#"{"k":"v"}"#).await;
    let foreign = one.client.get(&other.secret("a")).await;
    let nowhere = "/api/00000000-0000-4000-8000-000000000000/v2/secret/a";
    let unknown = one.client.get(nowhere).await;
    assert_eq!(foreign.error(404, 16_994_305), unknown.error(404, 16_994_305));
}

async fn a_body_that_stalls_is_cut_and_hurts_nobody(server: Server) {
    let domain = server.domain().await;
    let head = format!(
        "POST {}/secret HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: 100\r\n\r\n{{\"path\":",
        domain.base
    );
    let stalled = async {
        let mut connection = connect(&server, tls(&server, &domain)).await;
        connection.write_all(head.as_bytes()).await.expect("to write");
        let mut answer = String::new();
        // The server says why, and closes.
        let read = timeout(Duration::from_secs(40), connection.read_to_string(&mut answer)).await;
        read.expect("in time").expect("an orderly end");
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("body_timeout"), "{answer}");
    };
    let others = async {
        for number in 0..20 {
            let path = format!("s/{number}");
            let create = domain.create(&path, "{}");
            timeout(Duration::from_secs(5), create).await.expect("nobody waits");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let all_stalled = futures_util::future::join_all((0..50).map(|_| async {
        let mut connection = connect(&server, tls(&server, &domain)).await;
        connection.write_all(head.as_bytes()).await.expect("to write");
        connection
    }));
    let _held = all_stalled.await;
    tokio::join!(stalled, others);
}

async fn half_open_handshakes_hold_nobody_up(server: Server) {
    let domain = server.domain().await;
    let address = server.api_url.strip_prefix("https://").expect("https");
    let mut held = Vec::new();
    for number in 0..200 {
        let mut socket = TcpStream::connect(address).await.expect("to connect");
        if number % 2 == 0 {
            // The beginning of a "ClientHello".
            socket.write_all(&[0x16, 3, 1, 2, 0, 1]).await.expect("to write");
        }
        held.push(socket);
    }
    let create = domain.create("a", "{}");
    timeout(Duration::from_secs(5), create).await.expect("nobody waits");
    // They are closed, by and by.
    let mut byte = [0];
    let mut first = held.swap_remove(0);
    let closed = timeout(Duration::from_secs(20), first.read(&mut byte)).await.expect("in time");
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
}

async fn old_versions_of_tls_are_refused(server: Server) {
    let address = server.api_url.strip_prefix("https://").expect("https");
    for (version, name) in [([3, 1], "TLS 1.0"), ([3, 2], "TLS 1.1")] {
        let mut socket = TcpStream::connect(address).await.expect("to connect");
        socket.write_all(&client_hello(version)).await.expect("to write");
        let mut answer = Vec::new();
        let read = timeout(Duration::from_secs(5), socket.read_to_end(&mut answer)).await;
        read.expect("in time").expect("an orderly end");
        // A fatal alert and nothing else: "protocol_version" or "handshake_failure".
        assert!(matches!(answer[..], [21, 3, _, 0, 2, 2, 70 | 40]), "{name}: {answer:?}");
    }
}

/// A recording is worthless to whoever gets the server's key later, and no suite is of a kind that was
/// broken before.
async fn only_suites_that_keep_past_talks_secret_are_spoken(server: Server) {
    if !crate::tools::at_hand(&["openssl"]) {
        return;
    }
    let address = server.api_url.strip_prefix("https://").expect("https").to_owned();
    let speaks = |arguments: &[&str]| {
        let output = std::process::Command::new("openssl")
            .args(["s_client", "-connect", &address])
            .args(arguments)
            .stdin(std::process::Stdio::null())
            .output()
            .expect("openssl");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let spoken =
            text.lines().find_map(|line| line.split_once("Cipher is ")).map(|(_, name)| name);
        spoken.is_some_and(|name| name != "(NONE)")
    };
    let weak = "ALL:COMPLEMENTOFALL:@SECLEVEL=0";
    for suite in ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"] {
        assert!(speaks(&["-tls1_2", "-cipher", suite]), "{suite}");
    }
    for suite in [
        "ECDHE-ECDSA-AES128-SHA",
        "ECDHE-ECDSA-AES256-SHA384",
        "AES128-SHA",
        "AES128-GCM-SHA256",
        "DHE-RSA-AES128-GCM-SHA256",
        // All that OpenSSL has, apart from those that are spoken.
        "ALL:COMPLEMENTOFALL:!ECDHE:@SECLEVEL=0",
        "ALL:COMPLEMENTOFALL:!AESGCM:!CHACHA20:@SECLEVEL=0",
    ] {
        assert!(!speaks(&["-tls1_2", "-cipher", suite]), "{suite}");
    }
    assert!(speaks(&["-tls1_3"]));
    for version in ["-tls1", "-tls1_1"] {
        assert!(!speaks(&[version, "-cipher", weak]), "{version}");
    }
}

/// What a client of that version and no other says first.
fn client_hello(version: [u8; 2]) -> Vec<u8> {
    let mut hello = version.to_vec();
    hello.extend([7; 32]);
    // No session, two suites of that time, no compression, no extensions.
    hello.extend([0, 0, 4, 0xc0, 0x13, 0, 0x2f, 1, 0]);
    let mut message = vec![1, 0, 0, u8::try_from(hello.len()).expect("short")];
    message.extend(hello);
    let mut record = vec![22, 3, 1, 0, u8::try_from(message.len()).expect("short")];
    record.extend(message);
    record
}

/// A certificate, and its key, both PEM.
type Identity = (String, String);

fn client(server: &Server, (certificate, key): &Identity) -> Client {
    server.client(Some((certificate, key)))
}

/// Checks that a certificate ends the handshake.
async fn refused(server: &Server, (certificate, key): &Identity) {
    let tls = server.tls(Some((certificate, key)));
    let mut connection = connect(server, tls).await;
    // To a client of TLS 1.3, its part of the handshake is over before the server has seen the
    // certificate: the server's alert is what it reads first.
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(5), connection.read_to_end(&mut answer)).await;
    let error = read.expect("in time").expect_err("no answer").to_string();
    assert!(error.contains("received fatal alert"), "{error}");
    assert!(answer.is_empty());
}

/// As the authority issues one, with the serial number of the domain's credential.
fn issue(authority: &Authority, domain: &Domain, not_before: Timestamp) -> Identity {
    let issued = authority.issue_access(AccessCertificate {
        credential_id: domain.credential.id,
        okms_id: domain.okms_id,
        not_before,
        not_after: not_before.plus_seconds(30 * DAY),
        key: AccessKey::Ecdsa,
    });
    let issued = issued.expect("a certificate");
    (issued.certificate_pem, issued.private_key_pem.expect("a key").to_string())
}

/// What the certificate of the domain's credential says.
fn params(domain: &Domain) -> CertificateParams {
    params_with(domain, domain.okms_id)
}

fn params_with(domain: &Domain, okms_id: OkmsId) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, okms_id.to_string());
    params.serial_number = Some(SerialNumber::from_slice(domain.credential.id.as_bytes()));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let upn = vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3];
    let name = format!("okms.domain:{okms_id}");
    params.subject_alt_names = vec![SanType::OtherName((upn, name.as_str().into()))];
    params
}

/// Has the server's authority sign whatever it is.
fn sign(server: &Server, params: &CertificateParams) -> Identity {
    let authority = KeyPair::from_pem(server.authority.private_key_pem()).expect("a key");
    let authority = Issuer::from_ca_cert_pem(server.authority.certificate_pem(), authority);
    let key = KeyPair::generate().expect("a key");
    let signed = params.signed_by(&key, &authority.expect("a CA")).expect("a certificate");
    (signed.pem(), key.serialize_pem())
}

fn tls(server: &Server, domain: &Domain) -> ClientConfig {
    server.tls(Some((&domain.certificate_pem, &domain.private_key_pem)))
}

async fn connect(server: &Server, tls: ClientConfig) -> TlsStream<TcpStream> {
    connect_shared(server, Arc::new(tls)).await
}

async fn connect_shared(server: &Server, tls: Arc<ClientConfig>) -> TlsStream<TcpStream> {
    let address = server.api_url.strip_prefix("https://").expect("https");
    let socket = TcpStream::connect(address).await.expect("to connect");
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(tls).connect(name, socket).await.expect("a handshake")
}

/// One request on an open connection, and the answer as it came.
async fn ask(connection: &mut TlsStream<TcpStream>, request: &str) -> String {
    connection.write_all(request.as_bytes()).await.expect("to write");
    let mut answer = vec![0; 16 * 1024];
    let read = timeout(Duration::from_secs(5), connection.read(&mut answer)).await;
    answer.truncate(read.expect("in time").expect("an answer"));
    String::from_utf8(answer).expect("UTF-8")
}

const DAY: u64 = 86_400;
