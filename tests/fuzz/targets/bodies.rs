//! Request bodies of both dialects: what is taken is within the documented bounds, and both take the same data.

#![no_main]

use okmsd::{
    api::fuzzing::{v1, v2},
    domain::{
        CustomMetadata, MetadataPatch, SecretConfigPatch, SecretData, VersionLifetime, json::Json,
    },
};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(body) = Json::parse(bytes) else { return };
    let is_object = matches!(body, Json::Object(_));
    let mut taken = v2::takes_state(&body) | v1::takes_metadata_patch(&body);
    if let Ok((_path, metadata, data)) = v2::create(&body) {
        check_metadata(&metadata);
        check_data(&data);
        let updated = v2::update(&body).expect("what makes a secret, changes one");
        assert!(updated.0 == metadata && updated.1.is_some_and(|same| same == data));
        taken = true;
    }
    if let Ok((metadata, data)) = v2::update(&body) {
        check_metadata(&metadata);
        data.iter().for_each(check_data);
        taken = true;
    }
    let version = v2::version(&body);
    if let Ok(data) = &version {
        check_data(data);
        taken = true;
    }
    if let Ok((data, cas)) = v1::write(&body) {
        check_data(&data);
        assert!(cas.is_none_or(|cas| cas <= MAX_VERSION));
        assert!(version.is_ok_and(|same| same == data), "the dialects take other data");
        let (patch, _) = v1::patch(&body).expect("what is data, is a patch");
        assert_eq!(*patch.to_compact(), *data.as_str());
        taken = true;
    }
    if let Ok(versions) = v1::versions(&body) {
        assert!(versions.len() <= 1_000);
        assert!(versions.windows(2).all(|pair| pair[0] < pair[1]), "not each once");
        taken = true;
    }
    for config in [v1::config(&body), v2::config(&body)].into_iter().flatten() {
        check_config(&config);
        taken = true;
    }
    if let Ok(metadata) = v1::metadata(&body) {
        check_metadata(&metadata);
        taken = true;
    }
    assert!(is_object || !taken, "a body that is no object was taken");
});

fn check_data(data: &SecretData) {
    assert!(data.as_str().len() <= SecretData::MAX_BYTES);
    let json = Json::parse(data.as_str().as_bytes()).expect("data is JSON");
    assert!(json.depth() <= SecretData::MAX_DEPTH);
    assert!(SecretData::from_json(&json).is_ok_and(|same| same == *data), "not kept as it is");
}

fn check_metadata(metadata: &MetadataPatch) {
    check_config(&metadata.config);
    let Some(custom) = &metadata.custom_metadata else { return };
    assert!(custom.entries().len() <= CustomMetadata::MAX_ENTRIES);
    for (key, value) in custom.entries() {
        assert!((1..=CustomMetadata::MAX_KEY_LEN).contains(&key.len()));
        assert!((1..=CustomMetadata::MAX_VALUE_LEN).contains(&value.len()));
    }
}

fn check_config(config: &SecretConfigPatch) {
    assert!(config.max_versions.is_none_or(|number| number <= MAX_VERSION));
    let lifetime = config.deactivate_version_after.as_ref();
    assert!(lifetime.is_none_or(|it| it.seconds() <= VersionLifetime::MAX_SECONDS));
}

const MAX_VERSION: u32 = 24_000;
