//! One read for all who ask the same at the same time: the requests of one caller all ask for its credential.
//!
//! Nothing is kept. Who asks gets what a read finds that begins after it has asked, as if that was its own: so it sees
//! every commit that was acknowledged before. While one read is under way, those who come wait for its end and
//! share the next one.
//!
//! Reads on PostgreSQL at 32 connections (`cargo bench --bench postgres`, a busy machine): 2,600 a second, 160 us of
//! processor here and 105 in PostgreSQL each before, 4,000, 115 and 58 with it.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::OnceCell, time::timeout};

use super::{engine::in_time, line::InLine};
use crate::domain::Error;

/// Reads of one kind.
pub(super) struct SharedReads<K, V>(Mutex<HashMap<K, Reads<V>>>);

/// The reads of one thing, while anybody asks for it.
struct Reads<V> {
    asking: usize,
    /// Held by the read that is under way.
    under_way: Arc<tokio::sync::Mutex<()>>,
    next: NextRead<V>,
}

/// A read that has not begun when somebody joins it.
type NextRead<V> = Arc<OnceCell<Result<V, Error>>>;

impl<K: Clone + Eq + Hash, V: Clone> SharedReads<K, V> {
    /// What `read` finds, or one that another asker makes from now on. Where that goes away, the next who waits makes
    /// it. Whoever waits for that of another has the `place` meanwhile, as if it waited for a connection itself; who
    /// reads has it from there on.
    ///
    /// # Errors
    ///
    /// As the read, or [`Error::Unavailable`] where it all takes too long.
    pub(super) async fn read<'l, F>(
        &self,
        key: K,
        place: Option<InLine<'l>>,
        read: impl FnOnce(Option<InLine<'l>>) -> F,
    ) -> Result<V, Error>
    where
        F: Future<Output = Result<V, Error>>,
    {
        let asking = self.ask(key);
        let reading = async {
            let found = asking.read.get_or_init(|| async {
                let _under_way = timeout(UNDER_WAY_TIME, asking.under_way.lock()).await;
                asking.begin();
                read(place).await
            });
            found.await.clone()
        };
        Box::pin(in_time(reading)).await
    }

    fn ask(&self, key: K) -> Asking<'_, K, V> {
        let mut all = self.lock();
        let reads = all.entry(key.clone()).or_insert_with(|| Reads {
            asking: 0,
            under_way: Arc::default(),
            next: NextRead::default(),
        });
        reads.asking += 1;
        let (under_way, read) = (Arc::clone(&reads.under_way), Arc::clone(&reads.next));
        Asking { all: self, key, under_way, read }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Reads<V>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, V> Default for SharedReads<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// One who asks.
struct Asking<'a, K: Clone + Eq + Hash, V: Clone> {
    all: &'a SharedReads<K, V>,
    key: K,
    under_way: Arc<tokio::sync::Mutex<()>>,
    read: NextRead<V>,
}

impl<K: Clone + Eq + Hash, V: Clone> Asking<'_, K, V> {
    /// From now on nobody joins this read any more.
    fn begin(&self) {
        if let Some(reads) = self.all.lock().get_mut(&self.key)
            && Arc::ptr_eq(&reads.next, &self.read)
        {
            reads.next = NextRead::default();
        }
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Drop for Asking<'_, K, V> {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        if let Some(reads) = all.get_mut(&self.key) {
            reads.asking -= 1;
            if reads.asking == 0 {
                all.remove(&self.key);
            }
        }
    }
}

