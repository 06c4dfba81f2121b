//! Certificates and keys in PEM files.
//!
//! In: files. Out: what TLS is set up with. Not here: who connects.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};

/// The certificates in a file.
///
/// # Errors
/// It cannot be read, or holds none.
pub fn read(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let name = file.display();
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
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
    let secret =
        PrivateKeyDer::from_pem_file(key).with_context(|| format!("cannot read the key of {}", key.display()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .with_context(|| format!("{} and {} cannot be used together", certificate.display(), key.display()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
