//! The files in `openapi/`.

use std::path::Path;

use okmsd::api::openapi;

#[test]
fn the_files_of_the_document_are_those_of_the_code() {
    let document = openapi();
    let json = document.to_pretty_json().expect("JSON") + "\n";
    let yaml = document.to_yaml().expect("YAML");
    for (name, made) in [("openapi.json", json), ("openapi.yaml", yaml)] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi").join(name);
        if std::env::var_os("OKMSD_UPDATE_OPENAPI").is_some() {
            std::fs::write(&file, &made).expect("the file to be written");
        }
        let kept = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            kept == made,
            "openapi/{name} is out of step: run `OKMSD_UPDATE_OPENAPI=1 cargo test --test api \
             the_files_of_the_document`, read what changed, and commit it"
        );
    }
}
