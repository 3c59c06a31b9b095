//! Every subcommand, and what the audit log says of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::{Value, json};

use crate::{
    foreign::Ca,
    harness::{Trial, fail, files_below, json as run_json, read, run},
    production::Production,
};

const ROOT: &str = "urn:v1:eu:identity:account:ab12345-ovh";
const GROUP: &str = "urn:v1:eu:identity:group:ab12345-ovh/team";
const MEMBERS: [&str; 2] =
    ["urn:v1:eu:identity:user:ab12345-ovh/a", "urn:v1:eu:identity:user:ab12345-ovh/b"];
const PASSWORD: &str = "canary-of-a-password";
const DOMAIN: [&str; 8] =
    ["domain", "create", "--data-dir", "data", "--name", "y", "--format", "json"];
/// Nobody answers there.
const UNREACHABLE: &str = "postgres://me:canary-of-a-password@127.0.0.1:1/x";

const CONFIG: &str = "data/okmsd.toml";
/// The same of a server at a port where nobody answers: only root could.
const NOBODY: &str = "data/nobody.toml";

/// What a subcommand leaves in the audit log.
enum Kind {
    /// That it begins, and how it ended. The arguments, which succeed in the order of the table.
    Recorded(fn(&Place) -> String),
    /// Nothing, for this reason. The configuration, if it needs one, and how it ends.
    Silent(&'static str, Option<&'static str>, i32),
    /// In its own way, which this shows.
    Own(fn()),
}

use Kind::{Own, Recorded, Silent};

/// All subcommands. A new one belongs here.
fn table() -> Vec<(&'static str, Kind)> {
    vec![
        ("serve", Own(a_servers_life_is_in_its_own_chain)),
        ("dev", Own(the_making_of_a_trial_is_recorded_with_all_that_was_made)),
        (
            "init",
            Own(the_making_of_a_servers_files_leaves_two_lines_with_its_outcome_and_no_secret),
        ),
        ("healthcheck", Silent("asks the server alone, as anybody can", Some(NOBODY), 1)),
        ("export", Silent("is a client of a server, whose log has each request", None, 2)),
        ("import file", Silent("is a client of a server, whose log has each request", None, 2)),
        ("import vault", Silent("is a client of a server, whose log has each request", None, 2)),
        // Without the name of a shell it is not understood, and with one it prints.
        ("completions", Silent("prints what is in the program", None, 2)),
        ("config example", Silent("prints what is in the program", None, 0)),
        ("config check", Silent("reads the configuration, and prints no secret", Some(CONFIG), 0)),
        ("audit verify", Silent("reads the log itself, also a copy", Some(CONFIG), 0)),
        ("audit key", Silent("reads the log itself, also a copy", Some(CONFIG), 0)),
        ("domain create", Recorded(|_| "--name x".into())),
        ("domain list", Recorded(|_| String::new())),
        ("domain show", Recorded(|place| place.id("domain create"))),
        (
            "credential create",
            Recorded(|place| {
                let domain = place.id("domain create");
                format!(
                    "--domain {domain} --name x --identity {ROOT} --p12 \
                     --p12-password-file password --out-dir own"
                )
            }),
        ),
        (
            "credential register",
            Recorded(|place| {
                let domain = place.id("domain create");
                format!("--domain {domain} --certificate alice.pem --name alice --identity {ROOT}")
            }),
        ),
        ("credential list", Recorded(|place| format!("--domain {}", place.id("domain create")))),
        ("credential show", Recorded(|place| place.id("credential create"))),
        (
            "credential renew",
            Recorded(|place| format!("{} --out-dir own", place.id("credential create"))),
        ),
        (
            "token create",
            Recorded(|place| {
                let identity = "urn:v1:eu:identity:user:ab12345-ovh/token";
                format!("--domain {} --identity {identity}", place.id("domain create"))
            }),
        ),
        ("token list", Recorded(|place| format!("--domain {}", place.id("domain create")))),
        ("token revoke", Recorded(|place| place.id("token create"))),
        ("credential revoke", Recorded(|place| place.id("credential create"))),
        ("policy apply", Recorded(|_| "--file policy.json".into())),
        ("policy list", Recorded(|_| String::new())),
        ("policy show", Recorded(|_| "readers".into())),
        (
            "policy check",
            Recorded(|place| {
                let domain = place.id("domain create");
                format!(
                    "--domain {domain} --identity {ROOT} --path a --action okms:apikms:secret/get"
                )
            }),
        ),
        ("policy delete", Recorded(|_| "readers".into())),
        ("group add", Recorded(|_| format!("{GROUP} {} {}", MEMBERS[0], MEMBERS[1]))),
        ("group remove", Recorded(|_| format!("{GROUP} {}", MEMBERS[0]))),
        ("group list", Recorded(|_| String::new())),
        ("group delete", Recorded(|_| GROUP.into())),
        ("key status", Recorded(|_| String::new())),
        ("key rotate-root", Recorded(|_| String::new())),
        ("key rotate-domain", Recorded(|place| place.id("domain create"))),
        ("key rewrap", Recorded(|_| String::new())),
        ("key enroll", Recorded(|_| "--new-root-key-file second.key".into())),
        (
            "key remove-slot",
            Recorded(|place| {
                let status = run_json(place.cwd(), &["key", "status", "--data-dir", "data"]);
                let mut keys = status["rootKeys"].as_array().expect("a list").iter();
                let other = keys.find(|key| key["isConfigured"] == false).expect("the second one");
                other["slot"].to_string()
            }),
        ),
        ("backup", Recorded(|_| "--backup-key-file backup.key one.backup".into())),
        // Without the name of a file it is not understood.
        ("backup verify", Silent("reads a backup alone, with its key", Some(CONFIG), 2)),
        ("restore", Own(a_restore_leaves_two_lines_with_its_outcome_and_no_secret)),
        ("domain delete", Recorded(|place| format!("{} --yes", place.id("domain create")))),
    ]
}

