//! Certificates, authorities and revocation lists are read again when their files change, and on
//! SIGHUP.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tracing::{debug, info, warn};
use zeroize::Zeroizing;

use super::Failure;
use crate::{
    config::{Config, Pki, Tls, read_private_file},
    server::{ExternalAuthority, LiveTls, RevocationList, TlsMaterial},
};

/// The files that the TLS of a server is made of.
#[derive(Debug, Clone)]
pub(super) struct TlsFiles {
    tls: Tls,
    pki: Pki,
}

/// What tells one state of the files from another: for each, where it lies, its size and its times. A
/// link that points to another file shows as well.
pub(super) type Stamp = Vec<Option<(u64, u64, u64, i64, i64, i64, i64)>>;

impl TlsFiles {
    /// The files of a configuration.
    pub(super) fn new(config: &Config) -> Self {
        Self { tls: config.tls.clone(), pki: config.pki.clone() }
    }

    /// Reads them.
    pub(super) fn read(&self) -> Result<TlsMaterial, Failure> {
        Ok(TlsMaterial {
            certificate_chain_pem: read_pem(&self.tls.certificate_file)?,
            private_key_pem: read_private_file(&self.tls.private_key_file)?,
            ..self.read_authorities()?
        })
    }

    /// Reads what client certificates are verified by; the server's own certificate and key are left
    /// empty.
    pub(super) fn read_authorities(&self) -> Result<TlsMaterial, Failure> {
        let external = self.pki.client_cas.0.iter().map(|ca| {
            let (name, pem) = (ca.file.display().to_string(), read_pem(&ca.file)?);
            Ok(ExternalAuthority { name, okms_id: ca.okms_id, pem })
        });
        let lists = self.pki.crl_files.0.iter().map(|file| {
            let name = file.display().to_string();
            // What is too large is told by whoever reads the list.
            let content = read_start(file, RevocationList::MAX_BYTES + 1)?;
            Ok(RevocationList { name, content })
        });
        Ok(TlsMaterial {
            certificate_chain_pem: String::new(),
            private_key_pem: Zeroizing::default(),
            client_ca_pems: vec![read_pem(&self.pki.ca_certificate_file)?],
            external_authorities: external.collect::<Result<_, Failure>>()?,
            revocation_lists: lists.collect::<Result<_, Failure>>()?,
        })
    }

    /// Their present state.
    pub(super) fn stamp(&self) -> Stamp {
        self.paths().map(|path| stamp_of(path)).collect()
    }

    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        let own =
            [&self.tls.certificate_file, &self.tls.private_key_file, &self.pki.ca_certificate_file];
        let others = self.pki.client_cas.0.iter().map(|ca| &ca.file);
        own.into_iter().chain(others).chain(&self.pki.crl_files.0)
    }
}

/// Reads the files again for as long as the server runs.
pub(super) struct Reloader {
    files: TlsFiles,
    live: Arc<LiveTls>,
    /// The state that is in use.
    used: Stamp,
    /// The state that can't be used: another attempt would come to the same.
    refused: Option<Stamp>,
    /// Why the last attempt failed: said once, not every second.
    failed: Option<String>,
}

impl Reloader {
    /// `used` is the state of the files from before they were read for `live`.
    pub(super) const fn new(files: TlsFiles, live: Arc<LiveTls>, used: Stamp) -> Self {
        Self { files, live, used, refused: None, failed: None }
    }

    /// Never ends by itself. `hangup` is the signal to read them now, where there is one.
    pub(super) async fn run(mut self, mut hangup: Option<Signal>) {
        let mut ticks = interval(LOOK_TIME);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = self.used.clone();
        // A list that lies there and was from the future, by a clock that goes before ours, becomes the
        // one that counts without a change of its file. What can't be used may be so for a reason that
        // does not show in the files.
        let mut again = interval(READ_AGAIN_TIME);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        again.reset();
        loop {
            let asked = tokio::select! {
                () = asked_for(&mut hangup) => true,
                _ = ticks.tick() => false,
                _ = again.tick() => {
                    if !self.files.pki.crl_files.0.is_empty() || self.failed.is_some() {
                        self.reload(false).await;
                    }
                    continue;
                }
            };
            let present = self.files.stamp();
            // Files are written one after the other: only what has come to rest is read.
            let rests = present == seen;
            seen = present;
            if asked || (rests && seen != self.used && Some(&seen) != self.refused.as_ref()) {
                self.reload(asked).await;
            }
        }
    }

    async fn reload(&mut self, asked: bool) {
        let (files, live) = (self.files.clone(), self.live.clone());
        let before = files.stamp();
        debug!("the files of certificates, authorities and revocation lists are read");
        // Reading and verifying large lists must not hold up requests.
        let done = spawn_blocking(move || {
            let material = files.read().map_err(|failure| failure.to_string())?;
            live.replace(&material).map_err(|error| error.to_string())
        });
        let done = done.await.unwrap_or_else(|_| Err("the attempt panicked".to_owned()));
        match done {
            Ok(changed) => {
                self.used = before;
                self.refused = None;
                self.failed = None;
                if changed {
                    info!("certificates, authorities and revocation lists were read again");
                } else if asked {
                    info!("certificates, authorities and revocation lists are unchanged");
                }
            }
            Err(reason) => {
                if asked || self.failed.as_ref() != Some(&reason) {
                    let in_use = self.live.status().borrow().summary();
                    warn!(
                        reason,
                        in_use,
                        "the files of certificates, authorities or revocation lists can't be used; \
                         what was in use stays in use"
                    );
                }
                self.refused = Some(before);
                self.failed = Some(reason);
            }
        }
    }
}

