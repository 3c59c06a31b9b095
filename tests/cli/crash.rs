//! What a run of `okmsd dev` finds that did not end well, or was tampered with.

use std::{fs, path::Path, process::Stdio, thread, time::Duration};

use crate::harness::{Trial, fail, okmsd, read};

/// What the second run makes of the folder after `damage`.
#[track_caller]
fn mended(damage: impl FnOnce(&Trial)) -> (Trial, [String; 2]) {
    let mut trial = Trial::start();
    let names = ["OKMS_ID", "OKMS_CERT"];
    let before = names.map(|name| trial.variable(name).to_owned());
    trial.stop();
    damage(&trial);
    trial.again(&[]);
    (trial, before)
}

#[tokio::test]
async fn a_first_run_killed_at_any_time_is_completed_by_the_next() {
    // A whole first run takes about 300 ms.
    for delay in (0..400).step_by(25) {
        let cwd = tempfile::tempdir().unwrap();
        let arguments = ["dev", "--api-listen", "127.0.0.1:0", "--docs-listen", "127.0.0.1:0"];
        let mut command = okmsd(cwd.path(), &arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(delay));
        child.kill().unwrap();
        child.wait().unwrap();
        let trial = Trial::start_in(cwd);
        check(&trial).await;
    }
}

fn remove(path: impl AsRef<Path>) {
    fs::remove_file(path).unwrap();
}

async fn check(trial: &Trial) {
    assert_eq!(trial.client().get(&trial.secrets()).await.status, 200);
}

#[tokio::test]
async fn a_credential_in_the_store_without_its_files_is_followed_by_another() {
    for name in ["OKMS_CERT", "OKMS_KEY"] {
        let (trial, [okms_id, cert]) = mended(|trial| remove(trial.variable(name)));
        assert_eq!(trial.variable("OKMS_ID"), okms_id, "the domain is kept");
        assert_ne!(trial.variable("OKMS_CERT"), cert);
        check(&trial).await;
    }
}

#[tokio::test]
async fn a_credential_on_disk_that_the_store_lacks_is_followed_by_another() {
    let (trial, [okms_id, cert]) = mended(|trial| {
        for name in ["okmsd.db", "okmsd.db-wal", "okmsd.db-shm"] {
            let _ = fs::remove_file(trial.data(name));
        }
    });
    assert_ne!(trial.variable("OKMS_ID"), okms_id);
    assert_ne!(trial.variable("OKMS_CERT"), cert);
    check(&trial).await;
}

#[tokio::test]
async fn a_missing_pkcs12_file_or_password_is_made_again() {
    for suffix in [".p12", "_p12_password.txt"] {
        let (trial, [_, cert]) = mended(|trial| {
            let cert = trial.variable("OKMS_CERT").to_owned();
            remove(cert.replace("_certificate.pem", suffix));
        });
        assert_eq!(trial.variable("OKMS_CERT"), cert);
        assert!(Path::new(trial.variable("OKMS_P12")).exists());
        check(&trial).await;
    }
}

#[tokio::test]
async fn an_authority_whose_certificate_was_never_written_is_made_anew() {
    let (trial, [_, cert]) = mended(|trial| remove(trial.data("ca_certificate.pem")));
    // Nothing that the lost authority signed is of use any more.
    assert_ne!(trial.variable("OKMS_CERT"), cert);
    check(&trial).await;
}

#[tokio::test]
async fn a_server_key_that_is_not_its_certificates_is_replaced() {
    let (trial, [_, cert]) = mended(|trial| {
        fs::copy(trial.data("ca_privatekey.pem"), trial.data("server_privatekey.pem")).unwrap();
    });
    assert_eq!(trial.variable("OKMS_CERT"), cert);
    check(&trial).await;
}

#[tokio::test]
async fn a_temporary_file_of_a_run_that_was_killed_is_in_nobodys_way() {
    let (trial, [_, cert]) = mended(|trial| {
        fs::write(trial.data(".dev.env.new"), "half").unwrap();
    });
    assert_eq!(trial.variable("OKMS_CERT"), cert);
    assert!(!trial.data(".dev.env.new").exists());
    check(&trial).await;
}

#[test]
fn what_only_a_person_can_lose_is_refused_with_advice() {
    let mut trial = Trial::start();
    trial.stop();
    let arguments = ["dev", "--api-listen", "127.0.0.1:0", "--docs-listen", "127.0.0.1:0"];
    for (name, word) in [("ca_privatekey.pem", "start over"), ("root.key", "start over")] {
        let (path, aside) = (trial.data(name), trial.data("aside"));
        fs::rename(&path, &aside).unwrap();
        let errors = fail(trial.cwd.path(), &arguments, 1);
        assert!(errors.contains(path.to_str().unwrap()) && errors.contains(word), "{errors}");
        assert!(!path.exists(), "nothing is made in its place");
        fs::rename(&aside, &path).unwrap();
    }
    let key = trial.data("root.key");
    let other = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
    let right = read(&key);
    fs::write(&key, other).unwrap();
    let errors = fail(trial.cwd.path(), &arguments, 1);
    assert!(errors.contains("root key"), "{errors}");
    assert!(!errors.contains(other.trim()), "{errors}");
    fs::write(&key, right).unwrap();
    trial.again(&[]);
}
