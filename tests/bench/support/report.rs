//! The table that is printed, and the JSON beside it.

use std::{fs, path::Path, process::Command};

use okmsd::{clock::SystemClock, domain::Clock};
use serde_json::{Value, json};

use super::{
    load::{Measured, Pace},
    options::Options,
};

/// What a benchmark has found.
pub struct Report {
    name: String,
    about: Value,
    rows: Vec<Row>,
    claims: Vec<Value>,
    facts: Vec<Value>,
}

/// One subject in one case at one pace.
struct Row {
    case: String,
    subject: String,
    pace: &'static str,
    rounds: Vec<Round>,
}

/// What one round found.
struct Round {
    /// Answers a second.
    rate: f64,
    /// Milliseconds to an answer.
    p50: f64,
    p99: f64,
    p999: f64,
    max: f64,
    /// Microseconds of processors to an answer, in the process that answers.
    processor: Option<f64>,
    /// Bytes written to the disk for an answer.
    written: Option<f64>,
}

/// What of a row is compared.
#[derive(Debug, Clone, Copy)]
pub enum Quantity {
    Rate,
    P50,
    P99,
    Max,
}

/// How two rows, or a row and a number, are to stand to each other.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Report {
    pub fn new(name: &str, options: &Options) -> Self {
        let about = json!({
            "benchmark": name,
            "date": SystemClock.now().to_rfc3339_seconds(),
            "machine": machine(),
            "quick": options.quick,
            "rounds": options.rounds,
            "seconds": options.time.as_secs_f64(),
        });
        println!("{name}: {about}");
        Self {
            name: name.to_owned(),
            about,
            rows: Vec::new(),
            claims: Vec::new(),
            facts: Vec::new(),
        }
    }

    /// Adds a round.
    pub fn add(&mut self, case: &str, subject: &str, pace: Pace, measured: Measured) {
        let pace = pace_name(pace);
        let round = Round::new(&measured);
        if let Some(row) = self.rows.iter_mut().find(|row| row.is(case, subject, pace)) {
            return row.rounds.push(round);
        }
        let (case, subject) = (case.to_owned(), subject.to_owned());
        self.rows.push(Row { case, subject, pace, rounds: vec![round] });
    }

    /// Adds a single number.
    pub fn fact(&mut self, case: &str, subject: &str, what: &str, value: f64, unit: &str) {
        println!("{case}: {subject}: {what} {} {unit}", digits(value));
        self.facts.push(json!({
            "case": case, "subject": subject, "what": what, "value": value, "unit": unit,
        }));
    }

    /// The median of what was measured at the closed pace.
    pub fn median(&self, case: &str, subject: &str, quantity: Quantity) -> Option<f64> {
        let row = self.rows.iter().find(|row| row.is(case, subject, CLOSED))?;
        Some(spread(row.rounds.iter().map(|round| round.quantity(quantity)).collect()).1)
    }

    /// The worst of what was measured, at either pace.
    pub fn worst(&self, case: &str, subject: &str, quantity: Quantity) -> Option<f64> {
        let rows = self.rows.iter().filter(|row| row.case == case && row.subject == subject);
        let found = rows.flat_map(|row| &row.rounds).map(|round| round.quantity(quantity));
        found.max_by(f64::total_cmp)
    }

    /// Says how one row stands to another: the median, over the rounds, of their ratio.
    pub fn ratio(
        &mut self,
        (case, subject): (&str, &str),
        (other_case, other): (&str, &str),
        quantity: Quantity,
        target: Target,
    ) {
        let find = |case, subject| self.rows.iter().find(|row| row.is(case, subject, CLOSED));
        // Left out by a word on the command line.
        let (Some(row), Some(base)) = (find(case, subject), find(other_case, other)) else {
            return;
        };
        let pairs = row.rounds.iter().zip(&base.rounds);
        let ratios = pairs.map(|(round, base)| round.quantity(quantity) / base.quantity(quantity));
        let (low, ratio, high) = spread(ratios.collect());
        let to = format!("of {other_case} {other}");
        self.claim(case, subject, &format!("{quantity:?} {to}"), (low, ratio, high), target);
    }

    /// Says how a number stands to what it is to be.
    pub fn number(&mut self, case: &str, subject: &str, what: &str, value: f64, target: Target) {
        self.claim(case, subject, what, (value, value, value), target);
    }

    fn claim(
        &mut self,
        case: &str,
        subject: &str,
        what: &str,
        (low, value, high): (f64, f64, f64),
        target: Target,
    ) {
        let (sign, bound, met) = match target {
            Target::AtLeast(bound) => (">=", bound, value >= bound),
            Target::AtMost(bound) => ("<=", bound, value <= bound),
        };
        let word = if met { "met" } else { "MISSED" };
        println!(
            "{case}: {subject}: {what}: {} ({} to {}), target {sign} {bound}: {word}",
            digits(value),
            digits(low),
            digits(high)
        );
        self.claims.push(json!({
            "case": case, "subject": subject, "what": what, "value": value, "low": low,
            "high": high, "target": format!("{sign} {bound}"), "met": met,
        }));
    }

    /// Prints the table of a case: medians, and from which to which round rates and the 99th percentile went.
    pub fn print(&self, case: &str) {
        println!(
            "\n{:<34} {:<12} {:<6} {:>9} {:>19} {:>9} {:>9} {:>17} {:>9} {:>9} {:>8} {:>8}",
            "case",
            "subject",
            "pace",
            "per s",
            "(lowest-highest)",
            "p50 ms",
            "p99 ms",
            "(lowest-highest)",
            "p99.9 ms",
            "max ms",
            "cpu us",
            "disk B"
        );
        for row in self.rows.iter().filter(|row| row.case == case) {
            let of = |get: fn(&Round) -> f64| spread(row.rounds.iter().map(get).collect());
            let of_some = |get: fn(&Round) -> Option<f64>| {
                let values: Vec<_> = row.rounds.iter().filter_map(get).collect();
                if values.is_empty() { "-".to_owned() } else { format!("{:.0}", spread(values).1) }
            };
            let (low, rate, high) = of(|round| round.rate);
            let (low99, p99, high99) = of(|round| round.p99);
            println!(
                "{:<34} {:<12} {:<6} {:>9.0} {:>19} {:>9.3} {:>9.3} {:>17} {:>9.3} {:>9.3} {:>8} {:>8}",
                row.case,
                row.subject,
                row.pace,
                rate,
                format!("({low:.0}-{high:.0})"),
                of(|round| round.p50).1,
                p99,
                format!("({low99:.1}-{high99:.1})"),
                of(|round| round.p999).1,
                of(|round| round.max).2,
                of_some(|round| round.processor),
                of_some(|round| round.written),
            );
        }
    }

    /// Writes the JSON; whether every number is what it is to be.
    pub fn finish(self) -> bool {
        let met = self.claims.iter().all(|claim| claim["met"] == true);
        let rows: Vec<_> = self.rows.iter().map(Row::to_json).collect();
        let found = json!({
            "about": self.about, "rows": rows, "claims": self.claims, "facts": self.facts,
        });
        // Beside the folder for temporary files: `target`, wherever that is.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
        fs::create_dir_all(&folder).expect("a folder");
        let file = folder.join(format!("{}.json", self.name));
        fs::write(&file, serde_json::to_vec_pretty(&found).expect("JSON")).expect("a file");
        println!("\n{} is written", file.display());
        met
    }
}

