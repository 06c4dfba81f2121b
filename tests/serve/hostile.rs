//! Ten thousand requests that are up to no good, from several connections at once.
//!
//! Out: the program is there afterwards, within the memory that it was given and some for itself, and serves the next good request;
//! it does so in between as well.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use firstseen::sample::Random;
use firstseen::serve::encoding::{self, Encoding};

use super::parties::{Receiver, Sender, Sidecar, alert_count, event};

/// How many requests there are.
const REQUESTS: u64 = 10_000;

/// How many come at the same time.
const SENDERS: u64 = 8;

/// What it may take: 64 MB of bodies, what two of them may unpack to, and what the program itself needs.
const MOST_MEMORY: usize = 300 << 20;

/// Bodies that are made once.
struct Bodies {
    bombs: Vec<(&'static str, Vec<u8>)>,
    nested: Vec<u8>,
    unending: Vec<u8>,
    chunk: Vec<u8>,
}

impl Bodies {
    fn new() -> Bodies {
        let large = vec![b' '; 256 << 20];
        let encodings = [Encoding::Gzip, Encoding::Zstd, Encoding::Deflate, Encoding::Snappy];
        let bombs = encodings.map(|encoding| {
            let text = if encoding == Encoding::Snappy { &large[..32 << 20] } else { &large };
            (encoding.name(), encoding::packed(text.to_vec(), &[encoding]).expect("it is packed"))
        });
        Bodies {
            bombs: bombs.into(),
            nested: b"[{\"a\":".repeat(100_000),
            unending: b"{\"eventName\":\n".repeat(50_000),
            chunk: [b"10000\r\n".to_vec(), vec![b'x'; 0x10000], b"\r\n".to_vec()].concat(),
        }
    }
}

/// Waits for the beginning of an answer, or the end of the connection.
fn wait(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.read(&mut [0; 1024]).map(|_| ())
}

/// Sends one such request. Whether and how it is answered is all the same.
fn misbehave(address: SocketAddr, number: u64, bodies: &Bodies) -> std::io::Result<()> {
    let mut random = Random::new(number);
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_write_timeout(Some(Duration::from_secs(20)))?;
    let head = |more: &str| format!("POST / HTTP/1.1\r\nHost: x\r\n{more}\r\n").into_bytes();
    let mut posts = |more: &str, body: &[u8]| {
        let head = head(&format!("Content-Length: {}\r\n{more}", body.len()));
        stream.write_all(&head)?;
        stream.write_all(body)?;
        wait(&mut stream)
    };
    match number % 16 {
        // Bodies that end before they are over.
        0 | 1 => {
            stream.write_all(&head("Content-Length: 100000\r\n"))?;
            stream.write_all(event("a", "ann").as_bytes())?;
            stream.shutdown(Shutdown::Write)?;
            wait(&mut stream)?;
        }
        // Bombs.
        2 => {
            let (name, bomb) = &bodies.bombs[(number / 16) as usize % bodies.bombs.len()];
            posts(&format!("Content-Encoding: {name}\r\n"), bomb)?;
        }
        3 => posts("Content-Encoding: gzip, gzip\r\n", &bodies.bombs[0].1)?,
        // A gigabyte in chunks.
        4 => {
            stream.write_all(&head("Transfer-Encoding: chunked\r\n"))?;
            for _ in 0..16384 {
                stream.write_all(&bodies.chunk)?;
            }
        }
        // Chunks of an impossible size.
        5 => {
            stream.write_all(&head("Transfer-Encoding: chunked\r\n"))?;
            stream.write_all(b"ffffffffffffffff\r\nabc")?;
            stream.shutdown(Shutdown::Write)?;
            wait(&mut stream)?;
        }
        // Headers that do not come to an end, and connections that say nothing.
        6 => {
            stream.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nX-")?;
            std::thread::sleep(Duration::from_millis(random.number() % 20));
        }
        7 => std::thread::sleep(Duration::from_millis(random.number() % 20)),
        // More headers than anybody has.
        8 => {
            stream.write_all(&head(&"X-Padding: yes\r\n".repeat(40_000)))?;
            wait(&mut stream)?;
        }
        // Garbage, by itself and behind good requests.
        9 | 10 => {
            let garbage: Vec<u8> = (0..random.number() % 5000).map(|_| random.number() as u8).collect();
            if number % 16 == 10 {
                stream.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}".repeat(20).as_slice())?;
            }
            stream.write_all(&garbage)?;
            stream.shutdown(Shutdown::Write)?;
            wait(&mut stream)?;
        }
        // HTTP/2 that turns into something else.
        11 => {
            stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
            stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 1])?;
            wait(&mut stream)?;
        }
        12 => posts("Content-Length: 7\r\nTransfer-Encoding: chunked\r\n", b"{}\r\n\r\n")?,
        // JSON that never closes.
        13 => posts("", &bodies.nested)?,
        14 => posts("", &bodies.unending)?,
        _ => posts("Content-Encoding: zstd\r\n", b"\x28\xb5\x2f\xfd\xff\xff\xff\xff\xff\xff")?,
    }
    Ok(())
}

#[test]
fn ten_thousand_bad_requests_leave_it_as_it_was() {
    let receiver = Receiver::start();
    let limits = ["--max-body", "2", "--max-unpacked", "4", "--max-memory", "64", "--body-timeout", "5"];
    let sidecar = Sidecar::forwarding(None, &receiver, &limits);
    let bodies = Bodies::new();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for sender in 0..SENDERS {
            let (bodies, address) = (&bodies, sidecar.address);
            scope.spawn(move || {
                for number in (sender..REQUESTS).step_by(SENDERS as usize) {
                    // It may be broken off at any point.
                    let _ = misbehave(address, number, bodies);
                }
            });
        }
        // A good one in between is served like any other, if it comes again where it is told to.
        let mut served = 0;
        while begun.elapsed() < Duration::from_secs(5) {
            let reply = Sender::connect(sidecar.address).request("POST", "/", &[], event("a", "ann").as_bytes());
            served += u64::from(reply.expect("an answer").status == 200);
            assert!(sidecar.resident() < MOST_MEMORY, "{} bytes", sidecar.resident());
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(served > 0, "no good request was served");
    });
    println!("{REQUESTS} bad requests in {:?}; resident {} MB", begun.elapsed(), sidecar.resident() >> 20);
    assert!(sidecar.resident() < MOST_MEMORY, "{} bytes", sidecar.resident());
    receiver.taken();
    let reply = sidecar.post(&[], event("b", "ben").as_bytes());
    assert_eq!((reply.status, alert_count(&receiver.taken()[0].body)), (200, 1));
    assert_eq!(sidecar.metric("firstseen_held_bytes"), 0.0);
    assert_eq!(sidecar.metric("firstseen_requests_in_flight"), 0.0);
    assert_eq!(sidecar.metric("firstseen_module_failures_total"), 0.0);
}
