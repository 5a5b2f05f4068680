//! Who is let in: a token, or the cookie of a login from a page of this box.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::Api;
use super::error::ApiError;
use crate::daemon::access::{Gate, Role};

/// Name of the cookie.
const COOKIE: &str = "fmlora_session";

/// How somebody came in.
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
    /// The key that a request brings.
    fn of(headers: &HeaderMap, login_enabled: bool) -> Option<Self> {
        if !login_enabled {
            return Some(Self::Open);
        }
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            let (kind, token) = value.to_str().ok()?.split_once(' ')?;
            let token = kind.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned());
            return token.map(Self::Token);
        }
        session_of(headers).map(Self::Session)
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

/// Lets those in who may do what `role` may.
pub(super) async fn open_for(
    State((api, role)): State<(Api, Role)>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let login_enabled = api.shared.config.get().login.enabled;
    let headers = request.headers();
    let say = |what: &str| ApiError::new(StatusCode::UNAUTHORIZED, what);
    let key = Key::of(headers, login_enabled)
        .ok_or_else(|| say("log in first, or send Authorization: Bearer TOKEN"))?;
    let allowed = key
        .role(&api.shared.gate)
        .ok_or_else(|| say("the login has ended or the token is not known: log in again"))?;
    if !matches!(key, Key::Token(_)) {
        from_our_page(request.method(), headers)?;
    }
    if allowed < role {
        let detail = "only the administrator may do this";
        return Err(ApiError::new(StatusCode::FORBIDDEN, detail));
    }
    request.extensions_mut().insert(key);
    request.extensions_mut().insert(allowed);
    Ok(next.run(request).await)
}

/// Refuses what a page of somebody else lets a browser send: browsers say where a request comes from, and send
/// cookies along unasked.
pub(super) fn from_our_page(method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
    if method.is_safe() {
        return Ok(());
    }
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let ours = match (text("sec-fetch-site"), text("origin"), text("host")) {
        (Some(site), ..) => matches!(site, "same-origin" | "none"),
        (None, Some(origin), Some(host)) => {
            origin.split_once("://").is_some_and(|(_, origin)| origin == host)
        }
        (None, Some(_), None) => false,
        // No browser.
        (None, None, _) => true,
    };
    if ours {
        return Ok(());
    }
    Err(ApiError::new(StatusCode::FORBIDDEN, "the request comes from another site's page"))
}

/// What opens the session of a request.
pub(super) fn session_of(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|c| c.to_str().ok());
    let mut each = cookies.flat_map(|cookies| cookies.split(';'));
    each.find_map(|cookie| {
        let (name, value) = cookie.trim().split_once('=')?;
        (name == COOKIE).then(|| value.to_owned())
    })
}

/// The cookie that opens a session, or ends it with no seconds to live.
pub(super) fn cookie(key: &str, seconds: u64, tls: bool) -> String {
    let secure = if tls { "; Secure" } else { "" };
    format!("{COOKIE}={key}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}")
}
