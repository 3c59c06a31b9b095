//! Splitting the raw path, before anything is decoded.
//!
//! Secret paths arrive with raw slashes (`/secret/prod/db/version/3`) and with encoded ones
//! (`/secret/prod%2Fdb/version/3`), and a route matches one segment. So raw slashes *inside* the
//! secret path are encoded here, before routing; the suffixes `/version` and `/version/{version}` are
//! told apart on the raw text. What is then matched is decoded exactly once, by the router.
//!
//! A secret whose own path ends in `/version` or `/version/…` is named with that slash encoded:
//! `foo%2Fversion` is the secret, `foo/version` the list of versions of `foo`.

use std::task::{Context, Poll};

use axum::http::{Method, Request, Uri, uri::PathAndQuery};
use tower::Service;

/// A service that is reached with folded paths.
#[derive(Clone)]
pub struct Folded<S>(S);

impl<S> Folded<S> {
    /// Wraps a service.
    pub const fn new(inner: S) -> Self {
        Self(inner)
    }
}

impl<S, B> Service<Request<B>> for Folded<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if let Some(folded) = fold(request.uri()) {
            *request.uri_mut() = folded;
        }
        if request.method().as_str() == "LIST"
            && let Some(listed) = as_list(request.uri())
        {
            *request.uri_mut() = listed;
            *request.method_mut() = Method::GET;
        }
        self.0.call(request)
    }
}

fn fold(uri: &Uri) -> Option<Uri> {
    let mut folded = fold_path(uri.path())?;
    if let Some(query) = uri.query() {
        folded.push('?');
        folded.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(folded).ok()?);
    Uri::from_parts(parts).ok()
}

/// Clients of KV2 write `LIST` where others write `GET` with `?list=true`; no router knows that method. Where
/// the API has no lists the method stays, and is refused.
fn as_list(uri: &Uri) -> Option<Uri> {
    let (_, operation) = kv2_operation(uri.path())?;
    if operation != "metadata" {
        return None;
    }
    let said = |pair: &&str| *pair == "list" || pair.starts_with("list=");
    let others = uri.query().unwrap_or_default().split('&').filter(|pair| !said(pair));
    let others: String =
        others.filter(|pair| !pair.is_empty()).map(|pair| format!("{pair}&")).collect();
    let listed = format!("{}?{others}list=true", uri.path());
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(listed).ok()?);
    Uri::from_parts(parts).ok()
}

/// The path with the raw slashes of its secret path encoded; `None` where there is nothing to do.
fn fold_path(path: &str) -> Option<String> {
    let start = secret_path_start(path)?;
    let (base, target) = path.split_at(start);
    if target.is_empty() {
        return None;
    }
    // Of the KV2 API all that follows is the secret path.
    let (secret, suffix) =
        if kv2_operation(path).is_some() { (target, "") } else { split_suffix(target) };
    // A query may follow.
    let mut folded = String::with_capacity(2 * path.len() + USUAL_QUERY);
    folded.push_str(base);
    for (number, segment) in secret.split('/').enumerate() {
        folded.push_str(if number == 0 { "" } else { "%2F" });
        folded.push_str(segment);
    }
    folded.push_str(suffix);
    Some(folded)
}

/// Where the secret path begins: after `/api/{okmsId}/v2/secret/` or its central form, or after an operation
/// of the KV2 API, such as `/api/{okmsId}/v1/secret/data/`.
fn secret_path_start(path: &str) -> Option<usize> {
    let after_id = |prefix: &str, infix: &str| {
        let rest = path.strip_prefix(prefix)?;
        let (_id, rest) = rest.split_once('/')?;
        Some(path.len() - rest.strip_prefix(infix)?.len())
    };
    after_id("/api/", "v2/secret/")
        .or_else(|| after_id("/v2/okms/resource/", "secret/"))
        .or_else(|| kv2_operation(path).map(|(start, _)| start))
}

/// The operation of the KV2 API that a path names, and where it ends: behind its slash, if it has one.
fn kv2_operation(path: &str) -> Option<(usize, &str)> {
    let (_id, rest) = path.strip_prefix("/api/")?.split_once('/')?;
    let rest = rest.strip_prefix("v1/secret/")?;
    let operation = rest.split('/').next().filter(|name| KV2_OPERATIONS.contains(name))?;
    let end = path.len() - rest.len() + operation.len();
    Some(((end + 1).min(path.len()), operation))
}

/// Bytes of what is asked of a secret, such as `?version=3&includeData=true`.
const USUAL_QUERY: usize = 32;

/// What the KV2 API does with a secret path.
const KV2_OPERATIONS: [&str; 6] = ["data", "subkeys", "delete", "undelete", "destroy", "metadata"];

/// Whether the path of a secret, written with raw slashes, is the address of versions of another secret.
pub(super) fn reads_as_versions(path: &str) -> bool {
    !split_suffix(path).1.is_empty()
}

