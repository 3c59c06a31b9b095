use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{
    crypto::{Generation, StoreKey},
    domain::{CustomMetadata, OkmsId, SecretConfig, VersionLifetime},
};

fn key(domain: u128, generation: Generation) -> DomainKey {
    let (store, okms_id) = (StoreKey::generate().unwrap(), OkmsId::new(Uuid::from_u128(domain)));
    let wrapped = store.generate_domain_key(okms_id, generation).unwrap();
    store.unwrap_domain_key(&wrapped, okms_id, generation).unwrap()
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    prop_oneof![0..3_i64, any::<i64>()].prop_map(Timestamp::from_millis)
}

fn state_changes() -> impl Strategy<Value = StateChanges> {
    proptest::collection::btree_map(1..4_u32, 1..3_u32, 0..3).prop_map(StateChanges)
}

/// From a few values, so that two of them are often alike but for one field.
fn secret() -> impl Strategy<Value = SecretRecord> {
    let metadata = proptest::collection::btree_map("[ab]{1,2}", "[ab]{1,2}", 0..3);
    let lifetime = prop_oneof![Just("0s"), Just("1h"), Just("60m")];
    let config = (any::<bool>(), 0..3_u32, lifetime);
    let numbers = (0..3_u32, 0..3_u32, timestamp(), timestamp(), 0..2_u8);
    ("[ab]{1,2}", config, metadata, numbers, state_changes()).prop_map(
        |(path, config, metadata, numbers, state_changes)| SecretRecord {
            secret: Secret {
                path: SecretPath::parse(&path).unwrap(),
                config: SecretConfig {
                    cas_required: config.0,
                    max_versions: config.1,
                    deactivate_version_after: VersionLifetime::parse(config.2).unwrap(),
                },
                custom_metadata: CustomMetadata::new(metadata).unwrap(),
                current_version: numbers.0,
                oldest_version: numbers.1,
                created_at: numbers.2,
                updated_at: numbers.3,
            },
            incarnation: Incarnation([numbers.4; 16]),
            state_changes,
        },
    )
}

type VersionRow = (VersionRecord, SecretPath, Incarnation);

fn version() -> impl Strategy<Value = VersionRow> {
    let data = proptest::option::of((proptest::collection::vec(0..2_u8, 0..3), 0..2_i64));
    let numbers = (0..2_u8, 1..3_u32, timestamp(), proptest::option::of(timestamp()), 0..2_u32);
    ("[ab]{1,2}", numbers, any::<bool>(), data).prop_map(|(path, numbers, deleted, data)| {
        let record = VersionRecord {
            version: Version {
                id: VersionId::new(numbers.1).unwrap(),
                created_at: numbers.2,
                deactivated_at: numbers.3,
                deleted,
            },
            data: data.map(|(id, key)| DataSeal { id: SealId(id), key: KeyId(key) }),
            state_changes: numbers.4,
        };
        (record, SecretPath::parse(&path).unwrap(), Incarnation([numbers.0; 16]))
    })
}

/// Two of them: either anything, or alike but for a few fields at the most.
fn two<T: Clone + std::fmt::Debug>(
    one: impl Strategy<Value = T>,
    other: impl Strategy<Value = T>,
) -> impl Strategy<Value = (T, T)> {
    (one, other, 0..4_u8)
        .prop_map(|(one, other, same)| if same == 0 { (one.clone(), one) } else { (one, other) })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100_000))]

    #[test]
    fn two_secrets_have_the_same_mac_only_if_they_are_the_same(
        (one, two) in two(secret(), secret()),
    ) {
        let key = shared_key();
        let mac = key.secret_mac(&one);
        prop_assert!(key.verify_secret(&one, &mac).is_ok());
        prop_assert_eq!(key.verify_secret(&two, &mac).is_ok(), one == two);
    }

    #[test]
    fn two_versions_have_the_same_mac_only_if_they_are_the_same(
        (one, two) in two(version(), version()),
    ) {
        let key = shared_key();
        let verify = |row: &VersionRow, mac| key.verify_version(&row.0, &row.1, row.2, mac).is_ok();
        let mac = key.version_mac(&one.0, &one.1, one.2);
        prop_assert!(verify(&one, &mac));
        prop_assert_eq!(verify(&two, &mac), one == two);
    }

    #[test]
    fn state_changes_round_trip_and_have_one_form(
        changes in state_changes(),
        bytes in proptest::collection::vec(0..2_u8, 0..20),
    ) {
        prop_assert_eq!(StateChanges::from_stored(&changes.to_stored()), Ok(changes));
        if let Ok(changes) = StateChanges::from_stored(&bytes) {
            prop_assert_eq!(changes.to_stored(), bytes);
        }
    }
}

fn shared_key() -> &'static DomainKey {
    static KEY: std::sync::OnceLock<DomainKey> = std::sync::OnceLock::new();
    KEY.get_or_init(|| key(1, Generation::FIRST))
}

#[test]
fn a_mac_counts_under_its_own_key_alone_and_no_bit_of_it_may_change() {
    let (key, other) = (key(1, Generation::FIRST), key(1, Generation::FIRST));
    let secret = Secret {
        path: SecretPath::parse("a").unwrap(),
        config: SecretConfig::default(),
        custom_metadata: CustomMetadata::default(),
        current_version: 1,
        oldest_version: 0,
        created_at: Timestamp::from_millis(1),
        updated_at: Timestamp::from_millis(1),
    };
    let incarnation = Incarnation::generate().unwrap();
    let record = SecretRecord { secret, incarnation, state_changes: StateChanges::default() };
    let mac = key.secret_mac(&record);
    assert!(key.verify_secret(&record, &mac).is_ok());
    assert!(other.verify_secret(&record, &mac).is_err());
    for bit in 0..MAC_LEN * 8 {
        let mut changed = mac.clone();
        changed.0[bit / 8] ^= 1 << (bit % 8);
        assert!(key.verify_secret(&record, &changed).is_err());
    }
    assert!(RowMac::from_stored(&mac.as_bytes()[..31]).is_err());
    assert!(Incarnation::from_stored(&[]).is_err());
}

#[test]
fn state_changes_are_counted_and_pruned() {
    let version = |number| VersionId::new(number).unwrap();
    let mut changes = StateChanges::default();
    assert_eq!(
        (changes.count(version(2)), changes.count(version(2)), changes.count(version(3))),
        (1, 2, 1)
    );
    assert_eq!((changes.of(version(1)), changes.of(version(2)), changes.of(version(3))), (0, 2, 1));
    changes.prune_through(version(2));
    assert_eq!((changes.of(version(2)), changes.of(version(3))), (0, 1));
}
