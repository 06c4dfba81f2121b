//! Who takes part: the program, a sender, a receiver.
//!
//! Bounds: everything on loopback addresses, on ports that the system chooses; the program ends with its handle. Not here: what is
//! sent.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;

use crate::subjects::module_file;

/// How long anything here may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An event of about 300 bytes that the built-in rules match, by a user.
pub(crate) fn event(id: &str, user: &str) -> String {
    named_event(id, user, "GetCallerIdentity")
}

/// The same with the name of another call, which no built-in rule asks for.
pub(crate) fn named_event(id: &str, user: &str, name: &str) -> String {
    format!(
        r#"{{"eventVersion":"1.08","userIdentity":{{"type":"IAMUser","arn":"arn:aws:iam::111122223333:user/{user}","userName":"{user}","accountId":"111122223333"}},"eventTime":"2026-11-01T12:00:00Z","eventSource":"sts.amazonaws.com","eventName":"{name}","awsRegion":"eu-central-1","sourceIPAddress":"198.51.100.7","eventID":"{id}"}}"#
    )
}

/// How many alerts the text holds.
pub(crate) fn alert_count(text: &[u8]) -> usize {
    memchr::memmem::find_iter(text, b"\"firstseen\":{\"alerts\":[").count()
}

/// `firstseen serve`.
pub(crate) struct Sidecar {
    child: Child,
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

impl Sidecar {
    /// Starts it in a directory, if one is given, on a port of its own.
    pub(crate) fn start(directory: Option<&Path>, arguments: &[&str]) -> Sidecar {
        Sidecar::try_start(directory, arguments).unwrap_or_else(|log| panic!("it does not start: {log}"))
    }

    /// The same; what it said, if it does not start.
    pub(crate) fn try_start(directory: Option<&Path>, arguments: &[&str]) -> Result<Sidecar, String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firstseen"));
        command.arg("serve").args(["--log-format", "json"]);
        if !arguments.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        if !arguments.contains(&"--module") {
            command.arg("--module").arg(module_file());
        }
        if let Some(directory) = directory {
            command.arg("--dir").arg(directory);
        }
        let mut child = command.args(arguments).stderr(Stdio::piped()).spawn().expect("the program starts");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let log = Arc::<Mutex<Vec<String>>>::default();
        let (sender, address) = mpsc::channel();
        let lines = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let said: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
                if said["message"] == "listening" {
                    let address = said["address"].as_str().and_then(|address| address.parse().ok());
                    let _ = sender.send(address.expect("an address"));
                }
                lines.lock().expect("the log").push(line);
            }
        });
        match address.recv_timeout(PATIENCE) {
            Ok(address) => Ok(Sidecar { child, address, log }),
            Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                let log = log.lock().expect("the log").join("\n");
                Err(log)
            }
        }
    }

    /// With a receiver to forward to.
    pub(crate) fn forwarding(directory: Option<&Path>, receiver: &Receiver, arguments: &[&str]) -> Sidecar {
        let url = receiver.url();
        Sidecar::start(directory, &[&["--forward", &url], arguments].concat())
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("the log").join("\n")
    }

    /// The address at which it answers probes.
    pub(crate) fn health_address(&self) -> SocketAddr {
        self.wait_for("listening for probes");
        let log = self.log();
        let line = log.lines().find(|line| line.contains("listening for probes")).expect("the line");
        let said: serde_json::Value = serde_json::from_str(line).expect("JSON");
        said["address"].as_str().and_then(|address| address.parse().ok()).expect("an address")
    }

    /// Waits until it says this.
    pub(crate) fn wait_for(&self, text: &str) {
        let begun = Instant::now();
        while !self.log().contains(text) {
            assert!(begun.elapsed() < PATIENCE, "it never says {text:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.process().to_string()]).status();
        assert!(sent.expect("there is a kill").success());
    }

    /// Waits until it ends; whether it ended well.
    pub(crate) fn ended(mut self) -> bool {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("its status") {
                return status.success();
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its memory now, in bytes.
    pub(crate) fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.trim().trim_end_matches(" kB").trim().parse::<usize>().expect("a number") * 1024
    }

    /// One request with a connection of its own.
    pub(crate) fn post(&self, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        Sender::connect(self.address).request("POST", "/", headers, body).expect("an answer")
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        Sender::connect(self.address).request("GET", path, &[], b"").expect("an answer")
    }

    /// A number of `/metrics`.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = String::from_utf8(self.get("/metrics").body).expect("text");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("there is no {name} in\n{text}")).parse().expect("a number")
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// A connection that requests are written to by hand.
pub(crate) struct Sender {
    stream: BufReader<TcpStream>,
}

impl Sender {
    pub(crate) fn connect(address: SocketAddr) -> Sender {
        Sender::try_connect(address).expect("a connection")
    }

    pub(crate) fn try_connect(address: SocketAddr) -> std::io::Result<Sender> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Sender { stream: BufReader::new(stream) })
    }

    /// The connection itself.
    pub(crate) fn raw(&mut self) -> &mut TcpStream {
        self.stream.get_mut()
    }

    /// How long an answer may take.
    pub(crate) fn with_patience(self, patience: Duration) -> Sender {
        self.stream.get_ref().set_read_timeout(Some(patience)).expect("it is set");
        self
    }

    pub(crate) fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<Reply> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        let stream = self.stream.get_mut();
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        stream.write_all(body)?;
        self.reply()
    }

    /// The next answer.
    pub(crate) fn reply(&mut self) -> std::io::Result<Reply> {
        let ended = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(ended)?;
        let mut headers = Vec::new();
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut reply = Reply { status, headers, body: Vec::new() };
        let length = reply.header("content-length").map_or(0, |length| length.parse().expect("a length"));
        reply.body.resize(length, 0);
        self.stream.read_exact(&mut reply.body)?;
        Ok(reply)
    }

    /// Whether the other side has closed it, within this time; what comes before is not looked at.
    pub(crate) fn is_closed_within(&mut self, time: Duration) -> bool {
        let begun = Instant::now();
        let stream = self.stream.get_mut();
        stream.set_read_timeout(Some(Duration::from_millis(20))).expect("it is set");
        let is_late = |error: &std::io::Error| {
            matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
        };
        while begun.elapsed() < time {
            match stream.read(&mut [0; 4096]) {
                Ok(0) => return true,
                Err(error) if !is_late(&error) => return true,
                _ => {}
            }
        }
        false
    }
}

