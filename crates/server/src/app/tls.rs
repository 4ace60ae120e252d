//! Certificates: the listener's, read again when its files change, and those
//! that providers are trusted by.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use dataplane::listen::SharedTls;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio_util::sync::CancellationToken;

/// How often the files are looked at.
const RELOAD_INTERVAL: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("read certificates from {path}")]
    Certificates { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("{0} holds no certificate")]
    Empty(PathBuf),
    #[error("read a private key from {path}")]
    Key { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("use the certificate with its key")]
    Mismatch(#[source] rustls::Error),
}

/// The files of the listener's certificate.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    pub certificates: PathBuf,
    pub key: PathBuf,
}

pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::Certificates { path: path.to_owned(), source };
    let read = CertificateDer::pem_file_iter(path).map_err(failed)?;
    let read: Vec<_> = read.collect::<Result<_, _>>().map_err(failed)?;
    if read.is_empty() {
        return Err(TlsError::Empty(path.to_owned()));
    }
    Ok(read)
}

impl TlsFiles {
    pub fn load(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let chain = certificates(&self.certificates)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|source| TlsError::Key { path: self.key.clone(), source })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Mismatch)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(TlsError::Mismatch)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn changed_at(&self) -> [Option<SystemTime>; 2] {
        let changed = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
        [changed(&self.certificates), changed(&self.key)]
    }

    /// Reads the files again when either changes. A pair that cannot be used
    /// (half of it is still being written, say) leaves the old one in force.
    pub async fn reload_loop(self, shared: SharedTls, stop: CancellationToken) {
        let mut seen = self.changed_at();
        let mut ticks = tokio::time::interval(RELOAD_INTERVAL);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            let now = self.changed_at();
            if now == seen {
                continue;
            }
            match self.load() {
                Ok(config) => {
                    shared.store(Some(config));
                    tracing::info!("the listener's certificate was read again");
                }
                Err(error) => tracing::warn!(
                    error = &error as &(dyn std::error::Error + 'static),
                    "the listener's certificate cannot be used; the old one stays"
                ),
            }
            seen = now;
        }
    }
}

pub fn shared(files: Option<&TlsFiles>) -> Result<SharedTls, TlsError> {
    let config = files.map(TlsFiles::load).transpose()?;
    Ok(Arc::new(ArcSwapOption::from(config)))
}
