//! Authorities of others, lists and the server's own certificate: given by files, read again while the
//! server runs.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::Method;
use okmsd::{clock::SystemClock, domain::Clock};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::Value;
use time::OffsetDateTime;

use crate::{
    client::{Client, tls_config},
    foreign::{Ca, Identity},
    harness::{Server, Trial, fail, json, okmsd, read, succeed},
    production::Production,
};

const ROOT: &str = "urn:v1:eu:identity:account:ab12345-ovh";
const USER: &str = "urn:v1:eu:identity:user:ab12345-ovh/alice";
const DATA: [&str; 2] = ["--data-dir", "data"];
const UNAUTHENTICATED: i64 = 50_475_011;

/// A production server with a domain that authorities of others may vouch for.
struct Place {
    production: Production,
    okms_id: String,
    secrets: String,
}

impl Place {
    fn new() -> Self {
        let production = Production::init();
        let cwd = production.cwd.path();
        let made = json(cwd, &[&["domain", "create", "--name", "x"][..], &DATA].concat());
        let okms_id = made["okmsId"].as_str().unwrap().to_owned();
        let secrets = format!("/api/{okms_id}/v2/secret");
        Self { production, okms_id, secrets }
    }

    fn cwd(&self) -> &Path {
        self.production.cwd.path()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.production.data(name), content).unwrap();
    }

    /// Adds settings of authorities to the configuration.
    fn configure(&self, client_cas: &[&str], crl_files: &[&str]) {
        let config = self.production.data("okmsd.toml");
        let cas: Vec<_> =
            client_cas.iter().map(|file| format!("\"{}={file}\"", self.okms_id)).collect();
        let text = format!(
            "{}\n[pki]\nclient_cas = [{}]\ncrl_files = {crl_files:?}\n",
            read(&config),
            cas.join(",")
        );
        fs::write(&config, text).unwrap();
    }

    fn client(&self, (certificate, key): &Identity) -> Client {
        self.production.client(Some((certificate, key)))
    }

    /// A client of our own authority, which is the root of the domain.
    fn own(&self) -> Identity {
        let create = ["credential", "create", "--domain", &self.okms_id, "--name", "own"];
        let more = ["--identity", ROOT, "--out-dir", "own"];
        let made = json(self.cwd(), &[&create[..], &more, &DATA].concat());
        let file = |name: &str| read(Path::new(made["files"][name].as_str().unwrap()));
        (file("certificate"), file("privateKey"))
    }

    fn log(&self) -> String {
        read(&self.cwd().join("log"))
    }

    /// The status that a new connection gets; none where it fails.
    async fn status(&self, identity: &Identity) -> Option<u16> {
        status(&self.client(identity), &self.secrets).await
    }

    /// Waits until a new connection is known, or not.
    async fn until(&self, identity: &Identity, known: bool) {
        let deadline = Instant::now() + WAIT;
        while self.status(identity).await.is_some_and(|status| status != 401) != known {
            assert!(Instant::now() < deadline, "{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits for a text in the log.
    async fn until_logged(&self, text: &str, times: usize) {
        let deadline = Instant::now() + WAIT;
        while self.log().matches(text).count() < times {
            assert!(Instant::now() < deadline, "no {text:?} in {}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn status(client: &Client, path: &str) -> Option<u16> {
    let answer = client.try_send(Method::GET, path, &[], Bytes::new()).await;
    answer.ok().map(|answer| answer.status)
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_registered_and_revoked() {
    let place = Place::new();
    let cwd = place.cwd();
    let ca = Ca::root("Example root");
    place.write("example.pem", &ca.pem);
    place.configure(&["example.pem"], &[]);
    let alice = ca.client_with(|_| {});
    fs::write(cwd.join("alice.pem"), &alice.0).unwrap();
    let server = place.production.serve(&[]);
    let client = place.client(&alice);
    client.get(&place.secrets).await.error(401, UNAUTHENTICATED);

    let register = |domain: &str, file: &str| -> Vec<String> {
        let words = ["credential", "register", "--domain", domain, "--certificate", file];
        let more = ["--name", "alice", "--description", "Laptop", "--identity", ROOT];
        words.iter().chain(&more).chain(&DATA).map(|word| (*word).to_owned()).collect()
    };
    let words = register(&place.okms_id, "alice.pem");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let made = json(cwd, &words);
    assert_eq!(made["registered"], true);
    assert_eq!(made["status"], "READY");
    assert_eq!(made["identityURNs"], serde_json::json!([ROOT]));
    let stored =
        CertificateDer::from_pem_slice(made["certificatePEM"].as_str().unwrap().as_bytes());
    assert_eq!(stored.unwrap(), CertificateDer::from_pem_slice(alice.0.as_bytes()).unwrap());
    client.get(&place.secrets).await.ok();
    let id = made["id"].as_str().unwrap();
    let errors = fail(cwd, &words, 1);
    assert!(errors.contains(id), "twice: {errors}");

    // What the server would refuse is not registered.
    let stranger = Ca::root("Example root").client_with(|_| {});
    fs::write(cwd.join("stranger.pem"), stranger.0).unwrap();
    let own = place.own();
    fs::write(cwd.join("own.pem"), own.0).unwrap();
    fs::write(cwd.join("no.pem"), "x").unwrap();
    let other = json(cwd, &[&["domain", "create", "--name", "y"][..], &DATA].concat());
    let other = other["okmsId"].as_str().unwrap();
    for (domain, file, reason) in [
        (&*place.okms_id, "stranger.pem", "the server would refuse stranger.pem"),
        (&place.okms_id, "own.pem", "is of our own authority"),
        (&place.okms_id, "no.pem", "no PEM certificate found"),
        (other, "alice.pem", &place.okms_id),
    ] {
        let words = register(domain, file);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let errors = fail(cwd, &words, 1);
        assert!(errors.contains(reason), "{errors}");
    }

    succeed(cwd, &[&["credential", "revoke", id][..], &DATA].concat());
    client.get(&place.secrets).await.error(401, UNAUTHENTICATED);
    let errors = fail(cwd, &[&["credential", "renew", id][..], &DATA].concat(), 1);
    assert!(errors.contains("revoked"), "{errors}");
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test]
async fn changed_files_are_used_without_a_restart() {
    let place = Place::new();
    let (old, new) = (Ca::root("Old root"), Ca::root("New root"));
    let (alice, bob, own) = (old.client(USER), new.client(USER), place.own());
    // As Kubernetes mounts them: names that point into a folder, which is swapped as a whole.
    let data = place.production.data("");
    fs::create_dir_all(data.join("1")).unwrap();
    fs::create_dir_all(data.join("2")).unwrap();
    fs::write(data.join("1/ca.pem"), &old.pem).unwrap();
    fs::write(data.join("2/ca.pem"), &new.pem).unwrap();
    symlink("1", data.join("..data")).unwrap();
    symlink("..data/ca.pem", data.join("ca.pem")).unwrap();
    let now = now();
    let list = |ca: &Ca, revoked: &[u64]| {
        ca.list(revoked, now - time::Duration::hours(1), now + time::Duration::hours(1))
    };
    fs::write(data.join("list.crl"), list(&old, &[])).unwrap();
    place.configure(&["ca.pem"], &["list.crl"]);
    succeed(place.cwd(), &[&["config", "check"][..], &DATA].concat());
    let server = place.production.serve(&[]);
    place.until(&alice, true).await;
    assert_eq!(place.status(&bob).await, None);
    let open = place.client(&alice);
    assert_ne!(status(&open, &place.secrets).await, Some(401));

    // The list of an authority that is gone is no list: nothing changes until both fit.
    let warning = "what was in use stays in use";
    symlink("2", data.join("..new")).unwrap();
    fs::rename(data.join("..new"), data.join("..data")).unwrap();
    place.until_logged(warning, 1).await;
    place.until(&alice, true).await;
    // Half a list, then the whole.
    let whole = list(&new, &[]);
    fs::write(data.join("list.crl"), &whole[..whole.len() / 2]).unwrap();
    place.until_logged(warning, 2).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(place.log().matches(warning).count(), 2, "each reason is told once");
    fs::write(data.join("list.crl"), &whole).unwrap();
    place.until(&bob, true).await;
    open.get(&place.secrets).await.error(401, UNAUTHENTICATED);
    assert_eq!(place.status(&alice).await, None);
    // The list grows.
    let open = place.client(&bob);
    assert_ne!(status(&open, &place.secrets).await, Some(401));
    fs::write(data.join("list.crl"), list(&new, &[42])).unwrap();
    place.until(&bob, false).await;
    open.get(&place.secrets).await.error(401, UNAUTHENTICATED);

    // The server's own certificate, key first.
    let before = read(&data.join("server_certificate.pem"));
    let renew = ["init", "--renew", "--name", "localhost"];
    succeed(place.cwd(), &[&renew[..], &DATA].concat());
    assert_ne!(before, read(&data.join("server_certificate.pem")));
    let deadline = Instant::now() + WAIT;
    // The check of health pins the certificate that the file has.
    while !place.production.is_healthy() {
        assert!(Instant::now() < deadline, "{}", place.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(place.status(&own).await, Some(200));
    let log = place.log();
    assert!(log.contains("certificate.fingerprint"), "{log}");
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test]
async fn a_server_certificate_that_has_ended_does_not_replace_a_good_one() {
    let place = Place::new();
    let own = place.own();
    let server = place.production.serve(&[]);
    let shown = read(&place.production.data("server_certificate.pem"));
    assert!(place.production.is_healthy());
    place.production.issue_server(-40, 30);
    place.until_logged("the server certificate has ended at ", 1).await;
    server.hang_up();
    place.until_logged("the server certificate has ended at ", 2).await;
    assert!(!place.log().contains("were read again"), "{}", place.log());
    let log = place.log();
    let line = log.lines().find(|line| line.contains("has ended at ")).unwrap();
    assert!(line.contains("WARN") && line.contains("what was in use stays in use"), "{line}");
    assert_eq!(place.status(&own).await, Some(200));
    place.production.issue_server(2, 30);
    place.until_logged("the server certificate is not valid before ", 1).await;
    assert_eq!(place.status(&own).await, Some(200));
    // Health is of the certificate that the file has.
    assert!(!place.production.is_healthy());
    place.production.issue_server(0, 30);
    place.until_logged("were read again", 1).await;
    assert!(place.production.is_healthy());
    assert_ne!(read(&place.production.data("server_certificate.pem")), shown);
    assert_eq!(server.stop(), Some(0));
}

/// In no phase of its life does it end the server.
#[tokio::test]
async fn sighup_reads_the_files_again() {
    let place = Place::new();
    let own = place.own();
    let ca = Ca::root("Example root");
    place.write("example.pem", &ca.pem);
    place.configure(&["example.pem"], &[]);
    let log = place.cwd().join("log");
    let arguments = ["serve", "--config", "data/okmsd.toml", "--log-level", "okmsd=trace,info"];
    let command = okmsd(place.cwd(), &arguments);
    let ready = || fs::metadata(&log).is_ok_and(|log| log.len() > 0);
    let server = Server::start(command, &log, ready);
    let deadline = Instant::now() + WAIT;
    while !place.production.is_healthy() {
        server.hang_up();
        assert!(Instant::now() < deadline, "{}", place.log());
    }
    assert_eq!(place.status(&own).await, Some(200));
    server.hang_up();
    place.until_logged("are unchanged", 1).await;
    place.write("example.pem", "x");
    server.hang_up();
    place.until_logged("what was in use stays in use", 1).await;
    assert_eq!(place.status(&own).await, Some(200));
    assert_ne!(place.status(&ca.client(USER)).await, None);
    // While it shuts down, too.
    server.hang_up();
    let stopping = Arc::new(server);
    let again = stopping.clone();
    let signals = std::thread::spawn(move || again.hang_up());
    signals.join().unwrap();
    let server = Arc::into_inner(stopping).unwrap();
    assert_eq!(server.stop(), Some(0));
}

/// A trial would otherwise stay behind, and hold its folder.
#[tokio::test]
async fn a_trial_ends_with_its_terminal() {
    let mut trial = Trial::start();
    trial.client().get(&trial.secrets()).await.ok();
    trial.close_terminal();
    assert!(trial.printed().contains("SIGHUP: shutting down"), "{}", trial.printed());
    trial.again(&[]);
    trial.client().get(&trial.secrets()).await.ok();
}

#[tokio::test]
async fn ends_that_are_near_are_told_at_the_start() {
    let place = Place::new();
    let ca = Ca::root("Example root");
    let hour = time::Duration::hours(1);
    place.write("example.pem", &ca.pem);
    place.write("list.crl", ca.list(&[], now() - hour * 7, now() + hour));
    place.configure(&["example.pem"], &["list.crl"]);
    let create = ["credential", "create", "--domain", &place.okms_id, "--name", "short"];
    let more = ["--validity-days", "7", "--out-dir", "short"];
    let made = json(place.cwd(), &[&create[..], &more, &DATA].concat());
    let server = place.production.serve(&[]);
    place.until_logged("the revocation list ends soon", 1).await;
    place.until_logged("a credential ends soon", 1).await;
    let log = place.log();
    let line = log.lines().find(|line| line.contains("a credential ends soon")).unwrap();
    assert!(line.contains(made["id"].as_str().unwrap()), "{line}");
    let line = log.lines().find(|line| line.contains("the revocation list ends soon")).unwrap();
    assert!(line.contains("data/list.crl") && line.contains("WARN"), "{line}");
    assert!(!log.contains("server certificate ends soon"), "it has a year: {log}");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn files_that_cannot_be_used_refuse_the_start() {
    let place = Place::new();
    let ca = Ca::root("Example root");
    let now = now();
    let hour = time::Duration::hours(1);
    place.write("example.pem", &ca.pem);
    place.write("stale.crl", ca.list(&[], now - hour * 2, now - hour));
    place.write("future.crl", ca.list(&[], now + hour, now + hour * 2));
    place.write("other.crl", Ca::root("Example root").list(&[], now - hour, now + hour));
    // Nobody has that much memory: such a file is refused by its beginning.
    for name in ["large.pem", "large.crl"] {
        let file = fs::File::create(place.production.data(name)).unwrap();
        file.set_len(TEBIBYTE).unwrap();
    }
    let mut padded = ca.pem.clone().into_bytes();
    padded.resize(MAX_PEM_BYTES + 1, b'\n');
    place.write("padded.pem", &padded);
    padded.pop();
    place.write("largest.pem", &padded);
    let config = place.production.data("okmsd.toml");
    let text = read(&config);
    place.configure(&["largest.pem"], &[]);
    succeed(place.cwd(), &["config", "check", "--config", "data/okmsd.toml"]);
    fs::write(&config, &text).unwrap();
    for (ca, list, reason) in [
        ("large.pem", None, "cannot use data/large.pem: larger than 1 MiB"),
        ("padded.pem", None, "cannot use data/padded.pem: larger than 1 MiB"),
        ("example.pem", Some("large.crl"), "revocation list data/large.crl: larger than 16 MiB"),
        ("missing.pem", None, "cannot read data/missing.pem"),
        ("example.pem", Some("missing.crl"), "cannot read data/missing.crl"),
        ("example.pem", Some("stale.crl"), "stale"),
        ("example.pem", Some("future.crl"), "from the future"),
        ("example.pem", Some("other.crl"), "not signed by any of the configured authorities"),
        ("server_certificate.pem", None, "not the certificate of a CA"),
    ] {
        place.configure(&[ca], list.as_slice());
        for command in [&["config", "check", "--config"][..], &["serve", "--config"]] {
            let errors = fail(place.cwd(), &[command, &["data/okmsd.toml"]].concat(), 1);
            assert!(errors.contains(reason), "{errors}");
        }
        fs::write(&config, &text).unwrap();
    }
    for name in ["server_certificate.pem", "ca_certificate.pem"] {
        let path = place.production.data(name);
        let text = read(&path);
        fs::write(&path, &padded).unwrap();
        fs::File::options().append(true).open(&path).unwrap().set_len(TEBIBYTE).unwrap();
        let errors = fail(place.cwd(), &["serve", "--config", "data/okmsd.toml"], 1);
        assert!(errors.contains(&format!("data/{name}: larger than 1 MiB")), "{errors}");
        fs::write(&path, text).unwrap();
    }
}

/// Another attempt with the same files would come to the same, and large lists take their time.
#[tokio::test]
async fn files_that_cannot_be_used_are_not_read_every_second() {
    let place = Place::new();
    let ca = Ca::root("Example root");
    place.write("example.pem", &ca.pem);
    place.configure(&["example.pem"], &[]);
    let server = place.production.serve(&["--log-level", "okmsd=debug"]);
    let (attempt, warning) = ("lists are read", "what was in use stays in use");
    place.write("example.pem", "x");
    place.until_logged(warning, 1).await;
    let attempts = || place.log().matches(attempt).count();
    let before = attempts();
    tokio::time::sleep(Duration::from_secs(6)).await;
    // One may be due: now and then, they are read whatever was found before.
    assert!(attempts() <= before + 1, "{}", place.log());
    assert_eq!(place.log().matches(warning).count(), 1, "each reason is told once");
    // Whoever asks is answered.
    let before = attempts();
    server.hang_up();
    place.until_logged(attempt, before + 1).await;
    place.until_logged(warning, 2).await;
    // So is a change, for the worse or for the better.
    place.write("example.pem", &ca.pem[..ca.pem.len() / 2]);
    place.until_logged(warning, 3).await;
    let other = Ca::root("Other root");
    place.write("example.pem", &other.pem);
    place.until(&other.client(USER), true).await;
    assert_eq!(server.stop(), Some(0));
}

/// Authorities are swapped, old to both to new, under load: the aim is [`AIM`]. No client that is trusted
/// before and after a swap loses a request by it, on open connections or on new ones.
#[tokio::test(flavor = "multi_thread")]
async fn authorities_are_swapped_under_load_without_a_lost_request() {
    let place = Place::new();
    let (old, new) = (Ca::root("Old root"), Ca::root("New root"));
    place.write("ca.pem", &old.pem);
    place.configure(&["ca.pem"], &[]);
    let own = place.own();
    let server = place.production.serve(&["--log-level", "warn"]);

    // Ours are trusted throughout.
    let ours = Load::start(&place, &own);
    let of_old = Load::start(&place, &old.client(USER));
    tokio::time::sleep(PHASE).await;
    let bob = new.client(USER);
    let both = format!("{}{}", old.pem, new.pem);
    place.swap(&both, (&bob, true), [&ours, &of_old]).await;
    // From here on the old authority is not trusted.
    let sent_by_old = of_old.stop().await;
    let of_new = Load::start(&place, &bob);
    tokio::time::sleep(PHASE).await;
    let alice = old.client(USER);
    let open = place.client(&alice);
    assert_ne!(status(&open, &place.secrets).await, Some(401));
    place.swap(&new.pem, (&alice, false), [&ours, &of_new]).await;
    open.get(&place.secrets).await.error(401, UNAUTHENTICATED);
    tokio::time::sleep(PHASE).await;
    let sent = ours.stop().await + sent_by_old + of_new.stop().await;
    eprintln!("{sent} requests in all, none lost");
    assert_eq!(server.stop(), Some(0));
}

impl Place {
    /// Swaps the authorities while two loads run, and waits until the client of `seen` is known, or not.
    /// In the window from before the files are written until after they are in use, each load must get
    /// at least as many answers as on a slow machine.
    async fn swap(&self, files: &str, seen: (&Identity, bool), loads: [&Load; LOADS]) {
        let sent = || loads.map(|load| load.sent.load(SeqCst));
        let (began, before) = (Instant::now(), sent());
        self.write("ca.pem", files);
        self.until(seen.0, seen.1).await;
        let in_window = || {
            let sent = sent();
            std::array::from_fn::<u64, LOADS, _>(|load| sent[load] - before[load])
        };
        while in_window().iter().any(|sent| *sent < IN_A_SWAP) {
            assert!(began.elapsed() < WAIT, "{:?} requests: {}", in_window(), self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let (in_window, took) = (in_window(), began.elapsed());
        let rate = u128::from(in_window.iter().sum::<u64>()) * 1_000 / took.as_millis();
        eprintln!("{in_window:?} requests during a swap, {rate} a second of {AIM} meant");
    }
}

/// Requests of one client without end, each connection used for some of them.
struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(place: &Place, identity: &Identity) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let tasks = (0..CONNECTIONS).map(|number| {
            let (stop, sent) = (stop.clone(), sent.clone());
            let ca = read(&place.production.data("ca_certificate.pem"));
            let tls = || tls_config(&ca, Some((&identity.0, &identity.1)));
            let url = place.production.url();
            let clients: Vec<Client> =
                (0..LIVES).map(|_| Client::without_retries(&url, tls())).collect();
            let path = place.secrets.clone();
            tokio::spawn(async move {
                let mut pace = tokio::time::interval(PACE);
                // One connection for the whole time, one that is new every now and then.
                let keeps = number % 2 == 0;
                let mut count = 0;
                while !stop.load(SeqCst) {
                    pace.tick().await;
                    let client = if keeps { 0 } else { (count / 50) % LIVES };
                    let answer = clients[client].try_send(Method::GET, &path, &[], Bytes::new());
                    let answer = answer.await.expect("no connection is lost");
                    assert!([200, 403].contains(&answer.status), "{}", answer.text());
                    count += 1;
                    sent.fetch_add(1, SeqCst);
                }
            })
        });
        let tasks = tasks.collect();
        Self { stop, sent, tasks }
    }

    /// Ends it, and gives how many requests there were; each was answered.
    async fn stop(self) -> u64 {
        self.stop.store(true, SeqCst);
        for task in self.tasks {
            task.await.expect("no request is lost");
        }
        self.sent.load(SeqCst)
    }
}

#[tokio::test]
async fn a_credential_is_renewed_and_the_old_one_counts_until_it_is_revoked() {
    let place = Place::new();
    let cwd = place.cwd();
    let server = place.production.serve(&[]);
    let create = ["credential", "create", "--domain", &place.okms_id, "--name", "deploy"];
    let more = ["--description", "For CI", "--identity", ROOT, "--out-dir", "ci"];
    let made = json(cwd, &[&create[..], &more, &DATA].concat());
    let identity = |made: &Value| {
        let file = |name: &str| read(Path::new(made["files"][name].as_str().unwrap()));
        (file("certificate"), file("privateKey"))
    };
    let old = place.client(&identity(&made));
    let renew = |made: &Value, more: &[&str]| {
        let id = made["id"].as_str().unwrap();
        json(cwd, &[&["credential", "renew", id][..], more, &DATA].concat())
    };
    let second = renew(&made, &["--validity-days", "7", "--out-dir", "ci"]);
    assert_ne!(second["id"], made["id"]);
    assert_eq!(second["renewedId"], made["id"]);
    for field in ["okmsId", "name", "description", "identityURNs"] {
        assert_eq!(second[field], made[field], "{field}");
    }
    let second_client = place.client(&identity(&second));
    old.get(&place.secrets).await.ok();
    second_client.get(&place.secrets).await.ok();

    // What cannot be handed over leaves everything as it was.
    let id = second["id"].as_str().unwrap();
    let lost = ["credential", "renew", id, "--revoke-old", "--out-dir", "/proc"];
    let errors = fail(cwd, &[&lost[..], &DATA].concat(), 1);
    assert!(errors.contains("is revoked"), "{errors}");
    second_client.get(&place.secrets).await.ok();

    let third = renew(&second, &["--revoke-old", "--key-type", "rsa", "--out-dir", "ci"]);
    assert_eq!(third["renewedIsRevoked"], true);
    second_client.get(&place.secrets).await.error(401, UNAUTHENTICATED);
    old.get(&place.secrets).await.ok();
    place.client(&identity(&third)).get(&place.secrets).await.ok();
    let errors = fail(cwd, &[&["credential", "renew", id][..], &DATA].concat(), 1);
    assert!(errors.contains("it is revoked"), "{errors}");
    let nobody = "00000000-0000-0000-0000-000000000001";
    let errors = fail(cwd, &[&["credential", "renew", nobody][..], &DATA].concat(), 1);
    assert!(errors.contains("there is no such credential"), "{errors}");
    assert_eq!(server.stop(), Some(0));
}

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(SystemClock.now().as_millis() / 1_000).unwrap()
}

/// Longer than the server needs to see a change, on a machine that is shared.
const WAIT: Duration = Duration::from_secs(60);
/// Between two swaps.
const PHASE: Duration = Duration::from_secs(3);
/// Requests a second of all loads at a time: what a swap must bear. A busy machine makes it fewer; how
/// many it was is printed.
const AIM: u64 = 1_000;
/// Loads at a time.
const LOADS: usize = 2;
/// Connections of a load.
const CONNECTIONS: usize = 16;
/// Between two requests of a connection. One that comes late is followed by the next all the sooner.
const PACE: Duration = Duration::from_micros(1_000_000 * (LOADS * CONNECTIONS) as u64 / AIM);
/// Requests of one load while authorities are swapped, at the least: those of a second, which is how
/// long the server takes to see a change, on a machine that does a tenth of the aim.
const IN_A_SWAP: u64 = AIM / 10 / LOADS as u64;
/// Connections of a client that is new every now and then.
const LIVES: usize = 8;
/// Bytes that a file of certificates may have.
const MAX_PEM_BYTES: usize = 1024 * 1024;
const TEBIBYTE: u64 = 1 << 40;
