//! One request: from the sender's body to the answer that the sender gets.
//!
//! In: a POST of events. Out: the receiver's answer, or with `--respond` the tagged events. Nothing is acknowledged that was not
//! delivered, and nothing is kept: a batch that cannot be passed on whole is refused with a status at which senders try again
//! (408, 429, 5xx); those at which they do not (400, 401, 403, 413, 415) say that the same request would fail again. Nothing is
//! passed on, and the module sees nothing, before the whole batch has come; its lines are read while they come ([`lines`]). Bounds:
//! [`Limits`]. What a request holds is asked for before it is held, and held until the answer is sent or given up. No thread that
//! serves connections waits for the module or works on a long body. Not here: connections.
//!
//! [`lines`]: super::lines

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_http::catch_panic::CatchPanicLayer;

use crate::serve::access::{self, Token};
use crate::serve::assembly::Found;
use crate::serve::detection::{Detection, Failure, Reading, Tagged};
use crate::serve::encoding::{self, Encoding};
use crate::serve::lines::Lines;
use crate::serve::listener::{Connection, Exchange};
use crate::serve::memory::{Exhausted, Memory, MemoryPermit};
use crate::serve::metrics::{self, AlertLabels, Metrics, StatusLabel};
use crate::serve::pieces::{Hold, Pieces};
use crate::serve::receiver::{self, Receiver};
use crate::serve::refusals::{Refusals, Refused};
use crate::serve::threads::Threads;

/// Up to how many bytes are worked on where they were received, which takes a few milliseconds at most.
const AT_ONCE: usize = 1 << 20;

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
    /// How long a body may take to come, and an answer to be read.
    pub body_time: Duration,
}

impl Limits {
    /// The least memory with which one batch as long as it may be can be taken: as it comes, and with its alerts; or packed,
    /// unpacked, and with its alerts.
    pub fn least_memory(&self) -> usize {
        let packed = self.unpacked.saturating_mul(2).saturating_add(self.body);
        self.body.saturating_mul(2).max(packed)
    }
}

