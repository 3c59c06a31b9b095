//! Tokens: who they say a caller is, and when they do not.

mod beside;
mod flood;
mod keys;
mod late;
mod login;
mod off;
mod refused;
mod rows;
mod system;
mod used;

use bytes::Bytes;
use hyper::Method;
use okmsd::{
    domain::OkmsId,
    service::{IssuedToken, NewToken},
};

use crate::support::{Answer, Client, Domain, Server};

/// The root of the account that test domains belong to.
const ROOT: &str = "urn:v1:eu:identity:account:test";

/// A day, in seconds.
const DAY: u64 = 86_400;

/// A token for everything in a domain.
pub async fn root_token(server: &Server, okms_id: OkmsId) -> IssuedToken {
    token_of(server, okms_id, &[ROOT], DAY).await
}

async fn token_of(
    server: &Server,
    okms_id: OkmsId,
    identities: &[&str],
    validity_seconds: u64,
) -> IssuedToken {
    let new = NewToken {
        okms_id,
        identity_urns: identities.iter().map(|urn| (*urn).to_owned()).collect(),
        description: "test".to_owned(),
        validity_seconds,
    };
    server.tokens.create(new).await.expect("a token")
}

/// Both headers that a token can be in.
fn headers(token: &str) -> [(&'static str, String); 2] {
    [("authorization", format!("Bearer {token}")), ("x-vault-token", token.to_owned())]
}

/// Reads an address with headers.
pub async fn get(client: &Client, address: &str, headers: &[(&str, &str)]) -> Answer {
    client.send(Method::GET, address, headers, Bytes::new()).await
}

/// Reads the secret `a` of a domain with a bearer token.
async fn read_a(client: &Client, domain: &Domain, token: &str) -> Answer {
    get(client, &domain.secret("a"), &[("authorization", &format!("Bearer {token}"))]).await
}