/// What the receiver does with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Takes it.
    Take,
    /// Takes it not, and answers this.
    Refuse(u16),
    /// Takes it, and answers this time later.
    TakeSlowly(Duration),
    /// Takes it not, and never answers.
    Hang,
    /// Breaks the connection off without taking it.
    Close,
    /// Takes it, and breaks the connection off.
    TakeAndClose,
}

/// A batch that was taken.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

type Decision = dyn FnMut() -> Behaviour + Send;

struct Shared {
    decide: Mutex<Box<Decision>>,
    taken: Mutex<VecDeque<Taken>>,
    asked: Mutex<u64>,
}

/// An endpoint that takes batches and keeps them.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    _runtime: tokio::runtime::Runtime,
}

impl Receiver {
    /// One that takes everything.
    pub(crate) fn start() -> Receiver {
        Receiver::deciding(|| Behaviour::Take)
    }

    /// One that is asked what to do, batch by batch.
    pub(crate) fn deciding(decide: impl FnMut() -> Behaviour + Send + 'static) -> Receiver {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("threads");
        let shared =
            Arc::new(Shared { decide: Mutex::new(Box::new(decide)), taken: Mutex::default(), asked: Mutex::default() });
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("its address");
        let router =
            Router::new().fallback(post(take)).layer(DefaultBodyLimit::disable()).with_state(Arc::clone(&shared));
        runtime.spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let _ = stream.set_nodelay(true);
                let service = TowerToHyperService::new(router.clone());
                tokio::spawn(async move {
                    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    builder.http1().max_buf_size(1 << 20);
                    // A panic in `take` breaks the connection off.
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Receiver { address, shared, _runtime: runtime }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// From now on it does this with every batch.
    pub(crate) fn always(&self, behaviour: Behaviour) {
        *self.shared.decide.lock().expect("a decision") = Box::new(move || behaviour);
    }

    /// What it has taken since it was asked last.
    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.shared.taken.lock().expect("batches").drain(..).collect()
    }

    /// How many batches came, taken or not.
    pub(crate) fn asked(&self) -> u64 {
        *self.shared.asked.lock().expect("a count")
    }
}

async fn take(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    *shared.asked.lock().expect("a count") += 1;
    let behaviour = (shared.decide.lock().expect("a decision"))();
    let keep = || shared.taken.lock().expect("batches").push_back(Taken { headers, body });
    match behaviour {
        Behaviour::Take => {
            keep();
            "taken".into_response()
        }
        Behaviour::TakeSlowly(time) => {
            tokio::time::sleep(time).await;
            keep();
            "taken".into_response()
        }
        Behaviour::Refuse(status) => {
            let status = StatusCode::from_u16(status).expect("a status");
            (status, [("retry-after", "7")], "not taken").into_response()
        }
        Behaviour::Hang => std::future::pending().await,
        Behaviour::TakeAndClose => {
            keep();
            break_off()
        }
        Behaviour::Close => break_off(),
    }
}

/// An answer whose body breaks off at once, and the connection with it.
fn break_off() -> Response {
    std::panic::resume_unwind(Box::new("the connection breaks off"))
}