/// What all requests share.
#[derive(Debug)]
pub struct Sidecar {
    /// The module.
    pub detection: Arc<Detection>,
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
    requests: Arc<Semaphore>,
    /// Refused bodies whose rest is let come.
    discards: Semaphore,
    workers: Threads,
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

impl From<Exhausted> for Refusal {
    fn from(exhausted: Exhausted) -> Refusal {
        let status = match exhausted {
            Exhausted::Now => StatusCode::SERVICE_UNAVAILABLE,
            Exhausted::Ever => StatusCode::PAYLOAD_TOO_LARGE,
        };
        Refusal::new(status, exhausted.to_string())
    }
}

impl From<encoding::Error> for Refusal {
    fn from(error: encoding::Error) -> Refusal {
        let status = match error {
            encoding::Error::Unknown(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            encoding::Error::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            encoding::Error::Damaged(..) => StatusCode::BAD_REQUEST,
            encoding::Error::Packing(_) => StatusCode::INTERNAL_SERVER_ERROR,
            encoding::Error::Exhausted(exhausted) => return exhausted.into(),
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
    /// What finding the records took.
    time: Duration,
}

/// A batch with its alerts, packed as it came.
struct Outgoing {
    body: Pieces,
    /// Nothing is left to pass on.
    is_empty: bool,
    /// The alerts in it.
    found: Found,
    /// Stands for the body.
    permit: MemoryPermit,
}

/// What is held for a body on its way to the receiver.
impl Hold for MemoryPermit {}

/// What is held for an answer until it is sent.
#[derive(Debug)]
struct Answer {
    sidecar: Arc<Sidecar>,
    exchange: Option<Arc<Exchange>>,
    /// Alerts that are delivered with it.
    found: Found,
    is_cut: AtomicBool,
    _permits: (MemoryPermit, OwnedSemaphorePermit),
}

impl Hold for Answer {
    fn cut_short(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // What is dropped with its connection was not sent.
        let is_over = self.exchange.as_ref().is_some_and(|exchange| exchange.connection().is_over());
        if !self.is_cut.load(Ordering::Relaxed) && !is_over {
            self.sidecar.count_alerts(&self.found);
        }
    }
}

impl Sidecar {
    /// A sidecar that nobody talks to yet.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn new(
        detection: Detection,
        receiver: Option<Receiver>,
        limits: Limits,
        token: Option<Token>,
    ) -> std::io::Result<Sidecar> {
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        let requests = limits.requests.min(Semaphore::MAX_PERMITS);
        Ok(Sidecar {
            detection: Arc::new(detection),
            receiver,
            metrics: Metrics::default(),
            limits,
            token: RwLock::new(token),
            refusals: Refusals::default(),
            memory: Memory::new(limits.memory),
            requests: Arc::new(Semaphore::new(requests)),
            discards: Semaphore::new(requests),
            workers: Threads::start("work", workers)?,
            is_ending: AtomicBool::new(false),
        })
    }

    /// From now on, `/health` tells balancers to go elsewhere.
    pub fn end(&self) {
        self.is_ending.store(true, Ordering::Relaxed);
    }

    /// Whether [`Sidecar::end`] was called.
    pub fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Relaxed)
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

    /// One batch. `is_begun` says afterwards whether anything of the body was asked for.
    async fn exchange(
        self: &Arc<Self>,
        head: &Parts,
        body: &mut Body,
        is_begun: &mut bool,
    ) -> Result<Response, Refusal> {
        let Ok(request) = Arc::clone(&self.requests).try_acquire_owned() else {
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many requests are under way: try again"));
        };
        let encodings = head.headers.get_all(CONTENT_ENCODING).iter();
        let encodings: Vec<&str> = encodings.map(|value| value.to_str().unwrap_or("?")).collect();
        let encodings = encoding::listed(&encodings.join(","))?;
        let announced = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if announced.is_some_and(|length| length > self.limits.body) {
            return Err(self.too_long());
        }
        *is_begun = true;
        let incoming = self.receive(announced, body, encodings.is_empty()).await?;
        let outgoing = self.detect(incoming, encodings).await?;
        let (mut response, found, permit) = match &self.receiver {
            Some(_) if outgoing.is_empty => return Ok(StatusCode::OK.into_response()),
            Some(receiver) => {
                let (response, permit) = self.deliver(receiver, &head.headers, outgoing).await?;
                (response, Found::default(), permit)
            }
            None => {
                let Outgoing { body, found, permit, .. } = outgoing;
                let mut response = Response::new(body);
                for name in [CONTENT_TYPE, CONTENT_ENCODING] {
                    if let Some(value) = head.headers.get(&name) {
                        response.headers_mut().insert(name, value.clone());
                    }
                }
                (response, found, permit)
            }
        };
        let exchange = head.extensions.get::<Arc<Exchange>>().cloned();
        if let Some(exchange) = &exchange {
            exchange.answer_within(self.limits.body_time);
        }
        let hold = Answer {
            sidecar: Arc::clone(self),
            exchange,
            found,
            is_cut: AtomicBool::new(false),
            _permits: (permit, request),
        };
        let body = std::mem::take(response.body_mut()).holding(Arc::new(hold));
        Ok(response.map(|_| body.into()))
    }

    fn too_long(&self) -> Refusal {
        let most = self.limits.body;
        let reason = format!("the body is longer than {most} bytes: send smaller batches, or set --max-body");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, reason)
    }

    /// Lets what is left of a refused body come, within bounds: a sender that is cut off while it sends may not see the answer.
    async fn discard(&self, body: &mut Body) {
        let Ok(_one) = self.discards.try_acquire() else { return };
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
    async fn receive(&self, announced: Option<usize>, body: &mut Body, is_plain: bool) -> Result<Incoming, Refusal> {
        let received = async {
            let mut reading = self.detection.reading(self.memory.permit());
            let expected = announced.unwrap_or(0);
            let mut lines = if is_plain { Lines::new(EARLY, expected) } else { Lines::in_one(expected) };
            let (mut length, mut time) = (0, Duration::ZERO);
            while let Some(frame) = body.frame().await {
                let frame = frame
                    .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, format!("the body breaks off: {error}")))?;
                let Ok(data) = frame.into_data() else { continue };
                length += data.len();
                if length > self.limits.body {
                    return Err(self.too_long());
                }
                reading.permit.take(data.len())?;
                let begun = Instant::now();
                let pieces = lines.add(data);
                for (number, piece) in pieces.iter().enumerate() {
                    if !reading.lines(piece)? {
                        lines.take_back(&pieces[number..]);
                        break;
                    }
                }
                time += begun.elapsed();
            }
            Ok(Incoming { reading, rest: lines.rest(), time })
        };
        let late = || {
            let seconds = self.limits.body_time.as_secs_f64();
            Refusal::new(StatusCode::REQUEST_TIMEOUT, format!("the body did not come within {seconds} s"))
        };
        tokio::time::timeout(self.limits.body_time, received).await.unwrap_or_else(|_| Err(late()))
    }

