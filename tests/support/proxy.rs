//! A line to PostgreSQL that a test can cut.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use sqlx::postgres::PgConnectOptions;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
};

use super::base_url;

/// Passes bytes on between the server under test and PostgreSQL.
#[derive(Clone)]
pub struct Proxy {
    /// What a schema is made with to be reached through this.
    pub base: String,
    shared: Arc<Shared>,
}

struct Shared {
    is_open: AtomicBool,
    /// Changes when all connections end.
    cuts: watch::Sender<u32>,
    processes: Mutex<Vec<i32>>,
    /// Bytes that came from PostgreSQL.
    received: AtomicU64,
}

impl Proxy {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let original = base_url().expect("PostgreSQL");
        let (_, rest) = original.split_once("://").expect("a URL");
        let (user, rest) = rest.rsplit_once('@').unwrap_or(("postgres", rest));
        let database = rest.split_once('/').map_or("postgres", |(_, database)| database);
        let database = database.split('?').next().unwrap_or_default();
        let base = format!("postgres://{user}@{address}/{database}");
        let shared = Arc::new(Shared {
            is_open: AtomicBool::new(true),
            cuts: watch::Sender::new(0),
            processes: Mutex::default(),
            received: AtomicU64::new(0),
        });
        let options: PgConnectOptions = original.parse().expect("a URL");
        let accepting = shared.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if accepting.is_open.load(Ordering::SeqCst) {
                    tokio::spawn(pass(client, options.clone(), accepting.clone()));
                }
            }
        });
        Self { base, shared }
    }

    /// Ends all connections and lets none in.
    pub fn cut(&self) {
        self.shared.is_open.store(false, Ordering::SeqCst);
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    pub fn mend(&self) {
        self.shared.is_open.store(true, Ordering::SeqCst);
    }

    /// How many bytes came from PostgreSQL so far.
    pub fn received(&self) -> u64 {
        self.shared.received.load(Ordering::SeqCst)
    }

    /// The processes of PostgreSQL that serve, or served, connections through this.
    pub fn processes(&self) -> Vec<i32> {
        self.shared.processes.lock().expect("no panic").clone()
    }
}

async fn pass(client: TcpStream, options: PgConnectOptions, shared: Arc<Shared>) {
    let folder = options.get_socket().cloned();
    let folder = folder
        .or_else(|| Some(PathBuf::from(options.get_host())).filter(|path| path.is_absolute()));
    match folder {
        Some(folder) => {
            let socket = folder.join(format!(".s.PGSQL.{}", options.get_port()));
            let server = UnixStream::connect(socket).await.expect("PostgreSQL");
            let (from_server, to_server) = server.into_split();
            pass_both(client, from_server, to_server, shared).await;
        }
        None => {
            let address = (options.get_host(), options.get_port());
            let server = TcpStream::connect(address).await.expect("PostgreSQL");
            let (from_server, to_server) = server.into_split();
            pass_both(client, from_server, to_server, shared).await;
        }
    }
}

async fn pass_both(
    client: TcpStream,
    mut from_server: impl AsyncRead + Unpin,
    mut to_server: impl AsyncWrite + Unpin,
    shared: Arc<Shared>,
) {
    let mut cuts = shared.cuts.subscribe();
    let (mut from_client, mut to_client) = client.into_split();
    let up = copy(&mut from_client, &mut to_server);
    let down = async {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let read = from_server.read(&mut buffer).await?;
            shared.received.fetch_add(read as u64, Ordering::SeqCst);
            if read == 0 {
                return to_client.shutdown().await;
            }
            // "BackendKeyData", once a connection: the number of the process follows.
            if let Some(at) = buffer[..read].windows(5).position(|bytes| bytes == b"K\0\0\0\x0c")
                && let Some(number) = buffer[at + 5..].first_chunk()
            {
                let mut processes = shared.processes.lock().expect("no panic");
                processes.push(i32::from_be_bytes(*number));
            }
            to_client.write_all(&buffer[..read]).await?;
        }
    };
    tokio::select! {
        _ = up => {}
        _ = down => {}
        _ = cuts.changed() => {}
    }
}
