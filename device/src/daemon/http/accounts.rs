//! Routes for login, logout, passwords and tokens.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::address::Path;
use super::body::{Body, permit};
use super::client::Client;
use super::door::{cookie, from_our_page, not_cross_site, session_of};
use super::error::{ApiError, Problem};
use crate::daemon::access::{AccessError, Account, Role, TokenDto};
use crate::daemon::shared::Shared;

/// Who somebody is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Credentials {
    /// admin or viewer.
    user: String,
    /// The account's password.
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
    /// Whose password it is.
    role: Account,
    /// 10 to 256 characters.
    #[schema(min_length = 10, max_length = 256)]
    password: String,
}

/// A token to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewToken {
    /// What it is for: 1 to 64 characters.
    #[schema(
        min_length = 1,
        max_length = 64,
        pattern = r"^(?=[\s\S]*\S)[^\u0000-\u001f\u007f-\u009f]*$"
    )]
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
        (status = 200, body = LoggedIn),
        (status = 401, body = Problem, description = "User or password is wrong."),
        (status = 403, body = Problem, description = "The request comes from another site's page."),
        (status = 429, body = Problem, description = "Too many tries of this address; `Retry-After` says when to come again."),
    )
)]
pub(super) async fn log_in(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    Body(credentials): Body<Credentials>,
) -> Result<impl IntoResponse, ApiError> {
    // A login uses no cookie, and a page of another site cannot send JSON without permission
    // (CORS): `Origin` adds nothing.
    not_cross_site(&headers)?;
    api.limits.rates.login(client.address)?;
    let _one = permit(&api.limits.logins, "too many logins are being checked")?;
    let config = api.shared.config.get();
    let lasts = Duration::from_secs(3600 * u64::from(config.login.session_hours));
    let found = with_gate(&api, move |shared| {
        shared.gate.log_in(&credentials.user, &credentials.password, lasts)
    });
    let (key, role) = found.await.inspect_err(|error| {
        api.shared.metrics.failed_logins.inc();
        tracing::warn!("a login from {} failed: {error}", client.address);
    })?;
    let cookie = cookie(&api, &key, lasts.as_secs(), &client);
    Ok((AppendHeaders([(header::SET_COOKIE, cookie)]), Json(LoggedIn { role })))
}

/// Log out.
#[utoipa::path(
    post, path = "/api/v1/logout", tag = "access",
    responses(
        (status = 204),
        (status = 403, body = Problem, description = "The request comes from another site's page."),
    )
)]
pub(super) async fn log_out(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    from_our_page(&Method::POST, &headers, Some(&client))?;
    if let Some(key) = session_of(&headers, &api) {
        api.shared.gate.log_out(&key);
    }
    let cookie = cookie(&api, "", 0, &client);
    Ok((StatusCode::NO_CONTENT, AppendHeaders([(header::SET_COOKIE, cookie)])))
}

/// Give an account a password; those logged in with the old one are logged out.
#[utoipa::path(
    put, path = "/api/v1/password", tag = "access", request_body = NewPassword,
    responses(
        (status = 204),
        (status = 409, body = Problem, description = "The configuration sets this password."),
    )
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
#[utoipa::path(
    get, path = "/api/v1/tokens", operation_id = "list_tokens", tag = "access",
    responses((status = 200, body = Vec<TokenDto>))
)]
pub(super) async fn tokens(State(api): State<Api>) -> Json<Vec<TokenDto>> {
    Json(api.shared.gate.tokens())
}

/// Make a token for a script.
#[utoipa::path(
    post, path = "/api/v1/tokens", tag = "access", request_body = NewToken,
    responses(
        (status = 201, body = MadeToken),
        (status = 409, body = Problem, description = "There are as many tokens as there may be."),
    )
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
    responses((status = 204), (status = 404, body = Problem, description = "There is no such token."))
)]
pub(super) async fn remove_token(
    State(api): State<Api>,
    Path(id): Path<u32>,
) -> Result<StatusCode, ApiError> {
    with_gate(&api, move |shared| shared.gate.remove_token(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Runs work that waits for the disk or for a hash, on a thread for blocking work.
async fn with_gate<T: Send + 'static>(
    api: &Api,
    work: impl FnOnce(&Shared) -> Result<T, AccessError> + Send + 'static,
) -> Result<T, ApiError> {
    let shared: Arc<Shared> = api.shared.clone();
    let done = tokio::task::spawn_blocking(move || work(&shared)).await;
    Ok(done.map_err(|_| ApiError::ending())??)
}
