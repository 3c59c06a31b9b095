//! Keys and signatures that OpenSSL still makes and nobody should accept.

use std::{fs, path::Path, process::Command, time::Duration};

use okmsd::{
    domain::Clock,
    server::{TlsMaterial, check_client_certificate},
};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SubjectPublicKeyInfo};

use crate::{
    authorities::{access_form, bind, counts, external, refuses},
    revocation::lists,
    support::{Server, both_engines},
};

both_engines!(weak_keys_and_signatures_are_refused, lists_signed_with_sha1_are_refused);

const USER: &str = "urn:v1:eu:identity:user:ab12345-ovh/alice";

async fn weak_keys_and_signatures_are_refused(server: Server) {
    if !crate::tools::at_hand(&["openssl"]) {
        return;
    }
    let domain = server.domain().await;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let made = |name: &str, bits: u32, digest: &str, ca: Option<&str>| {
        let (key, cert) = (format!("{name}.key"), format!("{name}.pem"));
        openssl(folder, &["genrsa", "-traditional", "-out", &key, &bits.to_string()]);
        let extensions = match ca {
            None => "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\n".to_owned(),
            Some(_) => format!("extendedKeyUsage=clientAuth\nsubjectAltName=URI:{USER}\n"),
        };
        fs::write(folder.join("ext"), extensions).unwrap();
        let subject = format!("/CN={name}");
        openssl(folder, &["req", "-new", "-key", &key, "-subj", &subject, "-out", "x.csr"]);
        let mut arguments =
            vec!["x509", "-req", "-in", "x.csr", "-days", "30", "-extfile", "ext", digest];
        let (ca_cert, ca_key) = match ca {
            None => (String::new(), key.clone()),
            Some(ca) => (format!("{ca}.pem"), format!("{ca}.key")),
        };
        match ca {
            None => arguments.extend(["-signkey", &ca_key]),
            Some(_) => arguments.extend(["-CA", &ca_cert, "-CAkey", &ca_key, "-set_serial", "5"]),
        }
        arguments.extend(["-out", &cert]);
        openssl(folder, &arguments);
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        (read(&cert), read(&key))
    };
    let (root, _) = made("root", 2048, "-sha256", None);
    let (weak_root, _) = made("weak-root", 1024, "-sha256", None);
    bind(&server, domain.okms_id, &root).unwrap();
    let error = bind(&server, domain.okms_id, &weak_root).unwrap_err();
    assert!(error.contains("none of its certificates is signed by itself"), "{error}");

    let good = made("good", 2048, "-sha256", Some("root"));
    let sha1 = made("sha1", 2048, "-sha1", Some("root"));
    // The clock of the server stands still, that of OpenSSL does not.
    server.clock.advance(Duration::from_secs(HOUR));
    counts(&server, &domain, &good).await;
    assert!(refuses(&server, &sha1).await, "SHA-1");
    // The client's side of rustls does not take such a key; OpenSSL does.
    let weak = made("weak", 1024, "-sha256", Some("root"));
    let address = server.api_url.trim_start_matches("https://").to_owned();
    // Whether OpenSSL got an answer with this certificate, and what it said if not.
    let speak = |name: &str| {
        let output = Command::new("openssl")
            .args(["s_client", "-connect", &address, "-quiet", "-cipher", "DEFAULT@SECLEVEL=0"])
            .args(["-cert", &format!("{name}.pem"), "-key", &format!("{name}.key")])
            .current_dir(folder)
            .stdin(request_file(folder))
            .output()
            .expect("openssl");
        let is_answered = String::from_utf8_lossy(&output.stdout).contains("HTTP/1.1 ");
        (is_answered, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (is_answered, errors) = speak("good");
    assert!(is_answered, "{errors}");
    // OpenSSL came to show the certificate, and read the server's alert.
    for (name, alert) in [("weak", CERTIFICATE_UNKNOWN), ("sha1", DECRYPT_ERROR)] {
        let (is_answered, errors) = speak(name);
        let told = errors.contains(&format!("SSL alert number {alert}"));
        assert!(!is_answered && told, "{name}: {errors}");
    }
    let material = TlsMaterial {
        certificate_chain_pem: String::new(),
        private_key_pem: String::new().into(),
        client_ca_pems: vec![server.authority.certificate_pem().to_owned()],
        external_authorities: vec![external(domain.okms_id, &root)],
        revocation_lists: Vec::new(),
    };
    let check = |pem: &str| check_client_certificate(&material, pem, server.clock.now());
    assert!(check(&weak.0).unwrap_err().to_string().contains("2048"), "{:?}", check(&weak.0));
    let error = check(&sha1.0).unwrap_err().to_string();
    assert!(error.contains("UnsupportedSignatureAlgorithm"), "{error}");
    // Our own authority may have signed such a key, of somebody's request.
    let ours = KeyPair::from_pem(server.authority.private_key_pem()).unwrap();
    let ours = Issuer::from_ca_cert_pem(server.authority.certificate_pem(), ours).unwrap();
    let access = |name: &str| {
        let (key, public) = (format!("{name}.key"), format!("{name}.public"));
        openssl(folder, &["rsa", "-in", &key, "-pubout", "-out", &public]);
        let public = fs::read_to_string(folder.join(public)).unwrap();
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        access_form(&mut params, &domain);
        let public = SubjectPublicKeyInfo::from_pem(&public).unwrap();
        check(&params.signed_by(&public, &ours).unwrap().pem())
    };
    access("good").unwrap();
    let error = access("weak").unwrap_err().to_string();
    assert!(error.contains("2048"), "{error}");
}

/// With SHA-1, a signature over one list can be made to fit another one.
async fn lists_signed_with_sha1_are_refused(server: Server) {
    if !crate::tools::at_hand(&["openssl"]) {
        return;
    }
    let domain = server.domain().await;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("config"), OPENSSL_CONFIG).unwrap();
    fs::write(folder.join("index.txt"), "").unwrap();
    fs::write(folder.join("crlnumber"), "01\n").unwrap();
    let root = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "60", "-out", "root.pem"];
    openssl(folder, &[&["req", "-config", "config", "-keyout", "root.key"][..], &root].concat());
    let root = fs::read_to_string(folder.join("root.pem")).unwrap();
    bind(&server, domain.okms_id, &root).unwrap();
    let list = |digest: &str| {
        let signer = ["-cert", "root.pem", "-keyfile", "root.key", "-md", digest, "-out", "list"];
        openssl(folder, &[&["ca", "-config", "config", "-gencrl"][..], &signer].concat());
        fs::read(folder.join("list")).unwrap()
    };
    let (good, weak) = (list("sha256"), list("sha1"));
    // The clock of the server stands still, that of OpenSSL does not.
    server.clock.advance(Duration::from_secs(HOUR));
    let error = lists(&server, &[weak]).unwrap_err();
    assert_eq!(error, "revocation list list 0: signed with SHA-1");
    assert!(lists(&server, &[good]).unwrap());
}

fn request_file(folder: &Path) -> fs::File {
    let path = folder.join("request");
    fs::write(&path, "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    fs::File::open(path).unwrap()
}

fn openssl(folder: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output();
    let output = output.expect("openssl");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
}

const HOUR: u64 = 3_600;
/// RFC 8446, section 6: what is wrong with a certificate that no other alert tells.
const CERTIFICATE_UNKNOWN: u8 = 46;
/// RFC 8446, section 6: a signature that cannot be verified.
const DECRYPT_ERROR: u8 = 51;

/// A root that signs lists.
const OPENSSL_CONFIG: &str = "
[req]
distinguished_name = name
x509_extensions = extensions
prompt = no
[name]
CN = Example root
[extensions]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
[ca]
default_ca = lists
[lists]
database = index.txt
crlnumber = crlnumber
default_crl_days = 30
";
