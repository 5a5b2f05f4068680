//! Middleware for all requests: rate limits, time-outs, security headers, metrics.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::Api;
use super::client::Client;
use super::error::ApiError;
use super::places::holding;
use crate::daemon::metrics::RequestLabels;

/// Time-out of a request, including its body.
const TIME: Duration = Duration::from_secs(30);

/// Time-out of requests with many pictures, or with a wait for a camera or a repository.
const LONG_TIME: Duration = Duration::from_mins(30);

/// Routes with the long time-out.
const LONG: [&str; 5] = [
    "/api/v1/learn",
    "/api/v1/classes/{name}/shots/camera",
    "/api/v1/update/check",
    "/api/v1/update/apply",
    "/api/v1/update/rollback",
];

/// Burst of login attempts of an address, and the seconds until it has one more.
const LOGINS: u32 = 5;
const LOGIN_SECONDS: u64 = 12;

/// Interval at which the rate limiters forget addresses that were not seen for a while.
const FORGET: Duration = Duration::from_mins(1);

/// Rate limits per address, of requests and of logins.
pub(super) struct Rates {
    requests: DefaultKeyedRateLimiter<IpAddr>,
    logins: DefaultKeyedRateLimiter<IpAddr>,
    cleaned: Mutex<Instant>,
}

impl Rates {
    pub(super) fn new(requests_per_second: u32) -> Self {
        let rate = NonZeroU32::new(requests_per_second).unwrap_or(NonZeroU32::MIN);
        let burst = rate.saturating_mul(NonZeroU32::MIN.saturating_add(3));
        let login = Quota::with_period(Duration::from_secs(LOGIN_SECONDS));
        let logins = NonZeroU32::new(LOGINS).unwrap_or(NonZeroU32::MIN);
        let login = login.unwrap_or(Quota::per_minute(logins)).allow_burst(logins);
        Self {
            requests: RateLimiter::keyed(Quota::per_second(rate).allow_burst(burst)),
            logins: RateLimiter::keyed(login),
            cleaned: Mutex::new(Instant::now()),
        }
    }

    /// Counts a login attempt; an error if the address has made too many.
    pub(super) fn login(&self, address: IpAddr) -> Result<(), ApiError> {
        allowed(&self.logins, address, "too many tries to log in")
    }

    fn request(&self, address: IpAddr) -> Result<(), ApiError> {
        if let Ok(mut cleaned) = self.cleaned.try_lock()
            && cleaned.elapsed() > FORGET
        {
            *cleaned = Instant::now();
            self.requests.retain_recent();
            self.logins.retain_recent();
        }
        allowed(&self.requests, address, "too many requests from this address")
    }
}

fn allowed(
    limiter: &DefaultKeyedRateLimiter<IpAddr>,
    address: IpAddr,
    what: &str,
) -> Result<(), ApiError> {
    limiter.check_key(&address).map_err(|until| {
        let wait = until.wait_time_from(DefaultClock::default().now());
        let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, what);
        error.retry_after(wait.as_secs() + 1)
    })
}

/// Middleware that counts requests and their duration.
pub(super) async fn counted(State(api): State<Api>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let method = request.method().to_string();
    let response = next.run(request).await;
    let metrics = &api.shared.metrics;
    // All unknown routes are counted as one: clients could send any number of them.
    let (method, route) = match route {
        Some(route) => (method, route),
        None => ("other".to_owned(), "other".to_owned()),
    };
    let labels = RequestLabels { method, route, status: response.status().as_u16() };
    metrics.requests.get_or_create(&labels).inc();
    metrics.request_seconds.observe(started.elapsed().as_secs_f64());
    response
}

/// Middleware that adds security headers.
pub(super) async fn with_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; \
             base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Middleware that, without a login, serves only requests for this box by its own names. A page of
/// another site could otherwise send a browser to 127.0.0.1 under a name of its own (DNS
/// rebinding).
pub(super) async fn for_this_host(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let config = api.shared.config.get();
    if !config.login.enabled {
        let name = host_name(client.host.as_deref().unwrap_or_default());
        let own = matches!(name, "localhost" | "127.0.0.1" | "[::1]");
        if !own && !config.http.hosts.iter().any(|host| host.eq_ignore_ascii_case(name)) {
            let detail = format!(
                "without a login, this box is called localhost or 127.0.0.1, and not {name:?}; http.hosts may list more names"
            );
            return Err(ApiError::new(StatusCode::MISDIRECTED_REQUEST, detail));
        }
    }
    Ok(next.run(request).await)
}

/// Host without its port.
fn host_name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Middleware that refuses a client beyond its rate limit, or with too many requests at a time
/// through a trusted proxy.
pub(super) async fn at_a_fair_rate(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    api.limits.rates.request(client.address)?;
    if !client.proxied {
        return Ok(next.run(request).await);
    }
    let place = api
        .limits
        .places
        .take_for_request(client.address)
        .ok_or_else(|| ApiError::busy("too many requests from this address"))?;
    Ok(next.run(request).await.map(|body| holding(place, body)))
}

/// Middleware that ends requests after a time-out. For a stream, only the head of the response
/// counts.
pub(super) async fn in_time(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let time = if route.is_some_and(|route| LONG.contains(&route)) { LONG_TIME } else { TIME };
    if let Ok(response) = tokio::time::timeout(time, next.run(request)).await {
        return response;
    }
    let detail = format!("the request was not whole within {} s", time.as_secs());
    ApiError::new(StatusCode::REQUEST_TIMEOUT, detail).into_response()
}
