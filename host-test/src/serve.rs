//! The sidecar: the module behind an HTTP endpoint, for pipelines that cannot load it.
//!
//! In: requests with batches of events, over a socket ([`listener`]). Out: the same events with their alerts, to a receiver
//! ([`receiver`]) whose answer is the sender's answer, or back to the sender ([`exchange`]). Bounds: [`exchange::Limits`].
//! Everything that decides is the module's ([`detection`]); nothing is queued or stored but its history. Not here: the command
//! line, and where log lines go.

pub mod access;
pub mod certificates;
pub mod detection;
pub mod encoding;
pub mod exchange;
pub mod lines;
pub mod listener;
pub mod memory;
pub mod metrics;
pub mod pieces;
pub mod receiver;
pub mod refusals;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context;
use tokio_rustls::TlsAcceptor;

use crate::configuration::PACK;
use crate::guest::{Entry, Module};
use access::Token;
use detection::{Detection, PackState};
use exchange::{Limits, Sidecar};
use listener::Listener;
use metrics::ResultLabel;
use receiver::Receiver;

/// How often it is looked whether there is another pack.
const LOOK_FOR_PACK: Duration = Duration::from_secs(2);

/// How much longer than the receiver's answer silence may take on a connection.
const IDLE: Duration = Duration::from_secs(60);

/// What a sidecar is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// The configuration directory; without one, the built-in rules with a history in memory.
    pub directory: Option<PathBuf>,
    /// The database of AS organisations, for events that come without one.
    pub asn: Option<PathBuf>,
    /// Where to listen.
    pub listen: SocketAddr,
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

/// Runs a sidecar until it is told to end (SIGTERM, SIGINT). SIGHUP and another pack reload the rules; SIGHUP reads the token and
/// the certificate anew as well.
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
    let answer_time = options.forward.as_ref().map_or(Duration::ZERO, |(_, receiver)| receiver.timeout);
    let receiver = options.forward.clone().map(|(url, receiver)| Receiver::new(&url, receiver)).transpose()?;
    let sidecar = Arc::new(Sidecar::new(detection, receiver, options.limits, token));
    let listener = Listener::bind(options.listen, tls.clone(), answer_time + IDLE)
        .await
        .with_context(|| format!("cannot listen on {}", options.listen))?;
    let address = listener.address()?;
    let mut signals = Signals::new().context("the system gives no signals")?;
    let reloads = tokio::spawn(reload(Arc::clone(&sidecar), options.clone(), tls));
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

/// Loads another pack when there is one, and all anew when told to.
async fn reload(sidecar: Arc<Sidecar>, options: Options, tls: Option<Arc<RwLock<TlsAcceptor>>>) {
    #[cfg(unix)]
    let mut hang_up = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok();
    let watch = Arc::new(Mutex::new(PackWatch::default()));
    loop {
        #[cfg(unix)]
        let told = async {
            match &mut hang_up {
                Some(hang_up) => {
                    hang_up.recv().await;
                }
                None => std::future::pending().await,
            }
        };
        #[cfg(not(unix))]
        let told = std::future::pending::<()>();
        let was_told = tokio::select! {
            () = told => true,
            () = tokio::time::sleep(LOOK_FOR_PACK) => false,
        };
        if was_told && let Err(error) = reread(&sidecar, &options, tls.as_deref()) {
            tracing::error!("{error:#}; what there was goes on");
        }
        sidecar.refusals.report_counts();
        let (sidecar, watch) = (Arc::clone(&sidecar), Arc::clone(&watch));
        let reloaded = tokio::task::spawn_blocking(move || {
            watch.lock().unwrap_or_else(PoisonError::into_inner).look(&sidecar, was_told);
        });
        if let Err(error) = reloaded.await {
            tracing::error!(%error, "the rules cannot be loaded anew; the old ones go on");
        }
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
        let is_loaded = was_told || matches!(state, PackState::New);
        if is_loaded {
            load(sidecar);
            state = sidecar.detection.pack_state();
        }
        let wrong = match state {
            PackState::Same | PackState::New => None,
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

/// Starts the module anew.
fn load(sidecar: &Sidecar) {
    let result = match sidecar.detection.reload() {
        Ok(said) => {
            for line in said {
                tracing::warn!("{line}");
            }
            tracing::info!("the rules and the history are loaded anew");
            "ok"
        }
        Err(error) => {
            tracing::error!("{error:#}; the rules that ran before go on");
            "failed"
        }
    };
    sidecar.metrics.reloads.get_or_create(&ResultLabel { result }).inc();
}

/// Reads the token and the certificate anew.
fn reread(sidecar: &Sidecar, options: &Options, tls: Option<&RwLock<TlsAcceptor>>) -> anyhow::Result<()> {
    if let Some(file) = &options.token_file {
        let token = Token::read(file)?;
        *sidecar.token.write().unwrap_or_else(PoisonError::into_inner) = Some(token);
    }
    if let (Some(tls), Some((certificate, key))) = (tls, &options.tls) {
        let acceptor = certificates::acceptor(certificate, key)?;
        *tls.write().unwrap_or_else(PoisonError::into_inner) = acceptor;
    }
    Ok(())
}
