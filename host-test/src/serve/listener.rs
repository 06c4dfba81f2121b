//! Connections: taken, secured, bounded in number and time, and let go at the end.
//!
//! In: a listening socket, what answers requests, a signal to end. Out: nothing, when all connections are closed. HTTP/1.1 and
//! HTTP/2, told apart by the first bytes (h2c, as clients begin it that know beforehand), or by TLS. Bounds: [`MAX_CONNECTIONS`];
//! a connection is closed when it has no request for long, whatever else its peer sends, and when its peer does not read an answer.
//! Where there are as many as there may be, a new one takes the place of the one that has been without a request for the longest
//! time, one whose peer has not shown that it may send first. Not here: requests.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

/// How many connections there may be at once.
pub const MAX_CONNECTIONS: usize = 512;

/// How many more the system keeps until they are taken: with fewer, a burst of them makes others try again after a second.
const BACKLOG: u32 = 1024;

/// How long the first byte, the handshake of TLS, and a request's headers may take, and the first request that may send.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may have no request.
const IDLE: Duration = Duration::from_secs(60);

/// How often it is looked whether a connection is to be closed.
const LOOK: Duration = Duration::from_secs(1);

/// How much is read ahead of one connection at most, in bytes: its headers, and a part of its body.
pub const READ_AHEAD: usize = 128 << 10;

/// How many requests one HTTP/2 connection may have at once.
const MAX_STREAMS: u32 = 64;

/// What an HTTP/2 sender may send ahead, in bytes, of one request and of all.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// How long it takes until the next connection is taken when the system has no room for one.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// A connection, as its requests see it.
#[derive(Debug)]
pub struct Connection {
    state: Mutex<State>,
    close: Notify,
}

#[derive(Debug)]
struct State {
    /// The requests under way, by number, and until when the answer of each is to be read.
    exchanges: BTreeMap<u64, Option<Instant>>,
    begun: u64,
    /// Since when there has been no request.
    quiet: Instant,
    /// A request has shown that its sender may send.
    is_known: bool,
    is_over: bool,
}

impl Connection {
    fn new() -> Connection {
        let state =
            State { exchanges: BTreeMap::new(), begun: 0, quiet: Instant::now(), is_known: false, is_over: false };
        Connection { state: Mutex::new(state), close: Notify::new() }
    }

    /// Its peer may send.
    pub fn know(&self) {
        self.state().is_known = true;
    }

    /// Whether it is closed: what was not sent before will not be sent.
    pub fn is_over(&self) -> bool {
        self.state().is_over
    }

