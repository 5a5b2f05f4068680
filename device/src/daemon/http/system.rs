//! Routes for facts, health, metrics and configuration.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::error::ApiError;
use crate::daemon::access::Role;
use crate::daemon::broker::BrokerHealth;
use crate::daemon::metrics::{Format, Sources};
use crate::daemon::shared::{About, Shared};
use crate::daemon::source::SourceHealth;
use crate::daemon::training::TrainingProgress;

/// The box at a glance.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Info {
    #[serde(flatten)]
    about: About,
    /// What the one who asks may do.
    role: Role,
    uptime_seconds: u64,
    classes: usize,
    state_bytes: u64,
    /// Nothing can be taught or updated while the state cannot be written.
    state_writable: bool,
    /// Why it cannot be written.
    state_trouble: Option<String>,
    source: SourceHealth,
    /// Progress of the training that goes on behind; null without one.
    training: Option<TrainingProgress>,
    /// The connection to the MQTT broker; null without one.
    mqtt: Option<BrokerHealth>,
    /// Frames that came, were left out, were answered.
    frames: u64,
    left_out: u64,
    answered: u64,
    /// Mean time from a frame to its answer.
    milliseconds: f64,
    live_view: bool,
}

/// Whether the daemon lives.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    status: &'static str,
}

/// Whether the box does what it is for.
#[allow(clippy::struct_excessive_bools, reason = "each is the answer to a question of its own")]
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Readiness {
    ready: bool,
    /// The network is loaded.
    model: bool,
    /// A frame came lately.
    frame: bool,
    /// The state can be written.
    state: bool,
    /// Why it cannot be written.
    state_trouble: Option<String>,
}

/// Say what the box is and how it does.
#[utoipa::path(get, path = "/api/v1/info", tag = "system", responses((status = 200, body = Info)))]
pub(super) async fn info(State(api): State<Api>, Extension(role): Extension<Role>) -> Json<Info> {
    let shared = &api.shared;
    let counts = shared.slot.counts();
    let known = shared.knowledge.get();
    let (answered, time) = shared.metrics.answered();
    let state_trouble = shared.storage.trouble();
    Json(Info {
        about: shared.about.clone(),
        role,
        uptime_seconds: shared.started.elapsed().as_secs(),
        classes: known.classes.len(),
        state_bytes: known.state_bytes,
        state_writable: state_trouble.is_none(),
        state_trouble,
        source: shared.source.get(),
        training: shared.trainer.progress(),
        mqtt: shared.broker.get(),
        frames: counts.frames + counts.too_soon,
        left_out: counts.replaced + counts.too_soon,
        answered,
        milliseconds: 1e3 * time.as_secs_f64(),
        live_view: shared.config.get().privacy.live_view,
    })
}

/// Say whether the daemon lives.
#[utoipa::path(get, path = "/healthz", tag = "system", responses((status = 200, body = Health)))]
pub(super) async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Say whether the box is ready: network loaded, a fresh frame, state writable.
#[utoipa::path(
    get, path = "/readyz", tag = "system",
    responses(
        (status = 200, body = Readiness, description = "Ready."),
        (status = 503, body = Readiness, description = "Not ready."),
    )
)]
pub(super) async fn readyz(State(api): State<Api>) -> Result<Response, ApiError> {
    let shared = api.shared.clone();
    let checked = tokio::task::spawn_blocking(move || readiness(&shared)).await;
    let readiness = checked.map_err(|_| ApiError::ending())?;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Json(readiness)).into_response())
}

fn readiness(shared: &Shared) -> Readiness {
    let fresh = Duration::from_secs_f64(shared.config.get().camera.timeout_seconds);
    let frame = shared.slot.age().is_some_and(|age| age <= fresh);
    let state_trouble = shared.storage.trouble_now();
    let state = state_trouble.is_none();
    // The server starts after the network is loaded.
    Readiness { ready: frame && state, model: true, frame, state, state_trouble }
}

/// Counters and gauges for Prometheus, in its own text format or in that of `OpenMetrics`, as `Accept` wants it.
#[utoipa::path(
    get, path = "/metrics", tag = "system",
    responses((
        status = 200,
        content((String = "text/plain"), (String = "application/openmetrics-text")),
    ))
)]
pub(super) async fn metrics(
    State(api): State<Api>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let accepted: Vec<&str> =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let format = Format::accepted(&accepted.join(","));
    let shared = &api.shared;
    let broker = shared.broker.get();
    let sources = Sources {
        counts: shared.slot.counts(),
        source: &shared.source.get(),
        knowledge: &shared.knowledge.get(),
        broker: broker.as_ref(),
        storage_writable: shared.storage.trouble().is_none(),
    };
    let fail = |e: std::fmt::Error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, e.to_string());
    let text = shared.metrics.text(format, sources).map_err(fail)?;
    Ok(([(header::CONTENT_TYPE, format.content_type()), (header::VARY, "accept")], text)
        .into_response())
}

/// Say how the box is configured; passwords are hidden.
#[utoipa::path(get, path = "/api/v1/config", tag = "system", responses((status = 200, body = Object)))]
pub(super) async fn config(State(api): State<Api>) -> Json<serde_json::Value> {
    // A test serialises the configuration, so this does not fail.
    let config = serde_json::to_value(&*api.shared.config.get());
    Json(config.unwrap_or_default())
}
