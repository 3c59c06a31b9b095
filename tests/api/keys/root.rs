//! Root keys and the store key.

use std::sync::{Arc, Mutex};

use okmsd::{
    crypto::RootKey,
    domain::Error,
    service::{Domains, Keyring, Keys, OtherRootKey, RootKeySource},
    store::Store,
};

use super::{everything, with_a_bit_of_everything};
use crate::support::{Server, both_engines};

both_engines!(
    either_root_key_opens_the_store,
    a_replaced_root_key_opens_nothing_and_the_new_one_everything,
    a_server_goes_on_when_the_root_key_is_replaced,
    a_server_that_can_read_its_root_key_again_takes_the_new_one,
);

fn key() -> RootKey {
    RootKey::generate().expect("randomness")
}

/// What a process that starts with a root key gets.
pub(super) async fn open(server: &Server, text: &str) -> Result<Keys, Error> {
    let url = server.database.url().parse().expect("a URL");
    let store = Store::open(&url).await.expect("a store");
    let root_key = RootKey::from_text(text).expect("a key");
    let keyring = Keyring::open(root_key, store.clone(), server.clock.clone()).await;
    match keyring {
        Ok(keyring) => Ok(Keys::new(store, Arc::new(keyring), server.clock.clone())),
        Err(error) => {
            store.close().await;
            Err(error)
        }
    }
}

#[track_caller]
pub(super) fn refusal<T>(refused: Result<T, Error>) -> String {
    match refused {
        Err(Error::Unavailable(why) | Error::Malformed(why)) => why,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it was not refused"),
    }
}

async fn either_root_key_opens_the_store(mut server: Server) {
    let domain = with_a_bit_of_everything(&server).await;
    let before = everything(&server, &domain).await;
    let (first, second, third) = (server.root_key.clone(), key(), key());
    server.keys.enroll(&second).await.expect("a free slot");
    let refused = refusal(server.keys.enroll(&second).await);
    assert!(refused.contains("opens the store already"), "{refused}");
    let refused = refusal(server.keys.enroll(&third).await);
    assert!(refused.contains("both slots are taken"), "{refused}");
    let status = server.keys.status().await.expect("storage works");
    let slots: Vec<_> = status.root_keys.iter().map(|key| (key.slot, key.is_own)).collect();
    assert_eq!(slots, [(1, true), (2, false)]);
    let refused = refusal(open(&server, &third.to_text()).await);
    assert!(refused.contains("does not open this store"), "{refused}");
    assert!(refused.contains(second.id().as_str()), "both are named: {refused}");
    server.stop().await;

    // The first one is lost.
    server.root_key = second.to_text().to_string();
    let mut other = server.another().await;
    assert_eq!(everything(&other, &domain).await, before);
    let refused = refusal(other.keys.remove_slot(2).await);
    assert!(refused.contains("configured here"), "{refused}");
    other.keys.remove_slot(1).await.expect("a slot");
    let refused = refusal(other.keys.remove_slot(1).await);
    assert!(refused.contains("no root key in slot 1"), "{refused}");
    let refused = refusal(open(&server, &first).await);
    assert!(refused.contains("does not open this store"), "{refused}");
    other.keys.enroll(&third).await.expect("the slot is free again");
    open(&server, &third.to_text()).await.expect("the third key opens");
    other.stop().await;
}

