//! Certificates of other authorities: who they make their clients, and where.

use std::{sync::Arc, time::Duration};

use okmsd::{
    domain::{Clock, Error, OkmsId, Timestamp},
    server::ExternalAuthority,
    service::NewRegistration,
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, SanType,
    SerialNumber, string::Ia5String,
};
use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    sign::CertifiedKey,
};
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{
    codes::{DOMAIN_NOT_FOUND, UNAUTHENTICATED},
    support::{Ca, Client, Domain, Identity, Server, both_engines, uri},
};

both_engines!(
    the_names_in_a_certificate_are_identities_of_the_bound_domain_alone,
    a_certificate_that_names_nobody_counts_once_it_is_registered,
    a_registration_ends_by_revocation_and_does_not_fall_back_on_names,
    a_registration_counts_in_the_domain_of_its_authority_alone,
    what_an_authority_is_bound_to_ends_with_the_domain,
    another_authority_gives_no_credential_of_ours_whatever_its_name_is,
    the_root_of_an_account_cannot_be_had_from_another_authority,
    intermediates_come_from_the_client_or_from_the_file,
    names_that_can_be_read_in_two_ways_are_refused,
    certificates_for_another_use_are_refused,
    a_certificate_without_its_key_is_refused,
    expiry_counts_on_open_connections,
    one_root_cannot_be_bound_to_two_domains,
    a_key_of_another_domain_is_no_intermediate,
);

const USER: &str = "urn:v1:eu:identity:user:ab12345-ovh/alice";

async fn the_names_in_a_certificate_are_identities_of_the_bound_domain_alone(server: Server) {
    let (domain, other) = (server.domain().await, server.domain().await);
    let ca = Ca::root("Example root");
    let alice = ca.client(USER);
    assert!(refuses(&server, &alice).await, "before the authority is configured");
    bind(&server, domain.okms_id, &ca.pem).unwrap();
    counts(&server, &domain, &alice).await;
    let client = client(&server, &alice);
    client.get(&other.secret("a")).await.error(404, DOMAIN_NOT_FOUND);
    // Ours go on beside them.
    domain.create("a", "{}").await;
    other.create("a", "{}").await;
    for urn in [
        "urn:v1:eu:identity:group:ab12345-ovh/admins",
        "urn:v1:eu:identity:credential:ab12345-ovh/oauth2-EU.0",
    ] {
        counts(&server, &domain, &ca.client(urn)).await;
    }
    let spiffe = ca.client_with(|params| {
        params.subject_alt_names = vec![uri("spiffe://example.org/x"), uri(USER)];
    });
    counts(&server, &domain, &spiffe).await;
}

async fn a_certificate_that_names_nobody_counts_once_it_is_registered(server: Server) {
    let domain = server.domain().await;
    let ca = Ca::root("Example root");
    bind(&server, domain.okms_id, &ca.pem).unwrap();
    let alice = ca.client_with(|_| {});
    let open = client(&server, &alice);
    open.get(&domain.secret("a")).await.error(401, UNAUTHENTICATED);
    let id = register(&server, domain.okms_id, &alice).await.unwrap();
    counts_on(&open, &domain).await;
    // Its fingerprint and no other: another certificate of the same name and number is nobody.
    let twin = ca.client_with(|_| {});
    client(&server, &twin).get(&domain.secret("a")).await.error(401, UNAUTHENTICATED);
    let twice = register(&server, domain.okms_id, &alice).await.unwrap_err();
    assert!(format!("{twice:?}").contains(&id.to_string()), "{twice:?}");
    // It acts for what the operator gave it, the root of the account here.
    domain.create("a", "{}").await;
    open.get(&domain.secret("a")).await.ok();
}

async fn a_registration_ends_by_revocation_and_does_not_fall_back_on_names(server: Server) {
    let domain = server.domain().await;
    let ca = Ca::root("Example root");
    bind(&server, domain.okms_id, &ca.pem).unwrap();
    let alice = ca.client(USER);
    let open = client(&server, &alice);
    counts_on(&open, &domain).await;
    let id = register(&server, domain.okms_id, &alice).await.unwrap();
    counts_on(&open, &domain).await;
    assert!(server.credentials.revoke(id).await.unwrap());
    open.get(&domain.secret("a")).await.error(401, UNAUTHENTICATED);
    client(&server, &alice).get(&domain.secret("a")).await.error(401, UNAUTHENTICATED);
}

