//! Cursors: none counts that was not handed out, and none elsewhere than where it was.

#![no_main]

use std::sync::LazyLock;

use okmsd::{
    crypto::{CursorPlace, DomainKey, Generation, SealedCursor, StoreKey},
    domain::OkmsId,
};

static KEY: LazyLock<DomainKey> = LazyLock::new(|| {
    let okms_id: OkmsId = "7e5bb0b2-0a6b-4a0c-9a3f-5c9d0e1f2a3b".parse().expect("an id");
    let store = StoreKey::generate().expect("a key");
    let wrapped = store.generate_domain_key(okms_id, Generation::new(1)).expect("a key");
    store.unwrap_domain_key(&wrapped, okms_id, Generation::new(1)).expect("the same key")
});

libfuzzer_sys::fuzz_target!(|input: (&[u8], &[u8], &str, u16, &[u8])| {
    let (caller, list, last, position, forged) = input;
    let place = CursorPlace { caller, list };
    assert!(KEY.open_cursor(place, &SealedCursor::from_client(forged.to_vec())).is_err());

    let sealed = KEY.seal_cursor(place, last);
    let sent = SealedCursor::from_client(sealed.as_bytes().to_vec());
    assert_eq!(KEY.open_cursor(place, &sent), Ok(last));
    assert!(
        KEY.open_cursor(CursorPlace { caller: forged, list }, &sent).is_err() || forged == caller
    );
    assert!(
        KEY.open_cursor(CursorPlace { caller, list: forged }, &sent).is_err() || forged == list
    );
    // Where one ends and the other begins is no matter of taste.
    let joined = [caller, list].concat();
    let split = usize::from(position) % (joined.len() + 1);
    let (caller, list) = joined.split_at(split);
    let other = CursorPlace { caller, list };
    assert!(KEY.open_cursor(other, &sent).is_err() || other == place);

    let mut changed = sealed.as_bytes().to_vec();
    let bit = usize::from(position) % (changed.len() * 8);
    changed[bit / 8] ^= 1 << (bit % 8);
    assert!(KEY.open_cursor(place, &SealedCursor::from_client(changed)).is_err());
});
