//! TLS as a client: which authorities are trusted. One cryptographic provider (ring) everywhere,
//! handed in explicitly, so that nothing depends on who installed a process-wide default.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::error::EffectError;

/// The system's authorities are some hundred certificates: read once, shared by every probe.
static SYSTEM: OnceLock<Arc<ClientConfig>> = OnceLock::new();

/// A client that trusts the authorities in `ca`, or the system's.
///
/// Sessions are never resumed: a resumed session skips the certificate, and a probe would go on
/// calling an expired one good.
///
/// # Errors
///
/// `Permanent` when the authorities cannot be read or there is none among them.
pub fn client_config(ca: Option<&Path>) -> Result<Arc<ClientConfig>, EffectError> {
    match (ca, SYSTEM.get()) {
        (Some(path), _) => with_roots(roots_of(path)?),
        (None, Some(config)) => Ok(Arc::clone(config)),
        (None, None) => {
            let config = with_roots(system_roots()?)?;
            Ok(Arc::clone(SYSTEM.get_or_init(|| config)))
        }
    }
}

/// As [`client_config`], showing a certificate: its PEM chain and its PEM private key.
///
/// # Errors
///
/// `Permanent` when a file cannot be read or does not fit the others.
pub fn client_config_as(
    ca: Option<&Path>,
    identity: Option<(&Path, &Path)>,
) -> Result<Arc<ClientConfig>, EffectError> {
    let Some((cert, key)) = identity else {
        return client_config(ca);
    };
    let roots = match ca {
        Some(path) => roots_of(path)?,
        None => system_roots()?,
    };
    let refuse = |path: &Path, what: &str, why: &str| {
        EffectError::permanent(format!("cannot {what} {}: {why}", path.display()))
    };
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| refuse(cert, "read certificates from", &error.to_string()))?;
    let key = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| refuse(key, "read a private key from", &error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| EffectError::permanent("cannot set up tls").caused_by(error))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|error| {
            refuse(cert, "use the certificate in", &error.to_string())
                .hint("certificate and key must belong together")
        })?;
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn with_roots(roots: RootCertStore) -> Result<Arc<ClientConfig>, EffectError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| EffectError::permanent("cannot set up tls").caused_by(error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn roots_of(path: &Path) -> Result<RootCertStore, EffectError> {
    let refuse = |why: &str| {
        EffectError::permanent(format!(
            "cannot read authorities from {}: {why}",
            path.display()
        ))
        .hint("name a readable PEM file with at least one CERTIFICATE block")
    };
    let mut roots = RootCertStore::empty();
    for certificate in
        CertificateDer::pem_file_iter(path).map_err(|error| refuse(&error.to_string()))?
    {
        let certificate = certificate.map_err(|error| refuse(&error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| refuse(&error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(refuse("no certificate in it"));
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, EffectError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(
            EffectError::permanent("the system has no certificate authorities")
                .hint("install ca-certificates, or name a PEM file with `ca`"),
        );
    }
    Ok(roots)
}
