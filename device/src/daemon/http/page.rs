//! The page, six files embedded in the program, and the `OpenAPI` document.

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

use super::Api;

/// Files of the page: path, content type, content.
const FILES: [(&str, &str, &str); 6] = [
    ("/", "text/html; charset=utf-8", include_str!("../../../page/index.html")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("../../../page/page.js")),
    ("/parts.js", "text/javascript; charset=utf-8", include_str!("../../../page/parts.js")),
    ("/updates.js", "text/javascript; charset=utf-8", include_str!("../../../page/updates.js")),
    ("/api.js", "text/javascript; charset=utf-8", include_str!("../../../page/api.js")),
    ("/page.css", "text/css; charset=utf-8", include_str!("../../../page/page.css")),
];

/// Routes of the files. They hold no secret: the page reads its data through the HTTP interface,
/// behind the login.
pub(super) fn routes(document: String) -> Router<Api> {
    let file = |kind: &'static str, text: &'static str| {
        get(move || async move { ([(header::CONTENT_TYPE, kind)], text).into_response() })
    };
    let mut routes = Router::new();
    for (path, kind, text) in FILES {
        routes = routes.route(path, file(kind, text));
    }
    let kind = "application/json";
    routes.route(
        "/openapi.json",
        get(move || async move { ([(header::CONTENT_TYPE, kind)], document).into_response() }),
    )
}
