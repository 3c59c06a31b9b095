use std::{collections::HashSet, os::unix::fs::PermissionsExt};

use super::*;

fn load(text: &str, pairs: &[(&str, &str)], flags: &Flags) -> Result<Config, Errors> {
    let (mut config, mut errors) = Config::from_toml(text, Path::new("/etc/okmsd/okmsd.toml"))?;
    errors.extend(config.take(&Environment::from(pairs), flags));
    Errors::of(errors).map(|()| config)
}

fn from_text(text: &str) -> Result<Config, Errors> {
    load(text, &[], &Flags::default())
}

fn refusal(text: &str) -> String {
    from_text(text).unwrap_err().to_string()
}

#[test]
fn the_example_says_what_the_code_does() {
    let example = from_text(EXAMPLE).unwrap().list();
    assert_eq!(example, Config::defaults(Path::new("/etc/okmsd")).list());
    let mut names = Listing::default();
    assert!(Config::defaults(Path::new("")).settings(&mut names).is_empty());
    let mut section = "";
    let mut keys = HashSet::new();
    for line in EXAMPLE.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        }
        let line = line.trim_start_matches("# ");
        if let Some((key, _)) = line.split_once(" = ") {
            keys.insert(format!("{section}.{key}"));
        }
    }
    for (key, variable) in names.into_names() {
        assert!(keys.contains(key), "the example has no {key}");
        assert!(EXAMPLE.contains(&format!("[{variable}]")), "the example has no {variable}");
    }
}

#[test]
fn each_value_that_the_example_leaves_out_is_taken_too() {
    let config =
        from_text("[server]\napi_url = \"https://okms.example.com/\"\n[root_key]\nfile = \"k\"\n")
            .unwrap();
    let command = from_text("[root_key]\ncommand = [\"x\", \"hunter2\"]\n").unwrap().list();
    assert!(command.contains(&("root_key.command", "x …".to_owned())));
    let list = config.list();
    assert!(list.contains(&("server.api_url", "https://okms.example.com".to_owned())));
    assert!(list.contains(&("root_key.file", "/etc/okmsd/k".to_owned())));
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let file = "[server]\napi_listen = \"127.0.0.1:1\"\ndocs_listen = \"127.0.0.1:2\"\n\
                region = \"file\"";
    let environment =
        [("OKMSD_DOCS_LISTEN", "off"), ("OKMSD_REGION", "environment"), ("OKMSD_API_URL", "")];
    let flags = Flags::default().with("server.region", "--region", Some("flag"));
    let server = load(file, &environment, &flags).unwrap().server;
    assert_eq!(server.api_listen.0, "127.0.0.1:1".parse().unwrap());
    assert_eq!(server.docs_listen, DocsListen(None));
    assert_eq!(server.region.as_str(), "flag");
    assert_eq!(server.api_url, None);
}

#[test]
fn paths_start_at_the_folder_of_the_file_or_at_the_working_directory() {
    let config = load(
        "[tls]\ncertificate_file = \"tls/c.pem\"\nprivate_key_file = \"/run/k.pem\"",
        &[("OKMSD_CA_CERTIFICATE_FILE", "ca.pem")],
        &Flags::default(),
    )
    .unwrap();
    assert_eq!(config.tls.certificate_file, Path::new("/etc/okmsd/tls/c.pem"));
    assert_eq!(config.tls.private_key_file, Path::new("/run/k.pem"));
    assert_eq!(config.pki.ca_certificate_file, Path::new("ca.pem"));
    assert_eq!(config.pki.ca_private_key_file, Path::new("/etc/okmsd/ca_privatekey.pem"));
}

