//! Updates over the air. There are none yet: the routes stand, and say so.

use axum::http::StatusCode;

use super::error::{ApiError, Problem};

fn not_yet() -> ApiError {
    ApiError::new(StatusCode::NOT_IMPLEMENTED, "this release takes no updates over the air")
}

/// Say which update is in use or under way.
#[utoipa::path(get, path = "/api/v1/update", tag = "update", responses((status = 501, body = Problem)))]
pub(super) async fn status() -> ApiError {
    not_yet()
}

/// Look for an update.
#[utoipa::path(post, path = "/api/v1/update/check", tag = "update", responses((status = 501, body = Problem)))]
pub(super) async fn check() -> ApiError {
    not_yet()
}

/// Put an update into use.
#[utoipa::path(post, path = "/api/v1/update/apply", tag = "update", responses((status = 501, body = Problem)))]
pub(super) async fn apply() -> ApiError {
    not_yet()
}

/// Go back to what was in use before the last update.
#[utoipa::path(post, path = "/api/v1/update/rollback", tag = "update", responses((status = 501, body = Problem)))]
pub(super) async fn roll_back() -> ApiError {
    not_yet()
}
