//! Teaching from the camera: the next frames become shots.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use fmlora_learner::ClassName;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Api;
use super::address::Path;
use super::body::{Body, permit, whole, whole_or_null};
use super::document::NameOfClass;
use super::error::{ApiError, Problem};
use crate::daemon::event::Event;
use crate::report::TeachReport;
use crate::session::teach_shots;

/// How a class is shown.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Showing {
    /// Pictures to take, 1 to 100.
    #[schema(minimum = 1, maximum = 100)]
    #[serde(deserialize_with = "whole")]
    count: usize,
    /// Milliseconds between two of them, 0 to 5000 (300 if it is not said): what moves meanwhile makes them differ.
    #[schema(minimum = 0, maximum = 5000)]
    #[serde(default, deserialize_with = "whole_or_null")]
    interval_milliseconds: Option<u64>,
}

/// Teach a class with what the camera shows now. The answer comes after all pictures are taken: at `count` times the interval.
#[utoipa::path(
    post, path = "/api/v1/classes/{name}/shots/camera", operation_id = "teach_class_from_camera", tag = "classes",
    params(("name" = NameOfClass, Path, description = "class, new or known")),
    request_body = Showing,
    responses(
        (status = 201, body = TeachReport),
        (status = 409, body = Problem, description = "Another class is being shown to the camera."),
        (status = 503, body = Problem, description = "The camera shows nothing, or too many operations wait."),
    )
)]
pub(super) async fn teach(
    State(api): State<Api>,
    Path(name): Path<String>,
    Body(showing): Body<Showing>,
) -> Result<(StatusCode, Json<TeachReport>), ApiError> {
    let name = ClassName::new(&name)?;
    let milliseconds = showing.interval_milliseconds.unwrap_or(300);
    if !(1..=100).contains(&showing.count) || milliseconds > 5000 {
        let detail = "expected a count of 1 to 100, and an interval of at most 5000 milliseconds";
        return Err(ApiError::unprocessable(detail));
    }
    let _one = permit(&api.limits.showing, "").map_err(|_| {
        ApiError::new(StatusCode::CONFLICT, "another class is being shown to the camera")
    })?;
    let of = showing.count;
    let interval = Duration::from_millis(milliseconds);
    let mut shots = Vec::with_capacity(of);
    let mut last = 0;
    for shot in 1..=of {
        let next = Instant::now() + interval;
        let (number, pixels) = frame(&api, last).await?;
        last = number;
        shots.push(pixels);
        // An event without listeners is dropped.
        let _ = api.shared.events.send(Event::Shot { class: name.to_string(), shot, of });
        if shot < of {
            tokio::time::sleep_until(next.into()).await;
        }
    }
    let teach = move |session: &mut crate::Session| teach_shots(session, &name, &shots);
    let report = api.shared.teacher.ask("teach", teach).await?;
    Ok((StatusCode::CREATED, Json(report)))
}

/// Waits for the newest frame later than number `after`, and preprocesses it for the network.
async fn frame(api: &Api, after: u64) -> Result<(u64, Vec<f32>), ApiError> {
    let shared = api.shared.clone();
    let seconds = shared.config.get().camera.timeout_seconds;
    let longest = Duration::from_secs_f64(seconds);
    let waiting = tokio::task::spawn_blocking(move || {
        // A frame from before the request does not count as shown.
        let asked = Instant::now();
        let mut after = after;
        loop {
            let frame = shared.slot.watch(after, longest.saturating_sub(asked.elapsed()))?;
            if frame.at >= asked || after > 0 {
                return Some((frame.number, shared.preprocess.apply(&frame.picture)));
            }
            after = frame.number;
        }
    });
    let frame = waiting.await.map_err(|_| ApiError::ending())?;
    frame.ok_or_else(|| api.no_frame())
}

impl Api {
    /// Returns the error of a camera without frames.
    pub(super) fn no_frame(&self) -> ApiError {
        let seconds = self.shared.config.get().camera.timeout_seconds;
        let trouble = self.shared.source.get().trouble;
        let why = trouble.map_or_else(String::new, |why| format!(": {why}"));
        let detail = format!("the camera shows nothing{why}");
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(seconds.ceil() as u64)
    }
}