async fn a_registration_counts_in_the_domain_of_its_authority_alone(server: Server) {
    let (domain, other) = (server.domain().await, server.domain().await);
    let ca = Ca::root("Example root");
    bind(&server, domain.okms_id, &ca.pem).unwrap();
    let alice = ca.client(USER);
    register(&server, other.okms_id, &alice).await.unwrap();
    for secret in [domain.secret("a"), other.secret("a")] {
        client(&server, &alice).get(&secret).await.error(401, UNAUTHENTICATED);
    }
}

async fn what_an_authority_is_bound_to_ends_with_the_domain(server: Server) {
    let domain = server.domain().await;
    let ca = Ca::root("Example root");
    bind(&server, domain.okms_id, &ca.pem).unwrap();
    let alice = client(&server, &ca.client(USER));
    counts_on(&alice, &domain).await;
    server.domains.delete(domain.okms_id).await.unwrap();
    alice.get(&domain.secret("a")).await.error(401, UNAUTHENTICATED);
}

/// The access form, to the letter, of a credential that there is.
async fn another_authority_gives_no_credential_of_ours_whatever_its_name_is(server: Server) {
    let (domain, other) = (server.domain().await, server.domain().await);
    domain.create("a", "{}").await;
    // The name of the test's own authority.
    let ca = Ca::root("okmsd test CA");
    let forged = ca.client_with(|params| access_form(params, &domain));
    assert!(refuses(&server, &forged).await, "a look-alike that is not configured");
    for bound_to in [other.okms_id, domain.okms_id] {
        server.reload(|material| material.external_authorities.clear()).unwrap();
        bind(&server, bound_to, &ca.pem).unwrap();
        let forger = client(&server, &forged);
        forger.get(&domain.secret("a")).await.error(401, UNAUTHENTICATED);
        forger.get(&other.secret("a")).await.error(401, UNAUTHENTICATED);
        domain.client.get(&domain.secret("a")).await.ok();
    }
    // With our own certificate in its chain, too.
    let (leaf, key) = &forged;
    let with_ours = (format!("{leaf}{}", server.authority.certificate_pem()), key.clone());
    client(&server, &with_ours).get(&domain.secret("a")).await.error(401, UNAUTHENTICATED);
}

async fn the_root_of_an_account_cannot_be_had_from_another_authority(server: Server) {
    let domain = server.domain().await;
    let ca = Ca::root("Example root");
    bind(&server, domain.okms_id, &ca.pem).unwrap();
    for urn in [
        "urn:v1:eu:identity:account:test",
        "URN:V1:eu:identity:account:test",
        "urn:v1:eu:identity:ACCOUNT:test",
        "urn:v1:*:identity:account:test",
    ] {
        assert!(refuses(&server, &ca.client(urn)).await, "{urn}");
        let both = ca.client_with(|params| params.subject_alt_names = vec![uri(USER), uri(urn)]);
        assert!(refuses(&server, &both).await, "{urn}");
    }
}

async fn intermediates_come_from_the_client_or_from_the_file(server: Server) {
    let domain = server.domain().await;
    let root = Ca::root("Example root");
    let middle = root.intermediate("Example middle");
    let low = middle.intermediate("Example low");
    let (leaf, key) = low.client(USER);
    let whole = (format!("{leaf}{}{}", low.pem, middle.pem), key.clone());
    let half = (format!("{leaf}{}", low.pem), key.clone());
    let alone = (leaf, key);

    bind(&server, domain.okms_id, &root.pem).unwrap();
    counts(&server, &domain, &whole).await;
    assert!(refuses(&server, &half).await && refuses(&server, &alone).await);

    let unbind = || server.reload(|material| material.external_authorities.clear()).unwrap();
    unbind();
    bind(&server, domain.okms_id, &format!("{}{}", root.pem, middle.pem)).unwrap();
    counts(&server, &domain, &whole).await;
    counts(&server, &domain, &half).await;
    assert!(refuses(&server, &alone).await);

    unbind();
    bind(&server, domain.okms_id, &format!("{}{}{}", low.pem, middle.pem, root.pem)).unwrap();
    counts(&server, &domain, &alone).await;

    // Without a root there is nothing to trust.
    unbind();
    let error = bind(&server, domain.okms_id, &format!("{}{}", low.pem, middle.pem)).unwrap_err();
    assert!(error.contains("none of its certificates is signed by itself"), "{error}");
    let error = bind(&server, domain.okms_id, &alone.0).unwrap_err();
    assert!(error.contains("not the certificate of a CA"), "{error}");

    // A chain beyond all measure is not even looked at.
    bind(&server, domain.okms_id, &root.pem).unwrap();
    let long = (format!("{}{}", whole.0, middle.pem.repeat(7)), whole.1.clone());
    assert!(refuses(&server, &long).await);
}

