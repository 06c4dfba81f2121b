//! Whom the events go to: an HTTP endpoint, such as Vector's `http_server` source.
//!
//! In: a body with its headers. Out: the receiver's answer, or why there is none. Nothing is kept here and nothing is sent twice:
//! that is for the sender to decide, who gets the answer. Bounds: one request a batch; connections are kept; a time for
//! connecting and one for the answer; of the answer's body, [`MAX_ANSWER`] bytes. Not here: what becomes of the answer.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use axum::body::Bytes;
use axum::http::header::{AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use crate::serve::access::Token;
use crate::serve::certificates;
use crate::serve::pieces::Pieces;

/// How much of the body of an answer is passed back, in bytes.
const MAX_ANSWER: usize = 64 << 10;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Headers that belong to one connection, or to the sidecar itself; so do those that `Connection` names.
const NOT_PASSED: [&str; 13] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "host",
    "content-length",
    "expect",
];

/// How a receiver is reached.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// HTTP/2 from the first byte on, also without TLS.
    pub http2: bool,
    /// What it is to be told in `Authorization: Bearer`.
    pub token: Option<Token>,
    /// Whom to believe about it, besides the system's certificates.
    pub certificates: Option<std::path::PathBuf>,
    /// How long its answer may take.
    pub timeout: Duration,
}

/// The receiver.
#[derive(Debug)]
pub struct Receiver {
    client: Client<HttpsConnector<HttpConnector>, Pieces>,
    uri: Uri,
    authorization: Option<HeaderValue>,
    timeout: Duration,
    /// Requests in a row that it has not taken.
    failures: AtomicU64,
}

/// What the receiver said.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// `Content-Type` and `Retry-After`, where it has them.
    pub headers: HeaderMap,
    /// The beginning of its body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// It took too long.
    TimedOut(Duration),
    /// There is nobody, or the connection broke off.
    Failed(String),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::TimedOut(after) => write!(f, "no answer from the receiver within {} s", after.as_secs_f64()),
            Error::Failed(reason) => write!(f, "the receiver cannot be reached: {reason}"),
        }
    }
}

impl std::error::Error for Error {}

impl Receiver {
    /// A receiver at `http://` or `https://`; it is not asked for anything yet.
    ///
    /// # Errors
    /// The URL is none, or the certificates cannot be read.
    pub fn new(url: &str, options: Options) -> anyhow::Result<Receiver> {
        let uri: Uri = url.parse().with_context(|| format!("{url} is no URL"))?;
        let is_secure = uri.scheme_str() == Some("https");
        ensure!(
            (is_secure || uri.scheme_str() == Some("http")) && uri.authority().is_some(),
            "{url} is not the URL of a receiver, expected http://HOST:PORT/ or https://HOST:PORT/"
        );
        let authorization = options.token.as_ref().map(|token| {
            let mut value = HeaderValue::from_bytes(&[b"Bearer ", token.bytes()].concat())?;
            value.set_sensitive(true);
            anyhow::Ok(value)
        });
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots(is_secure, options.certificates.as_deref())?)
            .with_no_client_auth();
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        let connector = https.enable_http1().enable_http2().wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .http2_only(options.http2)
            .build(connector);
        let authorization = authorization.transpose()?;
        Ok(Receiver { client, uri, authorization, timeout: options.timeout, failures: AtomicU64::new(0) })
    }

    /// Sends a body, with the sender's headers but for those that were meant for the sidecar.
    ///
    /// # Errors
    /// There is no answer. The receiver may have taken the body all the same.
    pub async fn send(&self, headers: &HeaderMap, body: Pieces) -> Result<Answer, Error> {
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        for (name, value) in headers {
            if passes(name) && !is_of_connection(name, headers) {
                request.headers_mut().append(name, value.clone());
            }
        }
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        let answer = tokio::time::timeout(self.timeout, async {
            let (head, body) = self.client.request(request).await.map_err(|error| failed(&error))?.into_parts();
            let mut headers = HeaderMap::new();
            for name in [CONTENT_TYPE, RETRY_AFTER] {
                if let Some(value) = head.headers.get(&name) {
                    headers.insert(name, value.clone());
                }
            }
            Ok(Answer { status: head.status, headers, body: beginning(body).await })
        });
        answer.await.unwrap_or(Err(Error::TimedOut(self.timeout)))
    }

    /// Takes note of whether it took a batch; how many in a row it had not taken before, if that has changed now.
    pub fn note(&self, was_taken: bool) -> Option<u64> {
        if was_taken {
            Some(self.failures.swap(0, Ordering::Relaxed)).filter(|failures| *failures > 0)
        } else {
            Some(self.failures.fetch_add(1, Ordering::Relaxed)).filter(|failures| *failures == 0)
        }
    }

    /// How many batches in a row it has not taken.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

/// The beginning of an answer's body. The status is the answer: what breaks off behind it changes nothing.
async fn beginning(mut body: Incoming) -> Bytes {
    let mut begun = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        let room = MAX_ANSWER - begun.len();
        begun.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() >= room {
            break;
        }
    }
    Bytes::from(begun)
}

fn passes(name: &HeaderName) -> bool {
    *name != AUTHORIZATION && !NOT_PASSED.contains(&name.as_str())
}

/// Whether the sender's `Connection` says that the header is for the sidecar alone. What describes the body is passed on
/// whatever it says.
fn is_of_connection(name: &HeaderName, headers: &HeaderMap) -> bool {
    if [CONTENT_TYPE, CONTENT_ENCODING].contains(name) {
        return false;
    }
    let listed = headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    listed.map(<[u8]>::trim_ascii).any(|listed| listed.eq_ignore_ascii_case(name.as_str().as_bytes()))
}

fn failed(error: &hyper_util::client::legacy::Error) -> Error {
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        reason = format!("{reason}: {error}");
        cause = error.source();
    }
    Error::Failed(reason)
}

/// Whom to believe; nobody, if there is no TLS.
fn roots(is_secure: bool, file: Option<&Path>) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = file {
        for certificate in certificates::read(file)? {
            roots.add(certificate).with_context(|| format!("{} holds no certificate to believe", file.display()))?;
        }
    } else if is_secure {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        ensure!(!roots.is_empty(), "the system has no certificates to believe: name some with --forward-certificates");
    }
    Ok(roots)
}
