//! Measuring subjects in turns: what the machine does besides comes over all of them alike.

use futures_util::future::BoxFuture;

use super::{
    client::Answer,
    floor::Floor,
    http::{Ask, Protocol, Random, Target},
    load::{self, Measured, Pace},
    okmsd::Okmsd,
    options::Options,
    report::Report,
};

/// What is measured.
pub trait Subject {
    fn name(&self) -> &str;

    /// Whether it can be asked at a fixed rate.
    fn has_pace(&self) -> bool {
        true
    }

    fn measure<'a>(&'a mut self, pace: Pace, options: &'a Options) -> BoxFuture<'a, Measured>;
}

/// A server that is asked over HTTP.
pub struct HttpSubject {
    pub name: String,
    pub process: u32,
    pub target: Target,
    pub protocol: Protocol,
    pub ask: Ask,
}

impl Subject for HttpSubject {
    fn name(&self) -> &str {
        &self.name
    }

    fn measure<'a>(&'a mut self, pace: Pace, options: &'a Options) -> BoxFuture<'a, Measured> {
        Box::pin(async move {
            let workers = self.target.workers(self.protocol, &self.ask).await;
            load::run(workers, pace, options.warm_up, options.time, Some(self.process)).await
        })
    }
}

/// Measures all subjects in turns: as fast as answers come, then at half of the rate that the slowest of them
/// reached.
pub async fn compare(
    case: &str,
    subjects: &mut [Box<dyn Subject + '_>],
    options: &Options,
    report: &mut Report,
) {
    let mut slowest = f64::INFINITY;
    for _ in 0..options.rounds {
        for subject in &mut *subjects {
            let measured = subject.measure(Pace::Closed, options).await;
            if subject.has_pace() {
                slowest = slowest.min(measured.rate());
            }
            report.add(case, subject.name(), Pace::Closed, measured);
        }
    }
    let pace = Pace::Rate((slowest / 2.0).max(1.0));
    for _ in 0..options.rounds {
        for subject in subjects.iter_mut().filter(|subject| subject.has_pace()) {
            let measured = subject.measure(pace, options).await;
            report.add(case, subject.name(), pace, measured);
        }
    }
    report.print(case);
}

/// Compares okmsd with the floor, which answers what okmsd answers to the first question.
pub async fn against_floor(
    case: &str,
    okmsd: &Okmsd,
    protocol: Protocol,
    ask: Ask,
    options: &Options,
    report: &mut Report,
) {
    if !options.wants(case) {
        return;
    }
    let question = ask(&mut Random::new(0));
    let answer = okmsd.answer(&question).await;
    let floor = Floor::answering(okmsd, &answer);
    assert_eq!(floor.answer(&question.path).await.body, answer.body, "the floor answers as okmsd");
    let subject = |name: &str, process, target| HttpSubject {
        name: name.to_owned(),
        process,
        target,
        protocol,
        ask: ask.clone(),
    };
    let mut subjects: [Box<dyn Subject>; 2] = [
        Box::new(subject(OKMSD, okmsd.process(), okmsd.target())),
        Box::new(subject(FLOOR, floor.process(), floor.target.clone())),
    ];
    compare(case, &mut subjects, options, report).await;
}

/// What subjects are called.
pub const OKMSD: &str = "okmsd";
pub const FLOOR: &str = "floor";
