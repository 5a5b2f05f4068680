//! What comes without being asked for again: events, and the live picture.

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use image::codecs::jpeg::JpegEncoder;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::Api;
use super::door::Key;
use super::error::{ApiError, Problem};
use crate::daemon::event::Event;
use crate::daemon::slot::Frame;

/// Events or pictures that may wait for a slow listener.
const WAITING: usize = 64;

/// How long a viewer waits for a frame before the connection is looked after.
const PATIENCE: Duration = Duration::from_secs(1);

/// Quality of the live picture, of 100.
const QUALITY: u8 = 75;

/// What stands between two pictures.
const BOUNDARY: &str = "fmlora-frame";

type Infallible = std::convert::Infallible;

/// Follow what happens, as server-sent events.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "streams",
    responses(
        (status = 200, content_type = "text/event-stream", body = Event),
        (status = 503, body = Problem, description = "too many listeners"),
    )
)]
pub(super) async fn events(
    State(api): State<Api>,
    Extension(key): Extension<Key>,
) -> Result<Response, ApiError> {
    let place = place(&api.limits.listeners, "too many listen already")?;
    let (send, receive) = mpsc::channel::<Result<sse::Event, Infallible>>(WAITING);
    tokio::spawn(async move {
        let _place = place;
        let mut events = api.shared.events.subscribe();
        loop {
            let event = tokio::select! {
                () = api.shared.ending.wait() => return,
                () = send.closed() => return,
                event = events.recv() => event,
            };
            let event = match event {
                Ok(event) => event,
                Err(RecvError::Lagged(events)) => Event::Missed { events },
                Err(RecvError::Closed) => return,
            };
            // A login may end while somebody listens.
            if key.role(&api.shared.gate).is_none() {
                return;
            }
            let told = sse::Event::default().event(event.name()).json_data(&event);
            let Ok(told) = told else { continue };
            if send.send(Ok(told)).await.is_err() {
                return;
            }
        }
    });
    let events = Sse::new(ReceiverStream::new(receive)).keep_alive(KeepAlive::default());
    Ok(events.into_response())
}

/// Watch the camera, as MJPEG.
#[utoipa::path(
    get, path = "/api/v1/live.mjpg", tag = "streams",
    responses(
        (status = 200, content_type = "multipart/x-mixed-replace", body = Vec<u8>),
        (status = 403, body = Problem, description = "the configuration forbids it"),
        (status = 503, body = Problem, description = "too many viewers"),
    )
)]
pub(super) async fn live(
    State(api): State<Api>,
    Extension(key): Extension<Key>,
) -> Result<Response, ApiError> {
    if !api.shared.config.get().privacy.live_view {
        let detail = "privacy.live_view is off: no picture leaves this box";
        return Err(ApiError::new(StatusCode::FORBIDDEN, detail));
    }
    let place = place(&api.limits.viewers, "too many watch already")?;
    // A viewer who is slow gets the newest picture, not all of those before.
    let (send, receive) = mpsc::channel::<Result<Vec<u8>, Infallible>>(1);
    tokio::spawn(async move {
        let _place = place;
        let mut last = 0;
        while !send.is_closed() && !api.shared.ending.has_begun() {
            let watching = api.shared.config.get().privacy.live_view;
            if !watching || key.role(&api.shared.gate).is_none() {
                return;
            }
            let slot = api.shared.slot.clone();
            let part = tokio::task::spawn_blocking(move || {
                slot.watch(last, PATIENCE).map(|frame| (frame.number, part(&frame)))
            });
            let Ok(part) = part.await else { return };
            let Some((number, Some(part))) = part else { continue };
            last = number;
            if send.send(Ok(part)).await.is_err() {
                return;
            }
        }
    });
    let kind = format!("multipart/x-mixed-replace; boundary={BOUNDARY}");
    let body = Body::from_stream(ReceiverStream::new(receive));
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}

/// A frame as a part of the stream; `None` if it cannot be encoded.
fn part(frame: &Frame) -> Option<Vec<u8>> {
    let mut jpeg = Cursor::new(Vec::new());
    let encoder = JpegEncoder::new_with_quality(&mut jpeg, QUALITY);
    frame.picture.write_with_encoder(encoder).ok()?;
    let jpeg = jpeg.into_inner();
    let head = format!(
        "--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n",
        jpeg.len()
    );
    Some([head.as_bytes(), &jpeg, b"\r\n"].concat())
}

fn place(places: &Arc<Semaphore>, busy: &str) -> Result<OwnedSemaphorePermit, ApiError> {
    places.clone().try_acquire_owned().map_err(|_| ApiError::busy(busy))
}
