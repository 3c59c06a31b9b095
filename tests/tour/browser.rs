//! Both Swagger UIs in a browser.

use std::{path::Path, process::Command};

use crate::{
    program::Dev,
    tools::{at_hand, leave_out},
    webdriver::Browser,
};

/// Set up by `.ci/run`: without it, Chromium asks a person which certificate to present.
const POLICY: &str = "/etc/chromium/policies/managed/okmsd-test.json";

#[tokio::test(flavor = "multi_thread")]
async fn the_public_page_links_to_the_other_one_and_sends_nothing() {
    let Some(home) = browser_home() else { return };
    let dev = Dev::start();
    trust(home.path(), &dev);
    let browser = Browser::start(home.path()).await;
    browser.open(dev.variable("OKMS_DOCS_URL")).await;
    let link =
        browser.wait_for("return document.querySelector('.info .renderedMarkdown a')?.href").await;
    assert_eq!(link, dev.variable("OKMS_SWAGGER_URL"));
    let operations = browser.wait_for("return document.querySelectorAll('.opblock').length").await;
    let document = include_str!("../../openapi/openapi.json");
    let document: serde_json::Value = serde_json::from_str(document).expect("JSON");
    let paths = document["paths"].as_object().expect("paths");
    let methods = ["get", "put", "post", "delete", "patch"];
    let of_path = |path: &serde_json::Value| {
        methods.iter().filter(|method| path.get(method).is_some()).count()
    };
    let expected: usize = paths.values().map(of_path).sum();
    assert_eq!(operations, expected, "each operation of the document");

    browser
        .script("document.querySelector('.opblock-post .opblock-summary-control').click()")
        .await;
    browser.wait_for("return document.querySelector('.opblock-post.is-open .opblock-body')").await;
    let buttons = "return [...document.querySelectorAll('.try-out__btn, .execute')].length";
    assert_eq!(browser.script(buttons).await, 0, "it offers to send a request");
    // Not even a script in the page could: the browser may connect to the page's own origin alone.
    let api = dev.variable("OKMS_ENDPOINT");
    let refused = browser
        .script(&format!("return fetch('{api}/').then(() => 'sent', () => 'refused')"))
        .await;
    assert_eq!(refused, "refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authenticated_page_creates_a_secret_with_the_browsers_certificate() {
    let Some(home) = browser_home() else { return };
    let dev = Dev::start();
    trust(home.path(), &dev);
    import_pkcs12(home.path(), &dev);
    let browser = Browser::start(home.path()).await;
    browser.open(dev.variable("OKMS_SWAGGER_URL")).await;
    let post = "[...document.querySelectorAll('.opblock-post')].find(block => \
                block.querySelector('.opblock-summary-path').innerText.replace(/\\u200b/g, '') \
                .endsWith('/v2/secret'))";
    browser.wait_for(&format!("return {post} != null")).await;
    browser.script(&format!("{post}.querySelector('.opblock-summary-control').click()")).await;
    // The id of the caller's own domain is filled in.
    let input = ".opblock-post.is-open tr[data-param-name=okmsId] input";
    let filled =
        browser.wait_for(&format!("return document.querySelector('{input}')?.value")).await;
    assert_eq!(filled, dev.variable("OKMS_ID"));
    // The document's own example is the body.
    browser.click(".opblock-post.is-open .execute").await;
    let live = format!("{post}.querySelector('.live-responses-table .response')");
    let status = browser
        .wait_for(&format!("return {live}?.querySelector('.response-col_status')?.innerText"))
        .await;
    let answer = browser.script(&format!("return {live}.innerText")).await;
    let answer = answer.as_str().expect("a text");
    assert!(status.as_str().is_some_and(|status| status.starts_with("200")), "{answer}");
    assert!(answer.contains(r#""currentVersion": 1"#), "{answer}");
    assert!(answer.contains("prod/database/MySQL"), "{answer}");
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}

/// A home folder for a browser with an empty certificate store; `None` where there is no browser.
fn browser_home() -> Option<tempfile::TempDir> {
    if !at_hand(&["chromium", "chromedriver", "certutil", "pk12util", "curl"]) {
        return None;
    }
    if !Path::new(POLICY).exists() {
        leave_out(&format!("{POLICY} is not there, see .ci/run"));
        return None;
    }
    let home = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(home.path().join(".pki/nssdb")).expect("a folder");
    nss(home.path(), "certutil", &["-N", "--empty-password"]);
    Some(home)
}

fn trust(home: &Path, dev: &Dev) {
    let ca = dev.variable("OKMS_CA");
    nss(home, "certutil", &["-A", "-t", "C,,", "-n", "okmsd test", "-i", ca]);
}

fn import_pkcs12(home: &Path, dev: &Dev) {
    let (file, password) = (dev.variable("OKMS_P12"), dev.variable("OKMS_P12_PASSWORD"));
    nss(home, "pk12util", &["-i", file, "-W", password, "-K", ""]);
}

#[track_caller]
fn nss(home: &Path, tool: &str, arguments: &[&str]) {
    let store = format!("sql:{}", home.join(".pki/nssdb").display());
    let mut command = Command::new(tool);
    command.env("HOME", home).args(["-d", &store]).args(arguments);
    let output = command.output().expect(tool);
    assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
}
