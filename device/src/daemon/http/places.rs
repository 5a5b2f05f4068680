//! Limits of connections: in total and per address.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum_server::accept::Accept;
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_io_timeout::TimeoutStream;

use crate::daemon::config::{HttpConfig, Network};

/// Write time-out: how long a client may leave a response unread.
const UNREAD: Duration = Duration::from_secs(20);

/// Response to a client beyond the limit of connections.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n\
    Retry-After: 1\r\nConnection: close\r\nContent-Length: 101\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\"detail\":\"too many connections now\"}";

/// Accepts a connection if the limits allow it.
#[derive(Debug, Clone)]
pub(super) struct Places {
    taken: Arc<Mutex<Taken>>,
    all: usize,
    /// Half of all connections: an address at its limit leaves room for others.
    of_an_address: usize,
    /// A trusted proxy may take all connections; the clients behind it are counted by their
    /// requests.
    trusted: Arc<[Network]>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    of: HashMap<IpAddr, usize>,
}

impl Places {
    pub(super) fn new(config: &HttpConfig) -> Self {
        let all = config.max_connections;
        let trusted = config.trusted_proxies.iter().copied().collect();
        Self { taken: Arc::default(), all, of_an_address: all.div_ceil(2), trusted }
    }

    /// Takes a permit for a connection.
    fn take(&self, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let proxy = self.trusted.iter().any(|network| network.contains(address));
        let mut taken = lock(&self.taken);
        if taken.all >= self.all {
            return None;
        }
        let address = if proxy { None } else { Some(address) };
        self.count(&mut taken, address)?;
        taken.all += 1;
        Some(Place { taken: self.taken.clone(), address, connection: true })
    }

    /// Takes a permit for a request of a client behind a trusted proxy.
    pub(super) fn take_for_request(&self, address: IpAddr) -> Option<Place> {
        self.count(&mut lock(&self.taken), Some(address))?;
        Some(Place { taken: self.taken.clone(), address: Some(address), connection: false })
    }

    fn count(&self, taken: &mut Taken, address: Option<IpAddr>) -> Option<()> {
        let Some(address) = address else { return Some(()) };
        let of = taken.of.get(&address).copied().unwrap_or(0);
        if of >= self.of_an_address {
            return None;
        }
        taken.of.insert(address, of + 1);
        Some(())
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Permit for a connection or a request; released when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    taken: Arc<Mutex<Taken>>,
    /// Address that the permit counts for; `None` for a trusted proxy.
    address: Option<IpAddr>,
    /// True for a connection, false for a request.
    connection: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        if self.connection {
            taken.all -= 1;
        }
        let Some(address) = self.address else { return };
        if let Some(of) = taken.of.get_mut(&address) {
            *of -= 1;
            if *of == 0 {
                taken.of.remove(&address);
            }
        }
    }
}

/// Wraps a body so that it holds a permit until it is sent.
pub(super) fn holding(place: Place, body: Body) -> Body {
    Body::new(Held { body, _place: place })
}

struct Held {
    body: Body,
    _place: Place,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

type Accepted<S> = Pin<Box<dyn Future<Output = io::Result<(Placed, S)>> + Send>>;

impl<S: Send + 'static> Accept<TcpStream, S> for Places {
    type Stream = Placed;
    type Service = S;
    type Future = Accepted<S>;

    fn accept(&self, mut stream: TcpStream, service: S) -> Accepted<S> {
        let place = stream.peer_addr().map(|address| self.take(address.ip()));
        Box::pin(async move {
            let Some(place) = place? else {
                // The refusal has one second to be sent, and is dropped after that.
                let told = async {
                    stream.write_all(FULL).await?;
                    stream.shutdown().await
                };
                let _ = tokio::time::timeout(Duration::from_secs(1), told).await;
                return Err(io::Error::other("too many connections"));
            };
            stream.set_nodelay(true)?;
            let mut stream = TimeoutStream::new(stream);
            stream.set_write_timeout(Some(UNREAD));
            Ok((Placed { stream: Box::pin(stream), _place: place }, service))
        })
    }
}

/// A connection that holds its permit until it is closed.
#[derive(Debug)]
pub(super) struct Placed {
    stream: Pin<Box<TimeoutStream<TcpStream>>>,
    _place: Place,
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn places(trusted: &[&str]) -> Places {
        let text = format!(
            "[camera]\nsource = \"synthetic://\"\n[http]\nmax_connections = 4\ntrusted_proxies = {trusted:?}\n"
        );
        let config =
            crate::daemon::config::load("test", &text, &|_| None).expect("a configuration");
        Places::new(&config.http)
    }

    fn addresses() -> [IpAddr; 2] {
        [1, 2].map(|n| IpAddr::from(Ipv4Addr::new(127, 0, 0, n)))
    }

    #[test]
    fn an_address_leaves_places_for_others() {
        let ([one, other], places) = (addresses(), places(&[]));
        let first: Vec<Place> = (0..2).filter_map(|_| places.take(one)).collect();
        assert_eq!(first.len(), 2);
        assert!(places.take(one).is_none());
        let second: Vec<Place> = (0..2).filter_map(|_| places.take(other)).collect();
        assert_eq!(second.len(), 2);
        assert!(places.take(IpAddr::from(Ipv4Addr::LOCALHOST)).is_none(), "all are taken");
        drop(first);
        assert!(places.take(one).is_some());
        drop(second);
        assert!(lock(&places.taken).of.is_empty(), "nothing is kept of who has gone");
    }

    #[test]
    fn a_trusted_proxy_may_take_all_places_and_a_client_behind_it_half() {
        let ([proxy, client], places) = (addresses(), places(&["127.0.0.1"]));
        let connections: Vec<Place> = (0..4).filter_map(|_| places.take(proxy)).collect();
        assert_eq!(connections.len(), 4);
        assert!(places.take(proxy).is_none(), "all are taken");
        let requests: Vec<Place> = (0..4).filter_map(|_| places.take_for_request(client)).collect();
        assert_eq!(requests.len(), 2);
        drop(requests);
        drop(connections);
        assert!(lock(&places.taken).of.is_empty());
        assert_eq!(lock(&places.taken).all, 0);
    }
}
