//! Errors of requests: a status, and a message as application/problem+json (RFC 9457).

use std::fmt;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use fmlora_learner::{ClassNameError, LearnError};
use fmlora_models::DecodeError;
use serde::Serialize;
use utoipa::ToSchema;

use crate::daemon::access::AccessError;
use crate::daemon::answering::NoAnswer;
use crate::daemon::config::masked;
use crate::daemon::teaching::NotDone;
use crate::pictures::PictureError;
use crate::report::with_causes;
use crate::{EdgeError, StoreError};

/// Error of a request.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    detail: String,
    retry_seconds: Option<u64>,
    /// Login schemes in `WWW-Authenticate` of a 401.
    challenge: &'static str,
}

/// The same as it is sent.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Always "about:blank": the status says what kind it is.
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    /// What is wrong and what was expected.
    detail: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), retry_seconds: None, challenge: "Bearer" }
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(crate) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, detail)
    }

    /// Adds Basic to the login schemes.
    pub(crate) fn or_basic(self) -> Self {
        Self { challenge: "Basic realm=\"fmlora\", Bearer", ..self }
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub(crate) fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// Too many requests at once; the same request may succeed in a moment.
    pub(crate) fn busy(what: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, format!("{what}; try again in a moment"))
            .retry_after(1)
    }

    pub(crate) fn ending() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the daemon ends")
    }

    pub(crate) fn retry_after(self, seconds: u64) -> Self {
        Self { retry_seconds: Some(seconds), ..self }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let problem = Problem {
            kind: "about:blank",
            title: self.status.canonical_reason().unwrap_or("failed"),
            status: self.status.as_u16(),
            detail: masked(&self.detail),
        };
        let mut response = (self.status, Json(problem)).into_response();
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, kind);
        if let Some(seconds) = self.retry_seconds {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static(self.challenge);
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl From<NotDone> for ApiError {
    fn from(error: NotDone) -> Self {
        match error {
            NotDone::Busy => Self::busy("too many operations wait"),
            NotDone::Ended => Self::ending(),
            NotDone::Crashed => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the operation crashed, nothing was changed: please report what was asked",
            ),
            NotDone::Failed(error) => error.into(),
        }
    }
}

impl From<EdgeError> for ApiError {
    fn from(error: EdgeError) -> Self {
        let status = match &error {
            EdgeError::Learn(LearnError::NoSuchClass { .. }) => StatusCode::NOT_FOUND,
            EdgeError::Learn(LearnError::Exists { .. }) | EdgeError::NothingToUndo { .. } => {
                StatusCode::CONFLICT
            }
            EdgeError::Name(_) | EdgeError::Learn(_) => StatusCode::UNPROCESSABLE_ENTITY,
            EdgeError::Store(_) => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        // A state that cannot be written was logged already, once.
        let logged = matches!(error, EdgeError::Store(StoreError::Storage { .. }));
        if status.is_server_error() && !logged {
            tracing::error!("{}", with_causes(&error));
        }
        Self::new(status, with_causes(&error))
    }
}

impl From<ClassNameError> for ApiError {
    fn from(error: ClassNameError) -> Self {
        Self::unprocessable(error.to_string())
    }
}

impl From<NoAnswer> for ApiError {
    fn from(error: NoAnswer) -> Self {
        match error {
            NoAnswer::Busy => Self::busy("too many pictures wait"),
            NoAnswer::Ended => Self::ending(),
        }
    }
}

impl From<PictureError> for ApiError {
    fn from(error: PictureError) -> Self {
        let status = match &error {
            PictureError::Decode(
                DecodeError::UnknownFormat
                | DecodeError::OtherFormat { .. }
                | DecodeError::Unsupported { .. },
            ) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            PictureError::Decode(DecodeError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            PictureError::Crashed => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status, error.to_string())
    }
}

impl From<AccessError> for ApiError {
    fn from(error: AccessError) -> Self {
        let status = match &error {
            AccessError::Wrong => StatusCode::UNAUTHORIZED,
            AccessError::Password | AccessError::TokenName => StatusCode::UNPROCESSABLE_ENTITY,
            AccessError::TooManyTokens | AccessError::Configured(_) => StatusCode::CONFLICT,
            AccessError::NoSuchToken(_) => StatusCode::NOT_FOUND,
            AccessError::Store(_) => StatusCode::INSUFFICIENT_STORAGE,
            AccessError::Random(_) | AccessError::Hash(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, with_causes(&error))
    }
}
