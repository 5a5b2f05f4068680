//! Logging in and out; passwords and tokens.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::body::{Body, permit};
use super::door::{cookie, from_our_page, session_of};
use super::error::{ApiError, Problem};
use crate::daemon::access::{AccessError, Role, TokenDto};
use crate::daemon::shared::Shared;

/// Who somebody is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Credentials {
    /// admin or viewer.
    user: String,
    password: String,
}

/// A login that went well; the cookie opens the rest.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LoggedIn {
    role: Role,
}

/// A new password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPassword {
    role: Role,
    /// 10 to 256 characters.
    password: String,
}

/// A token to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewToken {
    /// What it is for.
    name: String,
    role: Role,
}

/// A token that was made.
#[derive(Serialize, ToSchema)]
pub(super) struct MadeToken {
    #[serde(flatten)]
    about: TokenDto,
    /// It is told this once.
    token: String,
}

/// Log in; the answer brings a cookie.
#[utoipa::path(
    post, path = "/api/v1/login", tag = "access", request_body = Credentials,
    responses(
        (status = 200, body = LoggedIn), (status = 401, body = Problem),
        (status = 429, body = Problem, description = "too many tries"),
    )
)]
pub(super) async fn log_in(
    State(api): State<Api>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Body(credentials): Body<Credentials>,
) -> Result<impl IntoResponse, ApiError> {
    from_our_page(&Method::POST, &headers)?;
    api.limits.rates.login(from.ip())?;
    let _one = permit(&api.limits.logins, "too many logins are being checked")?;
    let config = api.shared.config.get();
    let lasts = Duration::from_secs(3600 * u64::from(config.login.session_hours));
    let found = with_gate(&api, move |shared| {
        shared.gate.log_in(&credentials.user, &credentials.password, lasts)
    });
    let (key, role) = found.await.inspect_err(|error| {
        api.shared.metrics.failed_logins.inc();
        tracing::warn!("a login from {} failed: {}", from.ip(), error.detail());
    })?;
    let cookie = cookie(&key, lasts.as_secs(), config.http.certificate.is_some());
    Ok((AppendHeaders([(header::SET_COOKIE, cookie)]), Json(LoggedIn { role })))
}

/// Log out.
#[utoipa::path(post, path = "/api/v1/logout", tag = "access", responses((status = 204)))]
pub(super) async fn log_out(
    State(api): State<Api>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    from_our_page(&Method::POST, &headers)?;
    if let Some(key) = session_of(&headers) {
        api.shared.gate.log_out(&key);
    }
    let tls = api.shared.config.get().http.certificate.is_some();
    Ok((StatusCode::NO_CONTENT, AppendHeaders([(header::SET_COOKIE, cookie("", 0, tls))])))
}

/// Give an account a password; those logged in with the old one are logged out.
#[utoipa::path(
    put, path = "/api/v1/password", tag = "access", request_body = NewPassword,
    responses((status = 204), (status = 422, body = Problem))
)]
pub(super) async fn set_password(
    State(api): State<Api>,
    Body(new): Body<NewPassword>,
) -> Result<StatusCode, ApiError> {
    let _one = permit(&api.limits.logins, "too many logins are being checked")?;
    with_gate(&api, move |shared| shared.gate.set_password(new.role, &new.password)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// List the tokens.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "access", responses((status = 200, body = Vec<TokenDto>)))]
pub(super) async fn tokens(State(api): State<Api>) -> Json<Vec<TokenDto>> {
    Json(api.shared.gate.tokens())
}

/// Make a token for a script.
#[utoipa::path(
    post, path = "/api/v1/tokens", tag = "access", request_body = NewToken,
    responses((status = 201, body = MadeToken), (status = 409, body = Problem), (status = 422, body = Problem))
)]
pub(super) async fn add_token(
    State(api): State<Api>,
    Body(new): Body<NewToken>,
) -> Result<(StatusCode, Json<MadeToken>), ApiError> {
    let made = with_gate(&api, move |shared| shared.gate.add_token(&new.name, new.role));
    let (about, token) = made.await?;
    Ok((StatusCode::CREATED, Json(MadeToken { about, token })))
}

/// Take a token back.
#[utoipa::path(
    delete, path = "/api/v1/tokens/{id}", tag = "access",
    params(("id" = u32, Path, description = "number of the token")),
    responses((status = 204), (status = 404, body = Problem))
)]
pub(super) async fn remove_token(
    State(api): State<Api>,
    Path(id): Path<u32>,
) -> Result<StatusCode, ApiError> {
    with_gate(&api, move |shared| shared.gate.remove_token(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Does what waits for the disk or for a hash beside what serves the connections.
async fn with_gate<T: Send + 'static>(
    api: &Api,
    work: impl FnOnce(&Shared) -> Result<T, AccessError> + Send + 'static,
) -> Result<T, ApiError> {
    let shared: Arc<Shared> = api.shared.clone();
    let done = tokio::task::spawn_blocking(move || work(&shared)).await;
    Ok(done.map_err(|_| ApiError::ending())??)
}
