//! The program as a newcomer meets it: the README's commands as they stand there, and both Swagger UIs
//! in a browser.

mod browser;
mod program;
mod readme;
mod webdriver;