/// Splits `a/b/version/3` into `a/b` and `/version/3`.
fn split_suffix(target: &str) -> (&str, &str) {
    let is_whole = |secret: &str| !secret.is_empty();
    if let Some(secret) = target.strip_suffix("/version").filter(|secret| is_whole(secret)) {
        return (secret, &target[secret.len()..]);
    }
    let version = target.rsplit_once('/').filter(|(_, version)| !version.is_empty());
    let secret = version.and_then(|(rest, _)| rest.strip_suffix("/version"));
    match secret.filter(|secret| is_whole(secret)) {
        Some(secret) => (secret, &target[secret.len()..]),
        None => (target, ""),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "7e5bb0b2-0a6b-4a0c-9a3f-5c9d0e1f2a3b";

    fn folded(target: &str) -> String {
        let path = format!("/api/{ID}/v2/secret/{target}");
        let folded = fold_path(&path).unwrap_or(path);
        folded.strip_prefix(&format!("/api/{ID}/v2/secret/")).unwrap().to_owned()
    }

    #[test]
    fn raw_slashes_of_the_secret_path_are_encoded_and_suffixes_stay() {
        for (target, expected) in [
            ("a", "a"),
            ("a/b/c", "a%2Fb%2Fc"),
            ("a%2Fb", "a%2Fb"),
            ("a%2Fb/c", "a%2Fb%2Fc"),
            ("a/b/version", "a%2Fb/version"),
            ("a/b/version/3", "a%2Fb/version/3"),
            ("a%2Fversion", "a%2Fversion"),
            ("a%2Fversion/version/1", "a%2Fversion/version/1"),
            ("version", "version"),
            ("version/version", "version/version"),
            ("version/version/2", "version/version/2"),
            ("version/3", "version%2F3"),
            ("a/version/version", "a%2Fversion/version"),
            ("a/version/b/c", "a%2Fversion%2Fb%2Fc"),
            ("a/versio%6E", "a%2Fversio%6E"),
            ("", ""),
            // Not made into something that is valid: these are refused as secret paths.
            ("/version", "%2Fversion"),
            ("a/", "a%2F"),
            ("a//b", "a%2F%2Fb"),
            ("a/version/", "a%2Fversion%2F"),
            ("../x", "..%2Fx"),
        ] {
            assert_eq!(folded(target), expected, "{target}");
        }
    }

    #[test]
    fn the_central_form_is_folded_too_and_other_paths_are_left_alone() {
        let central = format!("/v2/okms/resource/{ID}/secret/a/b/version/1");
        assert!(fold_path(&central).unwrap().ends_with("/secret/a%2Fb/version/1"));
        for other in ["/", "/swagger/a/b", "/api/x/v2/secretConfig", "/api/x/v2/secret", "/api/x"] {
            assert_eq!(fold_path(other), None, "{other}");
        }
    }

    #[test]
    fn kv2_paths_have_an_operation_before_and_no_suffix() {
        let fold = |target: &str| {
            let path = format!("/api/{ID}/v1/secret/{target}");
            let folded = fold_path(&path);
            folded.map(|folded| {
                folded.strip_prefix(&format!("/api/{ID}/v1/secret/")).unwrap().to_owned()
            })
        };
        for (target, expected) in [
            ("data/a", Some("data/a")),
            ("data/a/b/c", Some("data/a%2Fb%2Fc")),
            ("data/a%2Fb", Some("data/a%2Fb")),
            ("metadata/a/b/", Some("metadata/a%2Fb%2F")),
            ("subkeys/a/version/3", Some("subkeys/a%2Fversion%2F3")),
            ("undelete/data/a", Some("undelete/data%2Fa")),
            ("destroy//a", Some("destroy/%2Fa")),
            ("metadata/", None),
            ("metadata", None),
            ("config", None),
            ("config/a/b", None),
            ("datax/a/b", None),
        ] {
            assert_eq!(fold(target).as_deref(), expected, "{target}");
        }
    }

    #[test]
    fn the_method_list_is_a_query() {
        let listed = |path: &str| {
            let uri: Uri = format!("/api/{ID}/{path}").parse().unwrap();
            as_list(&uri).map(|uri| uri.to_string().replace(&format!("/api/{ID}/"), ""))
        };
        for (path, expected) in [
            ("v1/secret/metadata", Some("v1/secret/metadata?list=true")),
            ("v1/secret/metadata/", Some("v1/secret/metadata/?list=true")),
            ("v1/secret/metadata/a%2Fb?x=1", Some("v1/secret/metadata/a%2Fb?x=1&list=true")),
            ("v1/secret/metadata/a?list=false", Some("v1/secret/metadata/a?list=true")),
            ("v1/secret/metadata?list=true&x=1&list", Some("v1/secret/metadata?x=1&list=true")),
            ("v1/secret/data/a", None),
            ("v2/secret", None),
        ] {
            assert_eq!(listed(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn the_query_is_kept() {
        let uri: Uri = format!("/api/{ID}/v2/secret/a/b?version=1&x=/").parse().unwrap();
        let folded = fold(&uri).unwrap();
        assert_eq!(folded.path(), format!("/api/{ID}/v2/secret/a%2Fb"));
        assert_eq!(folded.query(), Some("version=1&x=/"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(50_000))]

        #[test]
        fn raw_and_encoded_names_of_a_secret_meet(
            segments in prop::collection::vec("[a-u]{1,3}", 1..5),
            suffix in prop::sample::select(vec!["", "/version", "/version/7"]),
        ) {
            let raw = segments.join("/");
            let encoded = segments.join("%2F");
            prop_assert_eq!(folded(&format!("{raw}{suffix}")), format!("{encoded}{suffix}"));
            prop_assert_eq!(folded(&format!("{encoded}{suffix}")), format!("{encoded}{suffix}"));
        }

        #[test]
        fn nothing_is_decoded_and_nothing_is_lost(target in "[a-c/%.2Fversion]{0,16}") {
            let folded = folded(&target);
            prop_assert_eq!(folded.replace("%2F", "/"), target.replace("%2F", "/"));
        }
    }
}
