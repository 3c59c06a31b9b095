//! Which operation of the OpenAPI document a request is.

use std::{collections::HashMap, sync::Arc};

use axum::http::Method;

use super::{docs::openapi, v1, v2};

/// The operations of the OpenAPI document.
#[derive(Debug)]
pub(super) struct Operations {
    names: Vec<Arc<str>>,
    /// By route, each with its method.
    routes: HashMap<String, Vec<(Method, OperationId)>>,
}

/// One of the operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OperationId(usize);

impl OperationId {
    /// Its place among them.
    pub(super) const fn place(self) -> usize {
        self.0
    }
}

impl Operations {
    /// Those of the document, at both forms of address.
    pub(super) fn of_document() -> Self {
        let mut names = Vec::new();
        let mut routes: HashMap<String, Vec<(Method, OperationId)>> = HashMap::new();
        let mut add = |route: &str, method: Method, id: OperationId| {
            routes.entry(route.to_owned()).or_default().push((method, id));
        };
        for (path, item) in openapi().paths.paths {
            for (method, operation) in [
                (Method::GET, item.get),
                (Method::PUT, item.put),
                (Method::POST, item.post),
                (Method::DELETE, item.delete),
                (Method::PATCH, item.patch),
            ] {
                let Some(name) = operation.and_then(|operation| operation.operation_id) else {
                    continue;
                };
                let id = OperationId(names.len());
                names.push(name.into());
                let central = path.replacen(v2::DOMAIN, v2::CENTRAL_DOMAIN, 1);
                if central != path {
                    add(&central, method.clone(), id);
                }
                add(&path, method, id);
            }
        }
        Self { names, routes }
    }

    /// Their ids in the document.
    pub(super) fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// The id of an operation in the document.
    pub(super) fn name(&self, OperationId(place): OperationId) -> Option<&Arc<str>> {
        self.names.get(place)
    }

    /// The operation, if the route with this method is one.
    pub(super) fn id(&self, method: &Method, route: &str) -> Option<OperationId> {
        // HEAD is answered as GET is, and the list has two spellings.
        let method = if method == Method::HEAD { &Method::GET } else { method };
        let route = route.strip_suffix('/').unwrap_or(route);
        // What stands below a mount is not looked at.
        let route = route.strip_suffix("/{*rest}").unwrap_or(route);
        let operations = self.routes.get(route)?;
        let of = |wanted: &Method| operations.iter().find(|(method, _)| method == wanted);
        let found = of(method).or_else(|| match *method {
            // Clients of KV2 write PUT for POST, and the other way round.
            Method::POST if route.starts_with(v1::DOMAIN) => of(&Method::PUT),
            Method::PUT if route.starts_with(v1::DOMAIN) => of(&Method::POST),
            _ => None,
        });
        found.map(|(_, id)| *id)
    }
}

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
            let found = operations.id(&method, route).and_then(|id| operations.name(id));
            assert_eq!(found.map(|name| &**name), id, "{method} {route}");
        }
    }
}
