//! Who is let in: a token, or the cookie of a login from a page of this box.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::Api;
use super::client::Client;
use super::error::ApiError;
use crate::daemon::access::{Gate, Role};

/// A header that the page sends with each request. A page of another site cannot: the browser would ask this box first,
/// which does not allow it.
const PAGE: &str = "x-fmlora-page";

/// What a request came in with.
#[derive(Debug, Clone)]
pub(super) enum Key {
    /// No login is asked for.
    Open,
    /// `Authorization: Bearer`.
    Token(String),
    /// The cookie.
    Session(String),
}

impl Key {
    /// The key that a request brings. What is no Bearer token is a proxy's login, and not for this box.
    fn of(headers: &HeaderMap, api: &Api) -> Option<Self> {
        if !api.shared.config.get().login.enabled {
            return Some(Self::Open);
        }
        bearer(headers).map(Self::Token).or_else(|| session_of(headers, api).map(Self::Session))
    }

    /// What it allows now: it may have been taken back, or be too old.
    pub(super) fn role(&self, gate: &Gate) -> Option<Role> {
        match self {
            Self::Open => Some(Role::Admin),
            Self::Token(token) => gate.token(token),
            Self::Session(key) => gate.session(key),
        }
    }
}

/// Lets requests in that may do what `role` may.
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

/// Lets a request in if its key allows what `role` may.
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

/// The client, which is known of every request.
pub(super) fn client_of(request: &Request) -> Option<&Client> {
    request.extensions().get()
}

/// Refuses what a page of another site lets a browser send: browsers send cookies along unasked.
///
/// A browser says where a request comes from, by `Sec-Fetch-Site` where the page is encrypted or local, else by
/// `Origin`, which has to be the host that the request is for. A proxy that changes `Host` hides that; the header of the
/// page tells as well that the request is its own.
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
        // `Sec-Fetch-Site` was asked above; a program sends neither.
        None => true,
        Some(_) if headers.contains_key("sec-fetch-site") || headers.contains_key(PAGE) => true,
        Some(origin) => origin.split_once("://").map(|(_, origin)| origin) == host,
    };
    if ours {
        return Ok(());
    }
    let (origin, host) = (origin.unwrap_or_default(), host.unwrap_or("none"));
    let detail = format!(
        "the request comes from another site's page: its Origin is {origin:?}, but its Host {host:?}; a proxy has to keep Host (nginx: proxy_set_header Host $http_host;)"
    );
    Err(ApiError::new(StatusCode::FORBIDDEN, detail))
}

/// Refuses a request that the browser itself says to come from a page of another site.
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

/// The value of `Authorization` of a scheme.
pub(super) fn authorization<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let (kind, value) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    kind.eq_ignore_ascii_case(scheme).then(|| value.trim())
}

/// What opens the session of a request.
pub(super) fn session_of(headers: &HeaderMap, api: &Api) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|c| c.to_str().ok());
    let mut each = cookies.flat_map(|cookies| cookies.split(';'));
    each.find_map(|cookie| {
        let (name, value) = cookie.trim().split_once('=')?;
        (name == &*api.cookie).then(|| value.to_owned())
    })
}

/// The cookie that opens a session, or ends it with no seconds to live.
pub(super) fn cookie(api: &Api, key: &str, seconds: u64, client: &Client) -> String {
    let (name, config) = (&api.cookie, api.shared.config.get());
    let path = config.http.cookie_path();
    let secure = if client.encrypted { "; Secure" } else { "" };
    format!("{name}={key}; Path={path}; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}")
}
