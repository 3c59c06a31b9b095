//! Connections between two pieces of work.
//!
//! A pool of sqlx asks for two signs of life at each release, in a task of its own: round trips, of which a piece of
//! work has as many itself. So a connection whose work ended well is laid on a shelf, where the next piece of work
//! finds it. All others go back to the pool, which looks after them; so do these when the next piece of work comes after
//! some time.
//!
//! Where there is none, one is asked of the pool, and whoever waits takes what comes first: that one, or one that is
//! laid back. The other is not given up. Connections that are made take longer than a piece of work, so those given up
//! would be so many that a PostgreSQL takes no more.
//!
//! Reads on PostgreSQL at 32 connections (`cargo bench --bench postgres`, a busy machine): 2,750 a second and 220 us
//! of processor each before, 3,500 and 170 with it.

use std::{
    collections::VecDeque,
    ops::{Deref, DerefMut},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use sqlx::{Database, Pool, pool::PoolConnection};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, timeout},
};

use super::{
    StoreError,
    line::{InLine, Line, full},
};

/// A pool, and those of its connections that wait for work. Clones share them.
pub(super) struct Shelf<DB: Database>(Arc<Shared<DB>>);

struct Shared<DB: Database> {
    pool: Pool<DB>,
    /// As many as the pool may have connections: who has one finds a connection on the shelf or in the pool, or one
    /// comes.
    turns: Arc<Semaphore>,
    /// Those who wait for a turn, or for somebody who does.
    line: Line,
    stock: Mutex<Stock<DB>>,
}

/// What is there, and who waits for more.
struct Stock<DB: Database> {
    /// At the end the one that was used last, which has the most in its caches.
    waiting: Vec<Taken<DB>>,
    /// Those who wait for one. They have turns, so they are few.
    takers: VecDeque<oneshot::Sender<Result<Taken<DB>, sqlx::Error>>>,
    /// How many are asked of the pool: one for each taker at least.
    asked: usize,
}

impl<DB: Database> Stock<DB> {
    /// Gives a connection to whoever waits, else back.
    fn give(&mut self, mut taken: Taken<DB>) -> Option<Taken<DB>> {
        while let Some(taker) = self.takers.pop_front() {
            match taker.send(Ok(taken)) {
                // It waits no longer.
                Err(Ok(back)) => taken = back,
                _ => return None,
            }
        }
        Some(taken)
    }

    /// Tells the first who waits that no connection can be made.
    fn fail(&mut self, mut error: sqlx::Error) {
        while let Some(taker) = self.takers.pop_front() {
            match taker.send(Err(error)) {
                Err(Err(back)) => error = back,
                _ => return,
            }
        }
    }
}

impl<DB: Database> Shared<DB> {
    fn stock(&self) -> MutexGuard<'_, Stock<DB>> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that waits for work, or the way by which one comes.
    fn find(self: &Arc<Self>) -> Result<Taken<DB>, Coming<DB>> {
        let now = Instant::now();
        let mut stock = self.stock();
        stock.waiting.retain(|taken| now - taken.since < TAKEN_TIME);
        if let Some(taken) = stock.waiting.pop() {
            return Ok(taken);
        }
        if let Some(connection) = self.pool.try_acquire() {
            return Ok(Taken { connection, since: now });
        }
        let (sender, receiver) = oneshot::channel();
        stock.takers.retain(|taker| !taker.is_closed());
        stock.takers.push_back(sender);
        if stock.asked < stock.takers.len() {
            stock.asked += 1;
            tokio::spawn(Arc::clone(self).ask());
        }
        Err(Coming { receiver, shared: Arc::clone(self) })
    }

