use std::sync::{Arc, Mutex};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use rustls::{
    HandshakeKind, SignatureScheme, client::ResolvesClientCert, crypto::aws_lc_rs,
    sign::CertifiedKey,
};

use super::{
    CREDENTIAL_ID, DAY, Identity, ManualClock, NOW, OKMS_ID, Server, VERSIONS, access_from, get,
    identity::params, material, peer::ca,
};
use crate::{
    domain::Timestamp,
    pki::{AccessKey, Authority},
    server::{ExternalAuthority, Limits, LiveTls, api_tls},
};

/// Whatever `params` say, signed by the server's authority.
fn signed_by(authority: &Authority, mut params: CertificateParams) -> Identity {
    let day = |time: Timestamp| {
        time::OffsetDateTime::from_unix_timestamp(time.as_millis() / 1_000).unwrap()
    };
    params.not_before = day(NOW);
    params.not_after = day(NOW.plus_seconds(DAY));
    let authority_key = KeyPair::from_pem(authority.private_key_pem()).unwrap();
    let issuer = Issuer::from_ca_cert_pem(authority.certificate_pem(), authority_key).unwrap();
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
}

/// Asserts that `identity` ends the handshake on every version, with an alert that names `reason`.
async fn assert_refused(server: &Server, identity: &Identity, reason: &str) {
    for version in VERSIONS {
        let client = server.client_with(Some(identity.clone()), &[version]);
        let error = server.who(client).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{:?}: {error}", version.version);
    }
    server.assert_serves().await;
}

#[tokio::test]
async fn without_a_certificate_the_caller_is_nobody() {
    let server = Server::start(Limits::default()).await;
    for version in VERSIONS {
        let client = server.client_with(None, &[version]);
        assert_eq!(server.who(client.clone()).await.unwrap(), "HTTP/1.1 nobody");
        assert_eq!(server.who_http2(client).await.unwrap(), "HTTP/2.0 nobody");
    }
}

#[tokio::test]
async fn an_access_certificate_says_who_calls() {
    let server = Server::start(Limits::default()).await;
    for key in [AccessKey::Ecdsa, AccessKey::Rsa] {
        let identity = server.access_with(key);
        for version in VERSIONS {
            let client = server.client_with(Some(identity.clone()), &[version]);
            assert_eq!(
                server.who(client.clone()).await.unwrap(),
                format!("HTTP/1.1 {CREDENTIAL_ID} {OKMS_ID}")
            );
            assert_eq!(
                server.who_http2(client).await.unwrap(),
                format!("HTTP/2.0 {CREDENTIAL_ID} {OKMS_ID}")
            );
        }
    }
}

#[tokio::test]
async fn a_client_without_alpn_speaks_http1() {
    let server = Server::start(Limits::default()).await;
    let connection = server.connect_shared(Arc::new(server.client(None))).await.unwrap();
    assert_eq!(get(connection, "/who").await.unwrap(), "HTTP/1.1 nobody");
}

