//! `/health` by itself, for probes that speak neither TLS nor know a token.
//!
//! In: an address. Out: `ok`, or `ending` with 503, and nothing else. It has a thread of its own, so that it answers whatever the
//! rest is doing. Bounds: [`MAX_CONNECTIONS`], of which the oldest makes room for another; one request each, in [`TIME`]. Not here:
//! `/health` beside `POST /`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use crate::serve::exchange::Sidecar;

/// How many connections there may be at once.
const MAX_CONNECTIONS: usize = 64;

/// How long a connection may take.
const TIME: Duration = Duration::from_secs(5);

/// How long it takes until the next connection is taken when the system has no room for one.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Answers probes on an address, until the process ends; the address that it has.
///
/// # Errors
/// The address cannot be had, or the system gives no thread.
pub fn serve(address: SocketAddr, sidecar: Arc<Sidecar>) -> io::Result<SocketAddr> {
    let socket = TcpListener::bind(address)?;
    let address = socket.local_addr()?;
    socket.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("health".to_owned()).spawn(move || runtime.block_on(accept(socket, sidecar)))?;
    Ok(address)
}

async fn accept(socket: TcpListener, sidecar: Arc<Sidecar>) {
    let socket = match tokio::net::TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(%error, "probes are not answered"),
    };
    let mut connections = VecDeque::with_capacity(MAX_CONNECTIONS);
    loop {
        let Ok((stream, _)) = socket.accept().await else {
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        connections.retain(|connection: &tokio::task::JoinHandle<()>| !connection.is_finished());
        if connections.len() == MAX_CONNECTIONS {
            connections.pop_front().inspect(tokio::task::JoinHandle::abort);
        }
        let sidecar = Arc::clone(&sidecar);
        connections.push_back(tokio::spawn(async move {
            let answers = service_fn(move |request| {
                let answer = answer(&request, &sidecar);
                async { Ok::<_, Infallible>(answer) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .keep_alive(false)
                .max_buf_size(8 << 10)
                .serve_connection(TokioIo::new(stream), answers);
            // Whoever asks and goes away needs no answer.
            let _ = tokio::time::timeout(TIME, served).await;
        }));
    }
}

fn answer(request: &Request<Incoming>, sidecar: &Sidecar) -> Response<String> {
    let (status, text) = match (request.uri().path(), request.method()) {
        ("/health", &Method::GET | &Method::HEAD) if sidecar.is_ending() => {
            (StatusCode::SERVICE_UNAVAILABLE, "ending\n")
        }
        ("/health", &Method::GET | &Method::HEAD) => (StatusCode::OK, "ok\n"),
        ("/health", _) => (StatusCode::METHOD_NOT_ALLOWED, "GET /health\n"),
        _ => (StatusCode::NOT_FOUND, "GET /health\n"),
    };
    let mut response = Response::new(text.to_owned());
    *response.status_mut() = status;
    response
}
