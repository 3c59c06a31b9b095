//! Which operation of the OpenAPI document a request is.

use std::{collections::HashMap, sync::Arc};

use axum::http::Method;

use super::docs::openapi;

/// The operations of the OpenAPI document by method and route.
#[derive(Debug, Clone)]
pub(super) struct Operations(Arc<HashMap<(Method, String), String>>);

impl Operations {
    /// Those of the document, at both forms of address.
    pub(super) fn of_document() -> Self {
        let mut operations = HashMap::new();
        for (path, item) in openapi().paths.paths {
            for (method, operation) in [
                (Method::GET, item.get),
                (Method::PUT, item.put),
                (Method::POST, item.post),
                (Method::DELETE, item.delete),
                (Method::PATCH, item.patch),
            ] {
                let Some(id) = operation.and_then(|operation| operation.operation_id) else {
                    continue;
                };
                let central = path.replacen("/api/{okmsId}/v2", "/v2/okms/resource/{okmsId}", 1);
                operations.insert((method.clone(), central), id.clone());
                // Clients of KV2 write PUT for POST, and the other way round.
                if path.starts_with(KV2) && (method == Method::POST || method == Method::PUT) {
                    let other = if method == Method::PUT { Method::POST } else { Method::PUT };
                    operations.insert((other, path.clone()), id.clone());
                }
                operations.insert((method, path.clone()), id);
            }
        }
        Self(Arc::new(operations))
    }

    /// The id of the operation, if the route with this method is one.
    pub(super) fn id(&self, method: &Method, route: &str) -> Option<&str> {
        // HEAD is answered as GET is, and the list has two spellings.
        let method = if method == Method::HEAD { Method::GET } else { method.clone() };
        let route = route.strip_suffix('/').unwrap_or(route);
        // What stands below a mount is not looked at.
        let route = route.strip_suffix("/{*rest}").unwrap_or(route);
        self.0.get(&(method, route.to_owned())).map(String::as_str)
    }
}

/// Where the routes of the KV2 API begin.
const KV2: &str = "/api/{okmsId}/v1/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_address_and_both_spellings_of_the_list_are_found() {
        let operations = Operations::of_document();
        for (method, route, id) in [
            (Method::GET, "/api/{okmsId}/v2/secret", Some("ListSecretV2")),
            (Method::HEAD, "/api/{okmsId}/v2/secret/", Some("ListSecretV2")),
            (Method::POST, "/v2/okms/resource/{okmsId}/secret/", Some("PostSecretV2")),
            (Method::GET, "/v2/okms/resource/{okmsId}/secret/{path}", Some("GetSecretV2")),
            (Method::PUT, "/api/{okmsId}/v1/secret/data/{path}", Some("PostSecretRequest")),
            (Method::POST, "/api/{okmsId}/v1/secret/destroy/{path}", Some("PutSecretDestroy")),
            (Method::GET, "/api/{okmsId}/v1/secret/metadata/", Some("ListSecretsMetadata")),
            (Method::PUT, "/api/{okmsId}/v1/auth/token/renew-self", Some("PostTokenRenewSelf")),
            (
                Method::GET,
                "/api/{okmsId}/v1/sys/internal/ui/mounts/{mount}/{*rest}",
                Some("GetInternalUiMount"),
            ),
            (Method::PATCH, "/api/{okmsId}/v2/secret", None),
            (Method::GET, "/swagger/", None),
        ] {
            assert_eq!(operations.id(&method, route), id, "{method} {route}");
        }
    }
}
