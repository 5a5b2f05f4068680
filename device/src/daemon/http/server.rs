//! Connections: how many, for how long, with TLS if there is a certificate.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::accept::Accept;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use crate::EdgeError;
use crate::daemon::config::HttpConfig;

/// How long a client may take to say what it wants, and how long a connection may lie idle.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// How long requests that have begun may go on when the daemon ends.
const GRACE: Duration = Duration::from_secs(3);

/// What those are told for whom there is no connection left.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n\
    Retry-After: 1\r\nConnection: close\r\nContent-Length: 101\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\"detail\":\"too many connections now\"}";

/// The server; ends with [`Server::shutdown`].
pub(crate) struct Server {
    address: SocketAddr,
    tls: Option<RustlsConfig>,
    handle: Handle<SocketAddr>,
    serving: JoinHandle<io::Result<()>>,
}

impl Server {
    /// Begins to serve.
    ///
    /// # Errors
    ///
    /// [`EdgeError::Listen`] if the address is not to be had, [`EdgeError::File`] if certificate or key cannot be used.
    pub(crate) async fn bind(config: &HttpConfig, router: Router) -> Result<Self, EdgeError> {
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
        let door = Door { places: Arc::new(Semaphore::new(config.max_connections)) };
        let serving = match &tls {
            None => tokio::spawn(server.http1_only().acceptor(door).serve(service)),
            Some(tls) => {
                let acceptor = RustlsAcceptor::new(tls.clone()).handshake_timeout(HEAD_TIME);
                let acceptor = acceptor.acceptor(door);
                tokio::spawn(server.http1_only().acceptor(acceptor).serve(service))
            }
        };
        Ok(Self { address, tls, handle, serving })
    }

    /// Where it is to be reached.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Reads certificate and key anew, for connections to come.
    ///
    /// # Errors
    ///
    /// [`EdgeError::File`]; the certificate stays as it was.
    pub(crate) async fn reload(&self, config: &HttpConfig) -> Result<(), EdgeError> {
        if let (Some(tls), Some(certificate), Some(key)) =
            (&self.tls, &config.certificate, &config.key)
        {
            tls.reload_from_config(read_certificate(certificate, key).await?);
        }
        Ok(())
    }

    /// Whether it is over though nobody asked it to end.
    pub(crate) fn is_over(&self) -> bool {
        self.serving.is_finished()
    }

    /// Takes no more requests, and ends when those that have begun are answered, or soon.
    pub(crate) async fn shutdown(self) {
        self.handle.graceful_shutdown(Some(GRACE));
        // It ended or it panicked: it is over.
        let _ = tokio::time::timeout(GRACE + Duration::from_secs(1), self.serving).await;
    }
}

/// Certificate and key for what this server speaks: it would be taken at its word if it offered more.
async fn read_certificate(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, EdgeError> {
    let what = "use it, or its key, for TLS";
    let fail = |source| EdgeError::File { path: certificate.to_owned(), what, source };
    let read = RustlsConfig::from_pem_file(certificate, key).await.map_err(fail)?;
    let mut config = ServerConfig::clone(&read.get_inner());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Lets a connection in if there is a place.
#[derive(Debug, Clone)]
struct Door {
    places: Arc<Semaphore>,
}

type Accepted<S> = Pin<Box<dyn Future<Output = io::Result<(Placed, S)>> + Send>>;

impl<S: Send + 'static> Accept<TcpStream, S> for Door {
    type Stream = Placed;
    type Service = S;
    type Future = Accepted<S>;

    fn accept(&self, mut stream: TcpStream, service: S) -> Accepted<S> {
        match self.places.clone().try_acquire_owned() {
            Ok(place) => Box::pin(async move {
                stream.set_nodelay(true)?;
                Ok((Placed { stream, _place: place }, service))
            }),
            Err(_) => Box::pin(async move {
                // Who is not told within a second is not told.
                let told = async {
                    stream.write_all(FULL).await?;
                    stream.shutdown().await
                };
                let _ = tokio::time::timeout(Duration::from_secs(1), told).await;
                Err(io::Error::other("too many connections"))
            }),
        }
    }
}

/// A connection that holds its place until it is closed.
#[derive(Debug)]
struct Placed {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
