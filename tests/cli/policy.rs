//! `okmsd policy` and `okmsd group`.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::{Value, json};
use sqlx::{Connection, Executor, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{
    client::Client,
    harness::{Trial, fail, json as run_json, okmsd, run, succeed},
};

const USER: &str = "urn:v1:eu:identity:user:dev/deploy";
const GROUP: &str = "urn:v1:eu:identity:group:dev/team";
const GET: &str = "okms:apikms:secret/get";
const FORBIDDEN: i64 = 16_924_673;

/// A trial with a secret and a credential that acts for [`USER`].
struct Shop {
    trial: Trial,
    client: Client,
    credential: String,
    certificate: PathBuf,
    domain: String,
}

impl Shop {
    async fn open() -> Self {
        let trial = Trial::start();
        let domain = trial.variable("OKMS_ID").to_owned();
        let body = json!({"path": "prod/db", "version": {"data": {"k": "v"}}});
        assert_eq!(trial.client().post(&trial.secrets(), body).await.status, 200);
        let arguments =
            ["credential", "create", "--domain", &domain, "--name", "x", "--identity", USER];
        let made = run_json(trial.cwd.path(), &arguments);
        let file = |name: &str| PathBuf::from(made["files"][name].as_str().expect("a file"));
        let (certificate, key) = (file("certificate"), file("privateKey"));
        let client = trial.client_with(Some((&certificate, &key)));
        let credential = made["id"].as_str().expect("an id").to_owned();
        Self { trial, client, credential, certificate, domain }
    }

    fn cwd(&self) -> &Path {
        self.trial.cwd.path()
    }

    fn secret(&self) -> String {
        format!("{}/prod/db", self.trial.secrets())
    }

    /// Writes a file beside the trial.
    fn write(&self, name: &str, text: &str) {
        fs::write(self.cwd().join(name), text).expect("a file");
    }

    /// A document whose lines are known.
    fn document(&self, name: &str, identity: &str, list: &str) -> String {
        format!(
            r#"{{
  "name": "{name}",
  "description": "For {name}",
  "identities": [
    "{identity}"
  ],
  "resources": [
    {{"urn": "urn:v1:eu:resource:okms:{domain}/secret/other"}},
    {{"urn": "urn:v1:eu:resource:okms:{domain}/secret/prod%2F*"}}
  ],
  "permissions": {{
    "{list}": [
      {{"action": "okms:apikms:secret/create"}},
      {{"action": "{GET}"}}
    ]
  }}
}}
"#,
            domain = self.domain
        )
    }

    fn check<'a>(&'a self, who: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
        [&["policy", "check", "--domain", &self.domain, "--action"], more, who].concat()
    }

    /// What a check that ends in a denial says.
    fn denied(&self, who: &[&str], more: &[&str]) -> Value {
        let arguments = [&self.check(who, more)[..], &["--format", "json"]].concat();
        let output = run(self.cwd(), &arguments);
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "okmsd: denied\n");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
}

