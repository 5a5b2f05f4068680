//! Routes for updates by hand: status, check, apply, roll back.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::body::OptionalBody;
use super::error::{ApiError, Problem};
use crate::daemon::updating::{NotUpdated, Order, UpdateDto};
use crate::report::with_causes;
use crate::update::{Again, Classes, UpdateError};

/// How an update is to be put to use.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Apply {
    /// Use an adapter even if classes are lost by it.
    lose_classes: bool,
    /// Also what was refused or taken back before: true for all of it, or the target of one adapter, and only that is tried.
    again: Retry,
}

/// What is to be tried again.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Retry {
    /// All or nothing.
    All(bool),
    /// The adapter of this target, and nothing else.
    Only(String),
}

impl Default for Retry {
    fn default() -> Self {
        Self::All(false)
    }
}

impl From<Retry> for Again {
    fn from(retry: Retry) -> Self {
        match retry {
            Retry::All(false) => Self::None,
            Retry::All(true) => Self::All,
            Retry::Only(target) => Self::Only(target),
        }
    }
}

/// How an update is to be taken back.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RollBack {
    /// Take it back even if classes are lost by that.
    lose_classes: bool,
}

/// Say which update is in use or under way.
#[utoipa::path(
    get, path = "/api/v1/update", operation_id = "update_status", tag = "update",
    responses((status = 200, body = UpdateDto))
)]
pub(super) async fn status(State(api): State<Api>) -> Result<Json<UpdateDto>, ApiError> {
    let config = api.shared.config.get();
    Ok(Json(api.shared.updater.status(&config.update)?))
}

/// Look for an update.
#[utoipa::path(
    post, path = "/api/v1/update/check", operation_id = "check_for_update", tag = "update",
    responses(
        (status = 200, body = UpdateDto),
        (status = 409, body = Problem, description = "Update.from or a trusted root is not set."),
        (status = 502, body = Problem, description = "The repository is not to be believed, or not to be reached."),
    )
)]
pub(super) async fn check(State(api): State<Api>) -> Result<Json<UpdateDto>, ApiError> {
    let shared = api.shared.clone();
    to_its_end(async move { shared.updater.check(&shared).await }).await?;
    status(State(api)).await
}

/// Put the update that is for this box to use, if there is one. It is on trial then. Without a body, no class is lost, and
/// nothing is tried again.
#[utoipa::path(
    post, path = "/api/v1/update/apply", operation_id = "apply_update", tag = "update", request_body = Option<Apply>,
    responses(
        (status = 200, body = UpdateDto),
        (status = 404, body = Problem, description = "There is none for this box."),
        (status = 409, body = Problem, description = "Update.from is not set, another one is on trial, or classes would be lost."),
        (status = 422, body = Problem, description = "It was refused, and is not tried again by itself."),
        (status = 502, body = Problem, description = "The repository is not to be believed, or not to be reached."),
        (status = 503, body = Problem, description = "Another update is under way, or this one did not pass this time."),
    )
)]
pub(super) async fn apply(
    State(api): State<Api>,
    OptionalBody(Apply { lose_classes, again }): OptionalBody<Apply>,
) -> Result<Json<UpdateDto>, ApiError> {
    let order = Order { classes: classes(lose_classes), again: again.into() };
    let shared = api.shared.clone();
    // Also true if a withdrawn adapter was taken out of use.
    if !to_its_end(async move { shared.updater.apply(&shared, order).await }).await? {
        return Err(ApiError::not_found("there is no update for this box"));
    }
    status(State(api)).await
}

/// Go back to what was in use before the last update. What was taught since stays.
#[utoipa::path(
    post, path = "/api/v1/update/rollback", operation_id = "roll_back_update", tag = "update", request_body = Option<RollBack>,
    responses(
        (status = 200, body = UpdateDto),
        (status = 409, body = Problem, description = "No update is in use that could be taken back, a task was learnt on it, or classes would be lost."),
    )
)]
pub(super) async fn roll_back(
    State(api): State<Api>,
    OptionalBody(RollBack { lose_classes }): OptionalBody<RollBack>,
) -> Result<Json<UpdateDto>, ApiError> {
    let shared = api.shared.clone();
    let classes = classes(lose_classes);
    let back =
        async move { shared.updater.roll_back(&shared, "taken back by hand", classes).await };
    to_its_end(back).await?;
    status(State(api)).await
}

fn classes(may_be_lost: bool) -> Classes {
    if may_be_lost { Classes::MayBeLost } else { Classes::Keep }
}

/// Runs work to its end, even if the client disconnects.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, NotUpdated>> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::spawn(work).await.map_err(|error| {
        let crashed = "updating crashed, what was in use is in use: please report what was asked";
        if error.is_panic() {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, crashed)
        } else {
            ApiError::ending()
        }
    })?;
    Ok(done?)
}

impl From<UpdateError> for ApiError {
    fn from(error: UpdateError) -> Self {
        let error = match error {
            UpdateError::Edge(error) => return (*error).into(),
            error => error,
        };
        let status = match &error {
            UpdateError::Loses { target, classes } => {
                let detail = format!(
                    "{target} does not say what becomes of what was learnt here: {} would be lost; lose_classes allows that",
                    classes.join(", ")
                );
                return Self::new(StatusCode::CONFLICT, detail);
            }
            UpdateError::NoRoot
            | UpdateError::OnTrial
            | UpdateError::Overgrown { .. }
            | UpdateError::ForGood(_)
            | UpdateError::NothingInUse
            | UpdateError::NothingFetched => StatusCode::CONFLICT,
            UpdateError::Refused { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            UpdateError::NotNow { .. } => StatusCode::SERVICE_UNAVAILABLE,
            UpdateError::Trust(_) | UpdateError::Download(_) => StatusCode::BAD_GATEWAY,
            UpdateError::Store(_) => StatusCode::INSUFFICIENT_STORAGE,
            UpdateError::Settings(_) | UpdateError::Kept { .. } | UpdateError::Edge(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self::new(status, with_causes(&error))
    }
}

impl From<NotUpdated> for ApiError {
    fn from(error: NotUpdated) -> Self {
        match error {
            NotUpdated::NowhereFrom => {
                Self::new(StatusCode::CONFLICT, "update.from is not set: no repository is known")
            }
            NotUpdated::Busy => Self::busy("an update is under way"),
            NotUpdated::Update(error) => error.into(),
            NotUpdated::Thread(error) => error.into(),
        }
    }
}
