//! Pictures that somebody posts: what is this, and this is that.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use fmlora_learner::ClassName;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Api;
use super::body::Picture;
use super::error::{ApiError, Problem};
use crate::report::{PredictionDto, TeachReport};
use crate::session::teach_shots;

/// How much is to be said.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Wanted {
    /// How many classes to name (3 if it is not said).
    top: Option<usize>,
}

/// Say what a picture shows.
#[utoipa::path(
    post, path = "/api/v1/classify", tag = "pictures", params(Wanted),
    request_body(content = Vec<u8>, content_type = "image/jpeg", description = "JPEG, PNG, WebP, BMP, TIFF or GIF"),
    responses(
        (status = 200, body = PredictionDto),
        (status = 413, body = Problem), (status = 415, body = Problem), (status = 422, body = Problem),
        (status = 503, body = Problem, description = "too many pictures wait"),
    )
)]
pub(super) async fn classify(
    State(api): State<Api>,
    Query(wanted): Query<Wanted>,
    Picture(pixels): Picture,
) -> Result<Json<PredictionDto>, ApiError> {
    let mut prediction = api.shared.answers.ask(pixels).await?;
    prediction.top.truncate(wanted.top.unwrap_or(3).max(1));
    Ok(Json(PredictionDto::new(None, &prediction)))
}

/// Teach a class with a picture.
#[utoipa::path(
    post, path = "/api/v1/classes/{name}/shots", tag = "classes",
    params(("name" = String, Path, description = "class, new or known")),
    request_body(content = Vec<u8>, content_type = "image/jpeg", description = "JPEG, PNG, WebP, BMP, TIFF or GIF"),
    responses(
        (status = 201, body = TeachReport),
        (status = 413, body = Problem), (status = 415, body = Problem), (status = 422, body = Problem),
        (status = 503, body = Problem, description = "too many operations wait"),
    )
)]
pub(super) async fn teach(
    State(api): State<Api>,
    Path(name): Path<String>,
    Picture(pixels): Picture,
) -> Result<(StatusCode, Json<TeachReport>), ApiError> {
    let name = ClassName::new(&name)?;
    let teach = move |session: &mut crate::Session| teach_shots(session, &name, &[pixels]);
    let report = api.shared.teacher.ask("teach", teach).await?;
    Ok((StatusCode::CREATED, Json(report)))
}