async fn names_that_can_be_read_in_two_ways_are_refused(server: Server) {
    let domain = server.domain().await;
    let ca = Ca::root("Example root");
    bind(&server, domain.okms_id, &ca.pem).unwrap();
    let dns = |name: &str| SanType::DnsName(Ia5String::try_from(name).unwrap());
    let common_name = |name: &'static str| {
        ca.client_with(|params| {
            params.distinguished_name.push(DnType::CommonName, name);
            params.subject_alt_names.push(uri(USER));
        })
    };
    let alternative_name =
        |name: SanType| ca.client_with(|params| params.subject_alt_names = vec![uri(USER), name]);
    counts(&server, &domain, &common_name("Alice B. Smith")).await;
    counts(&server, &domain, &alternative_name(dns("alice.example.org"))).await;
    let two_common_names = ca.client_with(|params| {
        let again = DnType::CustomDnType(vec![2, 5, 4, 3]);
        params.distinguished_name.push(again, "bob");
        params.subject_alt_names.push(uri(USER));
    });
    for (what, identity) in [
        ("two common names", two_common_names),
        ("NUL", common_name("alice\0.example.org")),
        ("a pattern", common_name("*")),
        ("not ASCII", common_name("al\u{131}ce")),
        ("a pattern", alternative_name(dns("*.example.org"))),
        ("NUL", alternative_name(dns("alice\0.example.org"))),
        ("a blank", alternative_name(dns("alice example"))),
        ("NUL", alternative_name(uri("urn:v1:eu:identity:user:a\0b"))),
        ("a pattern", alternative_name(uri("urn:v1:eu:identity:user:*"))),
        ("a pattern", alternative_name(uri("spiffe://example.org/*"))),
        ("percent", alternative_name(uri("urn:v1:eu:identity:user:a%2A"))),
        ("another URN", alternative_name(uri("urn:v1:eu:resource:okms:x"))),
    ] {
        assert!(refuses(&server, &identity).await, "{what}");
    }
    let many = ca.client_with(|params| {
        params.subject_alt_names = (0..26).map(|n| uri(&format!("{USER}{n}"))).collect();
    });
    assert!(refuses(&server, &many).await, "too many");
}

async fn certificates_for_another_use_are_refused(server: Server) {
    let domain = server.domain().await;
    let ca = Ca::root("Example root");
    bind(&server, domain.okms_id, &ca.pem).unwrap();
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
    let with = |usages: &[ExtendedKeyUsagePurpose]| {
        ca.client_with(|params| {
            params.extended_key_usages = usages.to_vec();
            params.subject_alt_names.push(uri(USER));
        })
    };
    counts(&server, &domain, &with(&[ClientAuth, ServerAuth])).await;
    for usages in [&[][..], &[ServerAuth], &[Any], &[ClientAuth, Any]] {
        assert!(refuses(&server, &with(usages)).await, "{usages:?}");
    }
    let authority = ca.client_with(|params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.subject_alt_names.push(uri(USER));
    });
    assert!(refuses(&server, &authority).await, "an authority");
    // One that may only issue for servers.
    let narrow = ca.intermediate_with("For servers", |params| {
        params.extended_key_usages = vec![ServerAuth];
    });
    let (leaf, key) = narrow.client(USER);
    assert!(refuses(&server, &(format!("{leaf}{}", narrow.pem), key)).await);
    // A client's certificate is no authority, whatever it signs.
    let (alice, key) = ca.client(USER);
    let (leaf, key) = Ca::of(&alice, &key).client(USER);
    assert!(refuses(&server, &(format!("{leaf}{alice}"), key)).await);
}

async fn a_certificate_without_its_key_is_refused(server: Server) {
    let domain = server.domain().await;
    let ca = Ca::root("Example root");
    bind(&server, domain.okms_id, &ca.pem).unwrap();
    let ((alice, key), (_, other_key)) = (ca.client(USER), ca.client(USER));
    let ours = (domain.certificate_pem.as_str(), domain.private_key_pem.as_str());
    for (certificate, key, good) in [
        (alice.as_str(), key.as_str(), true),
        (&alice, &other_key, false),
        (ours.0, ours.1, true),
        (ours.0, &other_key, false),
    ] {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let signer = Arc::new(Signer(with_any_key(certificate, key)));
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let mut roots = rustls::RootCertStore::empty();
            let ca = CertificateDer::from_pem_slice(server.authority.certificate_pem().as_bytes());
            roots.add(ca.unwrap()).unwrap();
            let tls = rustls::ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(roots)
                .with_client_cert_resolver(signer);
            let client = Client::new(&server.api_url, tls);
            let answer = client.try_send(hyper::Method::GET, "/", &[], Default::default()).await;
            assert_eq!(answer.is_ok(), good, "{answer:?}");
        }
    }
}