    /// Unpacks what is left of a body, tags its records, and packs it again if that has changed it.
    async fn detect(self: &Arc<Self>, incoming: Incoming, encodings: Vec<Encoding>) -> Result<Outgoing, Refusal> {
        let begun = Instant::now();
        let Incoming { mut reading, rest, time } = incoming;
        let packed = (!encodings.is_empty()).then(|| rest.clone());
        let most = self.limits.unpacked;
        let (is_long, unpacks) = (packed.is_some() || rest.len() > AT_ONCE, encodings.clone());
        let read = move || {
            let text = match unpacks.as_slice() {
                [] => rest,
                encodings => Bytes::from(encoding::unpack(&rest, encodings, most, &mut reading.permit)?),
            };
            reading.rest(text)?;
            Ok::<_, Refusal>(reading)
        };
        let reading = self.work(is_long, read).await?;
        if let Some(format) = reading.unreadable() {
            // It would be so for ever, and silence would look like success.
            let advice = format.advice_to_sender();
            tracing::warn!("a body is refused, because nothing in it is JSON: it looks like {format}: {advice}");
            let reason = format!("nothing in the body is JSON: it looks like {format}: {advice}");
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason));
        }
        let (reading, said) = self.detection.examine(reading).await.map_err(|failure| match failure {
            Failure::Exhausted(exhausted) => exhausted.into(),
            Failure::Module(error) => {
                self.metrics.module_failures.inc();
                tracing::error!(%error, "the module failed; the batch is refused, and the module starts anew");
                Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the module failed, and starts anew: try again")
            }
        })?;
        for line in said {
            tracing::warn!("{line}");
        }
        let is_long = packed.is_some() && reading.is_changed();
        let sidecar = Arc::clone(self);
        let tag = move || {
            let tagged = reading.tagged(sidecar.detection.entry())?;
            sidecar.count(&tagged);
            outgoing(tagged, packed, &encodings)
        };
        let outgoing = self.work(is_long, tag).await;
        Metrics::observe(&self.metrics.detection_time, time + begun.elapsed());
        outgoing
    }

    /// Does work where it is, or, if it is long, on one of as many threads as there are processors.
    async fn work<T: Send + 'static>(&self, is_long: bool, work: impl FnOnce() -> T + Send + 'static) -> T {
        // To have another thread take over what else there is would take longer.
        if is_long { self.workers.run(work).await } else { work() }
    }

    fn count(&self, tagged: &Tagged) {
        let Metrics { records, bytes, candidates, not_json, too_long, .. } = &self.metrics;
        bytes.inc_by(tagged.bytes);
        records.inc_by(tagged.records);
        candidates.inc_by(tagged.candidates);
        not_json.inc_by(tagged.not_json);
        too_long.inc_by(tagged.too_long);
        self.metrics.without_event.inc_by(tagged.without_event);
        self.metrics.passed_after_failure.inc_by(tagged.passed_after_trap);
    }

    /// Counts the alerts of a batch that was delivered.
    fn count_alerts(&self, found: &Found) {
        self.metrics.suppressed.inc_by(found.suppressed);
        for ((rule, reason), count) in &found.alerts {
            let labels = AlertLabels { rule: rule.clone(), reason: reason.clone() };
            self.metrics.alerts.get_or_create(&labels).inc_by(*count);
        }
    }

    /// Passes a batch on; the receiver's answer is the answer.
    async fn deliver(
        &self,
        receiver: &Receiver,
        headers: &HeaderMap,
        outgoing: Outgoing,
    ) -> Result<(Response<Pieces>, MemoryPermit), Refusal> {
        let begun = Instant::now();
        let Outgoing { body, found, permit, .. } = outgoing;
        let answer = receiver.send(headers, body.holding(Arc::new(permit))).await;
        Metrics::observe(&self.metrics.receiver_time, begun.elapsed());
        let was_taken = answer.as_ref().is_ok_and(|answer| answer.status.is_success());
        if was_taken {
            self.count_alerts(&found);
        }
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
        let (mut permit, mut answer) = (self.memory.permit(), Pieces::default());
        // The status is the answer: what is behind it may be left out.
        if permit.take(body.len()).is_ok() {
            answer.push(body);
        }
        let mut response = Response::new(answer);
        *response.status_mut() = status;
        response.headers_mut().extend(headers);
        if !status.is_success() {
            response.extensions_mut().insert(Refused(Cow::Borrowed("the receiver does not take the batch")));
        }
        Ok((response, permit))
    }
}

