//! Places for connections: how many there are, and how many an address may take.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_io_timeout::TimeoutStream;

/// How long a client may leave an answer unread.
const UNREAD: Duration = Duration::from_secs(20);

/// What those are told for whom there is no connection left.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n\
    Retry-After: 1\r\nConnection: close\r\nContent-Length: 101\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\"detail\":\"too many connections now\"}";

/// Lets a connection in if there is a place.
#[derive(Debug, Clone)]
pub(super) struct Places {
    taken: Arc<Mutex<Taken>>,
    all: usize,
    /// Half of them: whoever holds as many connections as he can, slowly, leaves places for others.
    of_an_address: usize,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    of: HashMap<IpAddr, usize>,
}

impl Places {
    pub(super) fn new(all: usize) -> Self {
        Self { taken: Arc::default(), all, of_an_address: all.div_ceil(2) }
    }

    fn take(&self, address: IpAddr) -> Option<Place> {
        let mut taken = lock(&self.taken);
        let of = taken.of.get(&address).copied().unwrap_or(0);
        if taken.all >= self.all || of >= self.of_an_address {
            return None;
        }
        taken.all += 1;
        taken.of.insert(address, of + 1);
        Some(Place { taken: self.taken.clone(), address })
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place that is free again when this is dropped.
#[derive(Debug)]
struct Place {
    taken: Arc<Mutex<Taken>>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.all -= 1;
        if let Some(of) = taken.of.get_mut(&self.address) {
            *of -= 1;
            if *of == 0 {
                taken.of.remove(&self.address);
            }
        }
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
                // Who is not told within a second is not told.
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

/// A connection that holds its place until it is closed.
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

    #[test]
    fn an_address_leaves_places_for_others() {
        let [one, other] = [1, 2].map(|n| IpAddr::from(Ipv4Addr::new(127, 0, 0, n)));
        let places = Places::new(4);
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
}