    /// Asks the pool for a connection, for whoever waits when it comes.
    async fn ask(self: Arc<Self>) {
        loop {
            let asked = AssertUnwindSafe(self.pool.acquire()).catch_unwind();
            // What is under way would keep the pool from closing.
            let asked = self.pool.close_event().do_until(asked).await;
            let mut stock = self.stock();
            stock.takers.retain(|taker| !taker.is_closed());
            let connection = match asked {
                Ok(Ok(connection)) => connection,
                Ok(Err(_panic)) => Err(sqlx::Error::WorkerCrashed),
                Err(closed) => Err(closed),
            };
            match connection {
                // Each who waits has a time of its own, which may just have begun.
                Err(sqlx::Error::PoolTimedOut) if stock.asked <= stock.takers.len() => continue,
                Err(sqlx::Error::PoolTimedOut) => stock.asked -= 1,
                Err(error) => {
                    stock.asked -= 1;
                    stock.fail(error);
                }
                Ok(connection) => {
                    stock.asked -= 1;
                    self.lay(stock, Taken { connection, since: Instant::now() });
                }
            }
            return;
        }
    }

    /// Gives a connection to whoever waits for one, or else keeps it for the next piece of work.
    fn lay(&self, mut stock: MutexGuard<'_, Stock<DB>>, taken: Taken<DB>) {
        let left = stock.give(taken);
        if !self.pool.is_closed() {
            stock.waiting.extend(left);
        }
    }
}

/// A connection that comes.
struct Coming<DB: Database> {
    receiver: oneshot::Receiver<Result<Taken<DB>, sqlx::Error>>,
    shared: Arc<Shared<DB>>,
}

impl<DB: Database> Coming<DB> {
    async fn wait(mut self) -> Result<Taken<DB>, sqlx::Error> {
        (&mut self.receiver).await.map_err(|_| sqlx::Error::PoolClosed)?
    }
}

impl<DB: Database> Drop for Coming<DB> {
    /// Where nobody waits any more when it is there, it is the next one's.
    fn drop(&mut self) {
        self.receiver.close();
        if let Ok(Ok(taken)) = self.receiver.try_recv() {
            self.shared.lay(self.shared.stock(), taken);
        }
    }
}

/// A connection that is out of the pool.
struct Taken<DB: Database> {
    connection: PoolConnection<DB>,
    since: Instant,
}

/// A connection at work. One that is dropped and not [laid back](Self::lay_back) goes to the pool: its work failed or
/// was cut off.
pub(super) struct AtWork<DB: Database> {
    // Before the turn, so that it is dropped first.
    taken: Taken<DB>,
    shared: Arc<Shared<DB>>,
    _turn: OwnedSemaphorePermit,
}

impl<DB: Database> Shelf<DB> {
    /// Lends out the connections of this pool, which nobody else takes.
    pub(super) fn new(pool: Pool<DB>) -> Self {
        let turns = Semaphore::new(pool.options().get_max_connections() as usize);
        let stock = Stock { waiting: Vec::new(), takers: VecDeque::new(), asked: 0 };
        let (turns, stock) = (Arc::new(turns), Mutex::new(stock));
        Self(Arc::new(Shared { pool, turns, line: Line::default(), stock }))
    }

    /// Those who wait for a turn, or for somebody who does.
    pub(super) fn line(&self) -> &Line {
        &self.0.line
    }

    /// A place among those who wait, where no connection is free.
    ///
    /// # Errors
    ///
    /// Where too many wait already.
    pub(super) fn enter_line(&self) -> Result<Option<InLine<'_>>, StoreError> {
        match self.0.turns.available_permits() {
            0 => self.0.line.enter().map(Some).ok_or_else(full),
            _ => Ok(None),
        }
    }

    /// Takes a connection, once one is free.
    ///
    /// # Errors
    ///
    /// At once where too many wait already; when none is free in time, or none can be made.
    pub(super) async fn take(&self) -> Result<AtWork<DB>, StoreError> {
        self.take_from(self.enter_line()?).await
    }

    /// The same, from a place in the line.
    pub(super) async fn take_from(
        &self,
        place: Option<InLine<'_>>,
    ) -> Result<AtWork<DB>, StoreError> {
        let time = self.0.pool.options().get_acquire_timeout();
        let taken = timeout(time, self.take_untimed()).await;
        drop(place);
        Ok(taken.map_err(|_| sqlx::Error::PoolTimedOut)??)
    }

    async fn take_untimed(&self) -> Result<AtWork<DB>, sqlx::Error> {
        let shared = Arc::clone(&self.0);
        let turn = Arc::clone(&shared.turns).acquire_owned().await;
        let turn = turn.map_err(|_| sqlx::Error::PoolClosed)?;
        let taken = match shared.find() {
            Ok(taken) => taken,
            Err(coming) => coming.wait().await?,
        };
        Ok(AtWork { taken, shared, _turn: turn })
    }

    /// How many connections there are, and how many of them wait for work.
    pub(super) fn sizes(&self) -> (u32, usize) {
        let waiting = self.0.stock().waiting.len();
        (self.0.pool.size(), self.0.pool.num_idle() + waiting)
    }

    /// What connections are made with.
    pub(super) fn connect_options(&self) -> Arc<<DB::Connection as sqlx::Connection>::Options> {
        self.0.pool.connect_options()
    }

    /// Waits for what is at work, and closes all connections.
    pub(super) async fn close(&self) {
        // Before the shelf is emptied: what is laid back afterwards goes to the pool.
        let closing = self.0.pool.close();
        self.0.stock().waiting.clear();
        closing.await;
    }
}

