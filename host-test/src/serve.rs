//! The sidecar: the module behind an HTTP endpoint, for pipelines that cannot load it.
//!
//! In: requests with batches of events, over a socket ([`listener`]). Out: the same events with their alerts, to a receiver
//! ([`receiver`]) whose answer is the sender's answer, or back to the sender ([`exchange`]). Bounds: [`exchange::Limits`].
//! Everything that decides is the module's ([`detection`]); nothing is queued or stored but its history. Not here: the command
//! line, and where log lines go.

pub mod access;
pub mod assembly;
pub mod certificates;
pub mod detection;
pub mod encoding;
pub mod exchange;
pub mod files;
pub mod health;
pub mod lines;
pub mod listener;
pub mod memory;
pub mod metrics;
pub mod pieces;
pub mod receiver;
pub mod refusals;
pub mod threads;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::configuration::PACK;
use crate::guest::{Entry, Module};
use access::Token;
use detection::{Detection, PackState, Restarted};
use exchange::{Limits, Sidecar};
use listener::Listener;
use metrics::ResultLabel;
use receiver::Receiver;

/// How often it is looked whether there is another pack.
const LOOK_FOR_PACK: Duration = Duration::from_secs(2);

/// How often it is looked whether the certificate is valid still.
const LOOK_AT_CERTIFICATE: Duration = Duration::from_secs(24 * 60 * 60);

/// What a sidecar is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// The configuration directory; without one, the built-in rules with a history in memory.
    pub directory: Option<PathBuf>,
    /// The database of AS organisations, for events that come without one.
    pub asn: Option<PathBuf>,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where `/health` is answered for probes that speak no TLS.
    pub health: Option<SocketAddr>,
    /// Where events go; back to the sender, if nowhere else.
    pub forward: Option<(String, receiver::Options)>,
    /// Which events are passed on.
    pub entry: Entry,
    /// What the module is given as the records' tag.
    pub tag: String,
    /// The file of the token that senders must know.
    pub token_file: Option<PathBuf>,
    /// The files of the certificate and its key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// What a request may take.
    pub limits: Limits,
    /// How long requests that are under way at the end may take.
    pub ending: Duration,
}

/// Runs a sidecar until it is told to end (SIGTERM, SIGINT). Another pack reloads the rules. SIGHUP does so too, and reads the token,
/// the certificate and the database of AS organisations anew; the history as well, unless it is in memory only.
///
/// # Errors
/// It does not start.
pub fn run(module: Module, bytes: &[u8], options: &Options) -> anyhow::Result<()> {
    access::check(options.listen, options.token_file.is_some(), options.tls.is_some())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("the system gives no threads")?.block_on(serve(module, bytes, options))
}

async fn serve(module: Module, bytes: &[u8], options: &Options) -> anyhow::Result<()> {
    let directory = options.directory.as_deref();
    let asn = options.asn.as_deref();
    let (detection, said) =
        Detection::start(module, bytes, directory, asn, options.entry, &options.tag, options.limits.record)?;
    for line in said {
        tracing::warn!("{line}");
    }
    let token = options.token_file.as_deref().map(Token::read).transpose()?;
    let tls = options.tls.as_ref().map(|(certificate, key)| certificates::acceptor(certificate, key)).transpose()?;
    let tls = tls.map(|tls| Arc::new(RwLock::new(tls)));
    let receiver = options.forward.clone().map(|(url, receiver)| Receiver::new(&url, receiver)).transpose()?;
    let sidecar =
        Arc::new(Sidecar::new(detection, receiver, options.limits, token).context("the system gives no threads")?);
    let listener =
        Listener::bind(options.listen, tls.clone()).with_context(|| format!("cannot listen on {}", options.listen))?;
    let address = listener.address()?;
    if let Some(health) = options.health {
        let address = health::serve(health, Arc::clone(&sidecar))
            .with_context(|| format!("cannot listen on {health} for probes"))?;
        tracing::info!(%address, "listening for probes");
    }
    let mut signals = Signals::new().context("the system gives no signals")?;
    let hang_up = HangUp::new().context("the system gives no signals")?;
    let reloads = tokio::spawn(reload(Arc::clone(&sidecar), options.clone(), tls, hang_up));
    tracing::info!(%address, forward = options.forward.as_ref().map(|(url, _)| url.as_str()), "listening");
    let end = {
        let sidecar = Arc::clone(&sidecar);
        async move {
            let signal = signals.next().await;
            tracing::info!(signal, "ending: requests that are under way are finished");
            sidecar.end();
        }
    };
    listener.serve(Arc::clone(&sidecar).router(), end, options.ending).await;
    reloads.abort();
    tracing::info!("ended");
    Ok(())
}

/// What ends the program.
#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals)
    }

    async fn next(&mut self) -> &'static str {
        // Where there is no such signal, nothing but the end of the process ends it.
        match tokio::signal::ctrl_c().await {
            Ok(()) => "Ctrl-C",
            Err(_) => std::future::pending().await,
        }
    }
}

