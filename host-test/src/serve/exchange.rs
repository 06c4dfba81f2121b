//! One request: from the sender's body to the answer that the sender gets.
//!
//! In: a POST of events. Out: the receiver's answer, or with `--respond` the tagged events. Nothing is acknowledged that was not
//! delivered, and nothing is kept: a batch that cannot be passed on whole is refused with a status at which senders try again
//! (408, 429, 5xx); those at which they do not (400, 401, 413, 415) say that the same request would fail again. Nothing is passed on,
//! and the module sees nothing, before the whole batch has come; its lines are read while they come ([`lines`]). Bounds: [`Limits`].
//! Not here: connections.
//!
//! [`lines`]: super::lines

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;

use crate::serve::access::Token;
use crate::serve::detection::{Detection, Reading, Tagged};
use crate::serve::encoding::{self, Encoding};
use crate::serve::lines::Lines;
use crate::serve::memory::{Full, Memory, Share};
use crate::serve::metrics::{self, AlertLabels, Metrics, StatusLabel};
use crate::serve::pieces::Pieces;
use crate::serve::receiver::{self, Receiver};
use crate::serve::refusals::{Refusals, Refused};

/// Up to how many bytes a body is worked on where it was received, which takes a few milliseconds at most.
const AT_ONCE: usize = 4 << 20;

/// How many bytes are worth being read while the rest still comes.
const EARLY: usize = 64 << 10;

/// How long the rest of a refused body may take to come.
const DISCARD_TIME: Duration = Duration::from_secs(2);

/// What a request may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a body as it comes.
    pub body: usize,
    /// Bytes of a body unpacked.
    pub unpacked: usize,
    /// Bytes of a record; a longer one passes untouched.
    pub record: usize,
    /// Bytes of all bodies that are held at once.
    pub memory: usize,
    /// Requests at once.
    pub requests: usize,
    /// How long a body may take to come.
    pub body_time: Duration,
}

/// What all requests share.
#[derive(Debug)]
pub struct Sidecar {
    /// The module.
    pub detection: Detection,
    /// Whom events go to; nobody, if they are answered with.
    pub receiver: Option<Receiver>,
    /// What is counted.
    pub metrics: Metrics,
    /// What a request may take.
    pub limits: Limits,
    /// What a request must know.
    pub token: RwLock<Option<Token>>,
    /// Refused requests, for the log.
    pub refusals: Refusals,
    memory: Arc<Memory>,
    requests: Semaphore,
    workers: Semaphore,
    is_ending: AtomicBool,
}

/// Why a request is refused.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    reason: Cow<'static, str>,
}

impl Refusal {
    fn new(status: StatusCode, reason: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { status, reason: reason.into() }
    }
}

impl From<Full> for Refusal {
    fn from(_: Full) -> Refusal {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many bytes are under way: try again")
    }
}

