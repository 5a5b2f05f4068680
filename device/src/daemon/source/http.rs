//! Pictures over HTTP: a stream of them in one answer, or one answer a picture, which is asked for again and again.
//!
//! What an answer is shows itself: servers send endless streams as `image/jpeg`, as `application/octet-stream` or without a
//! type. So each answer is read as a stream of pictures; one that ends after its first picture was a single one.

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

/// A server's pictures.
pub(super) struct HttpSource {
    client: Client,
    pace: Pace,
    opening: Arc<Opening>,
    /// The answer that is being read.
    answer: Option<Answer>,
    /// Whether an answer with a single picture has been read to its end.
    single: bool,
}

impl HttpSource {
    /// Asks a server for the first time. Single pictures are asked for `fps` times a second.
    ///
    /// # Errors
    ///
    /// [`SourceError::Refused`] if the server refuses user and password, [`SourceError::Open`] for everything else.
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
        let answer = client.ask().map_err(|error| match error {
            SourceError::Lost(why) => SourceError::Open(why),
            other => other,
        })?;
        let answer = Answer::of(answer, opening);
        Ok(Self { client, pace, opening: opening.clone(), answer: Some(answer), single: false })
    }
}

impl Source for HttpSource {
    fn next(&mut self) -> Result<Given, SourceError> {
        loop {
            let Some(answer) = &mut self.answer else {
                self.pace.wait();
                match self.client.ask() {
                    Ok(answer) => self.answer = Some(Answer::of(answer, &self.opening)),
                    Err(refused @ SourceError::Refused(_)) => return Err(refused),
                    // It is asked again at its pace; the keeper sees to it that this ends.
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
                    let (given, stream) = (answer.given, answer.stream || answer.given > 1);
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

/// One answer of a server.
struct Answer {
    /// Until a single picture of another format was taken from it.
    pictures: Option<JpegStream<BodyReader<'static>>>,
    /// Whether it says that it is a stream.
    stream: bool,
    /// How many pictures it gave, good or damaged.
    given: u64,
    /// Its `Content-Type`.
    kind: String,
}

impl Answer {
    /// Notes in `opening` what comes as long as it is no picture.
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

    /// The next picture, `None` at the end of the answer.
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

/// What separates the parts of a multipart stream, as its type says: `multipart/x-mixed-replace; boundary="frame"`.
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
