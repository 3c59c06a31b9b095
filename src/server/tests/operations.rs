//! The listener for monitoring, and whoever would keep monitoring out.

use tokio::net::TcpSocket;

use super::*;
use crate::server::serve_operations;

const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Serves nothing but `OK`.
async fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = tower::service_fn(async |_| {
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"OK"))))
    });
    tokio::spawn(serve_operations(listener, service));
    address
}

async fn connect(from: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    socket.connect(to).await.unwrap()
}

/// Whether a request is answered.
async fn is_served(stream: &mut TcpStream) -> bool {
    if stream.write_all(HEAD).await.is_err() {
        return false;
    }
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.is_ok() && &answer == b"HTTP/1.1 200"
}

#[tokio::test]
async fn who_holds_all_places_of_an_address_leaves_those_of_others() {
    let address = serve().await;
    let mut held = Vec::new();
    for _ in 0..16 {
        let mut stream = connect("127.0.0.1", address).await;
        assert!(is_served(&mut stream).await);
        held.push(stream);
    }
    assert!(!is_served(&mut connect("127.0.0.1", address).await).await);
    let mut others = Vec::new();
    for _ in 0..16 {
        let mut stream = connect("127.0.0.2", address).await;
        assert!(is_served(&mut stream).await);
        others.push(stream);
    }
    assert!(!is_served(&mut connect("127.0.0.3", address).await).await, "of 32 in all");
    drop(others.pop());
    // The server sees a moment later that it is closed.
    while !is_served(&mut connect("127.0.0.3", address).await).await {}
}

#[tokio::test]
async fn who_says_nothing_has_a_place_for_seconds() {
    let address = serve().await;
    let (mut silent, mut idle) =
        (connect("127.0.0.1", address).await, connect("127.0.0.1", address).await);
    assert!(is_served(&mut idle).await);
    // From here on there is nothing but to wait.
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    for stream in [&mut silent, &mut idle] {
        let mut rest = Vec::new();
        // To the end; one that was asked nothing may be told why.
        let _ended = stream.read_to_end(&mut rest).await;
    }
    let held = begun.elapsed();
    assert!(held >= Duration::from_secs(19) && held <= Duration::from_secs(21), "{held:?}");
}
