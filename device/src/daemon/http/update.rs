//! Updates over the air, by hand.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Api;
use super::body::Body;
use super::error::{ApiError, Problem};
use crate::daemon::updating::{NotUpdated, UpdateDto};
use crate::report::with_causes;
use crate::update::UpdateError;

/// How an update is to be put to use.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Apply {
    /// Use an adapter even if classes are lost by it.
    lose_classes: bool,
}

/// Say which update is in use or under way.
#[utoipa::path(get, path = "/api/v1/update", tag = "update", responses((status = 200, body = UpdateDto)))]
pub(super) async fn status(State(api): State<Api>) -> Result<Json<UpdateDto>, ApiError> {
    let config = api.shared.config.get();
    Ok(Json(api.shared.updater.status(&config.update)?))
}

/// Look for an update.
#[utoipa::path(
    post, path = "/api/v1/update/check", tag = "update",
    responses(
        (status = 200, body = UpdateDto),
        (status = 409, body = Problem, description = "update.from is not set"),
        (status = 502, body = Problem, description = "the repository is not to be believed, or not to be reached"),
    )
)]
pub(super) async fn check(State(api): State<Api>) -> Result<Json<UpdateDto>, ApiError> {
    api.shared.updater.check(&api.shared).await?;
    status(State(api)).await
}

/// Put the update that is for this box to use, if there is one. It is on trial then.
#[utoipa::path(
    post, path = "/api/v1/update/apply", tag = "update", request_body = Apply,
    responses(
        (status = 200, body = UpdateDto),
        (status = 404, body = Problem, description = "there is none for this box"),
        (status = 409, body = Problem, description = "update.from is not set, or classes would be lost"),
        (status = 422, body = Problem, description = "it was refused, and is not tried again"),
        (status = 502, body = Problem, description = "the repository is not to be believed, or not to be reached"),
    )
)]
pub(super) async fn apply(
    State(api): State<Api>,
    Body(how): Body<Apply>,
) -> Result<Json<UpdateDto>, ApiError> {
    if !api.shared.updater.apply(&api.shared, how.lose_classes).await? {
        return Err(ApiError::not_found("there is no update for this box"));
    }
    status(State(api)).await
}

/// Go back to what was in use before the last update. What was taught since stays.
#[utoipa::path(
    post, path = "/api/v1/update/rollback", tag = "update",
    responses(
        (status = 200, body = UpdateDto),
        (status = 409, body = Problem, description = "no update is in use that could be taken back"),
    )
)]
pub(super) async fn roll_back(State(api): State<Api>) -> Result<Json<UpdateDto>, ApiError> {
    api.shared.updater.roll_back(&api.shared, "taken back by hand").await?;
    status(State(api)).await
}

impl From<UpdateError> for ApiError {
    fn from(error: UpdateError) -> Self {
        let status = match &error {
            UpdateError::NoRoot | UpdateError::Loses { .. } | UpdateError::NothingInUse => {
                StatusCode::CONFLICT
            }
            UpdateError::Refused { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            UpdateError::Trust(_) | UpdateError::Download(_) => StatusCode::BAD_GATEWAY,
            UpdateError::Store(_) => StatusCode::INSUFFICIENT_STORAGE,
            UpdateError::Settings(_) | UpdateError::Edge(_) => StatusCode::INTERNAL_SERVER_ERROR,
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
