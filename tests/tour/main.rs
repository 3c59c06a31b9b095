//! The program as a newcomer meets it: the README's commands as they stand there, and both Swagger UIs
//! in a browser.

mod browser;
mod curl;
mod program;
mod readme;
#[path = "../support/tools.rs"]
mod tools;
mod webdriver;
