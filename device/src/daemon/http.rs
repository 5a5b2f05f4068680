//! The HTTP interface: routes, limits and middleware.
//!
//! Order of the middleware: security headers and metrics, check of the host name, rate limit of the
//! address, time-out, then access control of the group of routes. The body is read only after
//! access control.

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

/// Limit of posted pictures that are read and decoded at the same time.
const UPLOADS: usize = 16;
/// Limit of concurrent event streams.
const LISTENERS: usize = 32;
/// Limit of concurrent live views.
const VIEWERS: usize = 4;
/// Limit of logins that wait for the check of the password.
const LOGINS: usize = 4;
/// Size limit of a body without pictures, in bytes.
const SMALL_BODY: usize = 64 << 10;

/// State of the handlers.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) shared: Arc<Shared>,
    limits: Arc<Limits>,
    /// Name of the session cookie. It contains a part of the device's id, because browsers send the
    /// cookies of a host to all its ports, and several boxes may share a host.
    cookie: Arc<str>,
}

/// Limits of concurrent requests, request rates and connections.
struct Limits {
    uploads: Semaphore,
    listeners: Arc<Semaphore>,
    viewers: Arc<Semaphore>,
    logins: Semaphore,
    /// One class at a time is taught by the camera.
    showing: Semaphore,
    /// One task at a time, because it holds all its pictures in memory.
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

/// Builds the router of all routes.
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

    let open = OpenApiRouter::new()
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

    let (routes, document) = OpenApiRouter::with_openapi(document::document())
        .merge(completed(open, Door::Open))
        .merge(completed(watchers, Door::Pictures))
        .merge(completed(viewers, Door::Viewer))
        .merge(completed(admins, Door::Admin))
        .split_for_parts();
    // Serialized once. An error gives an empty document, which a test detects.
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