impl From<encoding::Error> for Refusal {
    fn from(error: encoding::Error) -> Refusal {
        let status = match error {
            encoding::Error::Unknown(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            encoding::Error::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            encoding::Error::Damaged(..) => StatusCode::BAD_REQUEST,
        };
        Refusal::new(status, error.to_string())
    }
}

impl From<receiver::Error> for Refusal {
    fn from(error: receiver::Error) -> Refusal {
        let status = match error {
            receiver::Error::TimedOut(_) => StatusCode::GATEWAY_TIMEOUT,
            receiver::Error::Failed(_) => StatusCode::BAD_GATEWAY,
        };
        Refusal::new(status, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, format!("{}\n", self.reason)).into_response();
        response.extensions_mut().insert(Refused(self.reason));
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => {
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            StatusCode::UNAUTHORIZED => {
                response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}

/// A batch that has come whole, read as far as it could be meanwhile.
struct Incoming {
    reading: Reading,
    /// What is left to be unpacked and read.
    rest: Bytes,
    /// How many bytes have come.
    length: usize,
    /// What finding the records took.
    time: Duration,
    /// What it takes of the memory.
    share: Share,
}

/// A batch with its alerts, packed as it came.
struct Outgoing {
    body: Pieces,
    /// Nothing is left to pass on.
    is_empty: bool,
    /// What it takes of the memory.
    _share: Share,
}

impl Sidecar {
    /// A sidecar that nobody talks to yet.
    pub fn new(detection: Detection, receiver: Option<Receiver>, limits: Limits, token: Option<Token>) -> Sidecar {
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        Sidecar {
            detection,
            receiver,
            metrics: Metrics::default(),
            limits,
            token: RwLock::new(token),
            refusals: Refusals::default(),
            memory: Memory::new(limits.memory),
            requests: Semaphore::new(limits.requests.min(Semaphore::MAX_PERMITS)),
            workers: Semaphore::new(workers),
            is_ending: AtomicBool::new(false),
        }
    }

    /// From now on, `/health` tells balancers to go elsewhere.
    pub fn end(&self) {
        self.is_ending.store(true, Ordering::Relaxed);
    }

    /// `POST /`, `GET /health`, `GET /metrics`.
    pub fn router(self: Arc<Self>) -> Router {
        let counted = middleware::from_fn_with_state(Arc::clone(&self), count);
        let guarded = middleware::from_fn_with_state(Arc::clone(&self), guard);
        Router::new()
            .route("/", post(events))
            .route("/metrics", get(show_metrics))
            .layer(guarded)
            .route("/health", get(health))
            .layer(CatchPanicLayer::new())
            .layer(counted)
            .with_state(self)
    }

    async fn exchange(&self, head: &Parts, body: &mut Body) -> Result<Response, Refusal> {
        let Ok(_permit) = self.requests.try_acquire() else {
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many requests are under way: try again"));
        };
        let encodings = head.headers.get_all(CONTENT_ENCODING).iter();
        let encodings: Vec<&str> = encodings.map(|value| value.to_str().unwrap_or("?")).collect();
        let encodings = encoding::listed(&encodings.join(","))?;
        let incoming = self.receive(&head.headers, body, encodings.is_empty()).await?;
        let outgoing = self.detect(incoming, &encodings).await?;
        match &self.receiver {
            _ if outgoing.is_empty && self.receiver.is_some() => Ok(StatusCode::OK.into_response()),
            Some(receiver) => self.deliver(receiver, &head.headers, outgoing).await,
            None => {
                let mut response = Response::new(outgoing.body.into());
                response.headers_mut().remove(CONTENT_TYPE);
                for name in [CONTENT_TYPE, CONTENT_ENCODING] {
                    if let Some(value) = head.headers.get(&name) {
                        response.headers_mut().insert(name, value.clone());
                    }
                }
                Ok(response)
            }
        }
    }

    /// Lets what is left of a refused body come, within bounds: a sender that is cut off while it sends may not see the answer.
    async fn discard(&self, body: &mut Body) {
        let most = self.limits.body.saturating_mul(2);
        let discarded = async {
            let mut length = 0;
            while let Some(Ok(frame)) = body.frame().await
                && length < most
            {
                length += frame.data_ref().map_or(0, Bytes::len);
            }
        };
        let _ = tokio::time::timeout(DISCARD_TIME, discarded).await;
    }

    /// Takes a body as it comes, and reads of it what can be read while the rest still comes.
    async fn receive(&self, headers: &HeaderMap, body: &mut Body, is_plain: bool) -> Result<Incoming, Refusal> {
        let most = self.limits.body;
        let too_long = || {
            let reason = format!("the body is longer than {most} bytes: send smaller batches, or set --max-body");
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, reason)
        };
        let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|length| length > most) {
            return Err(too_long());
        }
        let received = async {
            let (mut reading, mut share) = (self.detection.reading(), self.memory.share());
            let expected = announced.unwrap_or(0);
            let mut lines = if is_plain { Lines::new(EARLY, expected) } else { Lines::in_one(expected) };
            let (mut length, mut time) = (0, Duration::ZERO);
            while let Some(frame) = body.frame().await {
                let frame = frame
                    .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, format!("the body breaks off: {error}")))?;
                let Ok(data) = frame.into_data() else { continue };
                length += data.len();
                if length > most {
                    return Err(too_long());
                }
                share.take(data.len())?;
                let begun = Instant::now();
                let pieces = lines.add(data);
                if let Some(other) = pieces.iter().position(|piece| !reading.lines(piece)) {
                    lines.take_back(&pieces[other..]);
                }
                time += begun.elapsed();
            }
            Ok(Incoming { reading, rest: lines.rest(), length, time, share })
        };
        let late = || {
            let seconds = self.limits.body_time.as_secs_f64();
            Refusal::new(StatusCode::REQUEST_TIMEOUT, format!("the body did not come within {seconds} s"))
        };
        tokio::time::timeout(self.limits.body_time, received).await.unwrap_or_else(|_| Err(late()))
    }

