//! Routes for posted pictures: classify and teach.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use fmlora_learner::ClassName;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Api;
use super::address::{Path, Query};
use super::body::{Picture, PictureFile};
use super::document::NameOfClass;
use super::error::ApiError;
use crate::report::{PredictionDto, TeachReport};
use crate::session::teach_shots;

/// How much is to be said.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// How many classes to name.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 1000, default = 3)]
    top: Option<Top>,
}

/// A number of classes.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "usize")]
struct Top(usize);

impl TryFrom<usize> for Top {
    type Error = String;

    fn try_from(n: usize) -> Result<Self, String> {
        if (1..=1000).contains(&n) { Ok(Self(n)) } else { Err(format!("{n}, expected 1 to 1000")) }
    }
}

/// Say what a picture shows.
#[utoipa::path(
    post, path = "/api/v1/classify", tag = "pictures", params(Wanted),
    request_body(content = PictureFile, content_type = "application/octet-stream", description = "JPEG, PNG, WebP, BMP, TIFF or GIF, as this kind or as image/jpeg and so on"),
    responses(
        (status = 200, body = PredictionDto),
    )
)]
pub(super) async fn classify(
    State(api): State<Api>,
    Query(wanted): Query<Wanted>,
    Picture(pixels): Picture,
) -> Result<Json<PredictionDto>, ApiError> {
    let Top(top) = wanted.top.unwrap_or(Top(3));
    let mut prediction = api.shared.answers.ask(pixels).await?;
    prediction.top.truncate(top);
    Ok(Json(PredictionDto::new(None, &prediction)))
}

/// Teach a class with a picture.
#[utoipa::path(
    post, path = "/api/v1/classes/{name}/shots", operation_id = "teach_class", tag = "classes",
    params(("name" = NameOfClass, Path, description = "class, new or known")),
    request_body(content = PictureFile, content_type = "application/octet-stream", description = "JPEG, PNG, WebP, BMP, TIFF or GIF, as this kind or as image/jpeg and so on"),
    responses(
        (status = 201, body = TeachReport),
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
