//! Who may send: everybody on this machine, or those with the token.
//!
//! In: the address to listen on, the token's file, a request's headers. Out: whether that is safe, and whether the request may be
//! taken. Not here: TLS, and everything else that is wrong with a request.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use subtle::ConstantTimeEq;

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
        let text = fs::read(file).with_context(|| format!("cannot read the token of {}", file.display()))?;
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

#[cfg(test)]
mod tests {
    use super::*;

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
        fs::write(&file, "0123456789abcdef\n").expect("it is written");
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
            fs::write(&file, text).expect("it is written");
            assert!(Token::read(&file).is_err(), "{text}");
        }
    }
}
