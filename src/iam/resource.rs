//! Patterns of resource URNs; none reaches beyond one domain.

use percent_encoding::percent_decode_str;

use super::glob::Glob;
use crate::domain::{Error, OkmsId, SecretPath};

/// Resources that a policy is about: a domain with all in it, or some of its secrets.
///
/// The domain is always named in full, so no `*` reaches into another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResourcePattern {
    pub(super) region: String,
    pub(super) okms_id: OkmsId,
    extent: Extent,
}

/// How much of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Extent {
    /// The domain itself, and every secret in it.
    All,
    /// What matches below the domain; secrets are `secret/` and their path there.
    Below(Glob),
    /// Something that the service has and this server does not.
    Nothing,
}

impl ResourcePattern {
    /// Reads `urn:v1:<region>:resource:okms:<okmsId>`, alone or with `/` and a pattern behind it.
    ///
    /// What stands below the domain is percent-decoded once, and compared with paths as storage uses
    /// them: a pattern and a request that spell a path differently still mean the same one. What no
    /// path can match is refused, since its author meant something else by it.
    ///
    /// # Errors
    ///
    /// The rule that it breaks.
    pub(super) fn parse(urn: &str) -> Result<Self, String> {
        if urn.len() > MAX_URN_LEN {
            return Err("a resource URN has at most 1024 characters".to_owned());
        }
        let read = || {
            let (region, rest) = urn.strip_prefix("urn:v1:")?.split_once(':')?;
            let rest = rest.strip_prefix("resource:okms:")?;
            let is_region = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            let is_region = |byte: u8| is_region(byte) || byte == b'-';
            (!region.is_empty() && region.bytes().all(is_region)).then_some((region, rest))
        };
        let (region, rest) = read().ok_or_else(|| {
            "a resource is urn:v1:<region>:resource:okms:<okmsId>, and may go on with \
             /secret/<path>"
                .to_owned()
        })?;
        let (okms_id, below) = match rest.split_once('/') {
            Some((okms_id, below)) => (okms_id, Some(below)),
            None => (rest, None),
        };
        let okms_id = okms_id.parse().map_err(
            |_| "the id of a domain is a UUID in full: no '*' reaches beyond one domain",
        )?;
        let extent = below.map_or(Ok(Extent::All), extent)?;
        Ok(Self { region: region.to_owned(), okms_id, extent })
    }

    /// Whether it stands for the domain itself (`None`), or for what stands below it as `secret/` and
    /// a path. The caller has compared the domain.
    pub(super) fn matches(&self, below: Option<&str>) -> bool {
        match (&self.extent, below) {
            (Extent::All, _) => true,
            (Extent::Below(glob), Some(below)) => glob.matches(below),
            (Extent::Below(_), None) | (Extent::Nothing, _) => false,
        }
    }

    /// The beginning of all paths that it stands for, and whether it stands for that one alone; `None`
    /// where it stands for no secret.
    pub(super) fn path_prefix(&self) -> Option<(&str, bool)> {
        match &self.extent {
            Extent::All => Some(("", false)),
            Extent::Below(glob) => match glob.prefix().strip_prefix(SECRET) {
                Some(path) => Some((path, glob.is_literal())),
                None => Some(("", false)),
            },
            Extent::Nothing => None,
        }
    }

    /// The beginning of paths that it stands for, each and all; `None` where it stands for other paths.
    pub(super) fn whole_prefix(&self) -> Option<&str> {
        match &self.extent {
            Extent::All => Some(""),
            Extent::Below(glob) if glob.is_prefix() => {
                Some(glob.prefix().strip_prefix(SECRET).unwrap_or_default())
            }
            Extent::Below(_) | Extent::Nothing => None,
        }
    }

    /// Whether it stands for nothing that this server has.
    pub(super) fn is_empty(&self) -> bool {
        self.extent == Extent::Nothing
    }
}

/// The place of a secret below its domain.
pub(super) fn below(path: &SecretPath) -> String {
    [SECRET, path.as_str()].concat()
}

