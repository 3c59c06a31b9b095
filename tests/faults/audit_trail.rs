//! What is to hold of a site after whatever happened; its audit log, read as it grows.

use std::{
    collections::{HashMap, HashSet},
    fs,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{harness::files_below, site::Site, writers::Writers};

/// Which requests have a record of their success.
#[derive(Default)]
pub struct AuditTrail {
    read: HashMap<PathBuf, u64>,
    succeeded: HashSet<String>,
}

impl AuditTrail {
    /// Holds what writers were told against the store, and against the audit log.
    pub async fn check(&mut self, writers: &mut Writers, site: &Site, after: &str) {
        let (violations, succeeded) = writers.judge(site).await;
        assert!(violations.is_empty(), "{after}: {violations:#?}\n{}", site.last_words());
        site.succeed(&["audit", "verify"]);
        self.read(&site.data("audit"));
        for id in succeeded {
            let has = self.succeeded.contains(&id);
            assert!(has, "{after}: {id} was acknowledged and is not in the audit log");
        }
    }

    /// Reads what has come since.
    fn read(&mut self, folder: &Path) {
        for path in files_below(folder) {
            if path.extension().is_none_or(|extension| extension != "jsonl") {
                continue;
            }
            let from = self.read.entry(path.clone()).or_default();
            let mut file = fs::File::open(&path).expect("a file");
            file.seek(SeekFrom::Start(*from)).expect("to seek");
            let mut text = String::new();
            file.read_to_string(&mut text).expect("text");
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            *from += whole as u64;
            for line in text[..whole].lines() {
                let line: Value = serde_json::from_str(line).expect("JSON");
                if line["status"].as_u64().is_some_and(|status| (200..300).contains(&status)) {
                    let id = line["request_id"].as_str().expect("an id");
                    self.succeeded.insert(id.to_owned());
                }
            }
        }
    }
}