impl Row {
    fn is(&self, case: &str, subject: &str, pace: &str) -> bool {
        self.case == case && self.subject == subject && self.pace == pace
    }

    fn to_json(&self) -> Value {
        let rounds: Vec<_> = self.rounds.iter().map(Round::to_json).collect();
        let of = |get: fn(&Round) -> f64| {
            let (low, median, high) = spread(self.rounds.iter().map(get).collect());
            json!({ "low": low, "median": median, "high": high })
        };
        json!({
            "case": self.case, "subject": self.subject, "pace": self.pace, "rounds": rounds,
            "per_second": of(|round| round.rate), "p50_ms": of(|round| round.p50),
            "p99_ms": of(|round| round.p99), "p999_ms": of(|round| round.p999),
        })
    }
}

impl Round {
    fn new(measured: &Measured) -> Self {
        let millis = |micros: u64| micros as f64 / 1_000.0;
        let quantile = |share| millis(measured.times.value_at_quantile(share));
        let answers = measured.answers.max(1) as f64;
        let usage = measured.usage.as_ref();
        Self {
            rate: measured.rate(),
            p50: quantile(0.5),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: millis(measured.times.max()),
            processor: usage.map(|usage| usage.processor.as_secs_f64() * 1e6 / answers),
            written: usage.map(|usage| usage.written as f64 / answers),
        }
    }

    fn quantity(&self, quantity: Quantity) -> f64 {
        match quantity {
            Quantity::Rate => self.rate,
            Quantity::P50 => self.p50,
            Quantity::P99 => self.p99,
            Quantity::Max => self.max,
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "per_second": self.rate, "p50_ms": self.p50, "p99_ms": self.p99,
            "p999_ms": self.p999, "max_ms": self.max, "cpu_us": self.processor,
            "disk_bytes": self.written,
        })
    }
}

/// The lowest, the median and the highest.
fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let (Some(&low), Some(&high)) = (values.first(), values.last()) else { return (0.0, 0.0, 0.0) };
    let middle = values.len() / 2;
    let median = match values.len() % 2 {
        0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    };
    (low, median, high)
}

/// Three digits that count.
fn digits(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn pace_name(pace: Pace) -> &'static str {
    match pace {
        Pace::Closed => CLOSED,
        Pace::Rate(_) => "rate",
    }
}

fn machine() -> String {
    let read = |file| fs::read_to_string(file).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let models =
        info.lines().filter_map(|line| line.strip_prefix("model name")).collect::<Vec<_>>();
    let model =
        models.first().map_or("a processor", |model| model.trim_start_matches(['\t', ':', ' ']));
    let memory = read("/proc/meminfo");
    let memory = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    let kernel = Command::new("uname").arg("-r").output().map(|said| said.stdout);
    format!(
        "{} x {model}, {} GiB, Linux {}",
        models.len(),
        memory.unwrap_or_default() >> 20,
        String::from_utf8_lossy(&kernel.unwrap_or_default()).trim()
    )
}

const CLOSED: &str = "closed";