/// What reloads it.
struct HangUp(#[cfg(unix)] tokio::signal::unix::Signal);

impl HangUp {
    fn new() -> std::io::Result<HangUp> {
        #[cfg(unix)]
        return Ok(HangUp(tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?));
        #[cfg(not(unix))]
        Ok(HangUp())
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        if self.0.recv().await.is_some() {
            return;
        }
        // Where there is no such signal, only another pack does.
        std::future::pending().await
    }
}

/// Loads another pack when there is one, and all anew when told to. The module may be at work for long: what does not need it is not
/// kept waiting.
async fn reload(sidecar: Arc<Sidecar>, options: Options, tls: Option<Arc<RwLock<TlsAcceptor>>>, mut hang_up: HangUp) {
    let (options, mut certificate_at) = (Arc::new(options), None::<Instant>);
    let (watch, mut was_told) = (Arc::new(Mutex::new(PackWatch::default())), false);
    let mut look: Option<JoinHandle<()>> = None;
    loop {
        let is_told = tokio::select! {
            () = hang_up.next() => true,
            () = tokio::time::sleep(if certificate_at.is_none() { Duration::ZERO } else { LOOK_FOR_PACK }) => false,
        };
        sidecar.refusals.report_counts();
        if is_told || certificate_at.is_none_or(|at| at.elapsed() >= LOOK_AT_CERTIFICATE) {
            certificate_at = Some(Instant::now());
            let (sidecar, options, tls) = (Arc::clone(&sidecar), Arc::clone(&options), tls.clone());
            let read = tokio::task::spawn_blocking(move || {
                if is_told {
                    reread(&sidecar, &options, tls.as_deref());
                }
                if let Some((certificate, _)) = &options.tls {
                    certificates::warn_of(certificate);
                }
            });
            if let Err(error) = read.await {
                tracing::error!(%error, "the token and the certificate cannot be loaded anew; the old ones go on");
            }
        }
        was_told |= is_told;
        if look.as_ref().is_some_and(|look| !look.is_finished()) {
            continue;
        }
        if let Some(look) = look.take()
            && let Err(error) = look.await
        {
            tracing::error!(%error, "the rules cannot be loaded anew; the old ones go on");
        }
        let (sidecar, watch, told) = (Arc::clone(&sidecar), Arc::clone(&watch), std::mem::take(&mut was_told));
        look = Some(tokio::task::spawn_blocking(move || {
            if told {
                reloaded("database of AS organisations", sidecar.detection.reread_database());
            }
            watch.lock().unwrap_or_else(PoisonError::into_inner).look(&sidecar, told);
        }));
    }
}

/// What was said last of a pack that is there and cannot be read, or is gone: it is said once, not at each look.
#[derive(Debug, Default)]
struct PackWatch {
    said: Option<String>,
}

impl PackWatch {
    /// Loads another pack if there is one, or whatever there is if told to, and counts and says what keeps it from being read.
    fn look(&mut self, sidecar: &Sidecar, was_told: bool) {
        let mut state = sidecar.detection.pack_state();
        let has_other_rules = !matches!(state, PackState::Same);
        let is_loaded = was_told || matches!(state, PackState::New);
        if is_loaded {
            load(sidecar, has_other_rules);
            state = sidecar.detection.pack_state();
        }
        let wrong = match state {
            PackState::Same | PackState::New | PackState::Refused => None,
            PackState::Gone => Some(format!("{PACK} is gone")),
            PackState::Unreadable(error) => {
                sidecar.metrics.pack_failures.inc();
                Some(format!("{error:#}"))
            }
        };
        match &wrong {
            // Loading it has said so.
            Some(_) if is_loaded => {}
            Some(wrong) if self.said.as_ref() != Some(wrong) => {
                tracing::error!("{wrong}; the rules that ran before go on");
            }
            None if self.said.is_some() && !is_loaded => tracing::info!("{PACK} can be read again"),
            _ => {}
        }
        self.said = wrong;
    }
}

/// Starts the module anew, unless that would lose a history for nothing.
fn load(sidecar: &Sidecar, has_other_rules: bool) {
    let result = match sidecar.detection.restart(has_other_rules) {
        Ok((restarted, said)) => {
            for line in said {
                tracing::warn!("{line}");
            }
            match restarted {
                Restarted::Anew => tracing::info!("the rules and the history are loaded anew"),
                Restarted::WithoutHistory => {
                    tracing::warn!(
                        "the rules are loaded anew, and the history, which no file keeps, is lost with the old ones"
                    );
                }
                Restarted::Kept => {
                    return tracing::info!(
                        "the module goes on: the rules are the same, and no file would keep its history"
                    );
                }
            }
            "ok"
        }
        Err(error) => {
            tracing::error!("{error:#}; the rules that ran before go on");
            "failed"
        }
    };
    sidecar.metrics.reloads.get_or_create(&ResultLabel { result }).inc();
}

/// Reads the token and the certificate anew; what cannot be read goes on as it was.
fn reread(sidecar: &Sidecar, options: &Options, tls: Option<&RwLock<TlsAcceptor>>) {
    if let Some(file) = &options.token_file {
        let token = Token::read(file).map(|token| {
            *sidecar.token.write().unwrap_or_else(PoisonError::into_inner) = Some(token);
            true
        });
        reloaded("token", token);
    }
    if let (Some(tls), Some((certificate, key))) = (tls, &options.tls) {
        let acceptor = certificates::acceptor(certificate, key).map(|acceptor| {
            *tls.write().unwrap_or_else(PoisonError::into_inner) = acceptor;
            true
        });
        reloaded("certificate", acceptor);
    }
}

/// Says what became of it, if it was there to be read anew.
fn reloaded(what: &str, result: anyhow::Result<bool>) {
    match result {
        Ok(true) => tracing::info!("the {what} is loaded anew"),
        Ok(false) => {}
        Err(error) => tracing::error!("{error:#}; the {what} that was there before goes on"),
    }
}
