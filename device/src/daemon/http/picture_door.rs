//! Access to the camera's picture: the usual credentials, and those that clients of cameras can
//! send: Basic login, or a token in the URL.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use url::form_urlencoded;

use super::Api;
use super::body::permit;
use super::client::Client;
use super::door::{Key, authorization, bearer, client_of, let_in, session_of};
use super::error::ApiError;
use crate::daemon::access::{Role, basic_key};

/// Middleware that accepts requests with access to the picture.
pub(super) async fn open_for_pictures(
    State(api): State<Api>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    // Browsers that show the page have a cookie, and must not ask for a password by themselves.
    let basic = !request.headers().contains_key(header::COOKIE);
    let client = client_of(&request).cloned();
    let found = key_of(&api, request.headers(), request.uri(), client.as_ref()).await;
    let key = found.and_then(|key| {
        let detail = "log in first, by Basic login or a token (docs/http-api.md)";
        key.ok_or_else(|| ApiError::unauthorized(detail))
    });
    let answer = match key {
        Ok(key) => let_in(&api, key, Role::Pictures, request, next).await,
        Err(error) => Err(error),
    };
    answer.map_err(|error| if basic { error.or_basic() } else { error })
}

/// Reads the credentials of a request for a picture.
async fn key_of(
    api: &Api,
    headers: &HeaderMap,
    address: &Uri,
    client: Option<&Client>,
) -> Result<Option<Key>, ApiError> {
    if !api.shared.config.get().login.enabled {
        return Ok(Some(Key::Open));
    }
    if let Some(token) = bearer(headers) {
        return Ok(Some(Key::Token(token)));
    }
    if let Some(token) = token_of_address(address) {
        return match api.shared.gate.token(&token) {
            None | Some(Role::Pictures) => Ok(Some(Key::Token(token))),
            Some(_) => {
                let detail = "a token in an address has to have the role pictures: addresses are written into logs";
                Err(ApiError::new(StatusCode::FORBIDDEN, detail))
            }
        };
    }
    let session = session_of(headers, api).map(Key::Session);
    if session.as_ref().is_some_and(|key| key.role(&api.shared.gate).is_some()) {
        return Ok(session);
    }
    match basic(headers) {
        Some((user, password)) => log_in(api, client, user, password).await.map(Some),
        None => Ok(session),
    }
}

/// Value of `?token=`.
fn token_of_address(address: &Uri) -> Option<String> {
    let mut pairs = form_urlencoded::parse(address.query()?.as_bytes());
    pairs.find(|(name, _)| name == "token").map(|(_, token)| token.into_owned())
}

/// User name and password of `Authorization: Basic`.
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let bytes = STANDARD.decode(authorization(headers, "basic")?).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// Credentials of a Basic login: its password is that of the account, or a token.
async fn log_in(
    api: &Api,
    client: Option<&Client>,
    user: String,
    password: String,
) -> Result<Key, ApiError> {
    let gate = &api.shared.gate;
    if gate.token(&password).is_some() {
        return Ok(Key::Token(password));
    }
    let key = Key::Session(basic_key(&user, &password));
    if key.role(gate).is_some() {
        return Ok(key);
    }
    if let Some(client) = client {
        api.limits.rates.login(client.address)?;
    }
    let _one = permit(&api.limits.logins, "too many logins are being checked")?;
    let shared = api.shared.clone();
    let checked = tokio::task::spawn_blocking(move || shared.gate.log_in_basic(&user, &password));
    checked.await.map_err(|_| ApiError::ending())?.inspect_err(|_| {
        api.shared.metrics.failed_logins.inc();
    })?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_are_read_from_a_basic_login() {
        let headers = |value: &str| {
            let value = value.parse().expect("a value");
            HeaderMap::from_iter([(header::AUTHORIZATION, value)])
        };
        let of = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(basic(&headers("Basic dmlld2VyOmE6Yg==")), of("viewer", "a:b"));
        assert_eq!(basic(&headers("basic Og==")), of("", ""));
        for wrong in ["Basic ???", "Basic dmlld2Vy", "Bearer dmlld2VyOmE6Yg==", "Basic"] {
            assert_eq!(basic(&headers(wrong)), None, "{wrong}");
        }
    }
}
