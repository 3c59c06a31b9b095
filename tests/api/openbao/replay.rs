//! Sends a sequence to this server and to OpenBao, and compares each answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use okmsd::{clock::SystemClock, domain::Clock};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::{
    differences::{DIFFERENCES, Leaf, Step, is_path, lifetime},
    program::{OpenBao, OpenBaoClient},
    requests::Request,
};
use crate::{
    sequences::{Caller, Header},
    support::{Answer, Client, Domain, Server},
};

/// Both of them.
pub struct Pair<'s> {
    server: &'s Server,
    bao: OpenBaoClient,
}

/// A sequence that showed no difference but those on purpose.
#[derive(Default)]
pub struct Replayed {
    pub requests: usize,
    /// The rows of the table that occurred.
    pub occurred: BTreeSet<&'static str>,
}

impl<'s> Pair<'s> {
    pub fn new(server: &'s Server, bao: &OpenBao) -> Self {
        Self { server, bao: bao.client() }
    }

    /// Replays a sequence in a domain and an engine of its own, and at last reads all that must be there; or
    /// gives the story up to the first difference, one line to a request.
    ///
    /// After each change, what it changed is read, so that a difference shows where it begins. One that makes
    /// the two hold different things ends the sequence.
    pub async fn replay(&self, caller: Caller, sequence: &[Request]) -> Result<Replayed, String> {
        let mount = format!("kv-{}", Uuid::new_v4().simple());
        self.bao.mount(&mount).await;
        let domain = self.server.domain().await;
        let (client, credential) = caller.enter(self.server, &domain).await;
        let mut replay = Replay {
            pair: self,
            domain,
            client,
            credential,
            mount: &mount,
            config: Value::Null,
            secrets: BTreeMap::new(),
            change: None,
            done: Replayed::default(),
            story: vec![format!("as {caller:?}")],
        };
        let result = replay.run(sequence).await;
        let (done, story) = (replay.done, replay.story);
        self.bao.unmount(&mount).await;
        match result {
            Ok(()) | Err(End::OnPurpose) => Ok(done),
            Err(End::Difference) => Err(story.join("\n")),
        }
    }
}

/// Why a sequence does not go on.
enum End {
    /// The two hold different things by now, and that is known.
    OnPurpose,
    Difference,
}

struct Replay<'p, 's> {
    pair: &'p Pair<'s>,
    domain: Domain,
    client: Client,
    /// The header with the token of the caller, who has no certificate then.
    credential: Option<Header>,
    mount: &'p str,
    /// What was last read of the defaults, and of each secret that was written.
    config: Value,
    secrets: BTreeMap<String, Value>,
    /// The last request that changes something.
    change: Option<Request>,
    done: Replayed,
    story: Vec<String>,
}

impl Replay<'_, '_> {
    async fn run(&mut self, sequence: &[Request]) -> Result<(), End> {
        self.config = self.ask(&Request::get("config")).await?;
        for request in sequence {
            let known = self.secrets.get(&request.path());
            let current = known.and_then(|secret| secret["current_version"].as_u64());
            let request = request.at(current.unwrap_or(0));
            self.ask(&request).await?;
            if request.changes() {
                self.change = Some(request.clone());
                self.read_again(&request).await?;
                self.outlive(&request).await;
            }
        }
        self.read_all().await
    }

    /// Reads what a request may have changed.
    async fn read_again(&mut self, request: &Request) -> Result<(), End> {
        if request.operation() == "config" {
            self.config = self.ask(&Request::get("config")).await?;
            return Ok(());
        }
        let address = format!("metadata/{}", request.written_path());
        let read = self.ask(&Request::get(address)).await?;
        // Where a path is none, there is nothing on either side; or else this is not reached.
        if is_path(&request.path()) {
            self.secrets.insert(request.path(), read);
        }
        Ok(())
    }

    /// Waits until a version that was written, or brought back, for seconds alone is past its time: whichever
    /// of the two is asked first then, both have seen it go.
    async fn outlive(&self, request: &Request) {
        let opens = match request.operation() {
            "data" => request.method != "DELETE",
            operation => operation == "undelete",
        };
        let secret = self.secrets.get(&request.path()).unwrap_or(&Value::Null);
        let lifetimes = [lifetime(secret), lifetime(&self.config)];
        let shortest = lifetimes.into_iter().filter(|seconds| (1..=FEW_SECONDS).contains(seconds));
        if let Some(seconds) = shortest.min().filter(|_| opens) {
            tokio::time::sleep(Duration::from_millis(seconds * 1_000 + 50)).await;
        }
    }

    async fn read_all(&mut self) -> Result<(), End> {
        self.ask(&Request::new("LIST", "metadata", None)).await?;
        for (path, secret) in self.secrets.clone() {
            self.ask(&Request::get(format!("metadata/{path}"))).await?;
            self.ask(&Request::get(format!("subkeys/{path}"))).await?;
            for version in 1..=secret["current_version"].as_u64().unwrap_or(0) {
                self.ask(&Request::get(format!("data/{path}?version={version}"))).await?;
            }
        }
        Ok(())
    }

