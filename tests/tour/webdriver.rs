//! As much of the WebDriver protocol as these tests need.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};

/// ChromeDriver and its port; nothing where it ends at once.
fn start_driver(home: &Path) -> Option<(Child, u16)> {
    let mut driver = Command::new("chromedriver")
        .arg("--port=0")
        .env("HOME", home)
        .env_remove("XDG_CONFIG_HOME")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("chromedriver");
    let output = BufReader::new(driver.stdout.take().expect("a pipe"));
    let port = output.lines().map_while(Result::ok).find_map(|line| {
        let (_, port) = line.split_once("successfully on port ")?;
        port.trim_end_matches('.').parse::<u16>().ok()
    });
    if port.is_none() {
        driver.wait().expect("its end");
    }
    Some((driver, port?))
}

/// Headless Chromium under ChromeDriver.
pub struct Browser {
    driver: Child,
    session: String,
    http: Client<HttpConnector, Full<Bytes>>,
}

impl Browser {
    /// Starts a browser whose certificate store and profile are under `home`.
    pub async fn start(home: &Path) -> Self {
        // The port that the system gives it on one loopback address may be taken on the other; then it ends.
        let (driver, port) = (0..5).find_map(|_| start_driver(home)).expect("ChromeDriver's port");
        let address = format!("http://127.0.0.1:{port}");
        let http = Client::builder(TokioExecutor::new()).build_http();
        let mut browser = Self { driver, session: String::new(), http };
        let profile = format!("--user-data-dir={}", home.join("profile").display());
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"binary": chromium(), "args": [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic",
                "--no-first-run", "--disable-background-networking", "--disable-component-update",
                "--disable-sync", "--disable-dev-shm-usage", "--window-size=1400,2000", profile,
            ]}
        }}});
        browser.session = format!("{address}/session");
        let session = browser.post("", capabilities).await;
        let id = session["sessionId"].as_str().unwrap_or_else(|| panic!("{session}")).to_owned();
        browser.session = format!("{address}/session/{id}");
        browser
    }

    pub async fn open(&self, url: &str) {
        let answer = self.post("/url", json!({"url": url})).await;
        assert!(answer.is_null(), "{url}: {answer}");
    }

    /// Runs a script in the page and gives what it returns.
    pub async fn script(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({"script": script, "args": []})).await
    }

    /// Waits until a script returns something that is neither null nor false, and gives it.
    pub async fn wait_for(&self, script: &str) -> Value {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let found = self.script(script).await;
            if !found.is_null() && found != false {
                return found;
            }
            if Instant::now() > deadline {
                let page = self.script("return document.body.innerText").await;
                panic!(
                    "waited in vain for `{script}`; console: {}; page: {page}",
                    self.log().await
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Clicks on the first element that matches a CSS selector, as a person would: what had the focus
    /// loses it, and an element that something covers cannot be clicked. The page may be drawn anew
    /// between finding the element and clicking on it.
    pub async fn click(&self, selector: &str) {
        let find = json!({"using": "css selector", "value": selector});
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let found = self.post("/element", find.clone()).await;
            let refused = match found[ELEMENT].as_str() {
                Some(id) => self.post(&format!("/element/{id}/click"), json!({})).await,
                None => found,
            };
            if refused.is_null() {
                return;
            }
            assert!(Instant::now() < deadline, "{selector}: {refused}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What the page said on the console.
    pub async fn log(&self) -> Value {
        self.post("/se/log", json!({"type": "browser"})).await
    }

    /// Messages of the console that tell of a refused script, style or request.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.log().await;
        let entries = log.as_array().cloned().unwrap_or_default();
        let severe = entries.into_iter().filter(|entry| entry["level"] == "SEVERE");
        severe.map(|entry| entry["message"].to_string()).collect()
    }

    async fn post(&self, command: &str, body: Value) -> Value {
        let request = Request::post(format!("{}{command}", self.session))
            .header("content-type", "application/json")
            .body(Full::new(body.to_string().into()))
            .expect("a request");
        let response = self.http.request(request).await.expect("an answer of ChromeDriver");
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        let mut answer: Value = serde_json::from_slice(&bytes).expect("JSON");
        answer["value"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ending the session ends the browser; in a thread of its own, since this may be a panic.
        let session = self.session.clone();
        let ended = std::thread::spawn(move || {
            Command::new("curl").args(["-s", "-m", "5", "-X", "DELETE", &session]).output()
        });
        let _ = ended.join();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Where WebDriver puts the id of an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Debian calls it chromium.
fn chromium() -> &'static str {
    "/usr/bin/chromium"
}
