//! Serves the page below a path, for a proxy that passes the path on: it is stripped from requests.

use axum::Router;
use axum::extract::Request;
use axum::http::Uri;
use axum::http::uri::PathAndQuery;
use axum::middleware::map_request;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::any;

/// Serves `routes` at the root and below `base_path`, such as "/box1"; empty is the root only.
pub(super) fn below(base_path: &str, routes: Router) -> Router {
    if base_path.is_empty() {
        return routes;
    }
    let base = base_path.to_owned();
    let to = format!("{base_path}/");
    let strip = move |mut request: Request| {
        if let Some(uri) = without(request.uri(), &base) {
            *request.uri_mut() = uri;
        }
        std::future::ready(request)
    };
    // URLs in the page are relative, so the page's own URL must end with a slash.
    let to_page = move || {
        let to = Redirect::permanent(&to);
        async move { to.into_response() as Response }
    };
    // A layer of a router runs after its routing; this one runs before that of `routes`.
    let routes = Router::new().fallback_service(routes).layer(map_request(strip));
    Router::new().route(base_path, any(to_page)).fallback_service(routes)
}

/// Strips the path prefix from a URI; `None` if it has another one.
fn without(uri: &Uri, base: &str) -> Option<Uri> {
    let rest = uri.path().strip_prefix(base).filter(|rest| rest.starts_with('/'))?;
    let path = match uri.query() {
        Some(query) => format!("{rest}?{query}"),
        None => rest.to_owned(),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path.parse::<PathAndQuery>().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_path_is_taken_off_whole() {
        for (uri, rest) in [
            ("/box1/", Some("/")),
            ("/box1/api/v1/info?a=b", Some("/api/v1/info?a=b")),
            ("http://cam.lan/box1/page.js", Some("http://cam.lan/page.js")),
            ("/box11/", None),
            ("/box1", None),
            ("/", None),
        ] {
            let uri: Uri = uri.parse().expect("an address");
            let found = without(&uri, "/box1").map(|uri| uri.to_string());
            assert_eq!(found.as_deref(), rest, "{uri}");
        }
    }
}
