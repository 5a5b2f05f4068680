//! Bodies of requests that a handler leaves unread, as when it refuses the request. A short rest is
//! read to its end, so that the connection serves the next request; with a longer one, the response
//! says that the connection closes.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use tokio::sync::oneshot;

/// Longest rest that is read, in bytes: most pictures are shorter. If a connection is closed while
/// its client still sends, the response may be lost.
const LONGEST_REST: u64 = 4 << 20;

/// Time-out of reading the rest.
const TIME: Duration = Duration::from_secs(2);

/// Middleware that reads the rest of the body, or closes the connection.
pub(super) async fn read_or_closed(request: Request, next: Next) -> Response {
    // Reading would ask this client for a body that is not needed (`Expect: 100-continue`).
    let asks_first = request.headers().contains_key(header::EXPECT);
    let (give_back, mut returned) = oneshot::channel();
    let request =
        request.map(|body| Body::new(Lent { body: Some(body), give_back: Some(give_back) }));
    let mut response = next.run(request).await;
    let Ok(rest) = returned.try_recv() else { return response };
    let at_end = rest.is_end_stream();
    if !at_end && (asks_first || !is_read(rest).await) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Reads a body; returns true if it came to its end.
async fn is_read(mut body: Body) -> bool {
    if body.size_hint().lower() > LONGEST_REST {
        return false;
    }
    let reading = async {
        let mut n_read = 0;
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let Ok(frame) = frame else { return false };
            n_read += frame.data_ref().map_or(0, |data| data.len() as u64);
            if n_read > LONGEST_REST {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(TIME, reading).await.unwrap_or(false)
}

/// A body that is returned when the handler drops it.
struct Lent {
    body: Option<Body>,
    give_back: Option<oneshot::Sender<Body>>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(body), Some(give_back)) = (self.body.take(), self.give_back.take()) {
            // The receiver is gone if the request was cancelled.
            let _ = give_back.send(body);
        }
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}