    /// Sends a request to both and compares. Gives the `data` of our answer.
    async fn ask(&mut self, request: &Request) -> Result<Value, End> {
        self.follow_time();
        let (ours, theirs) = tokio::join!(self.send_here(request), self.send_there(request));
        self.done.requests += 1;
        self.story.push(format!("{request}  ->  {}", ours.status));
        let (body, their_body) = (normal(&ours), normal(&theirs));
        let step = Step {
            request,
            change: self.change.as_ref(),
            ours: ours.status,
            theirs: theirs.status,
            config: &self.config,
            secret: self.secrets.get(&request.path()).unwrap_or(&Value::Null),
            body: &body,
        };
        let mut leaves = Vec::new();
        if ours.status == theirs.status {
            differ("", Some(&body), Some(&their_body), &mut leaves);
        } else {
            // Of bodies that say different things there is nothing to compare.
            leaves.push(Leaf {
                place: STATUS.to_owned(),
                ours: Some(json!(ours.status)),
                theirs: Some(json!(theirs.status)),
            });
        }
        let mut ends = false;
        for leaf in leaves {
            let Some(row) = DIFFERENCES.iter().find(|row| (row.is_this)(&step, &leaf)) else {
                let (at, here, there) = (&leaf.place, told(&leaf.ours), told(&leaf.theirs));
                let (our_text, their_text) = (ours.text(), theirs.text());
                self.story.push(format!(
                    "    {at}: here {here}, OpenBao {there}\n    here:    {} {our_text}\n    \
                     OpenBao: {} {their_text}",
                    ours.status, theirs.status
                ));
                return Err(End::Difference);
            };
            self.done.occurred.insert(row.name);
            ends |= row.ends;
        }
        if ends { Err(End::OnPurpose) } else { Ok(body["data"].clone()) }
    }

    /// OpenBao lives in the time of the system, so the server does too.
    fn follow_time(&self) {
        let clock = &self.pair.server.clock;
        let behind = SystemClock.now().as_millis() - clock.now().as_millis();
        clock.advance(Duration::from_millis(behind.try_into().unwrap_or(0)));
    }

    async fn send_here(&self, request: &Request) -> Answer {
        let mut headers = vec![("content-type", request.content_type())];
        headers.extend(self.credential.as_ref().map(|(name, value)| (*name, value.as_str())));
        let (method, body) = (request.method(), request.body.clone().unwrap_or_default());
        let target = self.domain.kv(&request.target);
        self.client.send(method, &target, &headers, body.into()).await
    }

    async fn send_there(&self, request: &Request) -> Answer {
        let (method, body) = (request.method(), request.body.clone().unwrap_or_default());
        let target = format!("/v1/{}/{}", self.mount, request.target);
        self.pair.bao.send(method, &target, request.content_type(), body.into()).await
    }
}

fn told(value: &Option<Value>) -> String {
    value.as_ref().map_or_else(|| "nothing".to_owned(), Value::to_string)
}

/// The body without what no two answers share: request ids become one word, and times become what they say of
/// the present. Nothing is an empty object.
fn normal(answer: &Answer) -> Value {
    if answer.body.is_empty() {
        return json!({});
    }
    // OpenBao refuses or redirects some addresses before anything of it makes JSON.
    let text = || Value::String(answer.text());
    let mut body = serde_json::from_slice(&answer.body).unwrap_or_else(|_| text());
    replace("", &mut body);
    body
}

fn replace(key: &str, value: &mut Value) {
    match value {
        Value::Object(members) => members.iter_mut().for_each(|(key, value)| replace(key, value)),
        Value::String(text) if key == "request_id" && !text.is_empty() => "an id".clone_into(text),
        Value::String(text) if key.ends_with("_time") && !text.is_empty() => *text = when(text),
        _ => {}
    }
}

/// `past`, or `in 120 min`: lifetimes here are multiples of ten minutes, and no sequence takes as much as five;
/// or they are of [`FEW_SECONDS`], and over by the next request.
fn when(text: &str) -> String {
    let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) else { return text.to_owned() };
    let now = i128::from(SystemClock.now().as_millis());
    let minutes = (time.unix_timestamp_nanos() / 1_000_000 - now) as f64 / 60_000.0;
    match (minutes / 10.0).round() {
        tens if tens < 1.0 => "past".to_owned(),
        tens => format!("in {} min", tens * 10.0),
    }
}

/// Collects where two values differ.
fn differ(place: &str, ours: Option<&Value>, theirs: Option<&Value>, found: &mut Vec<Leaf>) {
    match (ours, theirs) {
        (Some(Value::Object(here)), Some(Value::Object(there))) => {
            let keys: BTreeSet<_> = here.keys().chain(there.keys()).collect();
            for key in keys {
                let key = &key[..];
                differ(&format!("{place}/{key}"), here.get(key), there.get(key), found);
            }
        }
        (Some(Value::Array(here)), Some(Value::Array(there))) => {
            for at in 0..here.len().max(there.len()) {
                differ(&format!("{place}/{at}"), here.get(at), there.get(at), found);
            }
        }
        (ours, theirs) if ours == theirs => {}
        (ours, theirs) => found.push(Leaf {
            place: place.to_owned(),
            ours: ours.cloned(),
            theirs: theirs.cloned(),
        }),
    }
}

/// Lifetimes up to here are waited for.
const FEW_SECONDS: u64 = 5;
/// The place of the status.
pub const STATUS: &str = "status";
