//! The lines of a file: written, read, hashed, signed.

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{ED25519, UnparsedPublicKey},
};
use serde::{Deserialize, Serialize};

use super::{
    keys::Seed,
    record::{ActRecord, RequestRecord},
};
use crate::domain::Timestamp;

/// What a line says.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Entry {
    /// The first line of a file; signed.
    File(FileHead),
    /// A request.
    Request(Box<RequestRecord>),
    /// An act of the command line.
    Act(ActRecord),
    /// Something about the log itself.
    Notice(Notice),
    /// All lines so far are signed by the present key; the next key is named.
    Checkpoint { next_key: String },
    /// Files that were removed by age, up to this number.
    Removed { files_through: u32 },
}

/// The first line of a file.
#[derive(Debug, Clone, Serialize)]
pub(super) struct FileHead {
    pub(super) chain: String,
    pub(super) writer: String,
    pub(super) program: &'static str,
    pub(super) file: u32,
    /// The key that signs this line.
    pub(super) file_key: String,
    /// The key that will sign the first line of the next file.
    pub(super) next_file_key: String,
    /// The key that signs the next checkpoint.
    pub(super) key: String,
    /// In the first file of a chain that goes on where another could not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) follows: Option<Follows>,
}

/// Why a chain does not go on, and another does.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Follows {
    /// The number of the chain before.
    pub(super) chain_number: u32,
    /// What was found wrong with it.
    pub(super) why: String,
}

/// Something about the log itself.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Notice {
    pub(super) what: What,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
}

/// What a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    /// A process begins to write.
    Started,
    /// The process ends as it should.
    Stopped,
    /// An incomplete line at the end, left by a process that was killed, was cut.
    Cut,
    /// The file was removed, replaced or changed while it was written.
    Tampered,
    /// The disk failed to take lines of a file that was left for another reason: they may be gone after a power cut.
    Unsynced,
    /// The log could not be written for a time.
    Resumed,
    /// Records were lost.
    Lost,
    /// Requests were refused before they began, because those before them could not be recorded in time.
    Refused,
    /// The process before did not end as it should.
    Interrupted,
    /// Lines that a start found at the end, which no checkpoint and no `head` told of.
    Unproved,
}

/// An entry that is to become a line: rendered, but for its place in the chain. So the thread that writes, of
/// which there is one, has the less to do.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    /// The fields that follow on that place, and a comma before each.
    fields: String,
    /// Whether it is the record of a request.
    pub(super) of_request: bool,
    /// Whether the log could not be written when it was due; the caller of such a request got a 503.
    pub(super) late: bool,
}

impl Pending {
    pub(super) fn new(time: Timestamp, entry: &Entry) -> Self {
        let mut fields = Vec::with_capacity(USUAL_FIELDS);
        for part in [r#","time":""#, &time.to_rfc3339_millis(), "\""] {
            fields.extend_from_slice(part.as_bytes());
        }
        let brace = fields.len();
        // Strings, numbers and flags under fixed names always serialize, as an object and as UTF-8.
        let _always = serde_json::to_writer(&mut fields, entry);
        fields.pop();
        fields[brace..].iter_mut().take(1).for_each(|open| *open = b',');
        let fields = String::from_utf8(fields).unwrap_or_default();
        Self { fields, of_request: matches!(entry, Entry::Request(_)), late: false }
    }

    /// The line, without its newline.
    pub(super) fn render(&self, seq: u64, prev: &str) -> String {
        let mut line = String::new();
        self.render_to(&mut line, seq, prev);
        line
    }

