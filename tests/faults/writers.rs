//! Writers that keep a history, and what the API shows of what they wrote.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use hyper::Method;
use serde_json::{Value, json};

use crate::{
    client::{Answer, Client},
    history::{Alone, Operation, Outcome, Seen, State, Violation, Write, shared},
    random::Random,
    site::Site,
};

/// All writers of a site, and what they were told.
pub struct Writers {
    each: Vec<Writer>,
    common: Arc<Common>,
    /// What the number in the defaults of the domain can be.
    config: BTreeSet<u64>,
    pub counts: Counts,
    /// The ids of reads that succeeded.
    reads: Vec<String>,
}

#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    pub done: usize,
    pub refused: usize,
    pub unknown: usize,
}

/// What writers have in common.
struct Common {
    /// Which secrets of many writers are written to now.
    round: AtomicU64,
    stop: AtomicBool,
    /// Numbers that no two writes share.
    next_value: AtomicU64,
    /// Requests that succeeded.
    succeeded: AtomicU64,
    /// The order of all that is asked and answered.
    time: AtomicU64,
    /// The highest version of each secret of many writers that anybody was told of.
    highest: Vec<AtomicU64>,
    /// What was done to the secrets of many writers, of each round.
    shared: Mutex<BTreeMap<(u64, usize), Vec<Operation>>>,
}

struct Writer {
    number: usize,
    random: Random,
    alone: Alone,
    /// Versions of its own in secrets of many writers, that are not closed.
    open: Vec<(usize, u32)>,
    /// What it was told of its own secret, or of the defaults of the domain, since that was last looked at.
    told: Vec<Told>,
    /// The ids of the requests that succeeded.
    succeeded: Vec<String>,
    violations: Vec<String>,
}

enum Told {
    Own(Outcome),
    Shared(Outcome),
    Config(u64, Outcome),
}

impl Writers {
    pub fn new(count: usize, seed: u64) -> Self {
        let highest = (0..SHARED).map(|_| AtomicU64::new(0)).collect();
        let common = Common {
            round: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            next_value: AtomicU64::new(1),
            succeeded: AtomicU64::new(0),
            time: AtomicU64::new(0),
            highest,
            shared: Mutex::default(),
        };
        let each = (0..count).map(|number| Writer {
            number,
            random: Random::new(seed ^ ((number as u64) << 32)),
            alone: Alone::new(KEEP),
            open: Vec::new(),
            told: Vec::new(),
            succeeded: Vec::new(),
            violations: Vec::new(),
        });
        let (each, config) = (each.collect(), BTreeSet::from([0]));
        let counts = Counts::default();
        Self { each, common: Arc::new(common), config, counts, reads: Vec::new() }
    }

    /// Lets all write until `end` is over, which ends the server in whatever way, or not.
    pub async fn write(&mut self, site: &mut Site, end: impl AsyncFnOnce(&mut Site)) {
        self.common.round.fetch_add(1, Ordering::Relaxed);
        self.common.stop.store(false, Ordering::Relaxed);
        for highest in &self.common.highest {
            highest.store(0, Ordering::Relaxed);
        }
        let (secrets, config) = (site.v2("secret"), site.v2("secretConfig"));
        let tasks: Vec<_> = std::mem::take(&mut self.each)
            .into_iter()
            .map(|mut writer| {
                let way =
                    Way { client: site.client(), secrets: secrets.clone(), config: config.clone() };
                let common = Arc::clone(&self.common);
                tokio::spawn(async move {
                    writer.open.clear();
                    while !common.stop.load(Ordering::Relaxed) {
                        writer.step(&way, &common).await;
                    }
                    writer
                })
            })
            .collect();
        let read = |_| tokio::spawn(read(site.client(), config.clone(), Arc::clone(&self.common)));
        let reads: Vec<_> = (0..READERS).map(read).collect();
        end(site).await;
        self.common.stop.store(true, Ordering::Relaxed);
        for reads in reads {
            self.reads.append(&mut reads.await.expect("reads"));
        }
        self.each = join_all(tasks).await.into_iter().map(|task| task.expect("a writer")).collect();
    }

