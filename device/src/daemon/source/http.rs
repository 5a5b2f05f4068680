//! Source `http:` and `https:`: a stream of pictures in one response, or single pictures that are
//! polled.
//!
//! The content type does not tell which: servers send endless streams as `image/jpeg`, as
//! `application/octet-stream` or without a type. So each response is read as a stream of pictures.
//! A response that ends after its first picture was a single picture.

mod address;
mod client;
mod proxy;
mod tolerant;

use std::sync::Arc;
use std::time::Duration;

use fmlora_models::decode_picture;
use image::ImageFormat;
use ureq::http::{HeaderValue, Response};
use ureq::{Body, BodyReader};

use super::jpeg_stream::JpegStream;
use super::opening::Opening;
use super::pace::Pace;
use super::{Given, Source, SourceError};
pub(crate) use address::HttpAddress;
use client::Client;

/// Pictures of an HTTP server.
pub(super) struct HttpSource {
    client: Client,
    pace: Pace,
    opening: Arc<Opening>,
    /// Response that is being read.
    answer: Option<Answer>,
    /// True after a response with a single picture was read to its end.
    single: bool,
}

impl HttpSource {
    /// Sends the first request. Single pictures are polled `fps` times per second.
    ///
    /// # Errors
    ///
    /// [`SourceError::Refused`] if the server refuses user name and password, [`SourceError::Open`]
    /// for all other errors.
    pub(super) fn open(
        address: &HttpAddress,
        fps: f64,
        timeout: Duration,
        opening: &Arc<Opening>,
    ) -> Result<Self, SourceError> {
        let mut client = Client::new(address, timeout)?;
        let agent = client.agent().clone();
        opening.close_with(Box::new(move || agent.shutdown()));
        let mut pace = Pace::new(fps);
        pace.wait();
        let response = client.ask().map_err(|error| match error {
            SourceError::Lost(why) => SourceError::Open(why),
            other => other,
        })?;
        let answer = Answer::of(response, opening);
        Ok(Self { client, pace, opening: opening.clone(), answer: Some(answer), single: false })
    }
}

impl Source for HttpSource {
    fn next(&mut self) -> Result<Given, SourceError> {
        loop {
            let Some(answer) = &mut self.answer else {
                self.pace.wait();
                match self.client.ask() {
                    Ok(response) => self.answer = Some(Answer::of(response, &self.opening)),
                    Err(refused @ SourceError::Refused(_)) => return Err(refused),
                    // The next request follows at the usual pace. The keeper ends this if no frame
                    // arrives.
                    Err(error) => return Ok(Given::Damaged(error.to_string())),
                }
                continue;
            };
            match answer.next() {
                Ok(Some(given)) => {
                    answer.given += 1;
                    return Ok(given);
                }
                Ok(None) => {
                    let given = answer.given;
                    let stream = answer.stream || given > 1;
                    let without = answer.without_picture();
                    self.answer = None;
                    match given {
                        _ if stream => {
                            return Err(SourceError::Lost(
                                "the server ended the stream".to_owned(),
                            ));
                        }
                        0 if self.single => return Ok(Given::Damaged(without)),
                        0 => return Err(SourceError::Open(without)),
                        _ => self.single = true,
                    }
                }
                Err(error) => {
                    self.answer = None;
                    let error = self.client.failure(error.into());
                    return match error {
                        SourceError::Lost(why) if self.single => Ok(Given::Damaged(why)),
                        error => Err(error),
                    };
                }
            }
        }
    }
}

/// One response of the server.
struct Answer {
    /// `None` after a single picture of another format was taken from the response.
    pictures: Option<JpegStream<BodyReader<'static>>>,
    /// True if the content type is that of a multipart stream.
    stream: bool,
    /// Number of pictures so far, good or damaged.
    given: u64,
    /// Value of `Content-Type`.
    kind: String,
}

impl Answer {
    /// Wraps a response. Until its first picture, `opening` has a note on its type and content.
    fn of(response: Response<Body>, opening: &Arc<Opening>) -> Self {
        let kind = response.headers().get("content-type").map(HeaderValue::as_bytes);
        let kind = String::from_utf8_lossy(kind.unwrap_or(b"unknown")).trim().to_owned();
        let pictures = JpegStream::new(response.into_body().into_reader(), boundary(&kind));
        let stream = kind.to_ascii_lowercase().starts_with("multipart/");
        let begins = format!("the answer is of type {kind}");
        opening.note(begins.clone());
        let opening = opening.clone();
        let pictures = pictures.telling(move |passed| {
            if let Some(beginning) = passed.beginning() {
                opening.note(format!("{begins} and begins with {beginning}"));
            }
        });
        Self { pictures: Some(pictures), stream, given: 0, kind }
    }

    /// Reads the next picture; `None` at the end of the response.
    fn next(&mut self) -> std::io::Result<Option<Given>> {
        let Some(pictures) = &mut self.pictures else { return Ok(None) };
        if self.stream || self.given > 0 {
            return pictures.next();
        }
        let format = image::guess_format(pictures.peek(32)?.trim_ascii_start());
        let whole = [
            ImageFormat::Png,
            ImageFormat::WebP,
            ImageFormat::Bmp,
            ImageFormat::Gif,
            ImageFormat::Tiff,
        ];
        if !format.is_ok_and(|format| whole.contains(&format)) {
            return pictures.next();
        }
        let Some(pictures) = self.pictures.take() else { return Ok(None) };
        let bytes = pictures.rest()?;
        Ok(Some(match decode_picture(bytes.trim_ascii_start()) {
            Ok(frame) => Given::Frame(frame),
            Err(why) => Given::Damaged(format!("a damaged picture: {why}")),
        }))
    }

    fn without_picture(&self) -> String {
        let kind = &self.kind;
        let beginning = self.pictures.as_ref().and_then(|pictures| pictures.passed().beginning());
        let begins = match beginning {
            Some(beginning) => format!("begins with {beginning}"),
            None => "is empty".to_owned(),
        };
        format!(
            "the answer is of type {kind}, {begins} and holds no picture that is read; the address of the picture or stream \
             is expected"
        )
    }
}

/// Boundary of a multipart stream, from its content type: `multipart/x-mixed-replace;
/// boundary="frame"`.
fn boundary(kind: &str) -> Option<&str> {
    let at = kind.to_ascii_lowercase().find("boundary=")? + "boundary=".len();
    let value = kind.get(at..)?.trim_start();
    match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => value.split([';', ' ', ',']).next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boundary_is_read_as_servers_write_it() {
        for (kind, expected) in [
            ("multipart/x-mixed-replace;boundary=frame", Some("frame")),
            ("Multipart/X-Mixed-Replace; Boundary=\"a b\"; x=y", Some("a b")),
            ("multipart/x-mixed-replace; boundary=--frame; x=y", Some("--frame")),
            ("multipart/x-mixed-replace", None),
        ] {
            assert_eq!(boundary(kind), expected, "{kind}");
        }
    }
}
