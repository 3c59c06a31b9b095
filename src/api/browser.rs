//! An access certificate in a browser is sent along with every request to this server, whichever web
//! site made the browser send it. So a change must come from our own pages, or from no page at all.

use axum::{
    extract::Request,
    http::{HeaderMap, Method, Uri, header},
};

/// Whether a request is a change that another web site asks for.
///
/// Reading is left to the browser's same-origin policy: no answer carries a header that would let
/// another site read it.
pub(super) fn is_change_of_another_site(request: &Request) -> bool {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    !reads && is_from_another_site(request.headers(), request.uri())
}

fn is_from_another_site(headers: &HeaderMap, uri: &Uri) -> bool {
    // Browsers of the last years say where a request comes from. `none` is the user's own doing, such
    // as the address bar.
    if let Some(site) = headers.get("sec-fetch-site") {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    // HTTP/2 has the host in the URI.
    let host = uri.authority().map(|authority| authority.as_str());
    let host = host.or_else(|| headers.get(header::HOST)?.to_str().ok());
    match (origin.to_str().ok().and_then(|origin| origin.strip_prefix("https://")), host) {
        (Some(origin), Some(host)) => !origin.eq_ignore_ascii_case(host),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    fn refused(headers: &[(&'static str, &'static str)]) -> bool {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        is_from_another_site(&headers, &Uri::from_static("/api"))
    }

    #[test]
    fn changes_come_from_our_own_pages_or_from_no_page() {
        assert!(!refused(&[("host", "okms.example:8443")]));
        assert!(!refused(&[("sec-fetch-site", "same-origin")]));
        assert!(!refused(&[("sec-fetch-site", "none")]));
        assert!(refused(&[("sec-fetch-site", "same-site")]));
        assert!(refused(&[("sec-fetch-site", "cross-site")]));
        assert!(!refused(&[("host", "a:8443"), ("origin", "https://a:8443")]));
        assert!(refused(&[("host", "a:8443"), ("origin", "https://a")]));
        assert!(refused(&[("host", "a:8443"), ("origin", "http://a:8443")]));
        assert!(refused(&[("host", "a:8443"), ("origin", "null")]));
        assert!(refused(&[("origin", "https://a")]));
    }
}