    /// Unpacks what is left of a body, tags its records, and packs it again if that has changed it. As many long bodies are worked
    /// on at once as there are processors; other requests go on meanwhile.
    async fn detect(&self, incoming: Incoming, encodings: &[Encoding]) -> Result<Outgoing, Refusal> {
        if encodings.is_empty() && incoming.length <= AT_ONCE {
            // To have another thread take over what else there is would take longer.
            return self.work(incoming, encodings);
        }
        let _worker = self.workers.acquire().await;
        tokio::task::block_in_place(|| self.work(incoming, encodings))
    }

    fn work(&self, incoming: Incoming, encodings: &[Encoding]) -> Result<Outgoing, Refusal> {
        let begun = Instant::now();
        let Incoming { mut reading, rest, time, mut share, .. } = incoming;
        if encodings.is_empty() {
            reading.rest(rest.clone());
        } else {
            let text = encoding::unpacked(&rest, encodings, self.limits.unpacked)?;
            share.take(text.len())?;
            reading.rest(Bytes::from(text.into_owned()));
        }
        if let Some(format) = reading.unreadable() {
            // It would be so for ever, and silence would look like success.
            let advice = format.advice_to_sender();
            tracing::warn!("a body is refused, because nothing in it is JSON: it looks like {format}: {advice}");
            let reason = format!("nothing in the body is JSON: it looks like {format}: {advice}");
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason));
        }
        let (tagged, said) = self.detection.tag(reading).map_err(|error| {
            self.metrics.module_failures.inc();
            tracing::error!(%error, "the module failed; the batch is refused, and the module starts anew");
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the module failed, and starts anew: try again")
        })?;
        for line in said {
            tracing::warn!("{line}");
        }
        self.count(&tagged);
        let mut body = Pieces::default();
        if tagged.is_changed {
            share.take(tagged.body.iter().map(Bytes::len).sum())?;
        }
        match tagged.body {
            pieces if encodings.is_empty() => pieces.into_iter().for_each(|piece| body.push(piece)),
            _ if !tagged.is_changed => body.push(rest),
            pieces => {
                let packed = encoding::packed(pieces.concat(), encodings).map_err(|error| {
                    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the batch cannot be packed: {error}"))
                })?;
                body.push(Bytes::from(packed));
            }
        }
        Metrics::observe(&self.metrics.detection_time, time + begun.elapsed());
        Ok(Outgoing { body, is_empty: tagged.is_empty, _share: share })
    }

    fn count(&self, tagged: &Tagged) {
        let Metrics { records, bytes, candidates, not_json, too_long, alerts, suppressed, .. } = &self.metrics;
        bytes.inc_by(tagged.bytes);
        records.inc_by(tagged.records);
        candidates.inc_by(tagged.candidates);
        not_json.inc_by(tagged.not_json);
        too_long.inc_by(tagged.too_long);
        self.metrics.without_event.inc_by(tagged.without_event);
        suppressed.inc_by(tagged.suppressed);
        self.metrics.passed_after_failure.inc_by(tagged.passed_after_trap);
        for (rule, reason) in &tagged.alerts {
            alerts.get_or_create(&AlertLabels { rule: rule.clone(), reason: reason.clone() }).inc();
        }
    }

    /// Passes a batch on; the receiver's answer is the answer.
    async fn deliver(&self, receiver: &Receiver, headers: &HeaderMap, outgoing: Outgoing) -> Result<Response, Refusal> {
        let begun = Instant::now();
        let answer = receiver.send(headers, outgoing.body.clone()).await;
        Metrics::observe(&self.metrics.receiver_time, begun.elapsed());
        let was_taken = answer.as_ref().is_ok_and(|answer| answer.status.is_success());
        if let Some(failures) = receiver.note(was_taken) {
            match &answer {
                Ok(answer) if was_taken => {
                    tracing::info!(status = answer.status.as_u16(), failures, "the receiver takes batches again");
                }
                Ok(answer) => tracing::warn!(status = answer.status.as_u16(), "the receiver does not take a batch"),
                Err(error) => tracing::warn!("{error}"),
            }
        }
        let receiver::Answer { status, headers, body } = answer?;
        if status.is_informational() || status.is_redirection() {
            let reason = format!("the receiver answers {status}, which says nothing of the batch: check --forward");
            return Err(Refusal::new(StatusCode::BAD_GATEWAY, reason));
        }
        let mut response = (status, body).into_response();
        response.headers_mut().remove(CONTENT_TYPE);
        response.headers_mut().extend(headers);
        if !status.is_success() {
            response.extensions_mut().insert(Refused(Cow::Borrowed("the receiver does not take the batch")));
        }
        Ok(response)
    }
}

