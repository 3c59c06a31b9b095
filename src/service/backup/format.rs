//! Records within the chunks of a backup.
//!
//! ```text
//! record:  kind (1) | bytes (4) | body
//! body of a manifest, a table and the end: JSON; of a row: its values, one after the other
//! value:   0 | 1 number (8) | 2 bytes (4) text | 3 bytes (4) bytes
//! ```
//!
//! Numbers are big-endian. A record may begin in one chunk and end in another.

use std::io::{ErrorKind, Read};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    crypto::{
        BackupHeader, BackupOpener, BackupSealer, BackupSecret, ChunkHead, StoreKey, StoreKeyId,
        WrappedKey,
    },
    domain::Error,
    store::{Copied, CopiedValue},
};

/// What a backup consists of.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// What is in it.
    Manifest(Vec<u8>),
    /// A piece of the store.
    Piece(Copied),
    /// How much there was.
    End(Vec<u8>),
}

/// Fills chunks with records.
pub(super) struct BackupWriter {
    sealer: BackupSealer,
    text: Vec<u8>,
}

/// Reads records out of chunks.
pub(super) struct BackupReader<'r> {
    source: &'r mut dyn Read,
    opener: BackupOpener,
    text: Vec<u8>,
    /// How much of it was read.
    read: usize,
    was_last: bool,
}

/// Begins a backup: gives its first bytes, and what seals the rest.
pub(super) fn begin(secret: &BackupSecret) -> Result<(Vec<u8>, BackupSealer), Error> {
    BackupSealer::begin(secret)
        .map_err(|_| Error::Unavailable("the system gives no randomness or no memory".into()))
}

impl BackupWriter {
    pub(super) const fn new(sealer: BackupSealer) -> Self {
        Self { sealer, text: Vec::new() }
    }

    /// Adds a record.
    pub(super) fn add(&mut self, record: &Record) {
        let (kind, body) = match record {
            Record::Manifest(body) => (MANIFEST, body.clone()),
            Record::Piece(Copied::Table { name, columns }) => {
                // Names of tables and columns alone.
                (TABLE, serde_json::to_vec(&(name, columns)).unwrap_or_default())
            }
            Record::Piece(Copied::Row(row)) => (ROW, row_bytes(row)),
            Record::End(body) => (END, body.clone()),
        };
        self.text.push(kind);
        push_bytes(&mut self.text, &body);
    }

    /// The next full chunk, where there is one.
    pub(super) fn chunk(&mut self) -> Result<Option<Vec<u8>>, Error> {
        if self.text.len() <= ChunkHead::MAX_TEXT {
            return Ok(None);
        }
        let rest = self.text.split_off(ChunkHead::MAX_TEXT);
        let text = std::mem::replace(&mut self.text, rest);
        self.sealer.seal(&text, false).map(Some).map_err(|_| cannot_seal())
    }

    /// The last chunk.
    pub(super) fn last_chunk(mut self) -> Result<Vec<u8>, Error> {
        self.sealer.seal(&self.text, true).map_err(|_| cannot_seal())
    }
}

impl<'r> BackupReader<'r> {
    /// Begins to read.
    pub(super) fn open(source: &'r mut dyn Read, secret: &BackupSecret) -> Result<Self, Error> {
        let mut header = [0; BackupHeader::LEN];
        source.read_exact(&mut header).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => Error::Malformed("this is no backup of okmsd".into()),
            _ => unreadable(&error),
        })?;
        let opener = BackupHeader::parse(&header)
            .and_then(|header| BackupOpener::begin(&header, secret))
            .map_err(refused)?;
        Ok(Self { source, opener, text: Vec::new(), read: 0, was_last: false })
    }

    /// Opens the key of the store.
    pub(super) fn unwrap(&self, wrapped: &WrappedKey, id: &StoreKeyId) -> Result<StoreKey, Error> {
        self.opener.unwrap(wrapped, id).map_err(refused)
    }

    /// The next record; nothing where all chunks are read.
    pub(super) fn next(&mut self) -> Result<Option<Record>, Error> {
        if !self.fill(1)? {
            return Ok(None);
        }
        let head = self.take(1 + 4)?;
        let (kind, length) = (head[0], number(&head[1..]) as usize);
        if length > MAX_RECORD {
            return Err(unfit("it has a record that is too long"));
        }
        let body = self.take(length)?;
        Ok(Some(match kind {
            MANIFEST => Record::Manifest(body),
            TABLE => {
                let (name, columns) = from_json(&body)?;
                Record::Piece(Copied::Table { name, columns })
            }
            ROW => Record::Piece(Copied::Row(row(&body)?)),
            END => Record::End(body),
            _ => return Err(unfit("it has a record of no kind that there is")),
        }))
    }

    /// Checks that nothing follows.
    pub(super) fn end(&mut self) -> Result<(), Error> {
        if self.fill(1)? {
            return Err(unfit("it goes on after its end"));
        }
        Ok(())
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>, Error> {
        if !self.fill(length)? {
            return Err(unfit("it ends in the middle of a record"));
        }
        let taken = self.text[self.read..self.read + length].to_vec();
        self.read += length;
        Ok(taken)
    }

    /// Whether so many bytes are there, once chunks were read for that.
    fn fill(&mut self, length: usize) -> Result<bool, Error> {
        while self.text.len() - self.read < length {
            if self.was_last {
                return Ok(false);
            }
            self.text.drain(..self.read);
            self.read = 0;
            let chunk = self.read_chunk()?;
            self.text.extend_from_slice(&chunk);
        }
        Ok(true)
    }

    fn read_chunk(&mut self) -> Result<Vec<u8>, Error> {
        let mut head = [0; ChunkHead::LEN];
        self.read_exact(&mut head)?;
        let head = ChunkHead::parse(head).map_err(refused)?;
        let mut sealed = vec![0; head.length];
        self.read_exact(&mut sealed)?;
        let text = self.opener.open(head, sealed).map_err(refused)?;
        if head.is_last {
            self.was_last = true;
            let mut more = [0];
            let more = self.source.read(&mut more).map_err(|error| unreadable(&error))?;
            if more > 0 {
                return Err(unfit("something was added to its end"));
            }
        }
        Ok(text)
    }

    fn read_exact(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.source.read_exact(bytes).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => unfit("it is cut off"),
            _ => unreadable(&error),
        })
    }
}