async fn expiry_counts_on_open_connections(server: Server) {
    let domain = server.domain().await;
    let root = Ca::root("Example root");
    let now = server.clock.now();
    let middle = root.intermediate_with("Example middle", |params| {
        params.not_after = date(now.plus_seconds(2 * HOUR));
    });
    bind(&server, domain.okms_id, &root.pem).unwrap();
    let until = |hours: u64| {
        move |params: &mut CertificateParams| {
            params.not_after = date(now.plus_seconds(hours * HOUR));
            params.subject_alt_names.push(uri(USER));
        }
    };
    let one_hour = client(&server, &root.client_with(until(1)));
    let (leaf, key) = middle.client_with(until(3));
    let below = (format!("{leaf}{}", middle.pem), key);
    let two_hours = client(&server, &below);
    counts_on(&one_hour, &domain).await;
    counts_on(&two_hours, &domain).await;
    server.clock.advance(Duration::from_secs(HOUR - 2));
    counts_on(&one_hour, &domain).await;
    server.clock.advance(Duration::from_secs(4));
    one_hour.get(&domain.secret("a")).await.error(401, UNAUTHENTICATED);
    counts_on(&two_hours, &domain).await;
    // The authority in the middle ends before the client's certificate.
    server.clock.advance(Duration::from_secs(HOUR));
    two_hours.get(&domain.secret("a")).await.error(401, UNAUTHENTICATED);
    assert!(refuses(&server, &below).await);
}

async fn one_root_cannot_be_bound_to_two_domains(server: Server) {
    let (domain, other) = (server.domain().await, server.domain().await);
    let ca = Ca::root("Example root");
    bind(&server, domain.okms_id, &ca.pem).unwrap();
    let error = bind(&server, other.okms_id, &ca.pem).unwrap_err();
    assert!(error.contains("the key of an authority in"), "{error}");
    let error = bind(&server, other.okms_id, server.authority.certificate_pem()).unwrap_err();
    assert!(error.contains("the key of an authority in own"), "{error}");
    // Twice for one domain is no contradiction.
    bind(&server, domain.okms_id, &ca.pem).unwrap();
    counts(&server, &domain, &ca.client(USER)).await;

    // Two roots that both vouch for one certificate, by a cross certificate: nobody's guess.
    let second = Ca::root("Second root");
    bind(&server, other.okms_id, &second.pem).unwrap();
    let middle = ca.intermediate("Example middle");
    let cross = cross_certificate(&second, &middle);
    let (leaf, key) = middle.client(USER);
    counts(&server, &domain, &(format!("{leaf}{}", middle.pem), key.clone())).await;
    counts(&server, &other, &(format!("{leaf}{cross}"), key.clone())).await;
    assert!(refuses(&server, &(format!("{leaf}{}{cross}", middle.pem), key)).await);
}

/// With a certificate over such a key, a file would lead the clients of the other domain to its own root
/// too, and so lock them out.
async fn a_key_of_another_domain_is_no_intermediate(server: Server) {
    let (domain, other) = (server.domain().await, server.domain().await);
    let (ca, second) = (Ca::root("Example root"), Ca::root("Second root"));
    let middle = ca.intermediate("Example middle");
    let file = |name: &str, okms_id, pems: &[&str]| {
        let name = name.to_owned();
        ExternalAuthority { name, okms_id, pem: pems.concat() }
    };
    let first = file("first.pem", domain.okms_id, &[&ca.pem, &middle.pem]);
    let ours = server.authority.private_key_pem();
    for (key, owner) in
        [(ca.key_pem(), "first.pem"), (middle.key_pem(), "first.pem"), (ours, "own")]
    {
        let cross = cross_certificate(&second, &Ca::of("", key));
        let files = [first.clone(), file("second.pem", other.okms_id, &[&second.pem, &cross])];
        let reload =
            |files: &[_]| server.reload(|material| material.external_authorities = files.to_vec());
        let refusal = |file: &str, owner: &str| {
            let why = "for another domain";
            format!("client authority {file}: the key of an authority in {owner}, {why}")
        };
        assert_eq!(reload(&files).unwrap_err(), refusal("second.pem", owner));
        let files = [files[1].clone(), files[0].clone()];
        let (later, earlier) = match owner {
            "own" => ("second.pem", "own"),
            _ => ("first.pem", "second.pem"),
        };
        assert_eq!(reload(&files).unwrap_err(), refusal(later, earlier));
    }
    // Its own domain may: that is how a root gets a successor.
    let cross = cross_certificate(&second, &middle);
    let files = [first, file("second.pem", domain.okms_id, &[&second.pem, &cross])];
    server.reload(|material| material.external_authorities = files.to_vec()).unwrap();
    counts(&server, &domain, &middle.client(USER)).await;
}