    /// Why it is to be closed, if it is.
    fn is_due(&self, now: Instant) -> Option<&'static str> {
        let state = self.state();
        if state.exchanges.is_empty() {
            let most = if state.is_known { IDLE } else { HEAD_TIMEOUT };
            return (now.saturating_duration_since(state.quiet) > most).then_some("it has no request");
        }
        let is_late = state.exchanges.values().flatten().any(|until| now > *until);
        is_late.then_some("an answer is not read")
    }

    /// Ready when it is to be closed.
    async fn due(&self) -> &'static str {
        loop {
            tokio::select! {
                () = self.close.notified() => return "another one needs its place",
                () = tokio::time::sleep(LOOK) => {}
            }
            if let Some(why) = self.is_due(Instant::now()) {
                return why;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is under way on a connection, until this is dropped.
#[derive(Debug)]
pub struct Exchange {
    connection: Arc<Connection>,
    number: u64,
}

impl Exchange {
    /// A request on a connection.
    pub fn begin(connection: Arc<Connection>) -> Arc<Exchange> {
        let number = {
            let mut state = connection.state();
            state.begun += 1;
            let number = state.begun;
            state.exchanges.insert(number, None);
            number
        };
        Arc::new(Exchange { connection, number })
    }

    /// Its connection.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// There is an answer, which is to be read in this time.
    pub fn answer_within(&self, time: Duration) {
        self.connection.state().exchanges.insert(self.number, Some(Instant::now() + time));
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut state = self.connection.state();
        state.exchanges.remove(&self.number);
        state.quiet = Instant::now();
    }
}

/// The connections that there are.
#[derive(Debug, Default)]
struct Connections {
    open: Mutex<BTreeMap<u64, Arc<Connection>>>,
    closed: Notify,
}

impl Connections {
    /// Waits until there may be another one, for which one without a request is closed if need be, or one whose request may not
    /// send.
    async fn room(&self) {
        loop {
            {
                let mut open = self.open();
                if open.len() < MAX_CONNECTIONS {
                    return;
                }
                let in_order = |connection: &Connection| {
                    let state = connection.state();
                    (!state.is_known || state.exchanges.is_empty()).then_some((state.is_known, state.quiet))
                };
                let longest =
                    open.iter().filter_map(|(number, connection)| Some((in_order(connection)?, *number))).min();
                if let Some(connection) = longest.and_then(|(_, number)| open.remove(&number)) {
                    connection.close.notify_one();
                    return;
                }
            }
            self.closed.notified().await;
        }
    }

    fn remove(&self, number: u64) {
        self.open().remove(&number);
        self.closed.notify_one();
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A listening socket and what it needs.
pub struct Listener {
    socket: TcpListener,
    /// Replaced where the certificate is.
    tls: Option<Arc<RwLock<TlsAcceptor>>>,
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
    pub fn bind(address: SocketAddr, tls: Option<Arc<RwLock<TlsAcceptor>>>) -> io::Result<Listener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        #[cfg(unix)]
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Listener { socket: socket.listen(BACKLOG)?, tls })
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
        let Listener { socket, tls } = self;
        let connections = Arc::new(Connections::default());
        let graceful = GracefulShutdown::new();
        let mut end = std::pin::pin!(end);
        for number in 0.. {
            let accepted = async {
                let accepted = socket.accept().await;
                connections.room().await;
                accepted
            };
            let accepted = tokio::select! {
                accepted = accepted => accepted,
                () = &mut end => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let tls = tls.as_ref().map(|tls| tls.read().unwrap_or_else(PoisonError::into_inner).clone());
                    let (router, watcher) = (router.clone(), graceful.watcher());
                    let (connections, connection) = (Arc::clone(&connections), Arc::new(Connection::new()));
                    connections.open().insert(number, Arc::clone(&connection));
                    tokio::spawn(async move {
                        let served = Box::pin(serve(stream, tls, router, watcher, Arc::clone(&connection)));
                        tokio::select! {
                            served = served => if let Err(error) = served {
                                tracing::debug!(%peer, %error, "a connection broke off");
                            },
                            why = connection.due() => tracing::debug!(%peer, why, "a connection is closed"),
                        }
                        connections.remove(number);
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

async fn serve(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
    watcher: Watcher,
    connection: Arc<Connection>,
) -> Result<(), BoxedError> {
    /// Says so before anything that was to be sent is dropped.
    struct Over<'a>(&'a Connection);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.state().is_over = true;
        }
    }
    stream.set_nodelay(true)?;
    // Until there is a first byte, nothing else ends a connection that says nothing.
    tokio::time::timeout(HEAD_TIMEOUT, stream.peek(&mut [0])).await??;
    let service = OfConnection { router: TowerToHyperService::new(router), connection: Arc::clone(&connection) };
    match tls {
        None => {
            let mut served = std::pin::pin!(requests(stream, service, watcher));
            let _over = Over(&connection);
            served.as_mut().await
        }
        Some(tls) => {
            let stream = tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream)).await??;
            let mut served = std::pin::pin!(requests(stream, service, watcher));
            let _over = Over(&connection);
            served.as_mut().await
        }
    }
}

async fn requests<S>(stream: S, service: OfConnection, watcher: Watcher) -> Result<(), BoxedError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(READ_AHEAD)
        // What is to be sent is not copied, also where it is encrypted.
        .writev(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(64 << 10)
        .keep_alive_interval(Some(Duration::from_secs(20)));
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    watcher.watch(connection.into_owned()).await
}

/// What answers the requests of one connection.
#[derive(Debug, Clone)]
struct OfConnection {
    router: TowerToHyperService<Router>,
    connection: Arc<Connection>,
}

impl Service<Request<Incoming>> for OfConnection {
    type Response = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Response;
    type Error = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Error;
    type Future = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(Arc::clone(&self.connection));
        self.router.call(request)
    }
}