#[tokio::test]
async fn a_policy_acts_on_the_next_request_of_a_running_server() {
    let shop = Shop::open().await;
    let (cwd, address) = (shop.cwd(), shop.secret());
    shop.client.get(&address).await.error(403, FORBIDDEN);
    assert_eq!(run_json(cwd, &["policy", "list"]), json!([]));

    let document = shop.document("deploy", USER, "allow");
    shop.write("policy.json", &document);
    assert_eq!(succeed(cwd, &["policy", "apply", "-f", "policy.json"]), "deploy: created\n");
    shop.client.get(&address).await.ok();
    shop.client.get(&format!("{address}?includeData=true")).await.error(403, FORBIDDEN);
    assert_eq!(succeed(cwd, &["policy", "apply", "-f", "policy.json"]), "deploy: unchanged\n");
    assert_eq!(succeed(cwd, &["policy", "show", "deploy"]), document);
    let shown = run_json(cwd, &["policy", "show", "deploy"]);
    assert_eq!(shown["identities"], json!([USER]));
    assert!(shown["createdAt"].is_string(), "{shown}");
    assert_eq!(run_json(cwd, &["policy", "list"]), json!([shown]));
    let list = succeed(cwd, &["policy", "list"]);
    assert!(list.contains("deploy") && list.contains("For deploy"), "{list}");

    // What is shown can be applied again, from standard input too.
    let mut command = okmsd(cwd, &["policy", "apply", "-f", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
    let denies = shop.document("stop", USER, "deny");
    let file = format!("[{shown},\n{denies}]");
    child.stdin.take().expect("a pipe").write_all(file.as_bytes()).expect("to write");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "deploy: replaced\nstop: created\n");
    shop.client.get(&address).await.error(403, FORBIDDEN);

    assert_eq!(succeed(cwd, &["policy", "delete", "stop"]), "Deleted stop.\n");
    shop.client.get(&address).await.ok();
    succeed(cwd, &["policy", "delete", "deploy"]);
    shop.client.get(&address).await.error(403, FORBIDDEN);
    for arguments in [["policy", "delete", "deploy"], ["policy", "show", "deploy"]] {
        assert_eq!(fail(cwd, &arguments, 1), "okmsd: deploy: there is no such policy\n");
    }
}

#[tokio::test]
async fn a_check_says_by_which_policy_and_on_which_line() {
    let shop = Shop::open().await;
    let cwd = shop.cwd();
    let who = ["--identity", USER];
    let get = [GET, "--path", "prod/db"];
    let found = shop.denied(&who, &get);
    assert_eq!(
        (&found["decision"], &found["why"]),
        (&json!("denied"), &json!("no policy names the caller"))
    );

    let allows = shop.document("allows", USER, "allow");
    shop.write("allows.json", &allows);
    succeed(cwd, &["policy", "apply", "-f", "allows.json"]);
    let found = run_json(cwd, &shop.check(&who, &get));
    assert_eq!(found["decision"], "allowed");
    assert_eq!(found["decidedBy"], "allows");
    let line = |text: &str, number: &Value| {
        let number = number.as_u64().expect("a number") as usize;
        text.lines().nth(number - 1).expect("a line").to_owned()
    };
    assert!(line(&allows, &found["line"]).contains(GET));
    assert!(line(&allows, &found["identityLine"]).contains(USER));
    assert!(line(&allows, &found["resourceLine"]).contains("/secret/prod%2F*"));
    let resource = format!("urn:v1:eu:resource:okms:{}/secret/prod%2Fdb", shop.domain);
    assert_eq!(found["resource"], resource);
    let text = succeed(cwd, &shop.check(&who, &get));
    assert!(text.starts_with("allowed: policy \"allows\", line 14\n"), "{text}");
    assert!(text.contains("Caller named:   line 5\n") && text.contains(&resource), "{text}");

    // The same by the credential and by its certificate, as the server itself decides.
    let certificate = shop.certificate.to_str().expect("UTF-8");
    for who in [["--credential", &shop.credential], ["--certificate", certificate]] {
        let found = run_json(cwd, &shop.check(&who, &get));
        assert_eq!((&found["decidedBy"], &found["identities"]), (&json!("allows"), &json!([USER])));
    }
    shop.client.get(&shop.secret()).await.ok();

    // Nearly.
    let found = shop.denied(&who, &["okms:apikms:secret/delete", "--path", "prod/db"]);
    assert_eq!(found["policiesOfCaller"][0]["policy"], "allows");
    let why = found["policiesOfCaller"][0]["why"].as_str().expect("a text");
    assert!(why.contains("does not allow this action"), "{why}");
    let found = shop.denied(&who, &[GET, "--path", "production/db"]);
    let why = found["policiesOfCaller"][0]["why"].as_str().expect("a text");
    assert!(why.contains("not this resource"), "{why}");
    shop.denied(&who, &["okms:apikms:secretConfig/get"]);

    // A deny, with its line.
    shop.write("denies.json", &format!("\n\n{}", shop.document("denies", USER, "deny")));
    succeed(cwd, &["policy", "apply", "-f", "denies.json"]);
    let found = shop.denied(&who, &get);
    assert_eq!((&found["decidedBy"], &found["line"]), (&json!("denies"), &json!(16)));
    let shown = succeed(cwd, &["policy", "show", "denies"]);
    assert!(line(&shown, &found["line"]).contains(GET));
    let root = ["--identity", USER, "--identity", "urn:v1:eu:identity:account:dev"];
    assert_eq!(run_json(cwd, &shop.check(&root, &get))["decidedBy"], "root");

    // A credential that does not count is denied whatever policies say.
    succeed(cwd, &["policy", "delete", "denies"]);
    succeed(cwd, &["credential", "revoke", &shop.credential]);
    let found = shop.denied(&["--credential", &shop.credential], &get);
    assert_eq!(
        (&found["why"], &found["decidedBy"]),
        (&json!("the credential is REVOKED"), &Value::Null)
    );
    let other = run_json(cwd, &["domain", "create", "--name", "other"]);
    let other = other["okmsId"].as_str().expect("an id");
    let arguments = [
        "policy",
        "check",
        "--domain",
        other,
        "--action",
        GET,
        "--path",
        "a",
        "--credential",
        &shop.credential,
    ];
    let output = run(cwd, &arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("denied: the credential counts in the domain"), "{text}");
}

#[tokio::test]
async fn groups_lend_their_rights_to_their_members() {
    let shop = Shop::open().await;
    let (cwd, address) = (shop.cwd(), shop.secret());
    shop.write("team.json", &shop.document("team", GROUP, "allow"));
    succeed(cwd, &["policy", "apply", "--file", "team.json"]);
    shop.client.get(&address).await.error(403, FORBIDDEN);
    let service_account = "urn:v1:eu:identity:credential:dev/oauth2-EU.1";
    let added = succeed(cwd, &["group", "add", GROUP, USER, service_account]);
    assert_eq!(added, "Added 2 members.\n");
    shop.client.get(&address).await.ok();
    let check = shop.check(&["--identity", USER], &[GET, "--path", "prod/db"]);
    let found = run_json(cwd, &check);
    assert_eq!(
        (&found["decidedBy"], &found["identities"]),
        (&json!("team"), &json!([USER, GROUP]))
    );
    let expected = json!([{"urn": GROUP, "members": [service_account, USER]}]);
    assert_eq!(run_json(cwd, &["group", "list"]), expected);
    assert!(succeed(cwd, &["group", "list"]).contains(service_account));
    assert_eq!(succeed(cwd, &["group", "remove", GROUP, USER]), "Removed 1 member.\n");
    shop.client.get(&address).await.error(403, FORBIDDEN);
    let deleted = succeed(cwd, &["group", "delete", GROUP]);
    assert_eq!(deleted, format!("Deleted {GROUP}, with 1 member.\n"));
    let errors = fail(cwd, &["group", "delete", GROUP], 1);
    assert!(errors.contains("there is no such group"), "{errors}");

    let account = "urn:v1:eu:identity:account:dev";
    for member in [account, GROUP] {
        let errors = fail(cwd, &["group", "add", GROUP, member], 1);
        assert!(errors.contains("cannot be a member"), "{errors}");
    }
    let errors = fail(cwd, &["group", "add", account, USER], 1);
    assert!(errors.contains("is no group"), "{errors}");
    for arguments in [
        &["group", "add", "team", USER][..],
        &["group", "add", GROUP],
        &["group", "add", GROUP, "me"],
    ] {
        fail(cwd, arguments, 2);
    }
    assert_eq!(run_json(cwd, &["group", "list"]), json!([]));
}

#[tokio::test]
async fn what_is_not_enforced_is_not_applied() {
    let shop = Shop::open().await;
    let cwd = shop.cwd();
    let good = shop.document("p", USER, "allow");
    for (text, rule) in [
        (good.replace("\"name\"", "\"conditions\": {}, \"name\""), "conditions is not enforced"),
        (
            good.replace(GET, "okms:apikms:secret/gett"),
            "line 14, permissions.allow: there is no such action",
        ),
        (
            good.replace("prod%2F*", "prod/%2e%2e/*"),
            "line 9, resources: path must not contain the segments",
        ),
        (
            good.replace(&format!("okms:{}", shop.domain), "okms:*"),
            "no '*' reaches beyond one domain",
        ),
        (good.replace("v1:eu:resource", "v1:us:resource"), "is in the region"),
        (good.replace("{", "{{"), "the policy: "),
        (format!("[{good},{good}]"), "two policies named p"),
        (String::new(), "the policy: "),
    ] {
        shop.write("bad.json", &text);
        let errors = fail(cwd, &["policy", "apply", "-f", "bad.json"], 1);
        assert!(errors.contains("nothing is applied") && errors.contains(rule), "{errors}");
    }
    fs::write(cwd.join("bad.json"), [0xff, 0xfe]).expect("a file");
    fail(cwd, &["policy", "apply", "-f", "bad.json"], 1);
    fail(cwd, &["policy", "apply", "-f", "none.json"], 1);
    fail(cwd, &["policy", "apply", "-f", "/dev/zero"], 1);
    fail(cwd, &["policy", "apply"], 2);
    assert_eq!(run_json(cwd, &["policy", "list"]), json!([]));

    shop.write("warn.json", &good.replace("secret/create", "serviceKey/sign"));
    let output = run(cwd, &["policy", "apply", "-f", "warn.json"]);
    assert!(output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(errors, "okmsd: warning: p: line 13: this action has no effect here\n");
}

#[tokio::test]
async fn a_check_of_what_cannot_be_is_bad_usage() {
    let shop = Shop::open().await;
    let cwd = shop.cwd();
    let who = ["--identity", USER];
    for (who, more) in [
        (&who[..], &[GET][..]),
        (&who, &["okms:apikms:secretConfig/get", "--path", "a"]),
        (&who, &["okms:apikms:secret/gett", "--path", "a"]),
        (&who, &["okms:apikms:*", "--path", "a"]),
        (&who, &[GET, "--path", "a/../b"]),
        (&who, &[GET, "--path", "a%2Fb"]),
        (&["--identity", "me"], &[GET, "--path", "a"]),
        (&["--credential", "me"], &[GET, "--path", "a"]),
        (&["--credential", &shop.credential, "--identity", USER], &[GET, "--path", "a"]),
        (&[], &[GET, "--path", "a"]),
    ] {
        fail(cwd, &shop.check(who, more), 2);
    }
    let nobody = "00000000-0000-0000-0000-000000000001";
    let errors = fail(cwd, &shop.check(&["--credential", nobody], &[GET, "--path", "a"]), 1);
    assert!(errors.contains("there is no such credential"), "{errors}");
    shop.write("x.pem", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n");
    let errors = fail(cwd, &shop.check(&["--certificate", "x.pem"], &[GET, "--path", "a"]), 1);
    assert!(errors.contains("the server would refuse x.pem"), "{errors}");
    let arguments = ["policy", "check", "--domain", nobody, "--action", GET, "--path", "a"];
    let errors = fail(cwd, &[&arguments[..], &who].concat(), 1);
    assert!(errors.contains("there is no such domain"), "{errors}");
}

#[tokio::test]
async fn whoever_makes_a_credential_without_rights_is_told() {
    let shop = Shop::open().await;
    let cwd = shop.cwd();
    let create = |identity: &str| {
        let arguments = [
            "credential",
            "create",
            "--domain",
            &shop.domain,
            "--name",
            "x",
            "--identity",
            identity,
        ];
        let output = run(cwd, &arguments);
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stderr).contains("may do nothing yet")
    };
    assert!(create(USER));
    assert!(!create("urn:v1:eu:identity:account:dev"));
    shop.write("team.json", &shop.document("team", GROUP, "allow"));
    succeed(cwd, &["policy", "apply", "--file", "team.json"]);
    assert!(create(USER));
    succeed(cwd, &["group", "add", GROUP, USER]);
    assert!(!create(USER));
}

#[tokio::test]
async fn a_damaged_policy_is_named_shown_and_mended() {
    let shop = Shop::open().await;
    let (cwd, address) = (shop.cwd(), shop.secret());
    for name in ["damaged", "sound"] {
        shop.write("p.json", &shop.document(name, USER, "allow"));
        succeed(cwd, &["policy", "apply", "-f", "p.json"]);
    }
    shop.client.get(&address).await.ok();
    let options = SqliteConnectOptions::new().filename(cwd.join("certs/dev/okmsd.db"));
    let mut connection = SqliteConnection::connect_with(&options).await.expect("a store");
    connection
        .execute(
            "UPDATE policies SET document = '{\"conditions\":1}' WHERE name = 'damaged'; \
             UPDATE revisions SET iam = iam + 1",
        )
        .await
        .expect("damage");

    // Root goes on, others do not; and it is told once which policy it is, not at each request.
    for _ in 0..3 {
        assert_eq!(shop.client.get(&address).await.status, 500);
        assert_eq!(shop.trial.client().get(&address).await.status, 200);
    }
    let log = shop.trial.printed();
    let named = "the stored policy damaged cannot be read: ";
    assert_eq!(log.matches(named).count(), 1, "{log}");

    let output = run(cwd, &["policy", "list"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let line = |name: &str| text.lines().find(|line| line.starts_with(name)).expect("a line");
    assert!(line("damaged").contains("unreadable: "), "{text}");
    assert!(line("sound").ends_with("For sound"), "{text}");
    let output = run(cwd, &["policy", "list", "--format", "json"]);
    let listed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&listed[0]["name"], &listed[1]["name"]), (&json!("damaged"), &json!("sound")));
    assert!(listed[0]["unreadable"].is_string() && listed[1]["unreadable"].is_null(), "{listed}");

    let output = run(cwd, &["policy", "show", "damaged"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stdout, b"{\"conditions\":1}\n");
    let errors = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(errors.starts_with("okmsd: damaged: the stored policy cannot be read: "), "{errors}");
    succeed(cwd, &["policy", "show", "sound"]);

    // A check says what a request would come to.
    let get = [GET, "--path", "prod/db"];
    let errors = fail(cwd, &shop.check(&["--identity", USER], &get), 1);
    assert!(errors.contains(named), "{errors}");
    let root = ["--identity", "urn:v1:eu:identity:account:dev"];
    assert_eq!(run_json(cwd, &shop.check(&root, &get))["decidedBy"], "root");

    shop.write("p.json", &shop.document("damaged", USER, "allow"));
    assert_eq!(succeed(cwd, &["policy", "apply", "-f", "p.json"]), "damaged: replaced\n");
    shop.client.get(&address).await.ok();
    connection.execute("UPDATE policies SET document = ''").await.expect("damage");
    for name in ["damaged", "sound"] {
        succeed(cwd, &["policy", "delete", name]);
    }
    shop.client.get(&address).await.error(403, FORBIDDEN);
}

#[tokio::test]
async fn a_damaged_group_is_shown_and_deleted() {
    let shop = Shop::open().await;
    let cwd = shop.cwd();
    let options = SqliteConnectOptions::new().filename(cwd.join("certs/dev/okmsd.db"));
    let mut connection = SqliteConnection::connect_with(&options).await.expect("a store");
    let damage =
        "INSERT INTO group_members (group_urn, member_urn, created_at) VALUES ('x', 'y', 0)";
    connection.execute(damage).await.expect("damage");
    succeed(cwd, &["group", "add", GROUP, USER]);
    let output = run(cwd, &["group", "list", "--format", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let listed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(listed[0], json!({"urn": GROUP, "members": [USER]}));
    assert_eq!((&listed[1]["urn"], &listed[1]["members"]), (&json!("x"), &json!(["y"])));
    assert!(listed[1]["unreadable"].is_string(), "{listed}");
    let errors = fail(cwd, &shop.check(&["--identity", USER], &[GET, "--path", "a"]), 1);
    assert!(errors.contains("the stored group x cannot be read"), "{errors}");
    assert_eq!(succeed(cwd, &["group", "delete", "x"]), "Deleted x, with 1 member.\n");
    fail(cwd, &["group", "delete", "x"], 1);
    run_json(cwd, &["group", "list"]);
}

#[tokio::test]
async fn rows_that_no_name_can_tell_are_listed_and_deleted() {
    let shop = Shop::open().await;
    let cwd = shop.cwd();
    for name in ["old", "sound"] {
        shop.write("p.json", &shop.document(name, USER, "allow"));
        succeed(cwd, &["policy", "apply", "-f", "p.json"]);
    }
    succeed(cwd, &["group", "add", GROUP, USER]);
    let options = SqliteConnectOptions::new().filename(cwd.join("certs/dev/okmsd.db"));
    let mut connection = SqliteConnection::connect_with(&options).await.expect("a store");
    let lax = "PRAGMA writable_schema = ON; \
               UPDATE sqlite_schema SET sql = replace(sql, 'STRICT', '') WHERE name = 'policies'";
    connection.execute(lax).await.expect("a table that takes anything");
    connection.close().await.expect("to close");
    let mut connection = SqliteConnection::connect_with(&options).await.expect("a store");
    connection
        .execute(
            "UPDATE policies SET created_at = 'x', updated_at = x'00' WHERE name = 'old'; \
             INSERT INTO policies (name, document, created_at, updated_at) \
             VALUES (CAST(x'ff1b' AS TEXT), '', 0, 0), (x'fe', '', 0, 0); \
             INSERT INTO group_members (group_urn, member_urn, created_at) \
             VALUES (CAST(x'ff' AS TEXT), 'm', 0)",
        )
        .await
        .expect("damage");

    let output = run(cwd, &["policy", "list"]);
    let errors = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(errors.starts_with("okmsd: 2 policies cannot be read; "), "{errors}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let line = |part: &str| text.lines().find(|line| line.contains(part)).expect("a line");
    assert!(line("For old").contains("(damaged)"), "{text}");
    assert!(line("For sound").starts_with("sound"), "{text}");
    assert!(line("its row is fe").contains("unreadable: its name is no text"), "{text}");
    assert!(line("its row is ff1b").starts_with("\u{fffd}\\u001b "), "{text}");
    let output = run(cwd, &["policy", "list", "--format", "json"]);
    let listed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let rows = listed.as_array().expect("a list").iter().map(|policy| policy["row"].as_str());
    assert_eq!(rows.collect::<Vec<_>>(), [None, None, Some("fe"), Some("ff1b")]);

    for row in ["fe", "ff1b"] {
        let delete = ["policy", "delete", "--row", row];
        assert_eq!(succeed(cwd, &delete), format!("Deleted {row}.\n"));
        assert_eq!(fail(cwd, &delete, 1), format!("okmsd: {row}: there is no such policy\n"));
    }
    // The bytes of a sound one, but no text: the two are told apart.
    let twin = "INSERT INTO policies (name, document, created_at, updated_at) \
                VALUES (CAST('sound' AS BLOB), '', 0, 0)";
    connection.execute(twin).await.expect("damage");
    let delete = ["policy", "delete", "--row", "736f756e64"];
    assert!(fail(cwd, &delete, 1).contains("more than one row has these bytes"));
    succeed(cwd, &["policy", "delete", "sound"]);
    succeed(cwd, &delete);
    shop.write("p.json", &shop.document("sound", USER, "allow"));
    succeed(cwd, &["policy", "apply", "-f", "p.json"]);
    let listed = run_json(cwd, &["policy", "list"]);
    assert_eq!((&listed[0]["name"], &listed[1]["name"]), (&json!("old"), &json!("sound")));
    assert_eq!((&listed[0]["createdAt"], &listed[0]["updatedAt"]), (&Value::Null, &Value::Null));
    assert_eq!(run_json(cwd, &["policy", "show", "old"]), listed[0]);

    let output = run(cwd, &["group", "list"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.contains("; its row is ff.6d\n"), "{text}");
    let output = run(cwd, &["group", "list", "--format", "json"]);
    let listed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(listed[0], json!({"urn": GROUP, "members": [USER]}));
    assert_eq!(listed[1]["rows"], json!(["ff.6d"]));
    let delete = ["group", "delete", "--row", "ff.6d"];
    assert_eq!(succeed(cwd, &delete), "Deleted ff.6d, with 1 member.\n");
    assert_eq!(fail(cwd, &delete, 1), "okmsd: ff.6d: there is no such row\n");
    run_json(cwd, &["group", "list"]);

    for what in ["policy", "group"] {
        fail(cwd, &[what, "delete"], 2);
        fail(cwd, &[what, "delete", "old", "--row", "ff"], 2);
        fail(cwd, &[what, "delete", "--row", "xx"], 2);
    }
    shop.client.get(&shop.secret()).await.ok();
}
