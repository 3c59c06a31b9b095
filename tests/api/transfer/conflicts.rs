//! What an import leaves alone, and what it says of that.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use rustix::fs::{CWD, Mode, mkfifoat};

use super::{
    caller::Caller,
    scene::{all_of, moved},
};
use crate::{
    rights::{self, GET, GET_DATA},
    support::{Server, both_engines},
};

both_engines!(
    another_secret_is_left_alone_and_named,
    what_is_cut_off_or_changed_is_refused,
    a_caller_without_rights_is_told_what_it_lacks,
    one_that_is_not_let_in_is_told_so,
);

async fn another_secret_is_left_alone_and_named(server: Server) {
    let (from, to) = (server.domain().await, server.domain().await);
    for path in ["data", "free", "numbers", "settings", "state"] {
        from.create(path, r#"{"k":1}"#).await;
    }
    to.create("data", r#"{"k":2}"#).await;
    to.create("numbers", r#"{"k":1}"#).await;
    to.add_version("numbers").await;
    to.create("settings", r#"{"k":1}"#).await;
    to.client.put(&to.secret("settings"), r#"{"metadata":{"maxVersions":5}}"#).await.ok();
    to.create("state", r#"{"k":1}"#).await;
    to.set_state("state", 1, "deleted").await.ok();
    let before = all_of(&to).await;
    let (exporter, importer) = (Caller::of(&server, &from), Caller::of(&server, &to));
    exporter.succeed(&["export", "--out", "all.jsonl"]);
    importer.take(&exporter.file("all.jsonl"));
    for dry_run in [&["--dry-run"][..], &[]] {
        let said = importer.run(&[&["import", "file", "all.jsonl"], dry_run].concat());
        assert_eq!(said.code, Some(1), "{said:?}");
        for (path, why) in [
            ("data", "its version 1 differs"),
            ("numbers", "its versions have other numbers"),
            ("settings", "its settings differ"),
            ("state", "its version 1 differs"),
        ] {
            let told = format!(
                "{path}: there is another secret at this path, which is left alone: {why}\n"
            );
            assert!(said.err.contains(&told), "{told} {said:?}");
        }
        assert!(said.err.ends_with("okmsd: 4 things were not taken as they are\n"), "{said:?}");
    }
    let mut expected = [before, moved(&all_of(&from).await, "free", "free")].concat();
    expected.sort_by_key(|secret| secret["path"].as_str().unwrap().to_owned());
    assert_eq!(all_of(&to).await, expected);
}

async fn what_is_cut_off_or_changed_is_refused(server: Server) {
    let (from, to) = (server.domain().await, server.domain().await);
    from.create("a", r#"{"k":"hunter2"}"#).await;
    from.create("b", r#"{"k":"hunter2"}"#).await;
    let (exporter, importer) = (Caller::of(&server, &from), Caller::of(&server, &to));
    exporter.succeed(&["export", "--out", "all.jsonl"]);
    let text = fs::read_to_string(exporter.file("all.jsonl")).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let without = |line: usize| {
        let kept = lines.iter().enumerate().filter(|(number, _)| *number != line);
        kept.map(|(_, line)| format!("{line}\n")).collect::<String>()
    };
    for (number, broken) in [
        without(5),
        text[..text.len() - 3].to_owned(),
        without(0),
        without(4),
        text.replace("\"formatVersion\":1", "\"formatVersion\":2"),
        text.replace("\"id\":1", "\"id\":x"),
    ]
    .into_iter()
    .enumerate()
    {
        fs::write(importer.file("broken.jsonl"), broken).unwrap();
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(importer.file("broken.jsonl"), private).unwrap();
        let err = importer.fail(&["import", "file", "broken.jsonl"]);
        assert!(err.contains("broken.jsonl"), "{number}: {err}");
        assert!(!err.contains("hunter2"), "{number}: {err}");
    }
    // Nor is a whole one that others could have read or written.
    fs::set_permissions(exporter.file("all.jsonl"), fs::Permissions::from_mode(0o644)).unwrap();
    let err = exporter.fail(&["import", "file", "all.jsonl", "--to", "copy"]);
    assert!(err.contains("mend it with: chmod 600 all.jsonl"), "{err}");
    let said = exporter.run(&["export", "--out", "-"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.out.is_empty() && said.err.contains("an export goes to a file"), "{said:?}");
    // An unfinished file of something else is not gone on with.
    let unfinished = exporter.file("x.jsonl.unfinished");
    fs::write(&unfinished, format!("{}\n", lines[0])).unwrap();
    for (mode, told) in [(0o644, "others may read"), (0o600, "is the beginning of another export")]
    {
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(mode)).unwrap();
        let err = exporter.fail(&["export", "a", "--out", "x.jsonl"]);
        assert!(err.contains(told), "{err}");
    }
    // Nor is what is no export, nor what is not ours alone, nor is a link followed.
    let precious = exporter.file("precious");
    for text in ["hunter2", "hunter2\n", "{\"version\":{\"id\":1,\"state\":\"active\"}}\n"] {
        fs::write(&unfinished, text).unwrap();
        let err = exporter.fail(&["export", "--out", "x.jsonl"]);
        assert!(err.contains("is not a whole export of this format"), "{err}");
        assert_eq!(fs::read_to_string(&unfinished).unwrap(), text);
    }
    let (note, out) = ("note", "z.jsonl.unfinished");
    for name in [note, out] {
        let path = exporter.file(name);
        let arguments = ["export", "--open-deactivated", note, "--out", "z.jsonl"];
        fs::write(&precious, "").unwrap();
        fs::set_permissions(&precious, fs::Permissions::from_mode(0o600)).unwrap();
        symlink(&precious, &path).unwrap();
        let err = exporter.fail(&arguments);
        assert!(err.contains(&format!("cannot use {name}: Too many levels")), "{err}");
        fs::remove_file(&path).unwrap();
        fs::hard_link(&precious, &path).unwrap();
        let err = exporter.fail(&arguments);
        assert!(err.contains(&format!("cannot use {name}: it has another name too")), "{err}");
        fs::remove_file(&path).unwrap();
        mkfifoat(CWD, &path, Mode::RWXU).unwrap();
        let err = exporter.fail(&arguments);
        assert!(err.contains(&format!("cannot use {name}: it is no plain file")), "{err}");
        fs::remove_file(&path).unwrap();
        assert_eq!(fs::read_to_string(&precious).unwrap(), "");
    }
    symlink(exporter.file("nothing"), exporter.file("z.jsonl")).unwrap();
    let err = exporter.fail(&["export", "--out", "z.jsonl"]);
    assert!(err.contains("z.jsonl is there already"), "{err}");
    // Nor is a file that was named by mistake taken for a note.
    for text in ["precious", "precious\n"] {
        fs::write(exporter.file("precious"), text).unwrap();
        let err = exporter.fail(&["export", "--open-deactivated", "precious", "--out", "y.jsonl"]);
        assert!(err.contains("is no note of this program"), "{err}");
        assert_eq!(fs::read_to_string(exporter.file("precious")).unwrap(), text);
    }
}

async fn a_caller_without_rights_is_told_what_it_lacks(server: Server) {
    let domain = server.domain().await;
    for path in ["mine/a", "mine/b", "theirs/a"] {
        domain.create(path, r#"{"k":"hunter2"}"#).await;
    }
    let okms_id = domain.okms_id;
    let user = rights::user("reader");
    let (cert, key) = rights::identified(&server, okms_id, &[&user]).await;
    let mine = [rights::resource(okms_id, "/secret/mine/*")];
    rights::apply(&server, "get", &user, &mine, &[("allow", &[GET])]).await;
    let caller = Caller::with(&server, &domain, (&cert, &key));
    let err = caller.fail(&["export", "--out", "all.jsonl"]);
    assert!(err.contains("cannot read version 1 of mine/a: 403 Forbidden"), "{err}");
    assert!(err.contains("okms:apikms:secret/version/getData"), "{err}");
    // With the right it goes on, with what the caller may see.
    rights::apply(&server, "data", &user, &mine, &[("allow", &[GET_DATA])]).await;
    assert_eq!(caller.succeed(&["export", "--out", "all.jsonl"]), "2 secrets, 2 versions\n");
    let err = caller.fail(&["import", "file", "all.jsonl", "--to", "theirs"]);
    assert!(err.contains("cannot read theirs/mine/a: 403 Forbidden"), "{err}");
    let err = caller.fail(&["import", "file", "all.jsonl", "--to", "mine/too"]);
    assert!(err.contains("cannot make mine/too/mine/a: 403 Forbidden"), "{err}");
    assert!(!err.contains("hunter2"), "{err}");
}

async fn one_that_is_not_let_in_is_told_so(server: Server) {
    let (domain, other) = (server.domain().await, server.domain().await);
    let caller = Caller::with(&server, &domain, (&other.certificate_pem, &other.private_key_pem));
    let err = caller.fail(&["export", "--out", "a.jsonl"]);
    assert!(err.contains("cannot list domain") && err.contains("404 Not Found"), "{err}");
    assert!(!caller.file("a.jsonl.unfinished").exists());
    let mut command = caller.command(&["export", "--out", "a.jsonl"]);
    let output = command.env("OKMS_ENDPOINT", "http://127.0.0.1:1").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let mut command = caller.command(&["export", "--out", "b.jsonl"]);
    let output = command.env("OKMS_ENDPOINT", "https://127.0.0.1:1").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}
