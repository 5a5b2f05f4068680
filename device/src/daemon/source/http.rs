//! MJPEG over HTTP, or a picture that is asked for again and again.

use std::io::BufReader;
use std::time::Duration;

use fmlora_models::decode_picture;
use image::RgbImage;
use ureq::Agent;
use ureq::BodyReader;
use url::Url;

use super::jpeg_stream::next_jpeg;
use super::pace::Pace;
use super::{Source, SourceError};

/// Largest picture of a server.
const MAX_BYTES: u64 = 32 << 20;

/// A server's pictures.
pub(super) enum HttpSource {
    /// One answer without an end.
    Stream(BufReader<BodyReader<'static>>),
    /// One answer a picture.
    Snapshots { agent: Agent, url: Url, pace: Pace, first: Option<Vec<u8>> },
}

impl HttpSource {
    pub(super) fn open(url: &Url, fps: f64, timeout: Duration) -> Result<Self, SourceError> {
        let config = Agent::config_builder()
            .timeout_connect(Some(timeout))
            .timeout_recv_response(Some(timeout))
            .build();
        let agent = Agent::new_with_config(config);
        let response = agent.get(url.as_str()).call();
        let response = response.map_err(|error| SourceError::Open(error.to_string()))?;
        let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok());
        if kind.is_some_and(|kind| kind.trim().to_lowercase().starts_with("multipart/")) {
            return Ok(Self::Stream(BufReader::new(response.into_body().into_reader())));
        }
        let first = response.into_body().with_config().limit(MAX_BYTES).read_to_vec();
        let first = Some(first.map_err(|error| SourceError::Open(error.to_string()))?);
        Ok(Self::Snapshots { agent, url: url.clone(), pace: Pace::new(fps), first })
    }
}

impl Source for HttpSource {
    fn next_frame(&mut self) -> Result<RgbImage, SourceError> {
        let bytes = match self {
            Self::Stream(stream) => next_jpeg(stream)
                .map_err(|error| SourceError::Lost(error.to_string()))?
                .ok_or_else(|| SourceError::Lost("the server ended the stream".to_owned()))?,
            Self::Snapshots { agent, url, pace, first } => {
                pace.wait();
                match first.take() {
                    Some(bytes) => bytes,
                    None => snapshot(agent, url)
                        .map_err(|error| SourceError::Lost(error.to_string()))?,
                }
            }
        };
        decode_picture(&bytes).map_err(|error| SourceError::Lost(error.to_string()))
    }
}

fn snapshot(agent: &Agent, url: &Url) -> Result<Vec<u8>, ureq::Error> {
    agent.get(url.as_str()).call()?.into_body().with_config().limit(MAX_BYTES).read_to_vec()
}
