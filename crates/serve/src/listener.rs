//! Accepts connections until the server stops.
//!
//! `axum::serve` gives hyper no timer, so its connections have no time limit for headers, and it has no limit on their
//! number. A client that sends a byte of a header now and then would hold its connection forever, and so would one that
//! does not read its response.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::sleep,
};
use tokio_io_timeout::TimeoutStream;

use crate::{Error, Result, control::Control};

/// Connections beyond this number wait in the queue of the operating system.
const MAX_CONNECTIONS: usize = 1024;

/// A connection that takes longer for the headers of a request is closed, and so is an idle one.
const HEADER_TIME_LIMIT: Duration = Duration::from_secs(15);

/// A connection is closed if nothing of a response could be sent for this long.
const WRITE_TIME_LIMIT: Duration = Duration::from_secs(60);

/// The pause after a failed `accept`, such as while the process has no free file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Listens on an address. Port 0 selects a free one.
///
/// # Errors
///
/// [`Error::AddressInUse`], and [`Error::Listen`] for any other reason.
pub fn listen(host: IpAddr, port: u16) -> Result<StdListener> {
    let address = SocketAddr::new(host, port);
    let open = || {
        let listener = StdListener::bind(address)?;
        listener.set_nonblocking(true)?; // As tokio requires.
        Ok(listener)
    };
    open().map_err(|error: io::Error| match error.kind() {
        ErrorKind::AddrInUse => Error::AddressInUse(address),
        _ => Error::Listen { address, source: error },
    })
}

/// Serves connections until the server stops and the requests that run are complete.
pub(crate) async fn serve_connections(listener: TcpListener, router: Router, control: &Control) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME_LIMIT);
    let connections = GracefulShutdown::new();
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let next = async {
            let permit = permits.clone().acquire_owned().await.expect("the semaphore is never closed");
            (permit, accept(&listener).await)
        };
        let (permit, stream) = tokio::select! {
            biased;
            () = control.stopping() => break,
            next = next => next,
        };
        let _ = stream.set_nodelay(true); // Streamed tokens are small; without it they are only later.
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(WRITE_TIME_LIMIT));
        let service = TowerToHyperService::new(router.clone());
        let connection = connections.watch(http.serve_connection(TokioIo::new(Box::pin(stream)), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("a connection failed: {error}");
            }
            drop(permit);
        });
    }
    drop(listener);
    connections.shutdown().await;
}

/// The next connection. Errors do not end the server: they concern one connection, or they pass.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if is_of_connection(&error) => {}
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether a client closed its connection before it was accepted.
fn is_of_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
    )
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn a_port_in_use_is_named_with_advice() {
        let first = listen(Ipv4Addr::LOCALHOST.into(), 0).unwrap();
        let port = first.local_addr().unwrap().port();
        assert_ne!(port, 0);
        let error = listen(Ipv4Addr::LOCALHOST.into(), port).unwrap_err();
        assert!(matches!(error, Error::AddressInUse(_)), "{error:?}");
        let message = error.to_string();
        assert!(message.contains(&port.to_string()) && message.contains("--port"), "{message}");
    }

    /// Time passes only while everything waits.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_completes_its_headers_is_disconnected() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let control = Control::default();
        let router = Router::new().route("/", get(async || "hello"));
        let server = serve_connections(listener, router, &control);
        let client = async {
            let mut slow = TcpStream::connect(address).await.unwrap();
            slow.write_all(b"GET / HTTP/1.1\r\nHost: loc").await.unwrap();
            let mut answer = Vec::new();
            slow.read_to_end(&mut answer).await.unwrap();
            assert!(!String::from_utf8_lossy(&answer).contains("hello"));

            let mut quick = TcpStream::connect(address).await.unwrap();
            quick.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            quick.read_to_string(&mut answer).await.unwrap();
            assert!(answer.ends_with("hello"), "{answer}");
            control.stop();
        };
        tokio::join!(server, client);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_does_not_keep_the_server_from_stopping() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let control = Control::default();
        let router = Router::new().route("/", get(async || vec![b' '; 64 << 20])); // More than any socket buffers.
        let server = serve_connections(listener, router, &control);
        let client = async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
            stream.read_exact(&mut [0; 12]).await.unwrap();
            control.stop();
            stream
        };
        let ((), _open) = tokio::join!(server, client);
    }
}
