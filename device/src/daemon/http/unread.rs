//! Bodies of requests that a handler leaves unread, as where it refuses the request: short ones are read to their end, so that
//! the connection serves the next request; after longer ones the client is told that the connection closes.

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

/// The longest rest that is read, in bytes: most pictures are shorter. A connection that is closed while its client still sends
/// may lose the answer.
const LONGEST_REST: u64 = 4 << 20;

/// How long the rest may take to arrive.
const TIME: Duration = Duration::from_secs(2);

/// Answers, and reads what the handler left of the body, or closes the connection.
pub(super) async fn read_or_closed(request: Request, next: Next) -> Response {
    // Reading would ask such a client for a body that nobody wants.
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

/// Reads a body; tells whether it came to its end.
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

/// A body that comes back when the handler drops it.
struct Lent {
    body: Option<Body>,
    give_back: Option<oneshot::Sender<Body>>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(body), Some(give_back)) = (self.body.take(), self.give_back.take()) {
            // The request was given up meanwhile.
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