/// A production server's folder, and what subcommands made in it.
struct Place {
    production: Production,
    /// Ids of what was made, by subcommand.
    ids: BTreeMap<&'static str, String>,
    /// What no record may hold.
    secrets: BTreeSet<String>,
}

impl Place {
    fn new() -> Self {
        let production = Production::init();
        let mut place = Self { production, ids: BTreeMap::new(), secrets: BTreeSet::new() };
        place.secrets.insert(PASSWORD.to_owned());
        place.write("password", PASSWORD);
        place.write("backup.key", "QkFDS1VQLUtFWS1PRi1BTi1BQ1QtMzItQllURVMtISE=");
        let port = format!("127.0.0.1:{}", place.production.port);
        let config = read(&place.cwd().join(CONFIG));
        assert!(config.contains(&port), "{config}");
        place.write(NOBODY, &config.replace(&port, "127.0.0.1:1"));
        place
    }

    fn cwd(&self) -> &Path {
        self.production.cwd.path()
    }

    fn write(&self, name: &str, content: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.cwd().join(name);
        fs::write(&path, content).expect("to write");
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("the right to do so");
    }

    fn id(&self, made_by: &str) -> String {
        self.ids.get(made_by).unwrap_or_else(|| panic!("{made_by} comes first")).clone()
    }

    /// Lets another authority vouch for a domain, once that is there, and writes a policy for it.
    fn prepare(&self, okms_id: &str) {
        let policy = json!({
            "name": "readers",
            "identities": [MEMBERS[0]],
            "resources": [{ "urn": format!("urn:v1:eu-west-x:resource:okms:{okms_id}/secret/*") }],
            "permissions": { "allow": [{ "action": "okms:apikms:secret/get" }] },
        });
        self.write("policy.json", &policy.to_string());
        let ca = Ca::root("Example root");
        fs::write(self.production.data("example.pem"), &ca.pem).expect("to write");
        fs::write(self.cwd().join("alice.pem"), ca.client_with(|_| {}).0).expect("to write");
        let config = self.production.data("okmsd.toml");
        let text = format!("{}\n[pki]\nclient_cas = [\"{okms_id}=example.pem\"]\n", read(&config));
        fs::write(config, text).expect("to write");
    }

    /// Takes note of all root keys, private keys and passwords that are there.
    fn note_secrets(&mut self) {
        for path in files_below(self.cwd()) {
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if text.contains("PRIVATE KEY") {
                self.secrets
                    .extend(text.lines().filter(|line| line.len() == 64).map(str::to_owned));
            } else if ["root.key", "second.key", "backup.key"].iter().any(|key| name.contains(key))
            {
                self.secrets.insert(text.trim().to_owned());
            }
        }
        assert!(self.secrets.iter().all(|secret| secret.len() > 10), "{:?}", self.secrets);
    }

