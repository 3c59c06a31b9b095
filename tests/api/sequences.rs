//! Random sequences of requests: tried in several workers with a server each, and told from the shortest one
//! where something is wrong.

use std::{
    env,
    io::Write,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use proptest::{
    strategy::Strategy,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::{
    support::{Client, Domain, Engine, Server},
    tokens::root_token,
};

/// Who asks. Whoever it is may do everything, and must be answered the same.
#[derive(Debug, Clone, Copy)]
pub enum Caller {
    Certificate,
    /// A token in `Authorization`.
    Bearer,
    /// A token in `X-Vault-Token`.
    VaultToken,
}

impl Caller {
    pub const ALL: [Self; 3] = [Self::Certificate, Self::Bearer, Self::VaultToken];

    /// Its connections, and the header with its token, where it has no certificate.
    pub async fn enter(self, server: &Server, domain: &Domain) -> (Client, Option<Header>) {
        let token = async || root_token(server, domain.okms_id).await.text.expose().to_owned();
        match self {
            Self::Certificate => (domain.client.clone(), None),
            Self::Bearer => {
                let bearer = format!("Bearer {}", token().await);
                (server.client(None), Some(("authorization", bearer)))
            }
            Self::VaultToken => (server.client(None), Some(("x-vault-token", token().await))),
        }
    }
}

/// The name of a header, and what it says.
pub type Header = (&'static str, String);

/// Sequences, and what they are compared with.
pub struct Comparison<M, R> {
    /// What this server is compared with.
    pub with: &'static str,
    /// The variables that say how many sequences are tried, and from which seed on.
    pub sequences: (&'static str, u64),
    pub seed: &'static str,
    /// How sequences are made up.
    pub make: M,
    /// Sends one, and gives the number of requests or the story up to the first difference.
    pub replay: R,
    /// Tries to shorten what fails.
    pub max_shrink_iters: u32,
    /// The clock belongs to a server, and a sequence moves it, so each has its own. More than there are cores in
    /// CI, since a worker waits for the disk most of the time.
    pub workers: u64,
}

impl<M, R, S> Comparison<M, R>
where
    M: Fn() -> S + Sync,
    S: Strategy,
    R: AsyncFn(&Server, &S::Value) -> Result<usize, String> + Sync,
{
    /// Tries sequences until one fails, and gives what is to be told of it.
    pub fn run(&self, engine: Engine) -> Vec<String> {
        let sequences = number(self.sequences.0).unwrap_or(self.sequences.1);
        let seed = number(self.seed).unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0);
        let started = Instant::now();
        let (requests, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let failures: Vec<String> = thread::scope(|scope| {
            let workers: Vec<_> = (0..self.workers)
                .map(|worker| {
                    let cases =
                        sequences / self.workers + u64::from(worker < sequences % self.workers);
                    let (requests, stop) = (&requests, &stop);
                    scope.spawn(move || {
                        let cases = u32::try_from(cases).expect("fewer than 2^32 sequences");
                        self.work(engine, cases, seed.wrapping_add(worker), requests, stop)
                    })
                })
                .collect();
            let results = workers.into_iter().map(|worker| worker.join().expect("a worker"));
            results.filter_map(Result::err).collect()
        });
        let seconds = started.elapsed().as_secs_f64();
        // Past the capture of the standard library's macros: that it ran is worth a line in every log.
        let _ = writeln!(
            std::io::stderr(),
            "{}, {engine:?}: {sequences} sequences with {} requests in {seconds:.1} s ({:.0}/s), \
             {}={seed}",
            self.with,
            requests.into_inner(),
            sequences as f64 / seconds,
            self.seed,
        );
        let again = format!("{}={seed} tries this again", self.seed);
        failures.into_iter().map(|failure| format!("{failure}\n{again}")).collect()
    }

    /// Tries sequences until one fails, here or in another worker.
    fn work(
        &self,
        engine: Engine,
        cases: u32,
        seed: u64,
        requests: &AtomicUsize,
        stop: &AtomicBool,
    ) -> Result<(), String> {
        let (runtime, mut server) = start(engine);
        let config = Config {
            cases,
            failure_persistence: None,
            max_shrink_iters: self.max_shrink_iters,
            ..Config::default()
        };
        let mut seed_bytes = [0; 32];
        seed_bytes[..8].copy_from_slice(&seed.to_be_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed_bytes);
        let failed_here = AtomicBool::new(false);
        let result = TestRunner::new_with_rng(config, rng).run(&(self.make)(), |sequence| {
            if stop.load(Ordering::Relaxed) && !failed_here.load(Ordering::Relaxed) {
                return Ok(());
            }
            match runtime.block_on((self.replay)(&server, &sequence)) {
                Ok(sent) => {
                    requests.fetch_add(sent, Ordering::Relaxed);
                    Ok(())
                }
                Err(story) => {
                    stop.store(true, Ordering::Relaxed);
                    failed_here.store(true, Ordering::Relaxed);
                    Err(TestCaseError::fail(story))
                }
            }
        });
        let told = match result {
            Ok(()) => Ok(()),
            // Told from the shortest sequence, which need not be the last one that was tried.
            Err(TestError::Fail(reason, sequence)) => {
                let story = runtime.block_on((self.replay)(&server, &sequence)).err();
                let story = story
                    .unwrap_or_else(|| format!("{reason}\n(the shortest sequence passed again)"));
                Err(format!("{engine:?} and {} disagree:\n{story}", self.with))
            }
            Err(TestError::Abort(reason)) => Err(reason.to_string()),
        };
        runtime.block_on(server.stop());
        told
    }
}

/// A server, and the runtime that it shares with its client: no sequence ever has two requests at a time.
pub fn start(engine: Engine) -> (Runtime, Server) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let server = runtime.block_on(Server::start(engine));
    (runtime, server)
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number")))
}