/// The body to pass on, packed as it came.
fn outgoing(tagged: Tagged, packed: Option<Bytes>, encodings: &[Encoding]) -> Result<Outgoing, Refusal> {
    let Tagged { mut body, is_changed, is_empty, found, mut permit, .. } = tagged;
    if let Some(packed) = packed {
        let mut again = Pieces::default();
        if is_changed {
            let pieces = encoding::pack(body.into_pieces().collect(), encodings, &mut permit)?;
            pieces.into_iter().for_each(|piece| again.push(piece));
        } else {
            again.push(packed);
        }
        permit.keep(again.len());
        body = again;
    }
    Ok(Outgoing { body, is_empty, found, permit })
}

async fn events(State(sidecar): State<Arc<Sidecar>>, request: Request) -> Response {
    sidecar.metrics.in_flight.inc();
    let _guard = InFlight(&sidecar);
    let begun = Instant::now();
    let (head, mut body) = request.into_parts();
    let mut is_begun = false;
    let response = match sidecar.exchange(&head, &mut body, &mut is_begun).await {
        Ok(response) => response,
        Err(refusal) => {
            // A sender that asks before it sends is not told to send.
            if refusal.status != StatusCode::REQUEST_TIMEOUT && (is_begun || !asks_first(&head.headers)) {
                sidecar.discard(&mut body).await;
            }
            refusal.into_response()
        }
    };
    Metrics::observe(&sidecar.metrics.request_time, begun.elapsed());
    response
}

/// Whether the sender waits to be told that its body is wanted.
fn asks_first(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// A request that is under way, until this is dropped: a sender may go away in the middle.
struct InFlight<'a>(&'a Sidecar);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.metrics.in_flight.dec();
    }
}

async fn guard(State(sidecar): State<Arc<Sidecar>>, request: Request, next: Next) -> Response {
    let refusal = {
        let token = sidecar.token.read().unwrap_or_else(PoisonError::into_inner);
        match token.as_ref() {
            Some(token) if !token.is_in(request.headers()) => Some(Refusal::new(
                StatusCode::UNAUTHORIZED,
                "the token is missing or another: send it as Authorization: Bearer TOKEN",
            )),
            Some(_) => None,
            // Where there is no token, a web page that somebody on this machine looks at could send as well.
            None => {
                access::page(request.headers(), request.uri()).map(|reason| Refusal::new(StatusCode::FORBIDDEN, reason))
            }
        }
    };
    let Some(refusal) = refusal else {
        if let Some(exchange) = request.extensions().get::<Arc<Exchange>>() {
            exchange.connection().know();
        }
        return next.run(request).await;
    };
    if !asks_first(request.headers()) {
        sidecar.discard(&mut request.into_body()).await;
    }
    refusal.into_response()
}

async fn count(State(sidecar): State<Arc<Sidecar>>, mut request: Request, next: Next) -> Response {
    if let Some(connection) = request.extensions_mut().remove::<Arc<Connection>>() {
        request.extensions_mut().insert(Exchange::begin(connection));
    }
    let response = next.run(request).await;
    let label = StatusLabel { status: response.status().as_u16() };
    sidecar.metrics.requests.get_or_create(&label).inc();
    sidecar.refusals.note(&response);
    response
}

async fn health(State(sidecar): State<Arc<Sidecar>>) -> Response {
    if sidecar.is_ending() {
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
        let status = sidecar.detection.status();
        let used_once = status.as_ref().map(|status| sidecar.detection.used_once(status)).unwrap_or_default();
        sidecar.metrics.text(status, used_once)
    });
    match text.await {
        Ok(Ok(text)) => ([(CONTENT_TYPE, metrics::MEDIA_TYPE)], text).into_response(),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n").into_response(),
    }
}
