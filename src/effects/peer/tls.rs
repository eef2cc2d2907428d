//! TLS of the members' link: version 1.3 only, both sides show a certificate, both check it
//! against the configured authorities. Both ends are this program, so nothing older is spoken.

use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::config::settings::PeerTls;
use crate::effects::error::EffectError;

/// The receiving side's settings. Sessions are not resumed: a resumed one would outlive the
/// certificate that it was begun with.
///
/// # Errors
///
/// `Permanent` when a file cannot be read or does not fit the others.
pub fn server_config(files: &PeerTls) -> Result<Arc<ServerConfig>, EffectError> {
    let roots = Arc::new(authorities(&files.ca)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|error| refuse(&files.ca, "use the authorities in", &error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| EffectError::permanent("cannot set up tls").caused_by(error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(&files.cert)?, key(&files.key)?)
        .map_err(|error| {
            refuse(&files.cert, "use the certificate in", &error.to_string())
                .hint("peer.tls.cert and peer.tls.key must belong together")
        })?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The sending side's settings.
///
/// # Errors
///
/// As [`server_config`].
pub fn client_config(files: &PeerTls) -> Result<Arc<ClientConfig>, EffectError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| EffectError::permanent("cannot set up tls").caused_by(error))?
        .with_root_certificates(authorities(&files.ca)?)
        .with_client_auth_cert(chain(&files.cert)?, key(&files.key)?)
        .map_err(|error| {
            refuse(&files.cert, "use the certificate in", &error.to_string())
                .hint("peer.tls.cert and peer.tls.key must belong together")
        })?;
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The name that the certificate at `host` must carry: a DNS name or an IP address.
///
/// # Errors
///
/// `Permanent` when it is neither.
pub fn server_name(host: &str) -> Result<ServerName<'static>, EffectError> {
    ServerName::try_from(host.to_owned()).map_err(|_| {
        EffectError::permanent(format!(
            "\"{host}\" is neither a DNS name nor an IP address"
        ))
        .hint("write the address as host:port")
    })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn authorities(path: &Path) -> Result<RootCertStore, EffectError> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(path)? {
        roots
            .add(certificate)
            .map_err(|error| refuse(path, "use the authorities in", &error.to_string()))?;
    }
    Ok(roots)
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, EffectError> {
    let read = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| refuse(path, "read certificates from", &error.to_string()))?;
    if read.is_empty() {
        return Err(refuse(
            path,
            "read certificates from",
            "there is none in it",
        ));
    }
    Ok(read)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, EffectError> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|error| refuse(path, "read a private key from", &error.to_string()))
}

fn refuse(path: &Path, what: &str, why: &str) -> EffectError {
    EffectError::permanent(format!("cannot {what} {}: {why}", path.display()))
}
