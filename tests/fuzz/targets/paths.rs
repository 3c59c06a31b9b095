//! Secret paths, and how requests for them are folded before they are routed.

#![no_main]

use std::{
    convert::Infallible,
    future::Ready,
    task::{Context, Poll},
};

use axum::http::{Request, Uri};
use okmsd::{api::fuzzing::Folded, domain::SecretPath};
use tower::Service;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let taken = SecretPath::parse(text);
    assert_eq!(taken.is_ok(), is_a_path(text), "{text:?}");
    if let Ok(path) = &taken {
        assert_eq!(path.as_str(), text);
    }
    for base in [V2, CENTRAL, DATA, METADATA] {
        let Ok(uri) = format!("{base}{text}").parse::<Uri>() else { continue };
        let folded = fold(uri.clone());
        // Slashes are encoded, and nothing else is done: nothing is decoded, and nothing is lost.
        assert_eq!(folded.path().replace("%2F", "/"), uri.path().replace("%2F", "/"));
        assert_eq!(folded.query(), uri.query());
        assert!(
            folded.path().starts_with(base.trim_end_matches('/')) || base.len() > uri.path().len()
        );
        assert_eq!(fold(folded.clone()), folded, "folding twice does more than once");
    }
    if taken.is_ok() && !text.contains("version") && !text.contains('?') {
        // A path of any number of segments is one segment of a route.
        for base in [V2, CENTRAL, DATA, METADATA] {
            let folded = fold(format!("{base}{text}").parse().expect("a path is fit for a URI"));
            assert_eq!(folded.path(), format!("{base}{}", text.replace('/', "%2F")));
        }
    }
});

/// The rule in other words.
fn is_a_path(text: &str) -> bool {
    let is_fit = |char: char| char.is_ascii_alphanumeric() || "_.:/=@-".contains(char);
    let is_segment = |segment: &str| !["", ".", ".."].contains(&segment);
    text.len() <= 255 && text.chars().all(is_fit) && text.split('/').all(is_segment)
}

fn fold(uri: Uri) -> Uri {
    let request = Request::builder().uri(uri).body(()).expect("a request");
    let Ok(folded) = Folded::new(Echo).call(request).into_inner();
    folded
}

/// Answers with the address that it was asked for.
struct Echo;

impl Service<Request<()>> for Echo {
    type Response = Uri;
    type Error = Infallible;
    type Future = Ready<Result<Uri, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        std::future::ready(Ok(request.uri().clone()))
    }
}

const V2: &str = "/api/7e5bb0b2-0a6b-4a0c-9a3f-5c9d0e1f2a3b/v2/secret/";
const CENTRAL: &str = "/v2/okms/resource/7e5bb0b2-0a6b-4a0c-9a3f-5c9d0e1f2a3b/secret/";
const DATA: &str = "/api/7e5bb0b2-0a6b-4a0c-9a3f-5c9d0e1f2a3b/v1/secret/data/";
const METADATA: &str = "/api/7e5bb0b2-0a6b-4a0c-9a3f-5c9d0e1f2a3b/v1/secret/metadata/";
