//! Whether what stands in the target is what an import makes, or can become it.

use super::words::Content;

/// Whether a version is what an import makes of the source's. `may_age` says that an active one may have closed by
/// its age.
pub(super) fn is_same(source: &Content, there: &Content, may_age: bool) -> bool {
    match (source, there) {
        (Content::Open(data), Content::Open(there)) => data == there,
        (Content::Open(_), Content::Deactivated(_)) => may_age,
        (Content::Open(_), _) => false,
        // It would have to be opened here to be compared.
        (Content::Deactivated(Some(_)), there) => matches!(there, Content::Deactivated(_)),
        (_, there) => matches!(there, Content::Deleted),
    }
}

/// Whether a version of a secret that is not whole yet can still become what an import makes of the source's.
pub(super) fn can_become(source: &Content, there: &Content, may_age: bool) -> bool {
    match (source, there) {
        (Content::Deactivated(Some(data)), Content::Open(there)) => data == there,
        (Content::Open(_) | Content::Deactivated(Some(_)), there) => {
            is_same(source, there, may_age)
        }
        // It is deleted in the end, whatever it holds.
        _ => true,
    }
}
