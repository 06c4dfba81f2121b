//! Who may send: everybody on this machine, or those with the token.
//!
//! In: the address to listen on, the token's file, a request's headers. Out: whether that is safe, and whether the request may be
//! taken. Not here: TLS, and everything else that is wrong with a request.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{bail, ensure};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, Uri};
use subtle::ConstantTimeEq;

use crate::serve::files::{self, Privacy};

/// The shortest token, in bytes: 16 random bytes in hexadecimal digits have twice that.
const MIN_TOKEN: usize = 16;

/// What a request must know.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Vec<u8>);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// The token in a file, which is its one line.
    ///
    /// # Errors
    /// The file cannot be read, or holds no such line.
    pub fn read(file: &Path) -> anyhow::Result<Token> {
        let text = files::read(file, Privacy::Secret)?;
        let token = text.trim_ascii();
        let name = file.display();
        ensure!(
            token.len() >= MIN_TOKEN,
            "the token in {name} has {} bytes, expected at least {MIN_TOKEN}: make one with `openssl rand -hex 32`",
            token.len()
        );
        ensure!(
            token.iter().all(u8::is_ascii_graphic),
            "the token in {name} has a space or a character beyond ASCII, which no header holds"
        );
        Ok(Token(token.to_vec()))
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether the request says `Authorization: Bearer` and this token.
    pub fn is_in(&self, headers: &HeaderMap) -> bool {
        let Some(value) = headers.get(AUTHORIZATION).map(axum::http::HeaderValue::as_bytes) else { return false };
        let Some((scheme, token)) = value.split_at_checked(7) else { return false };
        scheme.eq_ignore_ascii_case(b"bearer ") && bool::from(token.trim_ascii().ct_eq(&self.0))
    }
}

/// That others cannot send or read what is not theirs: an address of the machine itself, or a token and TLS.
///
/// # Errors
/// What is missing.
pub fn check(address: SocketAddr, has_token: bool, has_tls: bool) -> anyhow::Result<()> {
    if address.ip().is_loopback() || (has_token && has_tls) {
        return Ok(());
    }
    let missing = match (has_token, has_tls) {
        (false, false) => "--token-file, --tls-certificate and --tls-key",
        (false, true) => "--token-file",
        _ => "--tls-certificate and --tls-key",
    };
    bail!("{address} can be reached from other machines: give {missing} as well, or listen on 127.0.0.1")
}

/// Why a request is taken for one of a web page in a browser on this machine, if it is: programs send no `Origin` and no
/// `Sec-Fetch-Site`, and a page whose name was made to lead here (DNS rebinding) has its name in `Host`. That a person opened an
/// address in a browser is told by `Sec-Fetch-Site: none`.
pub fn page(headers: &HeaderMap, uri: &Uri) -> Option<&'static str> {
    if headers.contains_key(ORIGIN) || headers.get("sec-fetch-site").is_some_and(|site| site != "none") {
        return Some("the request comes from a web page: pages may send only if --token-file is given, with the token");
    }
    let named = uri.host().or_else(|| {
        let host = headers.get(HOST)?.to_str().ok()?;
        Some(
            host.rsplit_once(':')
                .filter(|(_, port)| port.bytes().all(|digit| digit.is_ascii_digit()))
                .map_or(host, |(host, _)| host),
        )
    })?;
    let name = named.trim_end_matches('.');
    let is_address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>().is_ok();
    // Names without a dot are this machine's or its network's: nobody else can make them lead here.
    let is_own = !name.contains('.') || name.to_ascii_lowercase().ends_with(".localhost");
    (!is_address && !is_own)
        .then_some("the request is for another host: send to 127.0.0.1 or localhost, or give --token-file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_told_from_programs() {
        let is_page = |uri: &str, headers: &[(&'static str, &str)]| {
            let headers = headers
                .iter()
                .map(|(name, value)| (axum::http::HeaderName::from_static(name), value.parse().expect("a value")));
            page(&HeaderMap::from_iter(headers), &uri.parse().expect("a path")).is_some()
        };
        for headers in [
            &[][..],
            &[("host", "127.0.0.1:8687")],
            &[("host", "[::1]:8687")],
            &[("host", "[::1]")],
            &[("host", "localhost:8687")],
            &[("host", "LOCALHOST.:8687")],
            &[("host", "vector.localhost")],
            &[("host", "sidecar")],
            &[("host", "localhost"), ("sec-fetch-site", "none")],
        ] {
            assert!(!is_page("/", headers), "{headers:?}");
        }
        for headers in [
            &[("host", "localhost"), ("origin", "null")][..],
            &[("host", "127.0.0.1"), ("origin", "http://127.0.0.1")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-origin")],
            &[("host", "rebound.example:8687")],
            &[("host", "rebound.example")],
            &[("host", "127.0.0.1.rebound.example")],
            &[("host", "localhost.example")],
        ] {
            assert!(is_page("/", headers), "{headers:?}");
        }
        // In HTTP/2 the host is in the address.
        assert!(is_page("http://rebound.example:8687/", &[]) && !is_page("http://localhost:8687/", &[]));
    }

    #[test]
    fn an_open_address_needs_a_token_and_tls() {
        let address = |text: &str| text.parse().expect("an address");
        for (listen, has_token, has_tls, is_safe) in [
            ("127.0.0.1:8687", false, false, true),
            ("[::1]:8687", false, false, true),
            ("127.8.0.1:1", false, true, true),
            ("0.0.0.0:8687", false, false, false),
            ("[::]:8687", true, false, false),
            ("192.0.2.1:8687", false, true, false),
            ("192.0.2.1:8687", true, true, true),
        ] {
            assert_eq!(check(address(listen), has_token, has_tls).is_ok(), is_safe, "{listen}");
        }
        let error = check(address("0.0.0.0:1"), true, false).expect_err("refused");
        assert_eq!(
            error.to_string(),
            "0.0.0.0:1 can be reached from other machines: give --tls-certificate and --tls-key as well, or listen on \
             127.0.0.1"
        );
    }

    #[test]
    fn the_token_is_asked_for_as_http_has_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("token");
        std::fs::write(&file, "0123456789abcdef\n").expect("it is written");
        let token = Token::read(&file).expect("a token");
        let headers = |value: &str| HeaderMap::from_iter([(AUTHORIZATION, value.parse().expect("a value"))]);
        for value in ["Bearer 0123456789abcdef", "bearer  0123456789abcdef "] {
            assert!(token.is_in(&headers(value)), "{value}");
        }
        for value in ["", "Bearer", "Bearer ", "0123456789abcdef", "Basic 0123456789abcdef", "Bearer 0123456789abcdeg"]
        {
            assert!(!token.is_in(&headers(value)), "{value}");
        }
        assert!(!token.is_in(&HeaderMap::new()));
        for text in ["", "short", "0123456789 abcdef"] {
            std::fs::write(&file, text).expect("it is written");
            assert!(Token::read(&file).is_err(), "{text}");
        }
    }
}
