//! Routes that list, forget and rename classes, and undo operations.

use axum::Json;
use axum::extract::State;
use fmlora_learner::ClassName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::address::Path;
use super::body::{Body, whole};
use super::document::NameOfClass;
use super::error::{ApiError, Problem};
use crate::Session;
use crate::daemon::knowledge::ClassDto;
use crate::report::EstimateDto;

/// Everything that was taught.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Known {
    classes: Vec<ClassDto>,
    /// The accuracy to expect; none while there is too little to say anything.
    estimate: Option<EstimateDto>,
    /// Operations that can be taken back, the last one first.
    undo: Vec<String>,
}

/// A new name.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewName {
    #[schema(value_type = NameOfClass)]
    name: String,
}

/// How many operations.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Steps {
    /// At least 1.
    #[schema(minimum = 1)]
    #[serde(deserialize_with = "whole")]
    count: u32,
}

/// What was changed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Changed {
    /// What was done or taken back, in words.
    done: Vec<String>,
    /// Classes that are known now.
    classes: usize,
}

/// List what the box knows.
#[utoipa::path(
    get, path = "/api/v1/classes", operation_id = "list_classes", tag = "classes",
    responses((status = 200, body = Known))
)]
pub(super) async fn list(State(api): State<Api>) -> Json<Known> {
    let known = api.shared.knowledge.get();
    Json(Known {
        classes: known.classes.clone(),
        estimate: known.estimate.clone(),
        undo: known.undo.clone(),
    })
}

/// Take a class away, as if it had never been taught.
#[utoipa::path(
    delete, path = "/api/v1/classes/{name}", operation_id = "forget_class", tag = "classes",
    params(("name" = NameOfClass, Path, description = "class")),
    responses(
        (status = 200, body = Changed),
        (status = 404, body = Problem, description = "There is no such class."),
        (status = 422, body = Problem),
    )
)]
pub(super) async fn forget(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<Changed>, ApiError> {
    let name = ClassName::new(&name)?;
    let forget = move |session: &mut Session| {
        let operation = session.learner().forget(&name)?;
        session.apply(&operation)?;
        Ok(changed(session, vec![format!("forgot {name}")]))
    };
    Ok(Json(api.shared.teacher.ask("forget", forget).await?))
}

/// Give a class another name.
#[utoipa::path(
    post, path = "/api/v1/classes/{name}/rename", operation_id = "rename_class", tag = "classes",
    params(("name" = NameOfClass, Path, description = "class")),
    request_body = NewName,
    responses(
        (status = 200, body = Changed),
        (status = 404, body = Problem, description = "There is no such class."),
        (status = 409, body = Problem, description = "Another class has this name."),
    )
)]
pub(super) async fn rename(
    State(api): State<Api>,
    Path(name): Path<String>,
    Body(new): Body<NewName>,
) -> Result<Json<Changed>, ApiError> {
    let old = ClassName::new(&name)?;
    let new = ClassName::new(&new.name)?;
    let rename = move |session: &mut Session| {
        let operation = session.learner().rename(&old, &new)?;
        session.apply(&operation)?;
        Ok(changed(session, vec![format!("renamed {old} to {new}")]))
    };
    Ok(Json(api.shared.teacher.ask("rename", rename).await?))
}

/// Take the last operations back.
#[utoipa::path(
    post, path = "/api/v1/undo", tag = "classes", request_body = Steps,
    responses((status = 200, body = Changed), (status = 409, body = Problem, description = "There are fewer operations that can be taken back."))
)]
pub(super) async fn undo(
    State(api): State<Api>,
    Body(steps): Body<Steps>,
) -> Result<Json<Changed>, ApiError> {
    if steps.count == 0 {
        return Err(ApiError::unprocessable("expected a count of at least 1"));
    }
    let undo = move |session: &mut Session| {
        let titles = session.undo(steps.count)?;
        Ok(changed(session, titles))
    };
    Ok(Json(api.shared.teacher.ask("undo", undo).await?))
}

fn changed(session: &Session, done: Vec<String>) -> Changed {
    Changed { done, classes: session.learner().classes().len() }
}
