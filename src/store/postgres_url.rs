//! URLs of PostgreSQL.

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

/// Reads one, unless a password seems to be in it as it must not be.
pub(super) fn read(url: &str) -> Option<PgConnectOptions> {
    match has_bare_password(url) {
        true => None,
        false => PgConnectOptions::from_str(url).ok(),
    }
}

/// Whether a URL seems to have a password with a sign in it that ends the host. What is before the sign would be told
/// as a host or a port then, and the rest as a database.
fn has_bare_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (authority, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let is_bare = match behind.strip_prefix('/') {
        Some(path) => path.split('?').next().is_some_and(|path| path.contains('@')),
        // Behind a parameter's name it is a part of its value.
        None => {
            let start = behind.split('=').next().unwrap_or_default();
            start.contains('@') && !authority.contains('@')
        }
    };
    is_bare && authority.contains(':')
}
