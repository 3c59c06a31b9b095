//! Writers that note what was acknowledged to them.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::Method;
use serde_json::{Value, json};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::client::{Answer, Client};

/// Writers at work.
pub struct Writers {
    writers: Vec<JoinHandle<Acknowledged>>,
    done: Arc<[AtomicUsize]>,
    stop: Arc<AtomicBool>,
}

/// What was acknowledged to a writer.
struct Acknowledged {
    path: String,
    /// Whether it sent each write again until it was acknowledged.
    is_once: bool,
    /// The text that each write wrote, and the version that it was told.
    versions: Vec<(String, u64)>,
    /// Texts of writes of which nobody knows what became.
    open: BTreeSet<String>,
}

impl Writers {
    /// Each with a secret of its own: most send a write again, with its key, to one server after another until it is
    /// acknowledged; the others have no keys and never send one again.
    pub async fn start(clients: &[Client; 2], domain: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let done: Arc<[AtomicUsize]> = (0..WRITERS).map(|_| AtomicUsize::new(0)).collect();
        let mut writers = Vec::new();
        for number in 0..WRITERS {
            let path = format!("writer/{number}");
            let new = json!({ "path": path, "version": { "data": { "k": "first" } } });
            clients[0].post(&format!("{domain}/secret"), new).await.ok();
            let (clients, stop, done) = (clients.clone(), Arc::clone(&stop), Arc::clone(&done));
            let target = format!("{domain}/secret/{path}/version");
            let mut history = Acknowledged {
                path,
                is_once: number < WRITERS - 2,
                versions: vec![("first".to_owned(), 1)],
                open: BTreeSet::new(),
            };
            writers.push(tokio::spawn(async move {
                let mut count = 0;
                while !stop.load(Ordering::SeqCst) {
                    count += 1;
                    let text = format!("{number}-{count}");
                    match history.is_once {
                        true => until_acknowledged(&clients, &target, &text, &mut history).await,
                        false => once(&clients[count % 2], &target, &text, &mut history).await,
                    }
                    done[number].store(history.versions.len(), Ordering::SeqCst);
                    sleep(PAUSE).await;
                }
                history
            }));
        }
        Self { writers, done, stop }
    }

    /// Waits until each writer has got on.
    pub async fn get_on(&self) {
        let before: Vec<_> = self.done.iter().map(|done| done.load(Ordering::SeqCst)).collect();
        let deadline = Instant::now() + LONG;
        for (writer, before) in before.iter().enumerate() {
            while self.done[writer].load(Ordering::SeqCst) < before + 2 {
                assert!(Instant::now() < deadline, "writer {writer} does not get on");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Ends them and compares what they were told with what is there. Gives how many writes were acknowledged.
    pub async fn check(self, clients: &[Client; 2], domain: &str) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        let mut count = 0;
        for writer in self.writers {
            let history = timeout(LONG, writer).await.expect("an end").expect("no panic");
            count += history.versions.len();
            for client in clients {
                history.check(client, domain).await;
            }
        }
        count
    }
}

impl Acknowledged {
    async fn check(&self, client: &Client, domain: &str) {
        let target = format!("{domain}/secret/{}", self.path);
        let last = client.get(&target).await.ok()["metadata"]["currentVersion"].clone();
        let last = last.as_u64().expect("a number");
        // Read one by one, so that none is missing in between.
        let mut found = Vec::new();
        for id in 1..=last {
            let version = client.get(&format!("{target}/version/{id}?includeData=true")).await.ok();
            assert_eq!(version["id"], id);
            found.push((version["data"]["k"].as_str().expect("a text").to_owned(), id));
        }
        if self.is_once {
            assert_eq!(found, self.versions, "{}: each once, in order, without gaps", self.path);
            return;
        }
        for version in &self.versions {
            assert!(found.contains(version), "{}: {version:?} is lost", self.path);
        }
        let texts: BTreeSet<_> = found.iter().map(|(text, _)| text).collect();
        assert_eq!(texts.len(), found.len(), "{}: a write was done twice", self.path);
        for (text, id) in &found {
            let known = self.versions.contains(&(text.clone(), *id)) || self.open.contains(text);
            assert!(known, "{}: {text} is there and was refused for good", self.path);
        }
    }
}

/// Sends a write until it is acknowledged, to one server after another.
async fn until_acknowledged(
    clients: &[Client; 2],
    target: &str,
    text: &str,
    history: &mut Acknowledged,
) {
    let body = json!({ "data": { "k": text } });
    let deadline = Instant::now() + LONG;
    for client in clients.iter().cycle() {
        if let Ok(answer) = write_once(client, target, text, &body).await {
            if answer.status == 200 {
                let id = answer.value()["id"].as_u64().expect("a number");
                return history.versions.push((text.to_owned(), id));
            }
            // 409: the one before is still under way.
            assert!(is_unavailable(&answer) || answer.status == 409, "{}", answer.text());
        }
        assert!(Instant::now() < deadline, "{text} is not acknowledged");
        sleep(Duration::from_millis(100)).await;
    }
}

/// Sends a write without a key, once.
async fn once(client: &Client, target: &str, text: &str, history: &mut Acknowledged) {
    let answer = client.post(target, json!({ "data": { "k": text } })).await;
    match answer.status {
        200 => {
            let id = answer.value()["id"].as_u64().expect("a number");
            history.versions.push((text.to_owned(), id));
        }
        _ => {
            assert!(is_unavailable(&answer), "{}", answer.text());
            history.open.insert(text.to_owned());
        }
    }
}

/// Sends a write with an idempotency key.
pub async fn write_once(
    client: &Client,
    target: &str,
    key: &str,
    body: &Value,
) -> Result<Answer, String> {
    let key = format!("\"{key}\"");
    let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
    client.try_send(Method::POST, target, &headers, body.to_string().into()).await
}

/// Whether an answer says that the database cannot be used now, and when to try again.
pub fn is_unavailable(answer: &Answer) -> bool {
    answer.status == 503
        && answer.header("retry-after").is_some()
        && answer.value()["error_id"] == "unavailable"
}

const WRITERS: usize = 8;
/// Between two writes of a writer: the machine has other things to do, and it takes minutes.
const PAUSE: Duration = Duration::from_millis(250);
/// Longer than the loss of a primary may last.
const LONG: Duration = Duration::from_secs(120);
