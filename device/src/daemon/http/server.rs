//! The HTTP server: its address, its time-outs, and TLS if there is a certificate.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;
use rustls::ServerConfig;
use tokio::task::JoinHandle;

use super::places::Places;
use crate::EdgeError;
use crate::daemon::config::HttpConfig;

/// Time-out of a request's head, of a TLS handshake and of an idle connection.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// Grace period of running requests when the daemon ends.
const GRACE: Duration = Duration::from_secs(3);

/// The running server; ends with [`Server::shutdown`].
pub(crate) struct Server {
    address: SocketAddr,
    tls: Option<RustlsConfig>,
    handle: Handle<SocketAddr>,
    serving: JoinHandle<io::Result<()>>,
}

impl Server {
    /// Binds the address and starts to serve.
    ///
    /// # Errors
    ///
    /// [`EdgeError::Listen`] if the address is not available, [`EdgeError::File`] if certificate or
    /// key cannot be used.
    pub(super) async fn bind(
        config: &HttpConfig,
        router: Router,
        places: Places,
    ) -> Result<Self, EdgeError> {
        let fail = |source| EdgeError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).map_err(fail)?;
        listener.set_nonblocking(true).map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let tls = match (&config.certificate, &config.key) {
            (Some(certificate), Some(key)) => {
                Some(RustlsConfig::from_config(read_certificate(certificate, key).await?))
            }
            _ => None,
        };
        let handle = Handle::new();
        let mut server = axum_server::from_tcp(listener).map_err(fail)?.handle(handle.clone());
        server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let serving = match &tls {
            None => tokio::spawn(server.http1_only().acceptor(places).serve(service)),
            Some(tls) => {
                let acceptor = RustlsAcceptor::new(tls.clone()).handshake_timeout(HEAD_TIME);
                let acceptor = acceptor.acceptor(places);
                tokio::spawn(server.http1_only().acceptor(acceptor).serve(service))
            }
        };
        Ok(Self { address, tls, handle, serving })
    }

    /// URL of the server.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Reloads certificate and key, for new connections.
    ///
    /// # Errors
    ///
    /// [`EdgeError::File`]; the old certificate stays in use.
    pub(crate) async fn reload(&self, config: &HttpConfig) -> Result<(), EdgeError> {
        if let (Some(tls), Some(certificate), Some(key)) =
            (&self.tls, &config.certificate, &config.key)
        {
            tls.reload_from_config(read_certificate(certificate, key).await?);
        }
        Ok(())
    }

    /// Returns true if the server has ended without [`Server::shutdown`].
    pub(crate) fn is_over(&self) -> bool {
        self.serving.is_finished()
    }

    /// Accepts no more requests, and ends when the running ones are answered or the grace period is
    /// over.
    pub(crate) async fn shutdown(self) {
        self.handle.graceful_shutdown(Some(GRACE));
        // The server has ended, with or without a panic.
        let _ = tokio::time::timeout(GRACE + Duration::from_secs(1), self.serving).await;
    }
}

/// Reads certificate and key. ALPN offers only HTTP/1.1, the one protocol of this server: clients
/// would use others that it offers.
pub(crate) async fn read_certificate(
    certificate: &Path,
    key: &Path,
) -> Result<Arc<ServerConfig>, EdgeError> {
    let what = "use it, or its key, for TLS";
    let fail = |source| EdgeError::File { path: certificate.to_owned(), what, source };
    let read = RustlsConfig::from_pem_file(certificate, key).await.map_err(fail)?;
    let mut config = ServerConfig::clone(&read.get_inner());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
