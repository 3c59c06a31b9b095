//! A disk that fails as it is told, below a server on SQLite: see `disk.c`.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use crate::{random::Random, site::Site};

/// The disk of a site.
pub struct Disk {
    rule: PathBuf,
    shadow: PathBuf,
}

impl Disk {
    /// Puts it below the servers that this site will start.
    pub fn below(site: &mut Site) -> Self {
        let cwd = site.cwd.path().to_owned();
        let (source, library) = (cwd.join("disk.c"), cwd.join("disk.so"));
        fs::write(&source, include_str!("disk.c")).expect("to write");
        let mut compiler = Command::new("cc");
        compiler
            .args(["-shared", "-fPIC", "-o"])
            .args([&library, &source])
            .args(["-ldl", "-lpthread"]);
        assert!(compiler.status().expect("a compiler").success());
        let (rule, shadow) = (cwd.join("rule"), cwd.join("shadow"));
        fs::create_dir(&shadow).expect("a folder");
        // As the kernel names it.
        let folder = site.data("").canonicalize().expect("a folder");
        for (name, path) in [
            ("LD_PRELOAD", &library),
            ("DISK_RULE", &rule),
            ("DISK_SHADOW", &shadow),
            ("DISK_FOLDER", &folder),
        ] {
            site.environment.push((name.to_owned(), path.to_str().expect("UTF-8").to_owned()));
        }
        Self { rule, shadow }
    }

    /// From now on this fails: see `disk.c`.
    pub fn fail(&self, call: &str, name: &str, error: i32, times: i32) {
        let _none = fs::remove_file(self.rule.with_extension("hits"));
        // At once: a half of it would be another rule.
        let new = self.rule.with_extension("new");
        fs::write(&new, format!("{call} {name} {error} {times}")).expect("to write");
        fs::rename(new, &self.rule).expect("to rename");
    }

    /// How often something has failed by the last rule.
    pub fn hits(&self) -> u64 {
        fs::metadata(self.rule.with_extension("hits")).map_or(0, |hits| hits.len())
    }

    pub async fn until_hit(&self) {
        for _ in 0..2_000 {
            if self.hits() > 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nothing failed by the rule");
    }

    /// Nothing fails any more.
    pub fn mend(&self) {
        fs::remove_file(&self.rule).expect("a rule");
    }

    /// What a power cut leaves, once the server was killed: of each page that was not synced, either what was
    /// written or what was there before.
    pub fn cut_power(&self, site: &Site, random: &mut Random) {
        for entry in fs::read_dir(&self.shadow).expect("a folder") {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("UTF-8");
            let path = PathBuf::from(name.replace('%', "/"));
            let synced = fs::read(entry.path()).expect("a file");
            // One that was removed is gone: that folders are synced is not looked at.
            if let Ok(written) = fs::read(&path) {
                fs::write(path, mixed(&synced, &written, random)).expect("to write");
            }
            fs::remove_file(entry.path()).expect("to remove");
        }
        // Shared memory, which no disk has.
        let _none = fs::remove_file(site.data("okmsd.db-shm"));
    }
}

fn mixed(synced: &[u8], written: &[u8], random: &mut Random) -> Vec<u8> {
    // At times nothing was written that was not synced.
    let only_synced = random.below(3) == 0;
    let mut is_synced = || only_synced || random.below(2) == 0;
    let length = if is_synced() { synced.len() } else { written.len() };
    let mut mixed = vec![0; length];
    for (number, page) in mixed.chunks_mut(PAGE).enumerate() {
        let of = |file: &[u8]| {
            file.get(number * PAGE..).map(|rest| rest[..rest.len().min(PAGE)].to_owned())
        };
        let (first, second) = if is_synced() { (synced, written) } else { (written, synced) };
        let found = of(first).or(of(second)).unwrap_or_default();
        let length = found.len().min(page.len());
        page[..length].copy_from_slice(&found[..length]);
    }
    mixed
}

/// Of the kernel.
const PAGE: usize = 4_096;