/// What a record is written as JSON.
pub(super) fn json(value: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value)
        .map_err(|_| Error::Internal("a record of a backup cannot be written as JSON".into()))
}

/// Reads what [`json`] gave.
pub(super) fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|_| unfit("it has a record that cannot be read"))
}

/// A backup that is not as this program writes them.
pub(super) fn unfit(what: &str) -> Error {
    Error::Malformed(format!("the backup is damaged: {what}"))
}

/// A key could not be wrapped.
pub(super) fn no_randomness() -> Error {
    Error::Unavailable("the system gives no randomness".into())
}

fn cannot_seal() -> Error {
    Error::Internal("a chunk of a backup cannot be sealed".into())
}

fn refused(error: crate::crypto::BackupError) -> Error {
    Error::Malformed(error.to_string())
}

fn unreadable(error: &std::io::Error) -> Error {
    Error::Unavailable(format!("the backup cannot be read: {error}"))
}

fn row_bytes(row: &[CopiedValue]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in row {
        match value {
            CopiedValue::Absent => bytes.push(ABSENT),
            CopiedValue::Number(number) => {
                bytes.push(NUMBER);
                bytes.extend_from_slice(&number.to_be_bytes());
            }
            CopiedValue::Text(text) => {
                bytes.push(TEXT);
                push_bytes(&mut bytes, text.as_bytes());
            }
            CopiedValue::Bytes(value) => {
                bytes.push(BYTES);
                push_bytes(&mut bytes, value);
            }
        }
    }
    bytes
}

fn row(mut bytes: &[u8]) -> Result<Vec<CopiedValue>, Error> {
    let broken = || unfit("it has a row that cannot be read");
    let mut row = Vec::new();
    while let Some((kind, rest)) = bytes.split_first() {
        bytes = rest;
        row.push(match *kind {
            ABSENT => CopiedValue::Absent,
            NUMBER => {
                let (number, rest) = bytes.split_first_chunk().ok_or_else(broken)?;
                bytes = rest;
                CopiedValue::Number(i64::from_be_bytes(*number))
            }
            TEXT | BYTES => {
                let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(broken)?;
                let (value, rest) =
                    rest.split_at_checked(number(length) as usize).ok_or_else(broken)?;
                bytes = rest;
                match *kind {
                    BYTES => CopiedValue::Bytes(value.to_vec()),
                    _ => {
                        let text = String::from_utf8(value.to_vec());
                        CopiedValue::Text(text.map_err(|_| broken())?)
                    }
                }
            }
            _ => return Err(broken()),
        });
    }
    Ok(row)
}