/// How long a read waits for the one that is under way, which takes a millisecond, unless its connection is dead.
const UNDER_WAY_TIME: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::future::{join_all, poll_immediate};
    use tokio::sync::Notify;

    use super::{super::line::Line, *};

    /// What is read is how many reads had begun.
    #[derive(Default)]
    struct Database {
        reads: SharedReads<&'static str, u32>,
        begun: AtomicU32,
        answer: Notify,
    }

    impl Database {
        async fn read(&self, key: &'static str) -> Result<u32, Error> {
            let read = |_| async {
                let found = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
                self.answer.notified().await;
                Ok(found)
            };
            self.reads.read(key, None, read).await
        }

        fn is_idle(&self) -> bool {
            self.reads.lock().is_empty()
        }
    }

    #[tokio::test]
    async fn who_comes_while_a_read_is_under_way_shares_the_next() {
        let database = Database::default();
        let mut first = Box::pin(database.read("a"));
        assert_eq!(poll_immediate(&mut first).await, None);
        let mut others = Box::pin(join_all((0..5).map(|_| database.read("a"))));
        assert_eq!(poll_immediate(&mut others).await, None);
        let mut another = Box::pin(database.read("b"));
        assert_eq!(poll_immediate(&mut another).await, None);
        assert_eq!(database.begun.load(Ordering::SeqCst), 2, "one for each key");
        database.answer.notify_waiters();
        assert_eq!((first.await, another.await), (Ok(1), Ok(2)));
        assert_eq!(poll_immediate(&mut others).await, None);
        database.answer.notify_waiters();
        assert_eq!(others.await, [const { Ok(3) }; 5], "what was read before they asked is old");
        assert!(database.is_idle());
    }

    #[tokio::test]
    async fn a_read_whose_asker_goes_away_is_made_by_another() {
        let database = Database::default();
        let mut first = Box::pin(database.read("a"));
        assert_eq!(poll_immediate(&mut first).await, None);
        let (mut second, mut third) = (Box::pin(database.read("a")), Box::pin(database.read("a")));
        assert_eq!(poll_immediate(&mut second).await, None);
        assert_eq!(poll_immediate(&mut third).await, None);
        drop(first);
        assert_eq!(poll_immediate(&mut second).await, None);
        drop(second);
        assert_eq!(poll_immediate(&mut third).await, None);
        assert_eq!(database.begun.load(Ordering::SeqCst), 3);
        database.answer.notify_waiters();
        assert_eq!(third.await, Ok(3));
        assert!(database.is_idle());
    }

    #[tokio::test]
    async fn a_read_that_fails_fails_for_those_who_share_it() {
        let (reads, begun, answer) = (SharedReads::default(), AtomicU32::new(0), Notify::new());
        let gone = || Error::Unavailable("gone".into());
        let fail = || {
            reads.read("a", None, |_| async {
                begun.fetch_add(1, Ordering::SeqCst);
                answer.notified().await;
                Err(gone())
            })
        };
        let mut first = Box::pin(fail());
        assert_eq!(poll_immediate(&mut first).await, None);
        let mut others = Box::pin(join_all((0..5).map(|_| fail())));
        assert_eq!(poll_immediate(&mut others).await, None);
        answer.notify_waiters();
        assert_eq!(first.await, Err(gone()));
        assert_eq!(poll_immediate(&mut others).await, None);
        answer.notify_waiters();
        assert_eq!(others.await, vec![Err(gone()); 5]);
        assert_eq!(
            begun.load(Ordering::SeqCst),
            2,
            "an outage is not waited for by one after the other"
        );
        assert_eq!(reads.read("a", None, |_| async { Ok(1) }).await, Ok(1));
    }

    #[tokio::test]
    async fn who_waits_for_the_read_of_another_has_a_place_in_the_line() {
        let (reads, line, answer) = (SharedReads::default(), Line::default(), Notify::new());
        let (line, answer) = (&line, &answer);
        let read = || {
            reads.read("a", line.enter(), |place| async move {
                answer.notified().await;
                // Who reads has kept it until here.
                let before = line.length();
                drop(place);
                Ok((before, line.length()))
            })
        };
        let mut first = Box::pin(read());
        assert_eq!((poll_immediate(&mut first).await, line.length()), (None, 1));
        let mut others = Box::pin(join_all((0..5).map(|_| read())));
        assert_eq!((poll_immediate(&mut others).await, line.length()), (None, 6));
        answer.notify_waiters();
        assert_eq!(first.await, Ok((6, 5)));
        assert_eq!((poll_immediate(&mut others).await, line.length()), (None, 5));
        answer.notify_waiters();
        assert_eq!((others.await, line.length()), (vec![Ok((5, 4)); 5], 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_hangs_holds_nobody_up_who_comes_later() {
        let database = Database::default();
        let mut hanging = Box::pin(database.read("a"));
        assert_eq!(poll_immediate(&mut hanging).await, None);
        let mut later = Box::pin(database.read("a"));
        assert_eq!(poll_immediate(&mut later).await, None);
        tokio::time::advance(UNDER_WAY_TIME).await;
        assert_eq!(poll_immediate(&mut later).await, None);
        assert_eq!(database.begun.load(Ordering::SeqCst), 2);
        database.answer.notify_waiters();
        assert_eq!(later.await, Ok(2));
    }
}