async fn a_replaced_root_key_opens_nothing_and_the_new_one_everything(mut server: Server) {
    let domain = with_a_bit_of_everything(&server).await;
    let before = everything(&server, &domain).await;
    server.stop().await;
    let (first, spare) = (server.root_key.clone(), key());
    let keys = open(&server, &first).await.expect("the first key");
    keys.enroll(&spare).await.expect("a free slot");
    let copies = "SELECT wrapped_key FROM domain_keys UNION ALL \
                  SELECT wrapped_store_key FROM root_keys";
    let wrapped_before = server.database.bytes(copies).await;

    // The other slot must be spoken of: with the old store key in it, all would be in vain.
    let new = key();
    let refused = refusal(keys.rotate_root(&new, &OtherRootKey::None).await);
    assert!(refused.contains(spare.id().as_str()), "{refused}");
    refusal(keys.rotate_root(&new, &OtherRootKey::Keep(key())).await);
    refusal(keys.rotate_root(&spare, &OtherRootKey::Drop).await);
    assert_eq!(server.database.bytes(copies).await, wrapped_before);
    keys.rotate_root(&new, &OtherRootKey::Keep(spare.duplicate())).await.expect("both keys");
    let wrapped = server.database.bytes(copies).await;
    assert_eq!(wrapped.len(), wrapped_before.len());
    assert!(wrapped.iter().all(|wrapped| !wrapped_before.contains(wrapped)), "all are new");
    refusal(open(&server, &first).await);
    // One that opened it before, and does not know the new one, changes nothing.
    let refused = refusal(keys.rotate_root(&key(), &OtherRootKey::Drop).await);
    assert!(refused.contains("changed meanwhile"), "{refused}");

    for text in [new.to_text(), spare.to_text()] {
        server.root_key = text.to_string();
        let mut again = server.another().await;
        assert_eq!(everything(&again, &domain).await, before);
        again.stop().await;
    }
    // By the one in slot 2, which drops the one in slot 1.
    let keys = open(&server, &spare.to_text()).await.expect("the spare key");
    let last = key();
    keys.rotate_root(&last, &OtherRootKey::Drop).await.expect("no other key");
    for text in [first.as_str(), &new.to_text(), &spare.to_text()] {
        refusal(open(&server, text).await);
    }
    server.root_key = last.to_text().to_string();
    let mut again = server.another().await;
    assert_eq!(everything(&again, &domain).await, before);
    again.stop().await;
}

async fn a_server_goes_on_when_the_root_key_is_replaced(server: Server) {
    let domain = with_a_bit_of_everything(&server).await;
    let before = everything(&server, &domain).await;
    let keys = open(&server, &server.root_key).await.expect("the key");
    keys.rotate_root(&key(), &OtherRootKey::None).await.expect("one key");
    // It cannot read the new one, and needs it for new keys only.
    assert_eq!(everything(&server, &domain).await, before);
    domain.add_version("s/1").await;
    refusal(server.domains.create("new", "eu").await);
    refusal(server.keys.rotate_domain(domain.okms_id).await);
    domain.add_version("s/1").await;
}

async fn a_server_that_can_read_its_root_key_again_takes_the_new_one(server: Server) {
    let domain = server.domain().await;
    let file = Arc::new(Mutex::new(vec![server.root_key.clone()]));
    let read = Arc::clone(&file);
    let source: RootKeySource = Arc::new(move || {
        let texts = read.lock().expect("no panic").clone();
        Ok(texts.iter().map(|text| RootKey::from_text(text).expect("a key")).collect())
    });
    let (store, clock) = (server.store.clone(), server.clock.clone());
    let first = source().expect("a key");
    let opened = Keyring::open_source(first, Some(source), store.clone(), clock.clone()).await;
    let keyring = Arc::new(opened.expect("a keyring"));
    let domains = Domains::new(store.clone(), keyring.clone(), clock.clone());
    let keys = Keys::new(store, keyring, clock);

    let new = key();
    let rotating = open(&server, &server.root_key).await.expect("the key");
    // In the middle of a rotation there are two.
    file.lock().expect("no panic").push(new.to_text().to_string());
    rotating.rotate_root(&new, &OtherRootKey::None).await.expect("one key");
    let made = domains.create("new", "eu").await.expect("the new key is read");
    assert_eq!(keys.rotate_domain(made.okms_id).await.expect("a domain").get(), 2);
    assert_eq!(keys.rotate_domain(domain.okms_id).await.expect("a domain").get(), 2);
    open(&server, &new.to_text()).await.expect("all keys open");
}
