//! Streams: server-sent events, and the live picture (MJPEG).

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
use super::body::{PictureFile, permit};
use super::door::Key;
use super::error::{ApiError, Problem};
use crate::daemon::event::Event;
use crate::daemon::slot::Frame;

/// Number of events that may wait for a slow listener.
const WAITING: usize = 64;

/// Longest wait for a frame before the connection is checked.
const PATIENCE: Duration = Duration::from_secs(1);

/// JPEG quality of the live picture, of 100.
const QUALITY: u8 = 75;

/// Multipart boundary between two pictures.
const BOUNDARY: &str = "fmlora-frame";

/// Header that turns the buffering of a proxy such as nginx off.
const UNBUFFERED: [(&str, &str); 1] = [("x-accel-buffering", "no")];

type Infallible = std::convert::Infallible;

/// Follow what happens, as server-sent events.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "streams",
    responses(
        (status = 200, content_type = "text/event-stream", body = String, description = "Each event has a name and as `data` the JSON of the schema `Event`."),
        (status = 503, body = Problem, description = "Too many listen already, or the daemon ends."),
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
            let received = tokio::select! {
                () = api.shared.ending.wait() => return,
                () = send.closed() => return,
                event = events.recv() => event,
            };
            let event = match received {
                Ok(event) => event,
                Err(RecvError::Lagged(events)) => Event::Missed { events },
                Err(RecvError::Closed) => return,
            };
            // A session may end during the stream.
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
    Ok((UNBUFFERED, events).into_response())
}

/// Watch the camera, as MJPEG.
#[utoipa::path(
    get, path = "/api/v1/live.mjpg", tag = "streams",
    responses(
        (status = 200, content_type = "multipart/x-mixed-replace", body = PictureFile),
        (status = 403, body = Problem, description = "The configuration or the login forbids it."),
        (status = 503, body = Problem, description = "Too many watch already, or the daemon ends."),
    )
)]
pub(super) async fn live(
    State(api): State<Api>,
    Extension(key): Extension<Key>,
) -> Result<Response, ApiError> {
    allowed(&api)?;
    let place = place(&api.limits.viewers, "too many watch already")?;
    // A slow viewer gets the newest picture and skips those before it.
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
    Ok((UNBUFFERED, [(header::CONTENT_TYPE, kind)], body).into_response())
}

/// Look at the camera once.
#[utoipa::path(
    get, path = "/api/v1/snapshot.jpg", tag = "streams",
    responses(
        (status = 200, content_type = "image/jpeg", body = PictureFile),
        (status = 403, body = Problem, description = "The configuration or the login forbids it."),
        (status = 503, body = Problem, description = "The camera shows nothing, or the daemon ends."),
    )
)]
pub(super) async fn snapshot(State(api): State<Api>) -> Result<Response, ApiError> {
    allowed(&api)?;
    let _one = permit(&api.limits.uploads, "too many pictures are being made")?;
    let slot = api.shared.slot.clone();
    let seconds = api.shared.config.get().camera.timeout_seconds;
    let fresh = Duration::from_secs_f64(seconds);
    let making = tokio::task::spawn_blocking(move || {
        // The newest frame, unless the camera has been silent since.
        let frame = slot.watch(0, fresh).filter(|frame| frame.at.elapsed() <= fresh)?;
        jpeg(&frame)
    });
    let made = making.await.map_err(|_| ApiError::ending())?;
    let jpeg = made.ok_or_else(|| api.no_frame())?;
    Ok(([(header::CONTENT_TYPE, "image/jpeg")], jpeg).into_response())
}

/// Refuses to show a picture if the configuration forbids it.
fn allowed(api: &Api) -> Result<(), ApiError> {
    if api.shared.config.get().privacy.live_view {
        return Ok(());
    }
    let detail = "privacy.live_view is off: no picture leaves this box";
    Err(ApiError::new(StatusCode::FORBIDDEN, detail))
}

/// Encodes a frame as a part of the stream; `None` if it cannot be encoded.
fn part(frame: &Frame) -> Option<Vec<u8>> {
    let jpeg = jpeg(frame)?;
    let head = format!(
        "--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n",
        jpeg.len()
    );
    Some([head.as_bytes(), &jpeg, b"\r\n"].concat())
}

fn jpeg(frame: &Frame) -> Option<Vec<u8>> {
    let mut jpeg = Cursor::new(Vec::new());
    let encoder = JpegEncoder::new_with_quality(&mut jpeg, QUALITY);
    frame.picture.write_with_encoder(encoder).ok()?;
    Some(jpeg.into_inner())
}

fn place(places: &Arc<Semaphore>, busy: &str) -> Result<OwnedSemaphorePermit, ApiError> {
    places.clone().try_acquire_owned().map_err(|_| ApiError::busy(busy))
}