/// Certificates and a key that need not be that of the first.
fn with_any_key(certificate: &str, key: &str) -> Arc<CertifiedKey> {
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    Arc::new(CertifiedKey::new(chain.collect::<Result<_, _>>().unwrap(), key))
}

#[derive(Debug)]
struct Signer(Arc<CertifiedKey>);

impl ResolvesClientCert for Signer {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The certificate of `authority`, signed by another one.
fn cross_certificate(by: &Ca, authority: &Ca) -> String {
    let key = rcgen::KeyPair::from_pem(authority.key_pem()).unwrap();
    let by_key = rcgen::KeyPair::from_pem(by.key_pem()).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&by.pem, by_key).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Example middle");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.signed_by(&key, &issuer).unwrap().pem()
}

/// Makes `params` the access certificate of the domain's own credential, but for signature and key.
pub fn access_form(params: &mut CertificateParams, domain: &Domain) {
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, domain.okms_id.to_string());
    params.serial_number = Some(SerialNumber::from_slice(domain.credential.id.as_bytes()));
    params.is_ca = IsCa::NoCa;
    let upn = vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3];
    let name = format!("okms.domain:{}", domain.okms_id);
    params.subject_alt_names = vec![SanType::OtherName((upn, name.as_str().into()))];
}

pub fn external(okms_id: OkmsId, pem: &str) -> ExternalAuthority {
    ExternalAuthority { name: "example.pem".to_owned(), okms_id, pem: pem.to_owned() }
}

/// Binds an authority to a domain in the running server.
pub fn bind(server: &Server, okms_id: OkmsId, pem: &str) -> Result<bool, String> {
    server.reload(|material| material.external_authorities.push(external(okms_id, pem)))
}

async fn register(
    server: &Server,
    okms_id: OkmsId,
    (certificate, _): &Identity,
) -> Result<okmsd::domain::CredentialId, Error> {
    let new = NewRegistration {
        okms_id,
        name: "alice".to_owned(),
        description: String::new(),
        identity_urns: vec!["urn:v1:eu:identity:account:test".to_owned()],
        certificate_pem: certificate.clone(),
    };
    server.credentials.register(new).await.map(|credential| credential.id)
}

pub fn client(server: &Server, (certificate, key): &Identity) -> Client {
    server.client(Some((certificate, key)))
}

/// Checks that a new connection of this client is one of somebody known in the domain. What they may
/// do there is for policies to say.
pub async fn counts(server: &Server, domain: &Domain, identity: &Identity) {
    counts_on(&client(server, identity), domain).await;
}

/// Checks that this client is somebody known in the domain.
pub async fn counts_on(client: &Client, domain: &Domain) {
    let answer = client.get(&domain.secret("a")).await;
    assert!([200, 403, 404].contains(&answer.status), "{}", answer.text());
    assert!(!answer.text().contains(&DOMAIN_NOT_FOUND.to_string()), "{}", answer.text());
}

/// Whether the server ends the handshake of this client.
pub async fn refuses(server: &Server, (certificate, key): &Identity) -> bool {
    let address = server.api_url.strip_prefix("https://").expect("https");
    let socket = TcpStream::connect(address).await.expect("to connect");
    let name = ServerName::try_from("localhost").expect("a name");
    let tls = Arc::new(server.tls(Some((certificate, key))));
    // To a client of TLS 1.3, its part of the handshake is over before the server has seen the
    // certificate: the server's alert is what it reads first.
    let connected = TlsConnector::from(tls).connect(name, socket).await;
    let mut connection = connected.expect("the client's part of a handshake");
    let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut answer = Vec::new();
    let read = match connection.write_all(request).await {
        Ok(()) => connection.read_to_end(&mut answer).await,
        Err(error) => Err(error),
    };
    match read {
        Ok(_) => false,
        Err(error) => {
            assert!(error.to_string().contains("received fatal alert"), "{error}");
            true
        }
    }
}

pub fn date(time: Timestamp) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(time.as_millis().div_euclid(1_000)).unwrap()
}

const HOUR: u64 = 3_600;