impl<DB: Database> Clone for Shelf<DB> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<DB: Database> AtWork<DB> {
    /// Leaves the connection to the next piece of work: this one ended well, outside any transaction.
    pub(super) fn lay_back(self) {
        let Self { taken, shared, _turn } = self;
        shared.lay(shared.stock(), taken);
    }

    /// Closes the connection: it is dead.
    pub(super) fn discard(self) {
        drop(self.taken.connection.detach());
    }
}

impl<DB: Database> Deref for AtWork<DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &DB::Connection {
        &self.taken.connection
    }
}

impl<DB: Database> DerefMut for AtWork<DB> {
    fn deref_mut(&mut self) -> &mut DB::Connection {
        &mut self.taken.connection
    }
}

/// How long a connection stays out of the pool, where there is work. A server may vanish without a word, and a line be forgotten by what
/// is between; the pool asks for a sign of life, and knows how old a connection may become and how long unused.
const TAKEN_TIME: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use sqlx::{Sqlite, sqlite::SqlitePoolOptions};

    use super::*;
    use crate::domain::Error;

    /// A shelf with one connection, and how often that came back to the pool.
    fn shelf() -> (Shelf<Sqlite>, Arc<AtomicUsize>) {
        let returns = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&returns);
        let options = SqlitePoolOptions::new().max_connections(1).after_release(move |_, _| {
            counted.fetch_add(1, Ordering::SeqCst);
            Box::pin(async { Ok(true) })
        });
        (Shelf::new(options.connect_lazy("sqlite::memory:").unwrap()), returns)
    }

    /// Takes the connection, which is known by its table.
    async fn take_again(shelf: &Shelf<Sqlite>) -> AtWork<Sqlite> {
        let mut connection = shelf.take().await.unwrap();
        sqlx::query("SELECT * FROM known").fetch_all(&mut *connection).await.unwrap();
        connection
    }

    async fn take_first(shelf: &Shelf<Sqlite>) -> AtWork<Sqlite> {
        let mut connection = shelf.take().await.unwrap();
        sqlx::query("CREATE TEMP TABLE known (id)").execute(&mut *connection).await.unwrap();
        connection
    }

    #[tokio::test]
    async fn a_connection_stays_out_of_the_pool_while_its_work_ends_well() {
        let (shelf, returns) = shelf();
        take_first(&shelf).await.lay_back();
        take_again(&shelf).await.lay_back();
        assert_eq!(returns.load(Ordering::SeqCst), 0);
        drop(take_again(&shelf).await);
        take_again(&shelf).await.lay_back();
        assert_eq!(returns.load(Ordering::SeqCst), 1, "its work failed");
        take_again(&shelf).await.discard();
        let mut another = shelf.take().await.unwrap();
        let known = sqlx::query("SELECT * FROM known").fetch_all(&mut *another).await;
        assert!(known.is_err(), "one that was discarded came back");
    }

    #[tokio::test]
    async fn a_connection_goes_back_to_the_pool_when_its_time_is_over() {
        let (shelf, returns) = shelf();
        take_first(&shelf).await.lay_back();
        tokio::time::pause();
        tokio::time::advance(TAKEN_TIME / 2).await;
        tokio::time::resume();
        take_again(&shelf).await.lay_back();
        assert_eq!(returns.load(Ordering::SeqCst), 0);
        tokio::time::pause();
        tokio::time::advance(TAKEN_TIME / 2).await;
        tokio::time::resume();
        take_again(&shelf).await.lay_back();
        assert_eq!(returns.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn who_waits_gets_the_connection_or_an_error_in_time() {
        let (shelf, _) = shelf();
        let connection = take_first(&shelf).await;
        let waiting = tokio::spawn({
            let shelf = shelf.clone();
            async move { take_again(&shelf).await }
        });
        tokio::task::yield_now().await;
        connection.lay_back();
        let held = waiting.await.unwrap();
        // The clock goes on by itself where there is nothing else to do.
        tokio::time::pause();
        assert!(matches!(shelf.take().await, Err(StoreError::Sql(sqlx::Error::PoolTimedOut))));
        drop(held);
    }

    #[tokio::test]
    async fn no_more_wait_than_may() {
        let (shelf, _) = shelf();
        let held = take_first(&shelf).await;
        shelf.line().limit(1);
        let mut waiting = Box::pin(shelf.take());
        assert!(futures_util::future::poll_immediate(&mut waiting).await.is_none());
        let refused = futures_util::future::poll_immediate(Box::pin(shelf.take())).await;
        let refused = refused.expect("at once").err().map(Error::from);
        assert!(matches!(refused, Some(Error::Unavailable(_))), "{refused:?}");
        held.lay_back();
        // Who waits is not harmed, and leaves room for the next.
        waiting.await.unwrap().lay_back();
        shelf.take().await.unwrap().lay_back();
    }

    #[tokio::test]
    async fn who_has_a_place_waits_in_it_and_in_no_other() {
        let (shelf, _) = shelf();
        let held = take_first(&shelf).await;
        shelf.line().limit(1);
        let place = shelf.enter_line().unwrap();
        assert!(place.is_some() && shelf.enter_line().is_err());
        let mut waiting = Box::pin(shelf.take_from(place));
        assert!(futures_util::future::poll_immediate(&mut waiting).await.is_none());
        assert_eq!(shelf.line().length(), 1);
        held.lay_back();
        waiting.await.unwrap().lay_back();
        assert_eq!(shelf.line().length(), 0);
        assert!(shelf.enter_line().unwrap().is_none(), "one is free");
    }

    #[tokio::test]
    async fn closing_waits_for_what_is_at_work() {
        let (shelf, returns) = shelf();
        let connection = take_first(&shelf).await;
        let mut closing = Box::pin(shelf.close());
        let closed = futures_util::future::poll_immediate(&mut closing).await;
        assert_eq!(closed, None);
        connection.lay_back();
        closing.await;
        assert_eq!(returns.load(Ordering::SeqCst), 0, "it is closed at once");
        assert!(matches!(shelf.take().await, Err(StoreError::Sql(sqlx::Error::PoolClosed))));
        assert_eq!(shelf.0.pool.size(), 0);
    }

    #[tokio::test]
    async fn connections_that_are_made_are_not_given_up() {
        let made = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&made);
        let options = SqlitePoolOptions::new().max_connections(3).after_connect(move |_, _| {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            // The first one is there long before the others.
            let time = Duration::from_millis(if number == 0 { 1 } else { 200 });
            Box::pin(async move {
                tokio::time::sleep(time).await;
                Ok(())
            })
        });
        let shelf = Shelf::<Sqlite>::new(options.connect_lazy("sqlite::memory:").unwrap());
        let work = (0..300).map(|_| async {
            let connection = shelf.take().await.unwrap();
            tokio::task::yield_now().await;
            connection.lay_back();
        });
        futures_util::future::join_all(work).await;
        assert!(made.load(Ordering::SeqCst) <= 3, "{made:?} were made");
        let come_to_the_shelf = async {
            while shelf.sizes() != (3, 3) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(10), come_to_the_shelf).await.expect("the others");
        assert_eq!(made.load(Ordering::SeqCst), 3);
    }

    /// A shelf for two connections, of which the second is never made, and how often one came back to the pool.
    async fn with_one_of_two(time: Duration) -> (Shelf<Sqlite>, Arc<AtomicUsize>) {
        let (made, returns) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&returns);
        let options = SqlitePoolOptions::new()
            .max_connections(2)
            .acquire_timeout(time)
            .after_connect(move |_, _| {
                let is_first = made.fetch_add(1, Ordering::SeqCst) == 0;
                Box::pin(async move {
                    match is_first {
                        true => Ok(()),
                        false => std::future::pending().await,
                    }
                })
            })
            .after_release(move |_, _| {
                counted.fetch_add(1, Ordering::SeqCst);
                Box::pin(async { Ok(true) })
            });
        let shelf = Shelf::new(options.connect_lazy("sqlite::memory:").unwrap());
        take_first(&shelf).await.lay_back();
        (shelf, returns)
    }

    #[tokio::test]
    async fn who_is_served_is_not_told_that_another_connection_is_not_made() {
        let time = Duration::from_millis(500);
        let (shelf, _) = with_one_of_two(time).await;
        let work = (0..4).map(|_| async {
            let end = Instant::now() + 3 * time;
            while Instant::now() < end {
                let connection = shelf.take().await.unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
                connection.lay_back();
            }
        });
        futures_util::future::join_all(work).await;
    }

    /// Somebody waits while a connection is asked of the pool, and goes away when another one is on its way to it.
    async fn wait_in_vain(shelf: &Shelf<Sqlite>) {
        let connection = take_again(shelf).await;
        let mut waiting = Box::pin(shelf.take());
        assert!(futures_util::future::poll_immediate(&mut waiting).await.is_none());
        while shelf.sizes().0 < 2 {
            tokio::task::yield_now().await;
        }
        connection.lay_back();
        assert_eq!(shelf.sizes().1, 0, "it is on its way");
    }

    #[tokio::test]
    async fn a_connection_that_comes_too_late_is_the_next_ones() {
        let (shelf, returns) = with_one_of_two(Duration::from_secs(60)).await;
        wait_in_vain(&shelf).await;
        take_again(&shelf).await.lay_back();
        assert_eq!(returns.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn closing_does_not_wait_for_what_is_not_made() {
        let (shelf, _) = with_one_of_two(Duration::from_secs(60)).await;
        wait_in_vain(&shelf).await;
        timeout(Duration::from_secs(10), shelf.close()).await.expect("an end");
    }

    #[tokio::test]
    async fn who_waits_is_told_why_no_connection_can_be_made() {
        let options = SqlitePoolOptions::new().max_connections(2);
        let shelf = Shelf::<Sqlite>::new(options.connect_lazy("sqlite:///none/x.db").unwrap());
        let all = futures_util::future::join_all((0..20).map(|_| shelf.take())).await;
        let is_told = |taken: Result<AtWork<Sqlite>, StoreError>| {
            matches!(taken, Err(StoreError::Sql(sqlx::Error::Database(_))))
        };
        assert!(all.into_iter().all(is_told));
        let stock = shelf.0.stock();
        assert_eq!((stock.asked, stock.takers.len()), (0, 0));
    }

    #[tokio::test]
    async fn who_waits_for_the_pool_gets_what_is_laid_back_meanwhile() {
        // A connection that never comes back to the pool, as one whose server does not answer.
        let options = SqlitePoolOptions::new()
            .max_connections(2)
            .acquire_timeout(Duration::from_secs(60))
            .after_release(|_, _| Box::pin(std::future::pending()));
        let shelf = Shelf::<Sqlite>::new(options.connect_lazy("sqlite::memory:").unwrap());
        let (one, other) = (shelf.take().await.unwrap(), shelf.take().await.unwrap());
        drop(one);
        let mut third = Box::pin(shelf.take());
        assert!(futures_util::future::poll_immediate(&mut third).await.is_none());
        other.lay_back();
        assert!(third.await.is_ok());
    }
}