async fn events(State(sidecar): State<Arc<Sidecar>>, request: Request) -> Response {
    sidecar.metrics.in_flight.inc();
    let _guard = InFlight(&sidecar);
    let begun = Instant::now();
    let (head, mut body) = request.into_parts();
    let response = match sidecar.exchange(&head, &mut body).await {
        Ok(response) => response,
        Err(refusal) => {
            if refusal.status != StatusCode::REQUEST_TIMEOUT {
                sidecar.discard(&mut body).await;
            }
            refusal.into_response()
        }
    };
    Metrics::observe(&sidecar.metrics.request_time, begun.elapsed());
    response
}

/// A request that is under way, until this is dropped: a sender may go away in the middle.
struct InFlight<'a>(&'a Sidecar);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.metrics.in_flight.dec();
    }
}

async fn guard(State(sidecar): State<Arc<Sidecar>>, request: Request, next: Next) -> Response {
    let may_pass = {
        let token = sidecar.token.read().unwrap_or_else(PoisonError::into_inner);
        token.as_ref().is_none_or(|token| token.is_in(request.headers()))
    };
    match may_pass {
        true => next.run(request).await,
        false => {
            sidecar.discard(&mut request.into_body()).await;
            let reason = "the token is missing or another: send it as Authorization: Bearer TOKEN";
            Refusal::new(StatusCode::UNAUTHORIZED, reason).into_response()
        }
    }
}

async fn count(State(sidecar): State<Arc<Sidecar>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let label = StatusLabel { status: response.status().as_u16() };
    sidecar.metrics.requests.get_or_create(&label).inc();
    sidecar.refusals.note(&response);
    response
}

async fn health(State(sidecar): State<Arc<Sidecar>>) -> Response {
    if sidecar.is_ending.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "ending\n").into_response();
    }
    match sidecar.receiver.as_ref().map_or(0, Receiver::failures) {
        0 => "ok\n".into_response(),
        // The sidecar itself is well, and a sender that stayed away would never find out.
        failures => format!("ok, but the receiver has not taken the last {failures} batches\n").into_response(),
    }
}

async fn show_metrics(State(sidecar): State<Arc<Sidecar>>) -> Response {
    let text = tokio::task::spawn_blocking(move || {
        sidecar.metrics.held.set(i64::try_from(sidecar.memory.held()).unwrap_or(i64::MAX));
        let status = sidecar.detection.status().unwrap_or_else(|error| {
            tracing::error!(%error, "the module does not say how it is");
            None
        });
        let used_once = status.as_ref().map(|status| sidecar.detection.used_once(status)).unwrap_or_default();
        sidecar.metrics.text(status, used_once)
    });
    match text.await {
        Ok(Ok(text)) => ([(CONTENT_TYPE, metrics::MEDIA_TYPE)], text).into_response(),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n").into_response(),
    }
}