    /// Records of reads may be gone with the power.
    pub fn forget_reads(&mut self) {
        self.reads.clear();
    }

    /// What tells how far they are.
    pub fn progress(&self) -> Progress {
        Progress(Arc::clone(&self.common))
    }

    /// Compares what is there with what they were told: all violations, and the ids of the requests that
    /// succeeded since.
    pub async fn judge(&mut self, site: &Site) -> (Vec<String>, Vec<String>) {
        let reader = Reader::new(site);
        let (mut violations, mut succeeded) = (Vec::new(), Vec::new());
        let listed = reader.list().await;
        let found = join_all(self.each.iter().map(|writer| reader.see(own(writer.number)))).await;
        for (writer, seen) in self.each.iter_mut().zip(found) {
            let path = own(writer.number);
            let mut told = |violation: Violation| violations.push(format!("{path}: {violation}"));
            if listed.contains(&path) != seen.is_some() {
                told(Violation::Listed(seen.is_none()));
            }
            if let Err(violation) = writer.alone.found(seen.as_ref()) {
                told(violation);
            }
            violations.append(&mut writer.violations);
            succeeded.append(&mut writer.succeeded);
            for told in writer.told.drain(..) {
                let (Told::Own(outcome) | Told::Shared(outcome) | Told::Config(_, outcome)) = told;
                match outcome {
                    Outcome::Done(_) => self.counts.done += 1,
                    Outcome::Refused => self.counts.refused += 1,
                    Outcome::Unknown => self.counts.unknown += 1,
                }
                match told {
                    Told::Config(value, Outcome::Done(_)) => self.config = BTreeSet::from([value]),
                    Told::Config(value, Outcome::Unknown) => drop(self.config.insert(value)),
                    _ => {}
                }
            }
        }
        let config = reader.get(&site.v2("secretConfig")).await.ok()["maxVersions"].as_u64();
        let config = config.expect("a number");
        if !self.config.contains(&config) {
            violations.push(format!("the defaults have {config}, not any of {:?}", self.config));
        }
        self.config = BTreeSet::from([config]);
        let round = self.common.round.load(Ordering::Relaxed);
        // Those of the last round are looked at once more: what was seen stays.
        violations.extend(self.judge_shared(&reader, round.saturating_sub(1)).await);
        succeeded.append(&mut self.reads);
        (violations, succeeded)
    }

    /// Compares the secrets of many writers of all rounds from that one on with what was done to them.
    pub async fn judge_shared(&self, reader: &Reader, from: u64) -> Vec<String> {
        let mut histories = std::mem::take(&mut *self.common.shared.lock().expect("a lock"));
        let of_these = histories.range_mut((from, 0)..);
        let judged = of_these.map(async |(&(round, number), operations)| {
            let path = common(round, number);
            let seen = reader.see(path.clone()).await;
            let judged = shared(operations, seen.as_ref());
            for operation in operations {
                settle(operation, seen.as_ref());
            }
            judged.err().map(|violation| format!("{path}: {violation}: {seen:?}"))
        });
        let violations = join_all(judged).await.into_iter().flatten().collect();
        *self.common.shared.lock().expect("a lock") = histories;
        violations
    }
}