async fn asked_for(hangup: &mut Option<Signal>) {
    let received = match hangup {
        Some(hangup) => hangup.recv().await,
        None => None,
    };
    if received.is_none() {
        std::future::pending::<()>().await;
    }
}

/// From now on SIGHUP does not end the process.
pub(super) fn hangup() -> Result<Signal, Failure> {
    signal(SignalKind::hangup())
        .map_err(|error| Failure::because("cannot wait for signals", &error))
}

/// A text of PEM, which need not be private.
fn read_pem(path: &Path) -> Result<String, Failure> {
    let bytes = read_start(path, MAX_PEM_BYTES + 1)?;
    let unusable = |why: &str| Failure::new(format!("cannot use {}: {why}", path.display()));
    if bytes.len() > MAX_PEM_BYTES {
        return Err(unusable("larger than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| unusable("not text"))
}

/// As much of a file as `limit` bytes.
fn read_start(path: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(limit as u64).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(bytes),
        Err(error) => Err(Failure::because(format!("cannot read {}", path.display()), &error)),
    }
}

fn stamp_of(path: &Path) -> Option<(u64, u64, u64, i64, i64, i64, i64)> {
    let found = fs::metadata(path).ok()?;
    let (modified, changed) = (found.mtime_nsec(), found.ctime_nsec());
    Some((found.dev(), found.ino(), found.size(), found.mtime(), modified, found.ctime(), changed))
}

/// Bytes of a file of certificates: some five hundred of them.
const MAX_PEM_BYTES: usize = 1024 * 1024;
/// Between two readings of unchanged files, where there are lists or something can't be used: as long
/// as a list may come late.
const READ_AGAIN_TIME: Duration = Duration::from_secs(60);
/// Between two looks at the files. A change is in use after two of them.
const LOOK_TIME: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

    use rcgen::{CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair};
    use tokio::time::sleep;

    use super::*;
    use crate::{
        config::{ClientCas, ClientCertificate, Files},
        domain::{Clock, Timestamp},
        pki::Authority,
        server::CertificateKind,
    };

    /// 2026-03-04T05:06:07Z
    const NOW: Timestamp = Timestamp::from_millis(1_772_600_767_000);

    #[derive(Debug)]
    struct ManualClock(AtomicI64);

    impl Clock for ManualClock {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(self.0.load(SeqCst))
        }
    }

    /// A list of nobody that begins so many seconds after `NOW`.
    fn list(authority: &Authority, begins: i64) -> String {
        let at = |seconds: i64| {
            time::OffsetDateTime::from_unix_timestamp(NOW.as_millis() / 1_000 + seconds).unwrap()
        };
        let params = CertificateRevocationListParams {
            this_update: at(begins),
            next_update: at(begins + 86_400),
            crl_number: 1_u64.into(),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let key = KeyPair::from_pem(authority.private_key_pem()).unwrap();
        let issuer = Issuer::from_ca_cert_pem(authority.certificate_pem(), key).unwrap();
        params.signed_by(&issuer).unwrap().pem().unwrap()
    }

    /// A list that is early becomes good without a change of its file; only time tells.
    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_used_is_read_again_after_a_while_and_no_sooner() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let authority = Authority::generate("CA", NOW, 30).unwrap();
        let issued = authority.issue_server(&["localhost".into()], NOW, 30).unwrap();
        fs::write(file("certificate"), issued.certificate_pem).unwrap();
        fs::write(file("ca"), authority.certificate_pem()).unwrap();
        fs::write(file("list"), list(&authority, -1)).unwrap();
        let mut key = File::options();
        std::os::unix::fs::OpenOptionsExt::mode(&mut key, 0o600);
        let mut key = key.write(true).create_new(true).open(file("key")).unwrap();
        std::io::Write::write_all(&mut key, issued.private_key_pem.as_bytes()).unwrap();
        let files = TlsFiles {
            tls: Tls {
                certificate_file: file("certificate"),
                private_key_file: file("key"),
                client_certificate: ClientCertificate::Optional,
            },
            pki: Pki {
                ca_certificate_file: file("ca"),
                ca_private_key_file: file("none"),
                client_cas: ClientCas::default(),
                crl_files: Files(vec![file("list")]),
            },
        };
        let clock = Arc::new(ManualClock(AtomicI64::new(NOW.as_millis())));
        let (used, material) = (files.stamp(), files.read().unwrap());
        let live = LiveTls::new(&material, false, clock.clone()).unwrap();
        let begins = || {
            let status = live.status().borrow().clone();
            let mut all = status.certificates.iter();
            let list = all.find(|one| one.kind == CertificateKind::RevocationList).unwrap();
            (list.begins.as_millis() - NOW.as_millis()) / 1_000
        };
        let reloader = tokio::spawn(Reloader::new(files, live.clone(), used).run(None));
        sleep(3 * LOOK_TIME).await;
        assert_eq!(begins(), -1);

        fs::write(file("list"), list(&authority, 100)).unwrap();
        sleep(3 * LOOK_TIME).await;
        assert_eq!(begins(), -1, "it is from the future");
        // From here on it could be used.
        clock.0.store(NOW.plus_seconds(101).as_millis(), SeqCst);
        sleep(READ_AGAIN_TIME - 10 * LOOK_TIME).await;
        assert_eq!(begins(), -1, "nobody has looked at it again");
        sleep(10 * LOOK_TIME).await;
        assert_eq!(begins(), 100);

        // A change is looked at once it rests.
        fs::write(file("list"), "x").unwrap();
        sleep(3 * LOOK_TIME).await;
        fs::write(file("list"), list(&authority, 90)).unwrap();
        sleep(3 * LOOK_TIME).await;
        assert_eq!(begins(), 90);
        reloader.abort();
    }
}