    /// Runs a subcommand, and checks that it leaves these lines: with its outcome, and without secrets.
    #[track_caller]
    fn recorded(&mut self, name: &str, arguments: &[&str], done: bool) -> Value {
        let before = self.acts();
        let output = run(self.cwd(), arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(i32::from(!done)), "{arguments:?}: {errors}");
        let acts = self.acts().split_off(before.len());
        let said: Vec<_> = acts
            .iter()
            .map(|act| (act["operation"].as_str(), act["stage"].as_str(), act["done"].as_bool()))
            .collect();
        let expected = [(Some(name), Some("begun"), None), (Some(name), Some("ended"), Some(done))];
        assert_eq!(said, expected, "{arguments:?}");
        assert_eq!(acts[0]["act_id"], acts[1]["act_id"]);
        self.check_secrets();
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    fn check_secrets(&mut self) {
        self.note_secrets();
        let text = log(&self.production.data("audit"));
        for secret in &self.secrets {
            assert!(!text.contains(secret), "{secret} is recorded");
        }
    }

    /// What is recorded of acts, in order.
    fn acts(&self) -> Vec<Value> {
        acts(&self.production.data("audit"))
    }
}

fn log(folder: &Path) -> String {
    let mut files = files_below(folder);
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.iter().map(|path| read(path)).collect()
}

fn acts(folder: &Path) -> Vec<Value> {
    let lines = log(folder);
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.filter(|line| line["kind"] == "act").collect()
}

/// The names of all subcommands that do something.
fn subcommands(command: &clap::Command, above: &str, names: &mut BTreeSet<String>) {
    for command in command.get_subcommands() {
        let name = format!("{above}{}", command.get_name());
        subcommands(command, &format!("{name} "), names);
        if !command.is_subcommand_required_set() {
            names.insert(name);
        }
    }
}

#[test]
fn each_subcommand_that_acts_leaves_two_lines_with_its_outcome_and_no_secret() {
    let mut names = BTreeSet::new();
    subcommands(&okmsd::cli::command(), "", &mut names);
    let known: BTreeSet<_> = table().iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(known, names, "say in this table what each subcommand leaves in the audit log");

    let mut place = Place::new();
    for (name, kind) in table() {
        let words: Vec<_> = name.split(' ').collect();
        match kind {
            Own(shown) => shown(),
            Silent(why, config, code) => {
                assert!(!why.is_empty());
                let before = place.acts().len();
                let config = config.map_or(vec![], |file| vec!["--config", file]);
                let output = run(place.cwd(), &[words, config].concat());
                assert_eq!(output.status.code(), Some(code), "{name}: {output:?}");
                assert_eq!(place.acts().len(), before, "{name}");
            }
            Recorded(arguments) => {
                let arguments = arguments(&place);
                let mut words = words;
                words.extend(arguments.split_whitespace());
                let config = ["--config", "data/okmsd.toml"];
                // As it fails: the same files, and a database that does not answer.
                let text = read(&place.production.data("okmsd.toml"));
                let database = format!("{text}\n[storage]\ndatabase = \"{UNREACHABLE}\"\n");
                place.write("data/okmsd.toml", &database);
                place.recorded(name, &[&words[..], &config].concat(), false);
                place.write("data/okmsd.toml", &text);
                // As it succeeds.
                let makes = matches!(name, "domain create" | "credential create" | "token create");
                let format: &[&str] = if makes { &["--format", "json"] } else { &[] };
                let made = place.recorded(name, &[&words[..], &config, format].concat(), true);
                if makes {
                    let id = made["id"].as_str().or(made["okmsId"].as_str()).expect("an id");
                    place.ids.insert(name, id.to_owned());
                }
                if name == "domain create" {
                    place.prepare(&place.id(name));
                }
            }
        }
    }
    // The folder for the files is a part of the act: where it cannot be made, nothing else is.
    let domain = place.recorded("domain create", &DOMAIN, true)["okmsId"].clone();
    let domain = domain.as_str().expect("an id");
    place.write("taken", "");
    let create = ["credential", "create", "--data-dir", "data", "--domain", domain, "--name", "x"];
    place.recorded("credential create", &[&create[..], &["--out-dir", "taken"]].concat(), false);
    let list = ["credential", "list", "--data-dir", "data", "--domain", domain];
    assert_eq!(run_json(place.cwd(), &list).as_array().map(Vec::len), Some(0));
    // The ids, passwords and keys that there were.
    assert!(place.secrets.len() > 8, "{}", place.secrets.len());
}

/// Run by the table of all subcommands.
fn the_making_of_a_servers_files_leaves_two_lines_with_its_outcome_and_no_secret() {
    let mut place = Place::new();
    place.note_secrets();
    let outcome =
        |act: &Value| (act["operation"].clone(), act["stage"].clone(), act["done"].clone());
    let first: Vec<_> = place.acts().iter().map(outcome).collect();
    let said = |stage: &str, done: Value| ("init".into(), stage.into(), done);
    assert_eq!(first, [said("begun", Value::Null), said("ended", true.into())]);
    let renew = ["init", "--data-dir", "data", "--renew", "--name"];
    place.recorded("init", &[&renew[..], &["localhost"]].concat(), true);
    // No name of a machine, so there is no certificate for it.
    place.recorded("init", &[&renew[..], &["no name"]].concat(), false);
    let more = ["init", "--data-dir", "other", "--name", "localhost", "--database", UNREACHABLE];
    assert!(run(place.cwd(), &more).status.success());
    let text = log(&place.cwd().join("other/audit"));
    assert!(text.contains("\"init\"") && !text.contains(PASSWORD), "{text}");
}

#[test]
fn a_restore_leaves_two_lines_with_its_outcome_and_no_secret() {
    let mut place = Place::new();
    place.recorded("domain create", &DOMAIN, true);
    let key = ["--backup-key-file", "backup.key", "one"];
    place.recorded("backup", &[&["backup", "--config", CONFIG], &key[..]].concat(), true);
    // Into the store that it is of, and into one of its own.
    place.recorded("restore", &[&["restore", "--config", CONFIG], &key[..]].concat(), false);
    let text = read(&place.cwd().join(CONFIG));
    let new = format!("{text}\n[storage]\ndatabase = \"restored.db\"\n");
    place.write("data/restored.toml", &new);
    let config = ["restore", "--config", "data/restored.toml"];
    place.recorded("restore", &[&config[..], &key].concat(), true);
}

/// Run by the table of all subcommands.
fn a_servers_life_is_in_its_own_chain() {
    let production = Production::init();
    let server = production.serve(&[]);
    assert_eq!(server.stop(), Some(0));
    let text = log(&production.data("audit/server-1"));
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let said: Vec<_> = lines.filter(|line| line["kind"] == "notice").collect();
    let said: Vec<_> = said.iter().map(|line| line["what"].as_str().expect("a word")).collect();
    assert_eq!(said, ["started", "stopped"]);
}

/// Run by the table of all subcommands.
fn the_making_of_a_trial_is_recorded_with_all_that_was_made() {
    let mut trial = Trial::start();
    let dev = |trial: &Trial| -> Vec<Value> {
        let acts = acts(&trial.data("audit"));
        acts.into_iter().filter(|act| act["operation"] == "dev").collect()
    };
    let acts = dev(&trial);
    let stages: Vec<_> = acts.iter().map(|act| act["stage"].as_str().expect("one")).collect();
    assert_eq!(stages, ["begun", "ended"]);
    assert_eq!((&acts[0]["act_id"], &acts[1]["done"]), (&acts[1]["act_id"], &true.into()));
    let about = &acts[1]["about"];
    assert_eq!(about["okmsId"], trial.variable("OKMS_ID"));
    assert_eq!(about["authority"], trial.variable("OKMS_CA"));
    for file in ["serverCertificate", "rootKey"] {
        assert!(Path::new(about[file].as_str().expect("a file")).exists(), "{about}");
    }
    let credential = about["credentialId"].as_str().expect("an id");
    assert!(trial.variable("OKMS_CERT").contains(credential), "{about}");
    // The next run makes nothing, and says so.
    trial.again(&[]);
    let acts = dev(&trial);
    assert_eq!((acts.len(), &acts[3]["done"], acts[3].get("about")), (4, &true.into(), None));
    trial.stop();
    let text = log(&trial.data("audit"));
    for file in ["root.key", "ca_privatekey.pem", "server_privatekey.pem"] {
        let secret = read(&trial.data(file));
        let line = secret.lines().max_by_key(|line| line.len()).expect("a line");
        assert!(!text.contains(line), "{file}");
    }
    assert!(!text.contains(trial.variable("OKMS_P12_PASSWORD")));
}

#[test]
fn a_trial_that_fails_is_recorded_and_one_that_cannot_be_recorded_makes_nothing() {
    let cwd = tempfile::tempdir().expect("a folder");
    let listen = ["dev", "--api-listen", "127.0.0.1:0", "--docs-listen", "off"];
    fail(cwd.path(), &[&listen[..], &["--database", UNREACHABLE]].concat(), 1);
    let folder = cwd.path().join("certs/dev");
    let acts = acts(&folder.join("audit"));
    assert_eq!((acts.len(), &acts[1]["done"]), (2, &false.into()));
    // What was made all the same.
    assert!(acts[1]["about"]["authority"].as_str().is_some_and(|file| Path::new(file).exists()));
    assert!(!log(&folder.join("audit")).contains(PASSWORD));

    let cwd = tempfile::tempdir().expect("a folder");
    let folder = cwd.path().join("certs/dev");
    // A file in the place of a folder: nothing can be written there, not even by root.
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("audit"), "").expect("to write");
    let errors = fail(cwd.path(), &listen, 1);
    assert!(errors.contains("nothing was done"), "{errors}");
    let made = files_below(&folder);
    let keys = made.iter().filter(|path| {
        path.extension().is_some_and(|extension| extension == "pem" || extension == "db")
    });
    assert_eq!(keys.count(), 0, "{made:?}");
}
