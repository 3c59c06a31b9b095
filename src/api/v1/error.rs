//! Errors in the words of KV2.

use axum::response::{IntoResponse, Response};

use crate::{api::error::ApiError, domain::Error};

/// An error whose text names fields as KV2 does.
pub(in crate::api) struct KvError(ApiError);

impl From<Error> for KvError {
    fn from(error: Error) -> Self {
        Self(ApiError::Domain(reworded(error)))
    }
}

impl From<ApiError> for KvError {
    fn from(error: ApiError) -> Self {
        Self(match error {
            ApiError::Domain(error) => ApiError::Domain(reworded(error)),
            error => error,
        })
    }
}

impl IntoResponse for KvError {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

/// A text with the names that fields have in KV2.
pub(super) fn in_kv2_words(text: &str) -> String {
    WORDS.iter().fold(text.to_owned(), |text, (v2, kv2)| text.replace(v2, kv2))
}

fn reworded(error: Error) -> Error {
    match error {
        Error::Argument(argument, text) => Error::Argument(argument, in_kv2_words(&text)),
        error => error,
    }
}

/// The rules of secrets speak of fields by their names in v2. None of these is a part of another word.
const WORDS: [(&str, &str); 4] = [
    ("casRequired", "cas_required"),
    ("customMetadata", "custom_metadata"),
    ("deactivateVersionAfter", "delete_version_after"),
    ("maxVersions", "max_versions"),
];