fn extent(below: &str) -> Result<Extent, String> {
    if ELSEWHERE.iter().any(|prefix| below.starts_with(prefix)) {
        return Ok(Extent::Nothing);
    }
    if below.matches('*').count() > MAX_WILDCARDS {
        return Err(format!("a resource has at most {MAX_WILDCARDS} '*'"));
    }
    let pieces = below.split('*').map(decode).collect::<Result<Vec<_>, _>>()?;
    let prefix = pieces.first().map_or("", String::as_str);
    if !prefix.starts_with(SECRET) && (pieces.len() == 1 || !SECRET.starts_with(prefix)) {
        return Err("below a domain there is nothing but secret/<path>".to_owned());
    }
    // Whatever stands for a `*`, the rest must still be able to be a path.
    let example = pieces.join(EXAMPLE);
    let example = example.strip_prefix(SECRET).unwrap_or(&example);
    SecretPath::parse(example).map_err(|error| match error {
        Error::Argument(_, text) => text,
        error => format!("{error:?}"),
    })?;
    Ok(Extent::Below(Glob::new(pieces)))
}

/// Decodes a literal text once.
fn decode(piece: &str) -> Result<String, String> {
    let mut rest = piece;
    while let Some((_, behind)) = rest.split_once('%') {
        let digits = behind.get(..2).unwrap_or_default();
        if digits.len() != 2 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err("'%' must be followed by two hexadecimal digits".to_owned());
        }
        rest = behind.get(2..).unwrap_or_default();
    }
    let decoded = percent_decode_str(piece).decode_utf8();
    let decoded = decoded.map_err(|_| "what is percent-encoded must be UTF-8".to_owned())?;
    if decoded.contains('*') {
        return Err("'%2A' stands for a '*' in the path, which no path has".to_owned());
    }
    Ok(decoded.into_owned())
}