    /// Adds the line to others, without its newline.
    pub(super) fn render_to(&self, lines: &mut String, seq: u64, prev: &str) {
        let place = [r#"{"seq":"#, &seq.to_string(), r#","prev":""#, prev, "\""];
        let late = if self.late { ",\"late\":true" } else { "" };
        for part in place.into_iter().chain([&*self.fields, late, "}"]) {
            lines.push_str(part);
        }
    }
}

/// A line as far as a chain is concerned.
#[derive(Debug, Deserialize)]
pub(super) struct Parsed {
    pub(super) seq: u64,
    pub(super) prev: String,
    pub(super) time: String,
    pub(super) kind: String,
    pub(super) chain: Option<String>,
    pub(super) writer: Option<String>,
    pub(super) file: Option<u32>,
    pub(super) file_key: Option<String>,
    pub(super) next_file_key: Option<String>,
    pub(super) key: Option<String>,
    pub(super) next_key: Option<String>,
    pub(super) files_through: Option<u32>,
    pub(super) what: Option<String>,
    pub(super) detail: Option<String>,
    pub(super) follows: Option<ParsedFollows>,
}

/// What a chain says of the one before it.
#[derive(Debug, Deserialize)]
pub(super) struct ParsedFollows {
    pub(super) chain_number: u32,
    pub(super) why: String,
}

impl Parsed {
    /// Reads a line, without its newline.
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        let parsed: Self = serde_json::from_slice(line).ok()?;
        KINDS.contains(&parsed.kind.as_str()).then_some(parsed)
    }

    /// Whether it carries a signature, which stands for all lines before it too.
    pub(super) fn carries_signature(&self) -> bool {
        matches!(self.kind.as_str(), "checkpoint" | "file")
    }
}

/// Puts a signature at the end of a JSON object.
pub(super) fn sign(object: &str, domain: &str, chain: &str, seed: &Seed) -> String {
    let signature = seed.sign(&message(object, domain, chain));
    let open = object.strip_suffix('}').unwrap_or(object);
    format!("{open}{SIGNATURE_FIELD}{signature}\"}}")
}

/// Whether the signature at the end of a JSON object is by `key`.
pub(super) fn is_signed(object: &[u8], domain: &str, chain: &str, key: &str) -> bool {
    let signed = || {
        let text = std::str::from_utf8(object).ok()?;
        let (open, signature) = text.rsplit_once(SIGNATURE_FIELD)?;
        let signature = unhex(signature.strip_suffix("\"}")?)?;
        let message = message(&format!("{open}}}"), domain, chain);
        UnparsedPublicKey::new(&ED25519, unhex(key)?).verify(&message, &signature).ok()
    };
    signed().is_some()
}

fn message(object: &str, domain: &str, chain: &str) -> Vec<u8> {
    format!("{domain}\n{chain}\n{object}").into_bytes()
}

/// The hash of a line, without its newline.
pub(super) fn hash(line: &[u8]) -> String {
    hex(digest(&SHA256, line).as_ref())
}

/// Bytes in lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| HEX_DIGITS[usize::from(value)];
    let digits = bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    // Digits are UTF-8.
    String::from_utf8(digits.collect()).unwrap_or_default()
}

/// Reads lower-case hexadecimal: each value has one spelling.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| HEX_DIGITS.iter().position(|digit| *digit == byte);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok();
    rest.is_empty().then(|| pairs.iter().map(byte).collect()).flatten()
}

/// Bytes of the fields of a read of a secret, and some more.
const USUAL_FIELDS: usize = 1_024;

/// What stands before the first line of a chain.
pub(super) const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What a signature of a line is about, so that none can pass for one of something else.
pub(super) const LINE_DOMAIN: &str = "okmsd audit line v1";

/// Bytes of the longest line that is read. A record is far shorter, see its own limits.
pub(super) const MAX_LINE: usize = 1024 * 1024;

const SIGNATURE_FIELD: &str = ",\"signature\":\"";

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

const KINDS: [&str; 6] = ["file", "request", "act", "notice", "checkpoint", "removed"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_reads_back_and_has_one_spelling() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(unhex(&hex(&bytes)), Some(bytes));
        for text in ["0", "0g", "AB", " 0"] {
            assert_eq!(unhex(text), None, "{text}");
        }
    }

    #[test]
    fn a_line_is_its_fields_in_order_and_every_kind_is_known() {
        let entry = Entry::Notice(Notice { what: What::Started, detail: None });
        let mut pending = Pending::new(Timestamp::from_millis(1), &entry);
        pending.late = true;
        let line = pending.render(7, "ab");
        assert_eq!(
            line,
            r#"{"seq":7,"prev":"ab","time":"1970-01-01T00:00:00.001Z","kind":"notice","what":"started","late":true}"#
        );
        let parsed = Parsed::read(line.as_bytes()).unwrap();
        assert_eq!((parsed.seq, parsed.what.as_deref()), (7, Some("started")));
        assert!(Parsed::read(line.replace("notice", "notich").as_bytes()).is_none());
    }
}
