//! The interface by HTTP: routes, and what every request goes through.
//!
//! A request passes from the outside in: counting and headers, the host it was sent to, the rate of its address, a
//! time-out, then the door of its group of routes. Only behind the door is its body read.

mod accounts;
mod address;
mod base_path;
mod body;
mod camera;
mod classes;
mod client;
mod document;
mod door;
mod error;
mod guard;
mod page;
mod picture_door;
mod pictures;
mod places;
mod server;
mod stream;
mod system;
mod task;
mod unread;
mod update;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use tokio::sync::Semaphore;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access::Role;
use super::shared::Shared;
use crate::EdgeError;
use document::{Door, completed};
use error::ApiError;
use guard::Rates;
use places::Places;
pub(crate) use server::{Server, read_certificate};

/// Posted pictures that are read and decoded at a time.
const UPLOADS: usize = 16;
/// Listeners to events at a time.
const LISTENERS: usize = 32;
/// Viewers of the live picture at a time.
const VIEWERS: usize = 4;
/// Passwords that wait to be checked.
const LOGINS: usize = 4;
/// A body that holds no picture.
const SMALL_BODY: usize = 64 << 10;

/// What handlers work with.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) shared: Arc<Shared>,
    limits: Arc<Limits>,
    /// Name of the cookie. It holds a part of the device's name: browsers send the cookies of all boxes of one host to each
    /// of them, whatever their ports are.
    cookie: Arc<str>,
}

/// How many may do the same at a time.
struct Limits {
    uploads: Semaphore,
    listeners: Arc<Semaphore>,
    viewers: Arc<Semaphore>,
    logins: Semaphore,
    /// The camera shows one class at a time.
    showing: Semaphore,
    /// A task holds all its pictures in memory.
    tasks: Semaphore,
    rates: Rates,
    places: Places,
}

/// Serves all routes.
///
/// # Errors
///
/// Those of [`Server::bind`].
pub(crate) async fn serve(shared: &Arc<Shared>) -> Result<Server, EdgeError> {
    let config = shared.config.get();
    let places = Places::new(&config.http);
    let routes = base_path::below(&config.http.base_path, router(shared, places.clone()));
    Server::bind(&config.http, routes, places).await
}

/// All routes.
fn router(shared: &Arc<Shared>, places: Places) -> Router {
    let config = shared.config.get();
    let limits = Limits {
        uploads: Semaphore::new(UPLOADS),
        listeners: Arc::new(Semaphore::new(LISTENERS)),
        viewers: Arc::new(Semaphore::new(VIEWERS)),
        logins: Semaphore::new(LOGINS),
        showing: Semaphore::new(1),
        tasks: Semaphore::new(1),
        rates: Rates::new(config.http.requests_per_second),
        places,
    };
    let cookie = format!("fmlora_session_{}", shared.device.get(..8).unwrap_or(&shared.device));
    let api = Api { shared: shared.clone(), limits: Arc::new(limits), cookie: Arc::from(cookie) };
    let pictures = DefaultBodyLimit::max(config.http.max_body_mib << 20);

    let everybody = OpenApiRouter::new()
        .routes(routes!(system::healthz))
        .routes(routes!(system::readyz))
        .routes(routes!(accounts::log_in))
        .routes(routes!(accounts::log_out));
    let watchers = OpenApiRouter::new()
        .routes(routes!(stream::live))
        .routes(routes!(stream::snapshot))
        .route_layer(from_fn_with_state(api.clone(), picture_door::open_for_pictures));
    let viewers = OpenApiRouter::new()
        .routes(routes!(system::info))
        .routes(routes!(system::metrics))
        .routes(routes!(classes::list))
        .routes(routes!(stream::events))
        .routes(routes!(update::status))
        .merge(OpenApiRouter::new().routes(routes!(pictures::classify)).layer(pictures))
        .route_layer(from_fn_with_state((api.clone(), Role::Viewer), door::open_for));
    let admins = OpenApiRouter::new()
        .routes(routes!(classes::forget))
        .routes(routes!(classes::rename))
        .routes(routes!(classes::undo))
        .routes(routes!(camera::teach))
        .routes(routes!(system::config))
        .routes(routes!(accounts::set_password))
        .routes(routes!(accounts::tokens, accounts::add_token))
        .routes(routes!(accounts::remove_token))
        .routes(routes!(update::check))
        .routes(routes!(update::apply))
        .routes(routes!(update::roll_back))
        .merge(
            OpenApiRouter::new()
                .routes(routes!(pictures::teach))
                .routes(routes!(task::learn))
                .layer(pictures),
        )
        .route_layer(from_fn_with_state((api.clone(), Role::Admin), door::open_for));

    let all = OpenApiRouter::with_openapi(document::document());
    let all =
        all.merge(completed(everybody, Door::Open)).merge(completed(watchers, Door::Pictures));
    let all = all.merge(completed(viewers, Door::Viewer)).merge(completed(admins, Door::Admin));
    let (routes, document) = all.split_for_parts();
    // Made once: a document that cannot be written is an empty one, which a test would see.
    let document = document.to_pretty_json().unwrap_or_default();
    routes
        .merge(page::routes(document))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(DefaultBodyLimit::max(SMALL_BODY))
        .layer(from_fn(guard::in_time))
        .layer(from_fn_with_state(api.clone(), guard::at_a_fair_rate))
        .layer(from_fn_with_state(api.clone(), guard::for_this_host))
        .layer(from_fn_with_state(api.clone(), client::identified))
        .layer(from_fn_with_state(api.clone(), guard::counted))
        .layer(from_fn(unread::read_or_closed))
        .layer(from_fn(guard::with_headers))
        .with_state(api)
}

async fn not_found() -> ApiError {
    ApiError::not_found("there is no such page; /openapi.json lists what there is")
}

async fn not_allowed() -> ApiError {
    ApiError::new(
        axum::http::StatusCode::METHOD_NOT_ALLOWED,
        "this page takes other methods; /openapi.json lists them",
    )
}
