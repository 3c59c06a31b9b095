//! Each history that is wrong is told, by its own rule; those that are right are not.

use super::*;

const KEEP: u32 = 3;

fn done(value: u64, cas: Option<u32>, number: u32, began: u64) -> Operation {
    let (write, outcome) = (Write::Version { value, cas }, Outcome::Done(Some(number)));
    Operation { write, outcome, began, ended: began + 1 }
}

fn unknown(value: u64, cas: Option<u32>) -> Operation {
    Operation { outcome: Outcome::Unknown, ..done(value, cas, 0, 0) }
}

fn closing(version: u32, outcome: Outcome) -> Operation {
    let write = Write::SetState { version, state: State::Deactivated };
    Operation { write, outcome, began: 50, ended: 51 }
}

fn seen(values: &[u64]) -> Seen {
    let versions = (1..).zip(values).map(|(number, value)| (number, (State::Active, Some(*value))));
    let versions: BTreeMap<_, _> = versions.collect();
    Seen { current: versions.len() as u32, versions, ..Seen::default() }
}

fn closed(mut seen: Seen, number: u32) -> Seen {
    seen.versions.insert(number, (State::Deactivated, None));
    seen
}

#[test]
fn a_secret_of_one_writer_that_went_as_told_is_right() {
    let mut alone = Alone::new(KEEP);
    alone.told(Write::Delete, Outcome::Refused).unwrap();
    alone.told(Write::Create { value: 1 }, Outcome::Done(Some(1))).unwrap();
    alone.told(Write::Create { value: 2 }, Outcome::Refused).unwrap();
    alone.told(Write::Version { value: 3, cas: Some(0) }, Outcome::Refused).unwrap();
    for (value, cas) in [(4, Some(1)), (5, None), (6, Some(3))] {
        let number = value as u32 - 2;
        alone.told(Write::Version { value, cas }, Outcome::Done(Some(number))).unwrap();
    }
    let state = Write::SetState { version: 3, state: State::Deactivated };
    alone.told(state, Outcome::Done(None)).unwrap();
    alone.told(Write::Describe { note: 7 }, Outcome::Done(None)).unwrap();
    let versions = [
        (2, (State::Active, Some(4))),
        (3, (State::Deactivated, None)),
        (4, (State::Active, Some(6))),
    ];
    let right = Seen { current: 4, oldest: 2, note: Some(7), versions: versions.into() };
    alone.clone().found(Some(&right)).unwrap();
    alone.told(Write::Delete, Outcome::Done(None)).unwrap();
    alone.found(None).unwrap();
    alone.told(Write::Create { value: 8 }, Outcome::Done(Some(1))).unwrap();
    alone.found(Some(&seen(&[8]))).unwrap();
}

#[test]
fn what_is_unknown_was_done_as_a_whole_or_not_at_all() {
    let mut alone = Alone::new(KEEP);
    alone.told(Write::Create { value: 1 }, Outcome::Done(Some(1))).unwrap();
    alone.told(Write::Both { note: 2, value: 3 }, Outcome::Unknown).unwrap();
    let (not, whole) = (seen(&[1]), Seen { note: Some(2), ..seen(&[1, 3]) });
    for right in [&not, &whole] {
        alone.clone().found(Some(right)).unwrap();
    }
    for half in [seen(&[1, 3]), Seen { note: Some(2), ..seen(&[1]) }] {
        let found = alone.clone().found(Some(&half));
        assert!(matches!(found, Err(Violation::Impossible(_))), "{found:?}");
    }
    // What was seen stays.
    alone.found(Some(&not)).unwrap();
    let found = alone.found(Some(&whole));
    assert!(matches!(found, Err(Violation::Impossible(_))), "{found:?}");
}

#[test]
fn a_secret_of_one_writer_that_went_otherwise_is_told() {
    let mut alone = Alone::new(KEEP);
    alone.told(Write::Create { value: 1 }, Outcome::Done(Some(1))).unwrap();
    let version = Write::Version { value: 2, cas: None };
    alone.told(version, Outcome::Done(Some(2))).unwrap();
    alone.told(Write::Version { value: 3, cas: Some(1) }, Outcome::Refused).unwrap();
    for (why, wrong) in [
        ("lost as a whole", None),
        ("the last is lost", Some(seen(&[1]))),
        ("what was refused is there", Some(seen(&[1, 2, 3]))),
        ("another's data", Some(seen(&[1, 3]))),
        ("a state that nobody asked for", Some(closed(seen(&[1, 2]), 1))),
        ("a note that nobody wrote", Some(Seen { note: Some(9), ..seen(&[1, 2]) })),
    ] {
        let found = alone.clone().found(wrong.as_ref());
        assert!(matches!(found, Err(Violation::Impossible(_))), "{why}: {found:?}");
    }
    for (write, outcome) in [
        (Write::Create { value: 4 }, Outcome::Done(Some(1))),
        (Write::Version { value: 4, cas: Some(1) }, Outcome::Done(Some(3))),
        (Write::Version { value: 4, cas: Some(2) }, Outcome::Refused),
        (Write::Version { value: 4, cas: None }, Outcome::Done(Some(4))),
        (Write::SetState { version: 3, state: State::Deleted }, Outcome::Done(None)),
        (Write::Delete, Outcome::Refused),
    ] {
        let told = alone.clone().told(write, outcome);
        assert!(matches!(told, Err(Violation::Impossible(_))), "{write:?} {outcome:?}: {told:?}");
    }
}

