//! Certificates and keys in PEM files.
//!
//! In: files. Out: what TLS is set up with, and a warning about certificates that are not valid now, or soon. Not here: who
//! connects.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use jiff::{SignedDuration, Timestamp};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};

use crate::serve::files::{self, Privacy};

/// How long before its end a certificate is warned of: at most this, and at most a fifth of the time that it is valid.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// The certificates in a file.
///
/// # Errors
/// It cannot be read, or holds none.
pub fn read(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let name = file.display();
    let certificates = CertificateDer::pem_slice_iter(&files::read(file, Privacy::Public)?)
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("cannot read the certificates of {name}"))?;
    ensure!(!certificates.is_empty(), "{name} holds no certificate, expected PEM (-----BEGIN CERTIFICATE-----)");
    Ok(certificates)
}

/// What takes connections with this certificate and key, for HTTP/2 and HTTP/1.1.
///
/// # Errors
/// One of the files cannot be read, or the key is not the certificate's.
pub fn acceptor(certificate: &Path, key: &Path) -> anyhow::Result<TlsAcceptor> {
    let chain = read(certificate)?;
    let secret = PrivateKeyDer::from_pem_slice(&files::read(key, Privacy::Secret)?)
        .with_context(|| format!("cannot read the key of {}", key.display()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .with_context(|| format!("{} and {} cannot be used together", certificate.display(), key.display()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Says so in the log if a certificate of the chain in a file is not valid now, or will not be soon.
pub fn warn_of(file: &Path) {
    // That it cannot be read is said where it is loaded.
    let Ok(chain) = read(file) else { return };
    for warning in warnings(file, &chain, Timestamp::now()) {
        tracing::warn!("{warning}");
    }
}

fn warnings(file: &Path, chain: &[CertificateDer<'_>], now: Timestamp) -> Vec<String> {
    let warnings = chain.iter().enumerate().filter_map(|(number, certificate)| {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let of = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
        let (from, until) = (of(parsed.validity().not_before)?, of(parsed.validity().not_after)?);
        let soon = SOON.min(until.duration_since(from) / 5);
        let which = if number == 0 { "the certificate" } else { "a certificate of the chain" };
        let name = file.display();
        let renew = "renew it and send SIGHUP";
        let days = |from: Timestamp, until: Timestamp| until.duration_since(from).as_hours() / 24;
        if now < from {
            Some(format!(
                "{which} in {name} is valid from {from} on only: senders refuse it until then. Is the clock right?"
            ))
        } else if now > until {
            Some(format!(
                "{which} in {name} expired at {until}, {} days ago: senders refuse it; {renew}",
                days(until, now)
            ))
        } else if until.duration_since(now) < soon {
            Some(format!("{which} in {name} expires at {until}, in {} days: {renew}", days(now, until)))
        } else {
            None
        }
    });
    warnings.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_warned_of_before_and_after_it_is_valid() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let of = |from: (i32, u8, u8), until: (i32, u8, u8)| {
            let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
            parameters.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
            parameters.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
            let key = rcgen::KeyPair::generate().expect("a key");
            parameters.self_signed(&key).expect("a certificate").der().clone()
        };
        let (year, week) = (of((2026, 1, 1), (2027, 1, 1)), of((2026, 6, 1), (2026, 6, 8)));
        for (chain, now, expected) in [
            (vec![year.clone()], "2026-12-01T00:00:00Z", vec![]),
            (
                vec![year.clone()],
                "2025-12-31T23:00:00Z",
                vec!["the certificate in x.pem is valid from 2026-01-01T00:00:00Z"],
            ),
            (vec![year.clone()], "2026-12-20T12:00:00Z", vec!["expires at 2027-01-01T00:00:00Z, in 11 days: renew it"]),
            (vec![year.clone()], "2027-01-03T00:00:00Z", vec!["expired at 2027-01-01T00:00:00Z, 2 days ago"]),
            // One that lives for a week is not warned of for all of it.
            (vec![week.clone()], "2026-06-04T00:00:00Z", vec![]),
            (vec![week.clone()], "2026-06-07T00:00:00Z", vec!["in 1 days"]),
            (vec![year, week], "2026-07-01T00:00:00Z", vec!["a certificate of the chain in x.pem expired"]),
            (vec![CertificateDer::from(b"none".as_slice())], "2026-07-01T00:00:00Z", vec![]),
        ] {
            let found = warnings(Path::new("x.pem"), &chain, at(now));
            let is_right = found.len() == expected.len() && found.iter().zip(&expected).all(|(a, b)| a.contains(b));
            assert!(is_right, "{now}: {found:?}, expected {expected:?}");
        }
    }
}
