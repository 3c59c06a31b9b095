//! `/api/{okmsId}/v2`

mod bodies;
mod central;
mod config;
mod lifetimes;
mod paging;
mod paths;
mod pruning;
mod secrets;
mod updates;
mod versions;