#[test]
fn authorities_of_others_are_a_list_in_the_file_and_in_the_environment() {
    let (one, other) =
        ("7e5bb0b2-0a6b-4a0c-9a3f-5c9d0e1f2a3b", "00000000-0000-4000-8000-000000000000");
    let file = format!(
        "[pki]\nclient_cas = [\"{one}=a.pem\", \"{other}=/b=c.pem\"]\ncrl_files = [\"a.crl\"]"
    );
    let pki = from_text(&file).unwrap().pki;
    let cas: Vec<_> =
        pki.client_cas.0.iter().map(|ca| (ca.okms_id.to_string(), &ca.file)).collect();
    let (a, b) = (Path::new("/etc/okmsd/a.pem").to_owned(), Path::new("/b=c.pem").to_owned());
    assert_eq!(cas, [(one.to_owned(), &a), (other.to_owned(), &b)]);
    assert_eq!(pki.crl_files.0, [Path::new("/etc/okmsd/a.crl")]);
    let value = format!("{one}=a.pem, {other}=/b=c.pem");
    let environment = [("OKMSD_CLIENT_CAS", &*value), ("OKMSD_CRL_FILES", "x,y")];
    let pki = load("", &environment, &Flags::default()).unwrap().pki;
    assert_eq!(pki.client_cas.0[0].file, Path::new("a.pem"));
    assert_eq!(pki.client_cas.0[1].file, b);
    assert_eq!(pki.crl_files.0, [Path::new("x"), Path::new("y")]);
    for bad in ["a.pem", "hunter2=a.pem", &format!("{one}="), &format!("{one}=a,")] {
        let error =
            load("", &[("OKMSD_CLIENT_CAS", bad)], &Flags::default()).unwrap_err().to_string();
        assert!(error.starts_with("OKMSD_CLIENT_CAS must be a list of OKMS_ID=FILE"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    assert!(refusal("[pki]\nclient_cas = \"x\"").starts_with("pki.client_cas in "));
    assert!(refusal("[pki]\ncrl_files = [\"\"]").starts_with("pki.crl_files in "));
}

#[test]
fn unknown_keys_are_refused_by_name() {
    let place = "/etc/okmsd/okmsd.toml has the unknown";
    assert_eq!(refusal("[server]\napi_lisen = \"x\""), format!("{place} key server.api_lisen"));
    assert_eq!(refusal("[sever]\nx = 1"), format!("{place} key sever"));
    assert_eq!(refusal("region = \"x\"\nlog = 1"), format!("{place} keys log, region"));
    assert_eq!(
        refusal("[server]\ndatabase = \"postgres://a:hunter2@b/c\""),
        format!("{place} key server.database")
    );
}

#[test]
fn errors_name_the_setting_and_the_rule_but_no_value() {
    for (text, place, rule) in [
        ("[server]\napi_listen = \"hunter2\"", "server.api_listen", "must be ADDRESS:PORT"),
        ("[server]\napi_listen = 8443", "server.api_listen", "must be ADDRESS:PORT"),
        ("[server]\nregion = \"Hunter2\"", "server.region", "must be 1 to 32"),
        ("[server]\napi_url = \"https://hunter2@x\"", "server.api_url", "must be https://"),
        ("[limits]\nconnections = 0", "limits.connections", "must be a whole number"),
        ("[limits]\nconnections = \"hunter2\"", "limits.connections", "must be a whole number"),
        ("[limits]\nhandshakes = 0", "limits.handshakes", "must be a whole number"),
        ("[limits]\nrequests_per_address = -1", "limits.requests_per_address", "0 is no limit"),
        ("[limits]\nstreams = 1001", "limits.streams", "must be at most 1000"),
        ("[limits]\ndatabase_queue = 0", "limits.database_queue", "must be a whole number"),
        ("[limits]\ndatabase_queue = 65537", "limits.database_queue", "must be at most 65536"),
        ("[limits]\naudit_queue = 1048577", "limits.audit_queue", "must be at most 1048576"),
        ("[limits]\nheader_kib = 7", "limits.header_kib", "must be from 8 to 256"),
        ("[limits]\nbody_kib = 1025", "limits.body_kib", "must be from 4 to 1024"),
        ("[limits]\nbody_timeout = \"51s\"", "limits.body_timeout", "must be at most 50s"),
        ("[limits]\nheader_timeout = \"1M\"", "limits.header_timeout", "with a unit"),
        ("[limits]\nheader_timeout = \"10\"", "limits.header_timeout", "with a unit"),
        ("[limits]\nheader_timeout = \"0s\"", "limits.header_timeout", "with a unit"),
        ("[limits]\nheader_timeout = \"25h\"", "limits.header_timeout", "with a unit"),
        ("[limits]\nidle_timeout = \"64s\"", "limits.idle_timeout", "must be at least 65s"),
        (
            "[limits]\ncontrol_frames_per_connection = 99",
            "limits.control_frames_per_connection",
            "must be 0, or at least 100",
        ),
        ("[limits]\nheader_timeout = \"1h 2m\"", "limits.header_timeout", "with a unit"),
        (
            "[storage]\ndatabase = \"mysql://me:hunter2@x/y\"",
            "storage.database",
            "must be the path",
        ),
        ("[storage]\ndatabase = [\"hunter2\"]", "storage.database", "must be the path"),
        ("[tls]\nclient_certificate = \"hunter2\"", "tls.client_certificate", "must be \"opt"),
        ("[log]\nlevel = \"hunter2\"", "log.level", "must be error"),
        ("[log]\nformat = \"hunter2\"", "log.format", "must be \"text\""),
    ] {
        let message = refusal(text);
        let start = format!("{place} in /etc/okmsd/okmsd.toml {rule}");
        assert!(message.contains(rule) && message.starts_with(place), "{message} / {start}");
        assert!(!message.contains("unter2"), "{message}");
    }
    let environment = load("", &[("OKMSD_CONNECTIONS", "+5")], &Flags::default()).unwrap_err();
    assert!(environment.to_string().starts_with("OKMSD_CONNECTIONS must be"));
    let flags = Flags::default().with("storage.database", "--database", Some("ftp://hunter2"));
    let flag = load("", &[], &flags).unwrap_err();
    assert!(flag.to_string().starts_with("--database must be"), "{flag}");
}

#[test]
fn all_that_is_wrong_is_told_whatever_source_it_is_of() {
    let file = "[server]\napi_listen = \"hunter2\"\nregoin = \"x\"\n[limits]\nidle_timeout = \"1s\"\n\
                [log]\nlevel = \"hunter2\"";
    let environment = [("OKMSD_CONNECTIONS", "many"), ("OKMSD_AUDIT_SYNC", "hunter2")];
    let flags = Flags::default().with("server.region", "--region", Some("Hunter2"));
    let errors = load(file, &environment, &flags).unwrap_err();
    let told: Vec<_> = errors.0.iter().map(Error::to_string).collect();
    let starts = [
        "server.api_listen in ",
        "log.level in ",
        "limits.idle_timeout in /etc/okmsd/okmsd.toml must be at least",
        "/etc/okmsd/okmsd.toml has the unknown key server.regoin",
        "OKMSD_CONNECTIONS must",
        "OKMSD_AUDIT_SYNC must",
        "--region must",
    ];
    assert_eq!(told.len(), starts.len(), "{told:?}");
    for (told, start) in told.iter().zip(starts) {
        assert!(told.starts_with(start) && !told.contains("unter2"), "{told}");
    }
}

#[test]
fn bad_toml_is_refused_without_its_text() {
    let message = refusal("[storage]\ndatabase = \"postgres://me:hunter2@x/y\nregion = 1");
    assert!(message.starts_with("/etc/okmsd/okmsd.toml is not valid TOML: line 2: "), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
}

#[test]
fn a_database_url_can_stand_in_a_private_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("url");
    fs::write(&path, "postgres://me:hunter2@db/okmsd\n").unwrap();
    let text = format!("[storage]\ndatabase_file = \"{}\"", path.display());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(from_text(&text).unwrap_err().0[..], [Error::NotPrivate { .. }]));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let database = from_text(&text).unwrap().storage.database;
    assert_eq!(*database.to_url(), "postgres://me:hunter2@db/okmsd");
    let both = format!("{text}\ndatabase = \"x.db\"");
    assert!(refusal(&both).contains("exclude each other"));
    let nearer = load(&text, &[("OKMSD_DATABASE", "x.db")], &Flags::default()).unwrap();
    assert_eq!(nearer.storage.database, Database::Sqlite("x.db".into()));
}

#[test]
fn the_log_level_of_all_programs_gives_way_to_our_own() {
    let level = |pairs: &[(&str, &str)]| {
        let config = load("[log]\nlevel = \"warn\"", pairs, &Flags::default()).unwrap();
        config.log.level.as_str().to_owned()
    };
    assert_eq!(level(&[]), "warn");
    assert_eq!(level(&[("RUST_LOG", "debug")]), "debug");
    assert_eq!(
        level(&[("RUST_LOG", "debug"), ("OKMSD_LOG_LEVEL", "trace,h2=off")]),
        "trace,h2=off"
    );
}
