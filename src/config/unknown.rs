//! Variables that look like ours and that nothing reads.

use std::path::Path;

use super::{
    Config, Environment, backup::BACKUP_KEY_VARIABLE, root_key::ROOT_KEY_VARIABLE, source::Listing,
};

/// The names in the environment that begin like those of our settings and are none of them, in order: a misspelt
/// limit would otherwise be no limit, and nobody would know. `others` are names that the caller reads.
pub fn unknown_variables(environment: &Environment, others: &[&str]) -> Vec<String> {
    let mut listing = Listing::default();
    // Nothing is read from a listing, so nothing can be wrong with it.
    let _none = Config::defaults(Path::new("")).settings(&mut listing);
    let settings = listing.into_names();
    let is_read = |name: &str| {
        [ROOT_KEY_VARIABLE, BACKUP_KEY_VARIABLE].contains(&name)
            || others.contains(&name)
            || settings.iter().any(|(_, variable)| *variable == name)
    };
    let mut unknown = environment.names();
    unknown.retain(|name| name.starts_with(PREFIX) && !is_read(name) && !is_of_others(name));
    unknown.iter_mut().for_each(shorten);
    unknown.sort_unstable();
    unknown
}

/// Cuts a name where it is none any more: of a colon in the place of the sign behind it, the value is a part.
fn shorten(name: &mut String) {
    let is_odd = |letter: char| !letter.is_ascii_alphanumeric() && letter != '_';
    if let Some(end) = name.find(is_odd) {
        name.truncate(end);
        name.push('…');
    }
}

/// Whether a name is set by or for somebody else.
fn is_of_others(name: &str) -> bool {
    let is_or_begins = |known: &&str| {
        let rest = name.strip_prefix(*known);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    };
    OF_KUBERNETES.iter().any(is_or_begins) || OF_TESTS.iter().any(|prefix| name.starts_with(prefix))
}

/// How all our names begin.
const PREFIX: &str = "OKMSD_";

/// What Kubernetes tells every container of a Service `okmsd`, alone or with more behind an underscore.
const OF_KUBERNETES: [&str; 3] = ["OKMSD_SERVICE_HOST", "OKMSD_SERVICE_PORT", "OKMSD_PORT"];

/// What tests and benchmarks of this program are told.
const OF_TESTS: [&str; 6] = [
    "OKMSD_BENCH_",
    "OKMSD_CRASH",
    "OKMSD_MODEL_",
    "OKMSD_OPENBAO_",
    "OKMSD_TEST_",
    "OKMSD_UPDATE_",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EXAMPLE;

    #[test]
    fn every_variable_of_the_example_is_known() {
        // In brackets; a flag begins with hyphens.
        let words = EXAMPLE.split('[').filter_map(|part| Some(part.split_once(']')?.0));
        let names: Vec<_> = words.filter(|word| word.starts_with(PREFIX)).collect();
        assert!(names.len() > 40, "{names:?}");
        let pairs: Vec<_> = names.iter().map(|name| (*name, "x")).collect();
        assert_eq!(unknown_variables(&Environment::from(&pairs[..]), &[]), [""; 0]);
    }

    #[test]
    fn what_nothing_reads_is_found_by_its_name() {
        let pairs = [
            "OKMSD_TLS_CLIENT_CERT",
            "OKMSD_CONFIG",
            "OKMSD_ROOT_KEY",
            "OKMSD_BACKUP_KEY",
            "OKMSD_SERVICE_HOST",
            "OKMSD_SERVICE_PORT",
            "OKMSD_SERVICE_PORT_API",
            "OKMSD_PORT",
            "OKMSD_PORT_8443_TCP_ADDR",
            "OKMSD_PORTS",
            "OKMSD_BENCH_QUICK",
            "OKMSD_UPDATE_RIGHTS",
            "OKMSD_",
            "OKMSD_DATABASE:postgres://okmsd:hunter2@db/okmsd?sslmode",
            "OKMS_TOKEN",
            "okmsd_region",
        ]
        .map(|name| (name, "hunter2"));
        let environment = Environment::from(&pairs[..]);
        let unknown = unknown_variables(&environment, &["OKMSD_CONFIG"]);
        assert_eq!(unknown, ["OKMSD_", "OKMSD_DATABASE…", "OKMSD_PORTS", "OKMSD_TLS_CLIENT_CERT"]);
        // What is empty counts as not set.
        let empty = Environment::from(&[("OKMSD_X", "")][..]);
        assert_eq!(unknown_variables(&empty, &[]), [""; 0]);
    }
}