/// Reads meanwhile: no sync waits for the records of that, which come between those of writes. Gives the ids of those
/// that succeeded.
async fn read(client: Client, target: String, common: Arc<Common>) -> Vec<String> {
    let mut succeeded = Vec::new();
    while !common.stop.load(Ordering::Relaxed) {
        let sent = client.try_send(Method::GET, &target, &[], Default::default());
        match tokio::time::timeout(NO_ANSWER, sent).await.expect("an answer in time") {
            Ok(answer) if answer.status == 200 => {
                succeeded.push(answer.header("x-request-id").expect("an id").to_owned());
            }
            // There may be nobody; the end is near.
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    succeeded
}

/// How far writers are.
pub struct Progress(Arc<Common>);

impl Progress {
    /// Waits until so many more requests have succeeded.
    pub async fn made(&self, count: u64) {
        let enough = self.0.succeeded.load(Ordering::Relaxed) + count;
        let deadline = Instant::now() + NO_ANSWER;
        while self.0.succeeded.load(Ordering::Relaxed) < enough {
            assert!(Instant::now() < deadline, "nothing succeeds");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// What is unknown is known once it was looked at.
fn settle(operation: &mut Operation, seen: Option<&Seen>) {
    if operation.outcome != Outcome::Unknown {
        return;
    }
    let mut versions = seen.iter().flat_map(|seen| &seen.versions);
    operation.outcome = match operation.write {
        Write::SetState { version, state } => {
            let found =
                versions.find(|(number, (found, _))| **number == version && *found == state);
            found.map_or(Outcome::Refused, |_| Outcome::Done(None))
        }
        Write::Create { value } | Write::Version { value, .. } | Write::Both { value, .. } => {
            let found = versions.find(|(_, (_, found))| *found == Some(value));
            found.map_or(Outcome::Refused, |(number, _)| Outcome::Done(Some(*number)))
        }
        Write::Describe { .. } | Write::Delete => Outcome::Refused,
    };
}

/// How a writer reaches the server.
struct Way {
    client: Client,
    secrets: String,
    config: String,
}

impl Writer {
    async fn step(&mut self, way: &Way, common: &Common) {
        match self.random.below(100) {
            0..10 if self.number == 0 => {
                // Each secret has a number of its own, so that this one changes nothing else.
                let value = common.value() % 24_000;
                let body = json!({ "maxVersions": value });
                if let Some(outcome) =
                    self.ask(way, common, Method::PUT, &way.config, Some(body)).await
                {
                    self.told.push(Told::Config(value, outcome));
                }
            }
            0..70 => {
                let write = self.own_write(common);
                let Some(outcome) = self.send(way, common, &own(self.number), write, KEEP).await
                else {
                    return;
                };
                self.told.push(Told::Own(outcome));
                if let Err(violation) = self.alone.told(write, outcome) {
                    self.violations.push(format!("{}: {violation}", own(self.number)));
                }
            }
            _ => self.write_shared(way, common).await,
        }
    }

    /// Something to do to its own secret; at times something that is to be refused.
    fn own_write(&mut self, common: &Common) -> Write {
        let value = common.value();
        let Some((oldest, current)) = self.alone.range() else {
            return match self.random.below(10) {
                0 => Write::Version { value, cas: None },
                1 => Write::Delete,
                _ => Write::Create { value },
            };
        };
        match self.random.below(100) {
            0..30 => Write::Version { value, cas: None },
            30..45 => Write::Version { value, cas: Some(current) },
            45..50 => Write::Version { value, cas: Some(current + 1) },
            50..55 => Write::Create { value },
            55..65 => Write::Describe { note: value },
            65..75 => Write::Both { note: common.value(), value },
            75..95 => {
                // One beyond the last is to be refused.
                let count = u64::from(current - oldest + 2);
                let version = oldest + self.random.below(count) as u32;
                Write::SetState { version, state: self.state(3) }
            }
            _ => Write::Delete,
        }
    }

    fn state(&mut self, bound: u64) -> State {
        match self.random.below(bound) {
            0 => State::Deactivated,
            1 => State::Deleted,
            _ => State::Active,
        }
    }

    async fn write_shared(&mut self, way: &Way, common: &Common) {
        let round = common.round.load(Ordering::Relaxed);
        let mut number = self.random.below(SHARED as u64) as usize;
        let (value, highest) = (common.value(), common.highest[number].load(Ordering::Relaxed));
        let write = match self.random.below(10) {
            _ if highest == 0 => Write::Create { value },
            0..2 if !self.open.is_empty() => {
                let (of, version) = self.open.swap_remove(0);
                number = of;
                Write::SetState { version, state: self.state(2) }
            }
            2..6 => Write::Version { value, cas: Some(highest as u32) },
            _ => Write::Version { value, cas: None },
        };
        let began = common.now();
        let path = self::common(round, number);
        let Some(outcome) = self.send(way, common, &path, write, 24_000).await else { return };
        let ended = common.now();
        self.told.push(Told::Shared(outcome));
        if let Outcome::Done(Some(version)) = outcome {
            common.highest[number].fetch_max(version.into(), Ordering::Relaxed);
            self.open.push((number, version));
        }
        let operation = Operation { write, outcome, began, ended };
        let mut shared = common.shared.lock().expect("a lock");
        shared.entry((round, number)).or_default().push(operation);
    }

    /// Asks for a write; `None` where it was not looked at.
    async fn send(
        &mut self,
        way: &Way,
        common: &Common,
        path: &str,
        write: Write,
        keep: u32,
    ) -> Option<Outcome> {
        let secret = format!("{}/{}", way.secrets, path.replace('/', "%2F"));
        let data = |value: u64| {
            // Some take a page of the database, some several.
            json!({ "value": value, "more": "x".repeat((value * 7 % 6_000) as usize) })
        };
        let note = |note: u64| json!({ "customMetadata": { "note": note.to_string() } });
        let (method, target, body) = match write {
            Write::Create { value } => {
                let (metadata, data) = (json!({ "maxVersions": keep }), data(value));
                let body =
                    json!({ "path": path, "metadata": metadata, "version": { "data": data } });
                (Method::POST, way.secrets.clone(), Some(body))
            }
            Write::Version { value, cas } => {
                let cas = cas.map_or_else(String::new, |cas| format!("?cas={cas}"));
                (
                    Method::POST,
                    format!("{secret}/version{cas}"),
                    Some(json!({ "data": data(value) })),
                )
            }
            Write::Describe { note: text } => {
                (Method::PUT, secret, Some(json!({ "metadata": note(text) })))
            }
            Write::Both { note: text, value } => {
                let body = json!({ "metadata": note(text), "version": { "data": data(value) } });
                (Method::PUT, secret, Some(body))
            }
            Write::SetState { version, state } => {
                let body = json!({ "state": name(state) });
                (Method::PUT, format!("{secret}/version/{version}"), Some(body))
            }
            Write::Delete => (Method::DELETE, secret, None),
        };
        let outcome = self.ask(way, common, method, &target, body).await?;
        let makes =
            matches!(write, Write::Create { .. } | Write::Version { .. } | Write::Both { .. });
        Some(match outcome {
            Outcome::Done(_) if !makes => Outcome::Done(None),
            outcome => outcome,
        })
    }

    async fn ask(
        &mut self,
        way: &Way,
        common: &Common,
        method: Method,
        target: &str,
        body: Option<Value>,
    ) -> Option<Outcome> {
        let headers = [("content-type", "application/json")];
        let headers = if body.is_some() { &headers[..] } else { &[] };
        let body = body.map_or_else(String::new, |body| body.to_string());
        let sent = way.client.try_send(method, target, headers, body.into());
        let answer = match tokio::time::timeout(NO_ANSWER, sent).await.expect("an answer in time") {
            Ok(answer) => answer,
            Err(_) => {
                // There may be nobody; the end is near.
                tokio::time::sleep(Duration::from_millis(10)).await;
                return Some(Outcome::Unknown);
            }
        };
        match answer.status {
            200..300 => {
                self.succeeded.push(answer.header("x-request-id").expect("an id").to_owned());
                common.succeeded.fetch_add(1, Ordering::Relaxed);
                Some(Outcome::Done(made(&answer)))
            }
            400 | 404 | 409 => Some(Outcome::Refused),
            429 => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                None
            }
            503 => {
                // The error of the API, which tells nothing of the disk.
                answer.error(503, 50_425_858);
                tokio::time::sleep(Duration::from_millis(10)).await;
                Some(Outcome::Unknown)
            }
            _ => panic!("{target}: {} {}", answer.status, answer.text()),
        }
    }
}

/// The version that an answer tells of.
fn made(answer: &Answer) -> Option<u32> {
    if answer.body.is_empty() {
        return None;
    }
    let value = answer.value();
    let number = value["metadata"]["currentVersion"].as_u64().or(value["id"].as_u64());
    number.and_then(|number| u32::try_from(number).ok())
}

impl Common {
    fn value(&self) -> u64 {
        self.next_value.fetch_add(1, Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        self.time.fetch_add(1, Ordering::SeqCst)
    }
}

/// Sees what is there through the API.
pub struct Reader {
    client: Client,
    secrets: String,
}

impl Reader {
    pub fn new(site: &Site) -> Self {
        Self { client: site.client(), secrets: site.v2("secret") }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.client.get(path).await
    }

    /// The paths of all secrets.
    pub async fn list(&self) -> BTreeSet<String> {
        let items = self.pages(&self.secrets).await;
        let path = |item: Value| item["path"].as_str().expect("a path").to_owned();
        items.into_iter().map(path).collect()
    }

    /// A secret with all its versions.
    pub async fn see(&self, path: String) -> Option<Seen> {
        let secret = format!("{}/{}", self.secrets, path.replace('/', "%2F"));
        let found = self.get(&secret).await;
        if found.status == 404 {
            return None;
        }
        let metadata = &found.ok()["metadata"];
        let number = |name: &str| metadata[name].as_u64().expect("a number") as u32;
        let note = metadata["customMetadata"]["note"].as_str();
        let mut versions = BTreeMap::new();
        for version in self.pages(&format!("{secret}/version")).await {
            let id = version["id"].as_u64().expect("a number") as u32;
            let state = match version["state"].as_str() {
                Some("active") => State::Active,
                Some("deactivated") => State::Deactivated,
                Some("deleted") => State::Deleted,
                other => panic!("{other:?}"),
            };
            versions.insert(id, (state, None));
        }
        let data = versions.keys().map(|id| format!("{secret}/version/{id}?includeData=true"));
        let data: Vec<_> = data.collect();
        let mut answers = Vec::with_capacity(data.len());
        for some in data.chunks(READS) {
            answers.extend(join_all(some.iter().map(|target| self.get(target))).await);
        }
        for ((_, value), answer) in versions.values_mut().zip(answers) {
            *value = answer.ok()["data"]["value"].as_u64();
        }
        let note = note.map(|note| note.parse().expect("a number"));
        Some(Seen {
            current: number("currentVersion"),
            oldest: number("oldestVersion"),
            note,
            versions,
        })
    }

    async fn pages(&self, path: &str) -> Vec<Value> {
        let (mut items, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let mut headers = vec![("x-pagination-size", "500")];
            headers.extend(cursor.as_deref().map(|cursor| ("x-pagination-cursor", cursor)));
            let page = self.client.page(path, &headers).await;
            items.extend(page.ok().as_array().expect("a list").iter().cloned());
            cursor = page.header("x-pagination-cursor-next").map(str::to_owned);
            if cursor.is_none() {
                return items;
            }
        }
    }
}

const fn name(state: State) -> &'static str {
    match state {
        State::Active => "active",
        State::Deactivated => "deactivated",
        State::Deleted => "deleted",
    }
}

fn own(writer: usize) -> String {
    format!("own/{writer}")
}

fn common(round: u64, number: usize) -> String {
    format!("shared/{round}/{number}")
}

/// Versions that a secret of one writer keeps: so few that some are pruned all the time.
const KEEP: u32 = 4;
/// A quarter of those who write.
const READERS: usize = 8;
/// Secrets of many writers in a round.
const SHARED: usize = 4;
/// Reads of a secret at a time; all secrets are read at the same time.
const READS: usize = 8;
/// Longer than any time that the server gives itself.
const NO_ANSWER: Duration = Duration::from_secs(60);
