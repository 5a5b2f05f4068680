//! Extractors for the bodies of requests: JSON and pictures.

use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::Number;
use tokio::sync::{Semaphore, SemaphorePermit};
use utoipa::ToSchema;

use super::Api;
use super::error::ApiError;
use crate::pictures::{PictureError, decoded};

/// Extractor of a JSON body.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(rejection) => Err(ApiError::new(rejection.status(), rejection.body_text())),
        }
    }
}

/// Extractor of a JSON body; the default if it is missing or null.
pub(super) struct OptionalBody<T>(pub(super) T);

impl<S: Send + Sync, T: Default + DeserializeOwned> FromRequest<S> for OptionalBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = axum::body::Bytes::from_request(request, state)
            .await
            .map_err(|e: BytesRejection| ApiError::new(e.status(), e.body_text()))?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        match Json::<Option<T>>::from_bytes(&bytes) {
            Ok(Json(value)) => Ok(Self(value.unwrap_or_default())),
            Err(rejection) => Err(ApiError::new(rejection.status(), rejection.body_text())),
        }
    }
}

/// Deserialises a whole number, also if JSON writes it as 5.0.
pub(super) fn whole<'de, D: Deserializer<'de>, T: TryFrom<u64>>(from: D) -> Result<T, D::Error> {
    whole_or_null(from)?.ok_or_else(|| D::Error::custom("null, expected a whole number"))
}

/// Like [`whole`], or null.
pub(super) fn whole_or_null<'de, D: Deserializer<'de>, T: TryFrom<u64>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    let Some(number) = Option::<Number>::deserialize(from)? else { return Ok(None) };
    let wrong =
        || D::Error::custom(format!("{number}, expected a whole number that is not too large"));
    let fits = |number: &f64| number.fract() == 0.0 && (0.0..9.0e15).contains(number);
    let whole = number.as_u64().or_else(|| number.as_f64().filter(fits).map(|n| n as u64));
    whole.and_then(|whole| T::try_from(whole).ok()).map(Some).ok_or_else(wrong)
}

/// A file that holds a picture.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary, min_length = 1)]
#[allow(dead_code, reason = "it stands in the document alone")]
pub(super) struct PictureFile(Vec<u8>);

/// Extractor of a picture, decoded and preprocessed for the network.
pub(super) struct Picture(pub(super) Vec<f32>);

impl FromRequest<Api> for Picture {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        may_be_picture(request.headers())?;
        not_too_large(request.headers(), api)?;
        let _one = permit(&api.limits.uploads, "too many pictures are being read")?;
        let bytes = axum::body::Bytes::from_request(request, api)
            .await
            .map_err(|e: BytesRejection| ApiError::new(e.status(), e.body_text()))?;
        Ok(Self(ready(api, bytes.into()).await??))
    }
}

/// Decodes a picture, on a thread for blocking work.
pub(super) async fn ready(
    api: &Api,
    bytes: Vec<u8>,
) -> Result<Result<Vec<f32>, PictureError>, ApiError> {
    let preprocess = api.shared.preprocess;
    let decoding = tokio::task::spawn_blocking(move || decoded(&bytes, &preprocess));
    decoding.await.map_err(|_| ApiError::ending())
}

/// Refuses a body with a content type that is no picture.
fn may_be_picture(headers: &HeaderMap) -> Result<(), ApiError> {
    let kind = headers.get(header::CONTENT_TYPE).map(|kind| kind.to_str().unwrap_or("?"));
    match kind {
        None | Some("application/octet-stream") => Ok(()),
        Some(kind) if kind.starts_with("image/") => Ok(()),
        Some(kind) => {
            let detail =
                format!("{kind:?} is no picture: expected image/jpeg, png, webp, bmp, tiff or gif");
            Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
        }
    }
}

/// Refuses a body that is announced as too large, before it is sent.
pub(super) fn not_too_large(headers: &HeaderMap, api: &Api) -> Result<(), ApiError> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let mib = api.shared.config.get().http.max_body_mib;
    if announced.and_then(|bytes| bytes.parse().ok()).is_some_and(|bytes: usize| bytes > mib << 20)
    {
        let detail = format!("the request is larger than {mib} MiB (http.max_body_mib)");
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
    }
    Ok(())
}

/// Takes a permit for work with a limited number at a time.
pub(super) fn permit<'a>(
    places: &'a Semaphore,
    busy: &str,
) -> Result<SemaphorePermit<'a>, ApiError> {
    places.try_acquire().map_err(|_| ApiError::busy(busy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Order {
        #[serde(deserialize_with = "whole")]
        count: u32,
        #[serde(default, deserialize_with = "whole_or_null")]
        pause: Option<u64>,
    }

    #[test]
    fn whole_numbers_may_be_written_with_a_point() {
        for (text, read) in [
            (r#"{"count": 5}"#, Some((5, None))),
            (r#"{"count": 5.0, "pause": 3e2}"#, Some((5, Some(300)))),
            (r#"{"count": 0, "pause": null}"#, Some((0, None))),
            (r#"{"count": 5.5}"#, None),
            (r#"{"count": -1}"#, None),
            (r#"{"count": 4294967296}"#, None),
            (r#"{"count": 1e300}"#, None),
            (r#"{"count": null}"#, None),
            (r#"{"count": "5"}"#, None),
        ] {
            let order = serde_json::from_str::<Order>(text);
            let found = order.as_ref().ok().map(|order| (order.count, order.pause));
            assert_eq!(found, read, "{text}: {order:?}");
        }
    }
}
