//! What goes wrong with single domains time and again: tried less and less often, and told once.

use std::{collections::HashMap, mem::Discriminant, time::Duration};

use tokio::time::Instant;

use crate::domain::{Error, OkmsId};

/// The domains with which something goes wrong.
#[derive(Debug, Default)]
pub(super) struct Troubles(HashMap<OkmsId, Trouble>);

/// What kind of thing goes wrong. Its words would not do to tell one from another: they hold numbers and
/// paths, which may be others at each try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The work failed, with an error of this kind.
    Failed(Discriminant<Error>),
    /// It met damage: of rows that do not open, of paths that cannot be read, or both.
    Damaged { rows: bool, paths: bool },
}

/// What goes wrong with one of them.
#[derive(Debug)]
struct Trouble {
    kind: Kind,
    /// How long it was to be left alone after the last try.
    pause: Duration,
    /// When it is tried again.
    due: Instant,
    /// When it was last told.
    told: Instant,
}

impl Troubles {
    /// Whether it is time to work on a domain: always, where nothing goes wrong with it.
    pub(super) fn is_due(&self, okms_id: OkmsId, now: Instant) -> bool {
        self.0.get(&okms_id).is_none_or(|trouble| trouble.due <= now)
    }

    /// Notes what went wrong with a domain, and says whether to tell it: where it is of a new kind, or was
    /// told long ago.
    pub(super) fn note(&mut self, okms_id: OkmsId, kind: Kind, now: Instant) -> bool {
        let before = self.0.get(&okms_id).filter(|before| before.kind == kind);
        let pause = before.map_or(FIRST_PAUSE, |before| (2 * before.pause).min(LONGEST_PAUSE));
        let told = before.map(|before| before.told).filter(|told| now - *told < TELL_AGAIN);
        let trouble = Trouble { kind, pause, due: now + pause, told: told.unwrap_or(now) };
        self.0.insert(okms_id, trouble);
        told.is_none()
    }

    /// Notes that nothing is wrong with a domain any more.
    pub(super) fn end(&mut self, okms_id: OkmsId) {
        self.0.remove(&okms_id);
    }

    /// Forgets all domains but these: there is nothing to do for the others.
    pub(super) fn retain(&mut self, domains: &[OkmsId]) {
        self.0.retain(|okms_id, _| domains.contains(okms_id));
    }

    /// When the next of them is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.0.values().map(|trouble| trouble.due).min()
    }
}

/// How long a domain is left alone after something went wrong with it: perhaps storage failed.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// The longest that it is left alone: a try may look at all that a large domain has, and yet what an
/// operator has mended should not have to wait for a restart.
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);
/// How often the same is told again, so that it stands in the log of each day.
const TELL_AGAIN: Duration = Duration::from_secs(6 * 60 * 60);

#[cfg(test)]
mod tests {
    use std::mem;

    use uuid::Uuid;

    use super::*;

    const BROKEN: Kind = Kind::Damaged { rows: true, paths: false };
    const OTHERWISE: Kind = Kind::Damaged { rows: true, paths: true };

    fn id(number: u128) -> OkmsId {
        OkmsId::new(Uuid::from_u128(number))
    }

    #[test]
    fn what_stays_wrong_is_tried_less_and_less_often_and_told_once() {
        let (mut troubles, start, domain) = (Troubles::default(), Instant::now(), id(1));
        let (mut now, mut tries, mut told, mut pauses) = (start, 0, 0, Vec::new());
        while now < start + TELL_AGAIN {
            assert!(troubles.is_due(domain, now));
            told += u32::from(troubles.note(domain, BROKEN, now));
            tries += 1;
            let due = troubles.next_due().expect("tried again");
            assert!(!troubles.is_due(domain, due - Duration::from_millis(1)));
            pauses.push((due - now).as_secs());
            now = due;
        }
        assert_eq!(pauses[..8], [10, 20, 40, 80, 160, 320, 640, 900]);
        assert!(pauses[8..].iter().all(|pause| *pause == 900));
        assert_eq!((told, tries < 40), (1, true), "{tries}");
        assert!(troubles.note(domain, BROKEN, now), "told again after a long time");
        assert!(!troubles.note(domain, BROKEN, now));
    }

    #[test]
    fn what_is_new_is_told_and_tried_soon() {
        let (mut troubles, now) = (Troubles::default(), Instant::now());
        for _ in 0..9 {
            troubles.note(id(1), BROKEN, now);
        }
        assert!(!troubles.is_due(id(1), now + FIRST_PAUSE));
        assert!(troubles.is_due(id(2), now), "another domain");
        assert!(troubles.note(id(1), OTHERWISE, now));
        assert!(troubles.is_due(id(1), now + FIRST_PAUSE));
        troubles.end(id(1));
        assert!(troubles.is_due(id(1), now) && troubles.next_due().is_none());
        assert!(troubles.note(id(1), OTHERWISE, now), "it had ended meanwhile");
        troubles.retain(&[id(2)]);
        assert!(troubles.next_due().is_none());
    }

    #[test]
    fn an_error_whose_words_change_stays_the_same_trouble() {
        let (mut troubles, now) = (Troubles::default(), Instant::now());
        let failed = |error: Error| Kind::Failed(mem::discriminant(&error));
        let unavailable = |number: u32| failed(Error::Unavailable(format!("try {number}")));
        assert!(troubles.note(id(1), unavailable(1), now));
        assert!(!troubles.note(id(1), unavailable(2), now));
        assert!(!troubles.is_due(id(1), now + FIRST_PAUSE), "left alone for longer");
        assert!(troubles.note(id(1), failed(Error::Internal("a key".to_owned())), now));
    }
}
