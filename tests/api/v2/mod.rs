//! `/api/{okmsId}/v2`

mod bodies;
mod central;
mod config;
mod lifetimes;
mod once;
mod paging;
mod paths;
mod pruning;
mod races;
mod secrets;
mod stored;
mod updates;
mod versions;