/// Length and bytes. No value of a database comes near 4 GiB: both engines end at one.
fn push_bytes(bytes: &mut Vec<u8>, value: &[u8]) {
    bytes.extend_from_slice(&(value.len() as u32).to_be_bytes());
    bytes.extend_from_slice(value);
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

const MANIFEST: u8 = 1;
const TABLE: u8 = 2;
const ROW: u8 = 3;
const END: u8 = 4;

const ABSENT: u8 = 0;
const NUMBER: u8 = 1;
const TEXT: u8 = 2;
const BYTES: u8 = 3;

/// Bytes of a record: the data of a version and all else in a row are below some MiB. Who has the secret may have
/// written anything, and would be given that much memory.
const MAX_RECORD: usize = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::RootKey;

    fn secret() -> BackupSecret {
        BackupSecret::from_key_text(&RootKey::generate().unwrap().to_text()).unwrap()
    }

    fn sealed(secret: &BackupSecret, records: &[Record]) -> Vec<u8> {
        let (mut bytes, sealer) = begin(secret).unwrap();
        let mut writer = BackupWriter::new(sealer);
        for record in records {
            writer.add(record);
            while let Some(chunk) = writer.chunk().unwrap() {
                bytes.extend(chunk);
            }
        }
        bytes.extend(writer.last_chunk().unwrap());
        bytes
    }

    fn opened(secret: &BackupSecret, mut bytes: &[u8]) -> Result<Vec<Record>, Error> {
        let mut reader = BackupReader::open(&mut bytes, secret)?;
        let mut records = Vec::new();
        while let Some(record) = reader.next()? {
            records.push(record);
        }
        reader.end()?;
        Ok(records)
    }

    fn value() -> impl Strategy<Value = CopiedValue> {
        let bytes = || {
            prop_oneof![
                9 => proptest::collection::vec(any::<u8>(), 0..40),
                1 => (60_000..150_000_usize).prop_map(|length| vec![7; length]),
            ]
        };
        prop_oneof![
            Just(CopiedValue::Absent),
            any::<i64>().prop_map(CopiedValue::Number),
            ".{0,20}".prop_map(CopiedValue::Text),
            bytes().prop_map(CopiedValue::Bytes),
        ]
    }

    fn records() -> impl Strategy<Value = Vec<Record>> {
        let row = || proptest::collection::vec(value(), 0..8);
        proptest::collection::vec(row(), 0..12).prop_map(|rows| {
            let table = Copied::Table { name: "t".to_owned(), columns: vec!["c".to_owned()] };
            let rows = rows.into_iter().map(|row| Record::Piece(Copied::Row(row)));
            let begin = [Record::Manifest(b"{}".to_vec()), Record::Piece(table)];
            begin.into_iter().chain(rows).chain([Record::End(b"[]".to_vec())]).collect()
        })
    }

    /// What somebody may do to a backup.
    #[derive(Debug, Clone)]
    enum Tampering {
        Flip(prop::sample::Index, u8),
        Cut(prop::sample::Index),
        Add(Vec<u8>),
        Remove(prop::sample::Index),
        Repeat(prop::sample::Index),
        Swap(prop::sample::Index, prop::sample::Index),
        Mix(prop::sample::Index),
    }

    fn tampering() -> impl Strategy<Value = Tampering> {
        let place = any::<prop::sample::Index>;
        prop_oneof![
            (place(), 0..8_u8).prop_map(|(at, bit)| Tampering::Flip(at, bit)),
            place().prop_map(Tampering::Cut),
            proptest::collection::vec(any::<u8>(), 1..30).prop_map(Tampering::Add),
            place().prop_map(Tampering::Remove),
            place().prop_map(Tampering::Repeat),
            (place(), place()).prop_map(|(one, other)| Tampering::Swap(one, other)),
            place().prop_map(Tampering::Mix),
        ]
    }

    /// The header, and each chunk.
    fn parts(bytes: &[u8]) -> Vec<Vec<u8>> {
        let (header, mut rest) = bytes.split_at(BackupHeader::LEN);
        let mut parts = vec![header.to_vec()];
        while !rest.is_empty() {
            let length = ChunkHead::LEN + number(&rest[1..5]) as usize;
            let (chunk, after) = rest.split_at(length);
            parts.push(chunk.to_vec());
            rest = after;
        }
        parts
    }

    fn tamper(bytes: &[u8], other: &[u8], tampering: &Tampering) -> Vec<u8> {
        let (mut bytes, mut parts, other) = (bytes.to_vec(), parts(bytes), parts(other));
        match tampering {
            Tampering::Flip(at, bit) => {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
                return bytes;
            }
            Tampering::Cut(at) => {
                bytes.truncate(at.index(bytes.len()));
                return bytes;
            }
            Tampering::Add(more) => {
                bytes.extend_from_slice(more);
                return bytes;
            }
            Tampering::Remove(at) => _ = parts.remove(at.index(parts.len())),
            Tampering::Repeat(at) => {
                let at = at.index(parts.len());
                parts.insert(at, parts[at].clone());
            }
            Tampering::Swap(one, other) => {
                let (one, other) = (one.index(parts.len()), other.index(parts.len()));
                parts.swap(one, other);
            }
            Tampering::Mix(at) => {
                let at = at.index(parts.len().min(other.len()));
                parts[at].clone_from(&other[at]);
            }
        }
        parts.concat()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn records_come_back_as_they_were(records in records()) {
            let secret = secret();
            prop_assert_eq!(opened(&secret, &sealed(&secret, &records)), Ok(records));
        }

        #[test]
        fn whatever_is_tampered_with_is_refused(
            records in records(),
            tampering in tampering(),
        ) {
            let secret = secret();
            let (whole, other) = (sealed(&secret, &records), sealed(&secret, &records));
            let changed = tamper(&whole, &other, &tampering);
            prop_assume!(changed != whole);
            let refused = opened(&secret, &changed);
            prop_assert!(matches!(refused, Err(Error::Malformed(_))), "{:?}", refused);
        }
    }
}