#[tokio::test]
async fn a_self_signed_certificate_is_refused() {
    let server = Server::start(Limits::default()).await;
    let key = KeyPair::generate().unwrap();
    let certificate = params().self_signed(&key).unwrap().pem();
    assert_refused(&server, &(certificate, key.serialize_pem()), "UnknownCA").await;
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_even_if_it_has_the_same_name() {
    let server = Server::start(Limits::default()).await;
    let unrelated = Authority::generate("another CA", NOW, 3650).unwrap();
    assert_refused(&server, &access_from(&unrelated, AccessKey::Ecdsa), "UnknownCA").await;
    let namesake = Authority::generate("okmsd test CA", NOW, 3650).unwrap();
    let identity = access_from(&namesake, AccessKey::Ecdsa);
    for version in VERSIONS {
        let client = server.client_with(Some(identity.clone()), &[version]);
        assert!(server.who(client).await.is_err());
    }
}

#[tokio::test]
async fn a_certificate_counts_from_its_first_to_its_last_second() {
    let server = Server::start(Limits::default()).await;
    let identity = server.access();
    let at = |seconds: i64| Timestamp::from_millis(NOW.as_millis() + seconds * 1_000);
    let day = i64::try_from(DAY).unwrap();
    for (seconds, good) in [(-1, false), (0, true), (day, true), (day + 1, false)] {
        server.clock.set(at(seconds));
        if good {
            server.who(server.client(Some(identity.clone()))).await.unwrap();
        } else {
            assert_refused(&server, &identity, "CertificateExpired").await;
        }
    }
}

#[tokio::test]
async fn a_server_certificate_is_no_access_certificate() {
    let server = Server::start(Limits::default()).await;
    let issued = server.authority.issue_server(&["localhost".into()], NOW, 30).unwrap();
    let identity = (issued.certificate_pem, issued.private_key_pem.to_string());
    assert_refused(&server, &identity, "UnsupportedCertificate").await;
}

#[tokio::test]
async fn a_valid_certificate_that_says_not_who_calls_is_refused_not_taken_for_nobody() {
    let server = Server::start(Limits::default()).await;
    let good = signed_by(&server.authority, params());
    assert!(server.who(server.client(Some(good))).await.is_ok());

    let changes: [fn(&mut CertificateParams); 8] = [
        |params| params.subject_alt_names.clear(),
        |params| {
            // A second common name.
            params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 3]), OKMS_ID);
        },
        |params| params.distinguished_name.push(DnType::CommonName, format!("{OKMS_ID}\0x")),
        |params| params.distinguished_name.push(DnType::CommonName, "*"),
        |params| params.distinguished_name.push(DnType::CommonName, "alice"),
        |params| params.serial_number = Some(vec![1; 17].into()),
        |params| params.extended_key_usages.clear(),
        |params| params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth),
    ];
    for change in changes {
        let mut params = params();
        change(&mut params);
        let identity = signed_by(&server.authority, params);
        assert_refused(&server, &identity, "CertificateUnknown").await;
    }
}

#[tokio::test]
async fn a_certificate_can_be_required() {
    let authority = Authority::generate("okmsd test CA", NOW, 3650).unwrap();
    let clock = ManualClock::new();
    let tls = api_tls(&material(&authority), true, clock.clone()).unwrap();
    let server = Server::with_tls(Limits::default(), authority, clock, tls).await;
    for version in VERSIONS {
        assert!(server.who(server.client_with(None, &[version])).await.is_err());
        let client = server.client_with(Some(server.access()), &[version]);
        assert!(server.who(client).await.unwrap().contains(CREDENTIAL_ID));
    }
}

#[tokio::test]
async fn the_documentation_asks_for_no_certificate() {
    let authority = Authority::generate("okmsd test CA", NOW, 3650).unwrap();
    let clock = ManualClock::new();
    let tls = LiveTls::new(&material(&authority), false, clock.clone()).unwrap().docs();
    let server = Server::with_tls(Limits::default(), authority, clock, tls).await;
    let client = server.client(Some(server.access()));
    assert_eq!(server.who(client).await.unwrap(), "HTTP/1.1 nobody");
}

#[tokio::test]
async fn a_resumed_session_keeps_its_identity() {
    for version in VERSIONS {
        let server = Server::start(Limits::default()).await;
        let client = Arc::new(server.client_with(Some(server.access()), &[version]));
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let connection = server.connect_shared(client.clone()).await.unwrap();
            kinds.push(connection.get_ref().1.handshake_kind().unwrap());
            let who = get(connection, "/who").await.unwrap();
            assert_eq!(who, format!("HTTP/1.1 {CREDENTIAL_ID} {OKMS_ID}"));
        }
        assert!(matches!(kinds[0], HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest));
        assert_eq!(kinds[1], HandshakeKind::Resumed, "{:?}", version.version);
    }
}

