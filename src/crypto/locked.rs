//! Memory for keys that live as long as the process: kept out of swap, wiped when dropped.

use std::sync::atomic::{AtomicBool, Ordering};

use region::LockGuard;
use zeroize::{Zeroize, Zeroizing};

use super::aead::{KEY_LEN, KeyBytes};

/// The bytes of a key, in pages of their own.
///
/// Where the system does not allow the pages to be locked (a limit on locked memory, a sandbox), the key
/// serves all the same and that is said once in the log.
pub(super) struct LockedKey {
    /// Before the pages: they must still be there when they are unlocked.
    _lock: Option<LockGuard>,
    pages: Box<Pages>,
}

/// Locks count by page and do not nest, so no two keys may share one: the first to go would unlock both.
#[repr(align(65536))]
struct Pages([u8; PAGES_LEN]);

impl LockedKey {
    /// Copies the key; the caller's own copy is wiped when it is dropped.
    pub(super) fn new(key: &KeyBytes) -> Self {
        let mut pages = Box::new(Pages([0; PAGES_LEN]));
        // Before the key is there, so that it is never in a page that may be swapped out.
        let lock = region::lock(pages.0.as_ptr(), KEY_LEN);
        if let Err(error) = &lock
            && !TOLD.swap(true, Ordering::Relaxed)
        {
            tracing::info!(%error, "the memory of keys cannot be locked: it may be swapped out");
        }
        pages.0[..KEY_LEN].copy_from_slice(&key[..]);
        Self { _lock: lock.ok(), pages }
    }

    /// A copy of the key for a moment's use.
    pub(super) fn bytes(&self) -> KeyBytes {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        key.copy_from_slice(&self.pages.0[..KEY_LEN]);
        key
    }
}

impl Drop for LockedKey {
    fn drop(&mut self) {
        self.pages.0[..KEY_LEN].zeroize();
    }
}

/// 64 KiB, the largest page size of the platforms that this runs on; only the first page is ever locked.
const PAGES_LEN: usize = 65_536;
/// Whether the log has it already.
static TOLD: AtomicBool = AtomicBool::new(false);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_as_they_went_in_and_share_no_page() {
        let keys: Vec<_> =
            (1..=4).map(|byte| LockedKey::new(&Zeroizing::new([byte; KEY_LEN]))).collect();
        let mut pages: Vec<_> = keys.iter().map(|key| key.pages.0.as_ptr() as usize).collect();
        assert!(pages.iter().all(|page| page % PAGES_LEN == 0));
        pages.dedup();
        assert_eq!(pages.len(), 4);
        for (key, byte) in keys.iter().zip(1..) {
            assert_eq!(*key.bytes(), [byte; KEY_LEN]);
        }
    }

    /// The kernel tells what is locked.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_pages_of_a_key_are_locked_where_that_is_allowed() {
        let key = LockedKey::new(&Zeroizing::new([7; KEY_LEN]));
        if !locking_is_allowed() {
            return;
        }
        assert!(key._lock.is_some(), "the limit allows it");
        let address = key.pages.0.as_ptr() as usize;
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        let locked = maps.lines().find_map(|line| {
            if let Some((range, _)) = line.split_once(' ')
                && let Some((from, to)) = range.split_once('-')
                && let (Ok(from), Ok(to)) =
                    (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16))
            {
                inside = (from..to).contains(&address);
            }
            inside.then(|| line.strip_prefix("Locked:")).flatten()
        });
        let kib: u64 = locked.unwrap().trim().trim_end_matches(" kB").parse().unwrap();
        assert!(kib > 0);
    }

    /// Whether the limit on locked memory has room for what all tests of this process lock at once.
    #[cfg(target_os = "linux")]
    fn locking_is_allowed() -> bool {
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        let limit = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"));
        let soft = limit.unwrap().split_whitespace().next().unwrap();
        soft == "unlimited" || soft.parse::<u64>().unwrap() >= 1 << 20
    }
}
