//! Connections: taken, secured, bounded in number and time, and let go at the end.
//!
//! In: a listening socket, what answers requests, a signal to end. Out: nothing, when all connections are closed. HTTP/1.1 and
//! HTTP/2, told apart by the first bytes (h2c, as clients begin it that know beforehand), or by TLS. Bounds: [`MAX_CONNECTIONS`];
//! further ones wait to be taken. Not here: requests.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;

/// How many connections there may be at once.
pub const MAX_CONNECTIONS: usize = 512;

/// How long the first byte, the handshake of TLS, and a request's headers may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How much is read ahead of one connection at most, in bytes: its headers, and a part of its body.
pub const READ_AHEAD: usize = 256 << 10;

/// How many requests one HTTP/2 connection may have at once.
const MAX_STREAMS: u32 = 64;

/// What an HTTP/2 sender may send ahead, in bytes, of one request and of all.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// How long it takes until the next connection is taken when the system has no room for one.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// A listening socket and what it needs.
pub struct Listener {
    socket: TcpListener,
    /// Replaced where the certificate is.
    tls: Option<Arc<RwLock<TlsAcceptor>>>,
    /// Silence that ends a connection; longer than any answer takes.
    idle: Duration,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Listener {
    /// Listens on an address.
    ///
    /// # Errors
    /// The address cannot be had.
    pub async fn bind(
        address: SocketAddr,
        tls: Option<Arc<RwLock<TlsAcceptor>>>,
        idle: Duration,
    ) -> io::Result<Listener> {
        Ok(Listener { socket: TcpListener::bind(address).await?, tls, idle })
    }

    /// The address that it has.
    ///
    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves connections until `end` is ready, and then for at most so long those that have a request under way.
    pub async fn serve(self, router: Router, end: impl Future<Output = ()>, longest: Duration) {
        let Listener { socket, tls, idle } = self;
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let graceful = GracefulShutdown::new();
        let mut end = std::pin::pin!(end);
        loop {
            let room = Arc::clone(&connections).acquire_owned();
            let accepted = async { (room.await, socket.accept().await) };
            let (room, accepted) = tokio::select! {
                accepted = accepted => accepted,
                () = &mut end => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let tls = tls.as_ref().map(|tls| tls.read().unwrap_or_else(PoisonError::into_inner).clone());
                    let (router, watcher) = (router.clone(), graceful.watcher());
                    tokio::spawn(async move {
                        let _room = room;
                        if let Err(error) = connection(stream, tls, router, watcher, idle).await {
                            tracing::debug!(%peer, %error, "a connection broke off");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be taken; the next is taken soon");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
        drop(socket);
        if tokio::time::timeout(longest, graceful.shutdown()).await.is_err() {
            tracing::warn!("requests are under way still, and end without an answer");
        }
    }
}

type BoxedError = Box<dyn std::error::Error + Send + Sync>;

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
    watcher: Watcher,
    idle: Duration,
) -> Result<(), BoxedError> {
    stream.set_nodelay(true)?;
    // Until there is a first byte, nothing else ends a connection that says nothing.
    tokio::time::timeout(HEAD_TIMEOUT, stream.peek(&mut [0])).await??;
    let mut stream = TimeoutStream::new(stream);
    stream.set_read_timeout(Some(idle));
    stream.set_write_timeout(Some(idle));
    let stream = Box::pin(stream);
    match tls {
        None => requests(stream, router, watcher).await,
        Some(tls) => requests(tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream)).await??, router, watcher).await,
    }
}

async fn requests<S>(stream: S, router: Router, watcher: Watcher) -> Result<(), BoxedError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(READ_AHEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(64 << 10)
        .keep_alive_interval(Some(Duration::from_secs(20)));
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    watcher.watch(connection.into_owned()).await
}