#[tokio::test]
async fn tickets_are_worthless_to_another_listener() {
    // The same authority, certificate and clock; only the settings were made anew.
    let authority = Authority::generate("okmsd test CA", NOW, 3650).unwrap();
    let again = Authority::load(authority.certificate_pem(), authority.private_key_pem()).unwrap();
    let (material, clock) = (material(&authority), ManualClock::new());
    let tls = || api_tls(&material, false, clock.clone()).unwrap();
    let first = Server::with_tls(Limits::default(), authority, clock.clone(), tls()).await;
    let second = Server::with_tls(Limits::default(), again, clock.clone(), tls()).await;
    for version in VERSIONS {
        let client = Arc::new(first.client_with(None, &[version]));
        get(first.connect_shared(client.clone()).await.unwrap(), "/who").await.unwrap();
        let connection = second.connect_shared(client).await.unwrap();
        assert_ne!(connection.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
    }
}

#[tokio::test]
async fn clients_are_told_which_authorities_count() {
    #[derive(Debug, Default)]
    struct Hints(Mutex<Vec<Vec<u8>>>);

    impl ResolvesClientCert for Hints {
        fn resolve(&self, hints: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
            *self.0.lock().unwrap() = hints.iter().map(|hint| hint.to_vec()).collect();
            None
        }

        fn has_certs(&self) -> bool {
            true
        }
    }

    let authority = Authority::generate("okmsd test CA", NOW, 3650).unwrap();
    let (root, key) = (ca("Example root", -100, 900), KeyPair::generate().unwrap());
    let root_pem = root.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(root, key);
    // A client of Go that sends its own certificate alone offers it only where its issuer is named.
    let middle = ca("Example middle", -100, 900);
    let middle_pem = middle.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().pem();
    let mut material = material(&authority);
    material.external_authorities.push(ExternalAuthority {
        name: "x".to_owned(),
        okms_id: OKMS_ID.parse().unwrap(),
        pem: format!("{middle_pem}{root_pem}"),
    });
    let clock = ManualClock::new();
    let tls = api_tls(&material, false, clock.clone()).unwrap();
    let server = Server::with_tls(Limits::default(), authority, clock, tls).await;
    for version in VERSIONS {
        let hints = Arc::new(Hints::default());
        let mut client = server.client_with(None, &[version]);
        client.client_auth_cert_resolver = hints.clone();
        assert_eq!(server.who(client).await.unwrap(), "HTTP/1.1 nobody");
        let hints = hints.0.lock().unwrap();
        assert_eq!(hints.len(), 3);
        for (hint, name) in hints.iter().zip(["okmsd test CA", "Example root", "Example middle"]) {
            assert!(hint.windows(name.len()).any(|text| text == name.as_bytes()), "{name}");
        }
    }
}

/// A key of tickets is used for half an hour and read for another one; that is what clients are told.
#[test]
fn a_ticket_lives_for_an_hour_at_most_and_carries_no_early_data() {
    let authority = Authority::generate("CA", NOW, 3650).unwrap();
    let live = LiveTls::new(&material(&authority), false, ManualClock::new()).unwrap();
    for config in [live.api().current(), live.docs().current()] {
        assert!(config.ticketer.enabled());
        assert_eq!(config.ticketer.lifetime(), 60 * 60);
        assert!(!config.session_storage.can_cache());
        assert_eq!(config.max_early_data_size, 0);
        assert!(config.require_ems);
    }
}

#[test]
fn every_cipher_suite_is_authenticated_and_forward_secret() {
    for suite in &aws_lc_rs::default_provider().cipher_suites {
        let name = format!("{:?}", suite.suite());
        assert!(name.contains("GCM") || name.contains("CHACHA20_POLY1305"), "{name}");
        assert!(name.starts_with("TLS13_") || name.starts_with("TLS_ECDHE_"), "{name}");
    }
}

#[test]
fn settings_that_can_not_work_are_refused_with_a_reason() {
    let authority = Authority::generate("CA", NOW, 3650).unwrap();
    let good = material(&authority);
    let clock = ManualClock::new();
    let refusal = |change: &dyn Fn(&mut crate::server::TlsMaterial)| {
        let mut material = good.clone();
        change(&mut material);
        api_tls(&material, false, clock.clone()).unwrap_err().to_string()
    };
    let other = material(&authority);
    for (refusal, reason) in [
        (refusal(&|m| m.client_ca_pems.clear()), "can't be verified"),
        (refusal(&|m| m.client_ca_pems.push("x".into())), "client authority 2: no PEM"),
        (
            refusal(&|m| m.client_ca_pems = vec![good.certificate_chain_pem.clone()]),
            "client authority 1: not the certificate of a CA",
        ),
        (refusal(&|m| m.certificate_chain_pem.clear()), "server certificate: no PEM"),
        (refusal(&|m| m.private_key_pem.clear()), "server key: no unencrypted PEM"),
        (refusal(&|m| m.private_key_pem = other.private_key_pem.clone()), "is not the key of"),
    ] {
        assert!(refusal.contains(reason), "{refusal:?} does not say {reason:?}");
    }
    assert!(!format!("{good:?}").contains("PRIVATE"));
}