#[test]
fn what_is_half_done_is_told() {
    whole(&seen(&[1, 2])).unwrap();
    let without_data = {
        let mut seen = seen(&[1, 2]);
        seen.versions.insert(2, (State::Active, None));
        seen
    };
    let still_data = {
        let mut seen = seen(&[1, 2]);
        seen.versions.insert(1, (State::Deleted, Some(1)));
        seen
    };
    let gap = {
        let mut seen = seen(&[1, 2, 3]);
        seen.versions.remove(&2);
        seen
    };
    for wrong in [
        Seen::default(),
        without_data,
        still_data,
        gap,
        Seen { current: 3, ..seen(&[1, 2]) },
        Seen { oldest: 2, ..seen(&[1, 2]) },
    ] {
        assert!(matches!(whole(&wrong), Err(Violation::HalfDone(_))), "{wrong:?}");
        let shared = shared(&[done(1, None, 1, 0), done(2, None, 2, 2)], Some(&wrong));
        assert!(matches!(shared, Err(Violation::HalfDone(_))), "{wrong:?}");
    }
}

#[test]
fn a_secret_of_many_writers_that_went_as_told_is_right() {
    let refused = Operation { outcome: Outcome::Refused, ..done(9, Some(1), 0, 3) };
    let operations = [
        Operation { write: Write::Create { value: 1 }, ..done(1, None, 1, 0) },
        done(2, Some(1), 2, 2),
        refused,
        // At the same time, the other way round.
        Operation { ended: 20, ..done(3, None, 4, 10) },
        Operation { ended: 20, ..done(4, None, 3, 11) },
        unknown(5, Some(4)),
        unknown(6, None),
        closing(2, Outcome::Done(None)),
        closing(3, Outcome::Unknown),
    ];
    let right = closed(seen(&[1, 2, 4, 3, 5]), 2);
    shared(&operations, Some(&right)).unwrap();
    shared(&operations, Some(&closed(right, 3))).unwrap();
    shared(&operations, Some(&closed(seen(&[1, 2, 4, 3]), 2))).unwrap();
    shared(&[refused, unknown(1, None)], None).unwrap();
}

#[test]
fn a_secret_of_many_writers_that_went_otherwise_is_told() {
    let two = [done(1, None, 1, 0), done(2, None, 2, 2)];
    let with = |more: Operation| [two[0], two[1], more];
    let refused = Operation { outcome: Outcome::Refused, ..done(3, None, 0, 4) };
    let both = Some(seen(&[1, 2]));
    for (operations, seen, violation) in [
        (&two[..], None, Violation::Missing(1)),
        (&two, Some(seen(&[1])), Violation::Missing(2)),
        (&two, Some(seen(&[1, 3])), Violation::Missing(2)),
        (&two, Some(seen(&[1, 2, 3])), Violation::Invented(3)),
        (&with(refused), Some(seen(&[1, 2, 3])), Violation::Invented(3)),
        (&with(unknown(3, None)), Some(seen(&[1, 2, 3, 3])), Violation::Doubled(3)),
        (&two, Some(seen(&[1, 2, 2])), Violation::Doubled(2)),
        (&with(done(3, None, 2, 4)), both.clone(), Violation::Shared(2)),
        (&with(done(3, Some(1), 3, 4)), Some(seen(&[1, 2, 3])), Violation::WrongCas(3)),
        (&with(unknown(3, Some(1))), Some(seen(&[1, 2, 3])), Violation::WrongCas(3)),
        (
            &[done(1, None, 2, 0), done(2, None, 1, 2)],
            Some(seen(&[2, 1])),
            Violation::Disordered(1, 2),
        ),
        (&two, Some(closed(seen(&[1, 2]), 1)), Violation::WrongState(1)),
        (
            &with(closing(1, Outcome::Refused)),
            Some(closed(seen(&[1, 2]), 1)),
            Violation::WrongState(1),
        ),
        (&with(closing(1, Outcome::Done(None))), both, Violation::WrongState(1)),
    ] {
        assert_eq!(shared(operations, seen.as_ref()), Err(violation));
    }
}
