//! Upload of a task: learns classes from posted pictures.

use std::time::Instant;

use axum::Json;
use axum::extract::multipart::MultipartError;
use axum::extract::{FromRequest, Multipart, Request, State};
use axum::http::StatusCode;
use fmlora_learner::{ClassName, Shots, TaskClass};
use fmlora_models::is_hidden_name;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::body::{not_too_large, permit, ready};
use super::document::TaskForm;
use super::error::{ApiError, Problem};
use crate::daemon::training::Trainer;
use crate::report::{LeftOutDto, with_causes};
use crate::task::{self, PosedTask, ShotFeatures, TaskShots, TaskTraining, TaughtReport};
use crate::{EdgeError, Engine, Session};

/// Limit of pictures per task: 75 MB of numbers at 112 x 112.
const MAX_PICTURES: usize = 500;

/// A posted task: classes with the rows of their pictures.
#[derive(Debug, Default)]
struct PostedTask {
    classes: Vec<TaskClass>,
    pictures: Vec<Vec<f32>>,
    left_out: Vec<LeftOutDto>,
}

/// What the request is told.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Learned {
    #[serde(flatten)]
    report: TaughtReport,
    /// True if a training of the task follows; the event `trained` reports its end.
    training: bool,
    /// Files that are no pictures or could not be read.
    left_out: Vec<LeftOutDto>,
}

/// Learn a task: several classes at once, with a training behind where it is worth it.
///
/// The pictures are parts of a form; the name of a part is the name of the class that its picture shows. A file that is no
/// picture is left out, and the answer names it; each class needs one picture at least. The answer comes as soon as the
/// classes are known. Where the task is worth it, a training goes on behind: the event `training` tells its steps, `trained`
/// its end. A result that answers better is put to use, as an operation of its own, unless anything was taught, forgotten or
/// updated meanwhile: then the training is dropped, and the one of a newer task begins.
#[utoipa::path(
    post, path = "/api/v1/learn", tag = "classes",
    request_body(content = TaskForm, content_type = "multipart/form-data", description = "a part for each picture, named by its class"),
    responses(
        (status = 200, body = Learned),
        (status = 409, body = Problem, description = "Another task is being learned."),
    )
)]
pub(super) async fn learn(
    State(api): State<Api>,
    request: Request,
) -> Result<Json<Learned>, ApiError> {
    let started = Instant::now();
    let _one = permit(&api.limits.tasks, "")
        .map_err(|_| ApiError::new(StatusCode::CONFLICT, "another task is being learned"))?;
    not_too_large(request.headers(), &api)?;
    let form = Multipart::from_request(request, &api)
        .await
        .map_err(|e| ApiError::new(e.status(), e.body_text()))?;
    let mut posted = read(&api, form).await?;
    let left_out = std::mem::take(&mut posted.left_out);
    if let Some(class) = posted.classes.iter().find(|class| class.rows.is_empty()) {
        let files: Vec<String> =
            left_out.iter().map(|file| format!("{}: {}", file.path, file.reason)).collect();
        let why = files.join("; ");
        let detail = format!("class {}: none of its pictures could be read: {why}", class.name);
        return Err(ApiError::unprocessable(detail));
    }
    if posted.pictures.is_empty() {
        let detail = "the form holds no picture: expected a part for each, named by its class";
        return Err(ApiError::bad_request(detail));
    }
    let trainer = api.shared.trainer.clone();
    let work = move |session: &mut Session| {
        let task = posed(session, posted, started)?;
        let (report, training) = task::teach(session, task)?;
        Ok((report, training.is_some_and(|training| train(session, &trainer, training))))
    };
    let (report, training) = api.shared.teacher.ask("learn", work).await?;
    Ok(Json(Learned { report, training, left_out }))
}

/// Queues a training. Returns false if the network cannot be built; the classes are taught in any
/// case.
fn train(session: &mut Session, trainer: &Trainer, training: TaskTraining) -> bool {
    match session.engine() {
        Ok(engine) => {
            trainer.train(training, engine.twin());
            true
        }
        Err(error) => {
            tracing::warn!("the task is not trained: {}", with_causes(&error));
            false
        }
    }
}

/// Reads the form, and decodes one picture after the other.
async fn read(api: &Api, mut form: Multipart) -> Result<PostedTask, ApiError> {
    let fail = |e: MultipartError| ApiError::new(e.status(), e.body_text());
    let mut task = PostedTask::default();
    while let Some(part) = form.next_field().await.map_err(fail)? {
        let name = part.name().unwrap_or_default().to_owned();
        let class = ClassName::new(&name)
            .map_err(|e| ApiError::unprocessable(format!("part \"{name}\": {e}")))?;
        let path = part.file_name().unwrap_or(&name).to_owned();
        if is_hidden_name(path.rsplit(['/', '\\']).next().unwrap_or_default()) {
            continue;
        }
        let row = task.pictures.len();
        if row == MAX_PICTURES {
            let detail = format!("a task holds at most {MAX_PICTURES} pictures");
            return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
        let picture = ready(api, part.bytes().await.map_err(fail)?.into()).await?;
        let known = task.classes.iter().position(|known| known.name.key() == class.key());
        let place = known.unwrap_or_else(|| {
            task.classes.push(TaskClass { name: class, rows: Vec::new() });
            task.classes.len() - 1
        });
        match picture {
            Ok(picture) => {
                task.pictures.push(picture);
                task.classes[place].rows.push(row);
            }
            Err(error) => task.left_out.push(LeftOutDto { path, reason: error.to_string() }),
        }
    }
    Ok(task)
}

/// Computes the features of all pictures, and records their tokens if a training may follow.
fn posed(
    session: &mut Session,
    task: PostedTask,
    started: Instant,
) -> Result<PosedTask, EdgeError> {
    let engine = session.engine()?;
    if engine.adapter().is_some() {
        engine.record();
    }
    let before = engine.forward_time();
    let seen = seen(engine, &task);
    let tokens = engine.recorded();
    let forward = engine.forward_time().saturating_sub(before);
    let shots = TaskShots { classes: task.classes, occasions: Vec::new(), seen: seen? };
    Ok(PosedTask { shots, tokens, started, forward })
}

fn seen(engine: &mut Engine, task: &PostedTask) -> Result<ShotFeatures, EdgeError> {
    let mut seen = ShotFeatures::of_shots(engine.features(&task.pictures)?);
    for class in &task.classes {
        let pictures: Vec<Vec<f32>> =
            class.rows.iter().map(|&row| task.pictures[row].clone()).collect();
        let views = engine.view_features(&pictures, Shots::n_views(pictures.len()))?;
        class.rows.iter().zip(views).for_each(|(&row, views)| seen.push_views(row, views));
    }
    Ok(seen)
}
