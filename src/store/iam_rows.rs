//! Rows of policies and groups, readable or not.
//!
//! A damaged file of SQLite may hold any bytes where text should be, and numbers that are no times. Nothing of
//! that hides a row, or keeps it from being removed.

use std::{borrow::Cow, fmt, str::FromStr};

use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

use crate::domain::Timestamp;

/// Which row it is, also where no text tells: the bytes of each column of its key. Written as hexadecimal
/// digits, with a point between two columns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowHandle(Vec<Vec<u8>>);

impl RowHandle {
    /// The columns of the key, as far as they are text.
    pub fn texts(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.0.iter().map(|bytes| String::from_utf8_lossy(bytes))
    }

    /// The bytes of the columns of the key.
    pub(super) fn columns(&self) -> &[Vec<u8>] {
        &self.0
    }

    fn of<'r, R: Row>(row: &'r R, columns: &[&'static str]) -> Self
    where
        &'static str: ColumnIndex<R>,
        Vec<u8>: Decode<'r, R::Database>,
    {
        let bytes = |column: &&'static str| row.try_get_unchecked(*column).unwrap_or_default();
        Self(columns.iter().map(bytes).collect())
    }
}

impl fmt::Display for RowHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, column) in self.0.iter().enumerate() {
            f.write_str(if number > 0 { "." } else { "" })?;
            column.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        }
        Ok(())
    }
}

impl FromStr for RowHandle {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let byte = |pair: &[u8]| match (pair, str::from_utf8(pair)) {
            ([high, low], Ok(digits)) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                u8::from_str_radix(digits, 16).ok()
            }
            _ => None,
        };
        let column = |digits: &str| digits.as_bytes().chunks(2).map(byte).collect::<Option<_>>();
        let columns = text.split('.').map(column).collect::<Option<_>>();
        columns.map(Self).ok_or("a row is named by hexadecimal digits, as the list shows them")
    }
}

/// A policy as it is stored.
#[derive(Debug, Clone)]
pub struct StoredPolicy {
    /// Which row it is.
    pub handle: RowHandle,
    /// Its name; `None` where what the row holds is no text.
    pub name: Option<String>,
    /// The text that was applied; `None` as above.
    pub document: Option<String>,
    /// When a policy of this name was first applied; `None` where what the row holds is no time.
    pub created_at: Option<Timestamp>,
    /// When it was last applied; `None` as above.
    pub updated_at: Option<Timestamp>,
}

/// All policies and groups at one moment. `None` stands for what is no text.
#[derive(Debug, Clone, Default)]
pub struct StoredIam {
    /// How often they had changed.
    pub revision: i64,
    /// The policies, as pairs of name and document.
    pub policies: Vec<(Option<String>, Option<String>)>,
    /// The members of groups.
    pub members: Vec<StoredMember>,
}

/// A membership as it is stored; `None` stands for what is no text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMember {
    /// The group.
    pub group: Option<String>,
    /// The member.
    pub member: Option<String>,
}

/// The row of a membership.
#[derive(Debug, Clone)]
pub struct MemberRow {
    /// Which row it is: the bytes of the group, and those of the member.
    pub handle: RowHandle,
    /// What it holds.
    pub stored: StoredMember,
}

/// A row of [`Store::load_iam`](super::Store::load_iam).
pub(super) struct IamRow {
    pub(super) kind: i64,
    pub(super) one: Option<String>,
    pub(super) other: Option<String>,
}

impl<'r, R: Row> FromRow<'r, R> for IamRow
where
    &'static str: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    String: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        let kind = row.try_get("kind")?;
        Ok(Self { kind, one: text(row, "one"), other: text(row, "other") })
    }
}

impl<'r, R: Row> FromRow<'r, R> for StoredPolicy
where
    &'static str: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    Vec<u8>: Decode<'r, R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self {
            handle: RowHandle::of(row, &["name"]),
            name: text(row, "name"),
            document: text(row, "document"),
            created_at: time(row, "created_at"),
            updated_at: time(row, "updated_at"),
        })
    }
}

impl<'r, R: Row> FromRow<'r, R> for MemberRow
where
    &'static str: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    Vec<u8>: Decode<'r, R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        let handle = RowHandle::of(row, &["group_urn", "member_urn"]);
        let stored =
            StoredMember { group: text(row, "group_urn"), member: text(row, "member_urn") };
        Ok(Self { handle, stored })
    }
}

/// The text in a column, `None` where what is there is none.
fn text<'r, R: Row>(row: &'r R, column: &'static str) -> Option<String>
where
    &'static str: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
{
    row.try_get(column).ok()
}

/// The time in a column, `None` where what is there is none that this program could have written.
fn time<'r, R: Row>(row: &'r R, column: &'static str) -> Option<Timestamp>
where
    &'static str: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    row.try_get(column).ok().map(Timestamp::from_millis).filter(|time| time.fits_rfc3339())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_reads_back_and_has_one_spelling() {
        for columns in [&[&b""[..]][..], &[b"\xff\x00a"], &[b"x", b"\x9b"], &[b"", b""]] {
            let handle = RowHandle(columns.iter().map(|column| column.to_vec()).collect());
            assert_eq!(handle.to_string().parse::<RowHandle>().unwrap(), handle);
        }
        let handle: RowHandle = "ff0061.FE".parse().unwrap();
        assert_eq!(handle.to_string(), "ff0061.fe");
        for bad in ["f", "xx", "+f", "ff ", "é", "ff,fe"] {
            assert!(bad.parse::<RowHandle>().is_err(), "{bad}");
        }
    }
}