/// What the place of a secret below its domain begins with.
const SECRET: &str = "secret/";
/// A run of characters that a `*` may stand for, and that breaks no rule of paths.
const EXAMPLE: &str = "x";
/// What the service has below a domain, and this server does not.
const ELSEWHERE: [&str; 2] = ["serviceKey/", "kmip/"];
/// Room for the longest path, every character of it percent-encoded, and what is around it.
const MAX_URN_LEN: usize = 1_024;
/// Far more than anyone needs to name secrets; patterns are meant to be understood.
const MAX_WILDCARDS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: &str = "urn:v1:eu:resource:okms:7e5bb0b2-0a6b-4a0c-9a3f-5c9d0e1f2a3b";

    fn matches(pattern: &str, path: &str) -> bool {
        let pattern = ResourcePattern::parse(&format!("{DOMAIN}{pattern}")).unwrap();
        pattern.matches(Some(&below(&SecretPath::parse(path).unwrap())))
    }

    #[test]
    fn a_domain_has_all_in_it() {
        let pattern = ResourcePattern::parse(
            &DOMAIN.to_uppercase().replace("URN:V1:EU:RESOURCE:OKMS", "urn:v1:eu:resource:okms"),
        )
        .unwrap();
        assert_eq!(pattern, ResourcePattern::parse(DOMAIN).unwrap(), "one domain has one name");
        assert!(pattern.matches(None) && pattern.matches(Some("secret/a/b")));
        let below = ResourcePattern::parse(&format!("{DOMAIN}/*")).unwrap();
        assert!(!below.matches(None), "what is below a domain is not the domain");
        assert!(below.matches(Some("secret/a/b")));
    }

    #[test]
    fn paths_are_decoded_once_and_a_star_crosses_slashes() {
        for pattern in [
            "/secret/prod%2Fdb",
            "/secret/prod/db",
            "/secret/%70rod%2fdb",
            "/secret/prod/*",
            "/secret/*db",
            "/secret/*",
            "/secret/p*d*b",
            "/*",
            "/sec*",
            "/*/prod/db",
            "/secret/prod*",
        ] {
            assert!(matches(pattern, "prod/db"), "{pattern}");
        }
        for pattern in [
            "/secret/prod",
            "/secret/Prod/db",
            "/secret/prod/db/*",
            "/secret/*/prod/db",
            "/secret/rod*",
        ] {
            assert!(!matches(pattern, "prod/db"), "{pattern}");
        }
        assert!(!matches("/secret/prod/*", "production/db"));
        assert!(!matches("/secret/prod/*", "prod"));
        assert!(matches("/secret/a.c", "a.c") && !matches("/secret/a.c", "abc"));
    }

    #[test]
    fn what_no_path_can_match_is_refused_with_the_rule() {
        for (below, rule) in [
            ("/", "nothing but secret/<path>"),
            ("/secret", "nothing but secret/<path>"),
            ("/secretConfig", "nothing but secret/<path>"),
            ("/Secret/a", "nothing but secret/<path>"),
            ("/x*", "nothing but secret/<path>"),
            ("/secret/", "must not be empty"),
            ("/secret//a", "must not begin or end with '/'"),
            ("/secret/a/", "must not begin or end with '/'"),
            ("/secret/*/", "must not begin or end with '/'"),
            ("/secret/a//*", "must not contain '//'"),
            ("/secret/a%2F%2Fb", "must not contain '//'"),
            ("/secret/a/../b*", "segments '.' or '..'"),
            ("/secret/a/%2e%2E/*", "segments '.' or '..'"),
            ("/secret/*/./b", "segments '.' or '..'"),
            ("/secret/a%252Fb", "must not contain '%'"),
            ("/secret/a%2Ab", "which no path has"),
            ("/secret/a%2*", "two hexadecimal digits"),
            ("/secret/a%", "two hexadecimal digits"),
            ("/secret/a%zz", "two hexadecimal digits"),
            ("/secret/a%+1", "two hexadecimal digits"),
            ("/secret/a%FF", "UTF-8"),
            ("/secret/\u{430}", "may only contain"),
            ("/secret/%D0%B0*", "may only contain"),
            ("/secret/a?", "may only contain"),
            ("/secret/a b", "may only contain"),
            ("/secret/a%00", "may only contain"),
            ("/secret/***********", "at most 10 '*'"),
        ] {
            let refused = ResourcePattern::parse(&format!("{DOMAIN}{below}")).unwrap_err();
            assert!(refused.contains(rule), "{below}: {refused}");
        }
        let longest = format!("{DOMAIN}/secret/{}", "x".repeat(255));
        assert!(ResourcePattern::parse(&longest).is_ok());
        assert!(ResourcePattern::parse(&format!("{longest}x")).is_err());
        assert!(ResourcePattern::parse(&format!("{DOMAIN}/kmip/{}", "x".repeat(1_000))).is_err());
    }

    #[test]
    fn no_star_reaches_beyond_a_domain() {
        let id = "7e5bb0b2-0a6b-4a0c-9a3f-5c9d0e1f2a3b";
        for urn in [
            "*",
            "urn:v1:*",
            "urn:v1:eu:resource:okms:*",
            "urn:v1:eu:resource:*",
            &format!("urn:v1:*:resource:okms:{id}"),
            &format!("urn:v1::resource:okms:{id}"),
            &format!("urn:v1:eu:resource:okms:{id}*"),
            &format!("urn:v1:eu:resource:okms:*{id}"),
            &format!("urn:v1:eu:resource:okms:{}*/secret/a", &id[..35]),
            &format!("urn:v1:eu:resource:okms:{}", id.replace('-', "")),
            &format!("urn:v1:eu:resource:okms:{{{id}}}"),
            &format!("urn:v1:eu:resource:kms:{id}"),
            &format!("urn:v2:eu:resource:okms:{id}"),
            &format!("URN:v1:eu:resource:okms:{id}"),
            &format!("urn:v1:EU:resource:okms:{id}"),
            &format!(" urn:v1:eu:resource:okms:{id}"),
            &format!("urn:v1:eu:resource:okms:{id}%2Fsecret/a"),
        ] {
            assert!(ResourcePattern::parse(urn).is_err(), "{urn}");
        }
    }

    #[test]
    fn what_the_service_has_elsewhere_is_taken_and_matches_nothing() {
        let pattern = ResourcePattern::parse(&format!("{DOMAIN}/serviceKey/*")).unwrap();
        assert!(pattern.is_empty() && pattern.path_prefix().is_none());
        assert!(!pattern.matches(None) && !pattern.matches(Some("secret/a")));
    }
}
