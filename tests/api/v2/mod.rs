//! `/api/{okmsId}/v2`

mod smoke;
