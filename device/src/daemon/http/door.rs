//! Authentication of requests: a bearer token, or the session cookie of a page of this box.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::Api;
use super::client::Client;
use super::error::ApiError;
use crate::daemon::access::{Gate, Role};

/// Header that the page sends with each request. A page of another site cannot send it: the browser
/// would first ask this server (CORS), which does not allow it.
const PAGE: &str = "x-fmlora-page";

/// Credentials of a request.
#[derive(Debug, Clone)]
pub(super) enum Key {
    /// No login is required.
    Open,
    /// `Authorization: Bearer`.
    Token(String),
    /// Session key of the cookie.
    Session(String),
}

impl Key {
    /// Reads the credentials of a request. An `Authorization` without a bearer token is that of a
    /// proxy, and is ignored.
    fn of(headers: &HeaderMap, api: &Api) -> Option<Self> {
        if !api.shared.config.get().login.enabled {
            return Some(Self::Open);
        }
        bearer(headers).map(Self::Token).or_else(|| session_of(headers, api).map(Self::Session))
    }

    /// Returns the current role; `None` if the credentials were revoked or have expired.
    pub(super) fn role(&self, gate: &Gate) -> Option<Role> {
        match self {
            Self::Open => Some(Role::Admin),
            Self::Token(token) => gate.token(token),
            Self::Session(key) => gate.session(key),
        }
    }
}

/// Middleware that accepts requests with the permissions of `role`.
pub(super) async fn open_for(
    State((api, role)): State<(Api, Role)>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let key = Key::of(request.headers(), &api).ok_or_else(|| {
        ApiError::unauthorized("log in first, or send Authorization: Bearer TOKEN")
    })?;
    let_in(&api, key, role, request, next).await
}

/// Passes a request on if its credentials have the permissions of `role`.
pub(super) async fn let_in(
    api: &Api,
    key: Key,
    role: Role,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let allowed = key.role(&api.shared.gate).ok_or_else(|| {
        ApiError::unauthorized("the login has ended or the token is not known: log in again")
    })?;
    if !matches!(key, Key::Token(_)) {
        from_our_page(request.method(), request.headers(), client_of(&request))?;
    }
    if !allowed.includes(role) {
        let detail = match allowed {
            Role::Pictures => "this token opens the camera's picture alone",
            _ => "only the administrator may do this",
        };
        return Err(ApiError::new(StatusCode::FORBIDDEN, detail));
    }
    request.extensions_mut().insert(key);
    request.extensions_mut().insert(allowed);
    Ok(next.run(request).await)
}

/// Returns the client, which every request has.
pub(super) fn client_of(request: &Request) -> Option<&Client> {
    request.extensions().get()
}

/// Refuses requests that a page of another site makes a browser send (CSRF): browsers add cookies
/// to them.
///
/// A browser states the origin of a request: by `Sec-Fetch-Site` if the page is encrypted or local,
/// else by `Origin`, which must be the host of the request. A proxy that changes `Host` hides that
/// match; the header of the page shows as well that the request is its own.
pub(super) fn from_our_page(
    method: &Method,
    headers: &HeaderMap,
    client: Option<&Client>,
) -> Result<(), ApiError> {
    if method.is_safe() {
        return Ok(());
    }
    not_cross_site(headers)?;
    let origin = text(headers, "origin");
    let host = client.and_then(|client| client.host.as_deref());
    let ours = match origin {
        // `Sec-Fetch-Site` was checked above; a program sends neither header.
        None => true,
        Some(_) if headers.contains_key("sec-fetch-site") || headers.contains_key(PAGE) => true,
        Some(origin) => origin.split_once("://").map(|(_, origin)| origin) == host,
    };
    if ours {
        return Ok(());
    }
    let origin = origin.unwrap_or_default();
    let host = host.unwrap_or("none");
    let detail = format!(
        "the request comes from another site's page: its Origin is {origin:?}, but its Host {host:?}; a proxy has to keep Host (nginx: proxy_set_header Host $http_host;)"
    );
    Err(ApiError::new(StatusCode::FORBIDDEN, detail))
}

/// Refuses a request that the browser marks as one of another site's page.
pub(super) fn not_cross_site(headers: &HeaderMap) -> Result<(), ApiError> {
    match text(headers, "sec-fetch-site") {
        None | Some("same-origin" | "none") => Ok(()),
        Some(_) => {
            Err(ApiError::new(StatusCode::FORBIDDEN, "the request comes from another site's page"))
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

/// The token of `Authorization: Bearer`.
pub(super) fn bearer(headers: &HeaderMap) -> Option<String> {
    authorization(headers, "bearer").map(str::to_owned)
}

/// Value of `Authorization` for a scheme.
pub(super) fn authorization<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let (kind, value) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    kind.eq_ignore_ascii_case(scheme).then(|| value.trim())
}

/// Session key in the cookies of a request.
pub(super) fn session_of(headers: &HeaderMap, api: &Api) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|c| c.to_str().ok());
    let mut each = cookies.flat_map(|cookies| cookies.split(';'));
    each.find_map(|cookie| {
        let (name, value) = cookie.trim().split_once('=')?;
        (name == &*api.cookie).then(|| value.to_owned())
    })
}

/// Session cookie; with 0 seconds it ends the session.
pub(super) fn cookie(api: &Api, key: &str, seconds: u64, client: &Client) -> String {
    let name = &api.cookie;
    let config = api.shared.config.get();
    let path = config.http.cookie_path();
    let secure = if client.encrypted { "; Secure" } else { "" };
    format!("{name}={key}; Path={path}; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}")
}
