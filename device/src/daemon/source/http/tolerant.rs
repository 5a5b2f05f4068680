//! Repairs the heads of HTTP responses that break the rules, as those of many cameras do, before
//! `ureq` parses them.
//!
//! The rest of a connection passes through unchanged. The transport interface of ureq is
//! unversioned: a minor version may change it, and the compiler reports that.

use std::ops::Range;

use httparse::{Header, ParserConfig, Response, Status};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

/// Largest head that is repaired, in bytes; ureq accepts no larger one.
const MAX_HEAD: usize = 64 << 10;

/// Prefix that marks a user name to be sent unescaped, in quotation marks: `ureq` sends no header
/// values with non-ASCII letters. The name follows with percent escapes, then a comma.
pub(super) const USER: &str = "username*=BYTES''";

/// Largest number of header lines.
const MAX_LINES: usize = 100;

/// Connector that repairs response heads; it is chained behind the one that opens connections.
#[derive(Debug)]
pub(super) struct TolerantConnector;

impl<In: Transport> Connector<In> for TolerantConnector {
    type Out = TolerantTransport<In>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let (input, output) =
            (details.config.input_buffer_size(), details.config.output_buffer_size());
        // Room for a repaired head, which may have grown, and for all data after it.
        let buffers = LazyBuffers::new(input + 2 * MAX_HEAD, output);
        Ok(chained.map(|inner| TolerantTransport { inner, buffers, head: None }))
    }
}

/// A connection with repaired response heads.
#[derive(Debug)]
pub(super) struct TolerantTransport<In> {
    inner: In,
    buffers: LazyBuffers,
    /// Bytes of the head received so far, while one is expected.
    head: Option<Vec<u8>>,
}

impl<In: Transport> TolerantTransport<In> {
    /// Passes received bytes on to ureq.
    fn give(&mut self, bytes: &[u8]) -> Result<(), ureq::Error> {
        let room = self.buffers.input_append_buf();
        let Some(room) = room.get_mut(..bytes.len()) else {
            return Err(ureq::Error::LargeResponseHeader(bytes.len(), MAX_HEAD));
        };
        room.copy_from_slice(bytes);
        self.buffers.input_appended(bytes.len());
        Ok(())
    }
}

impl<In: Transport> Transport for TolerantTransport<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let mut request = self.buffers.output()[..amount].to_vec();
        // Requests to cameras start with this; those to a proxy do not.
        if request.starts_with(b"GET ") {
            self.head = Some(Vec::new());
            request = with_user(request);
        }
        let mut rest = &request[..];
        while !rest.is_empty() {
            let room = self.inner.buffers().output();
            let (piece, more) = rest.split_at(room.len().min(rest.len()));
            room[..piece.len()].copy_from_slice(piece);
            self.inner.transmit_output(piece.len(), timeout)?;
            rest = more;
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let mut more = true;
        if self.inner.buffers().input().is_empty() {
            more = self.inner.await_input(timeout)?;
        }
        let input = self.inner.buffers().input();
        let Some(mut head) = self.head.take() else {
            let room = self.buffers.input_append_buf();
            let amount = room.len().min(input.len());
            room[..amount].copy_from_slice(&input[..amount]);
            self.buffers.input_appended(amount);
            self.inner.buffers().input_consume(amount);
            return Ok(more);
        };
        head.extend_from_slice(input);
        let amount = input.len();
        self.inner.buffers().input_consume(amount);
        match in_order(&head) {
            Some(ordered) => self.give(&ordered)?,
            None if more && head.len() < MAX_HEAD => self.head = Some(head),
            // ureq reports the error in the head.
            None => self.give(&head)?,
        }
        Ok(more)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

/// Replaces a marked user name in a request by its unescaped form.
fn with_user(request: Vec<u8>) -> Vec<u8> {
    let Some(Range { start, end }) = user_of(&request) else { return request };
    let escaped = String::from_utf8_lossy(&request[start + USER.len()..end]).into_owned();
    let mut user = Vec::new();
    for byte in percent_encoding::percent_decode_str(&escaped) {
        if b"\"\\".contains(&byte) {
            user.push(b'\\');
        }
        user.push(byte);
    }
    [&request[..start], &b"username=\""[..], &user[..], &b"\""[..], &request[end..]].concat()
}

/// Range of a user name and its mark [`USER`].
fn user_of(request: &[u8]) -> Option<Range<usize>> {
    let start = memchr::memmem::find(request, USER.as_bytes())?;
    let length = memchr::memchr(b',', &request[start..])?;
    Some(start..start + length)
}

/// Returns the repaired head and the bytes after it; `None` if the head is incomplete or there is
/// none.
///
/// Lines without the form `Name: value` are dropped, and so are blanks before the colon. `ICY`
/// becomes HTTP/1.0. A `Content-Length` that is no number is dropped, and so is that of a stream,
/// which ends with its connection. Of two content types, the first is that of the response; the
/// second belongs to the first part of a stream without a boundary at its start.
fn in_order(bytes: &[u8]) -> Option<Vec<u8>> {
    let http: Vec<u8>;
    let bytes = match bytes.strip_prefix(b"ICY ") {
        Some(rest) => {
            http = [b"HTTP/1.0 ", rest].concat();
            &http
        }
        None => bytes,
    };
    let mut lines = [httparse::EMPTY_HEADER; MAX_LINES];
    let mut head = Response::new(&mut lines);
    let mut tolerant = ParserConfig::default();
    tolerant
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_multiple_spaces_in_response_status_delimiters(true)
        .ignore_invalid_headers_in_responses(true);
    let Ok(Status::Complete(length)) = tolerant.parse_response(&mut head, bytes) else {
        return None;
    };
    let stream = first(head.headers, "content-type")
        .is_some_and(|kind| kind.to_ascii_lowercase().starts_with(b"multipart/"));
    let version = head.version?;
    let mut ordered = format!("HTTP/1.{version} {} \r\n", head.code?).into_bytes();
    let mut lengths = 0;
    let mut types = 0;
    for line in head.headers.iter() {
        let is = |name: &str| line.name.eq_ignore_ascii_case(name);
        let value = line.value.trim_ascii();
        if is("content-length") {
            let number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            lengths += usize::from(number);
            if !number || stream || lengths > 1 {
                continue;
            }
        }
        if is("content-type") {
            types += 1;
            if types > 1 {
                continue;
            }
        }
        ordered.extend_from_slice(line.name.as_bytes());
        ordered.extend_from_slice(b": ");
        // A header value may continue on the next line.
        ordered.extend(value.iter().map(|byte| if b"\r\n".contains(byte) { b' ' } else { *byte }));
        ordered.extend_from_slice(b"\r\n");
    }
    ordered.extend_from_slice(b"\r\n");
    ordered.extend_from_slice(&bytes[length..]);
    Some(ordered)
}

fn first<'a>(lines: &[Header<'a>], name: &str) -> Option<&'a [u8]> {
    let line = lines.iter().find(|line| line.name.eq_ignore_ascii_case(name))?;
    Some(line.value.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(head: &str) -> Option<String> {
        in_order(head.as_bytes()).map(|bytes| String::from_utf8(bytes).expect("text"))
    }

    #[test]
    fn heads_that_break_the_rules_are_put_in_order() {
        let stream = "HTTP/1.1 200 \r\nContent-Type: multipart/x; boundary=b\r\n\r\nrest";
        for (head, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Type: multipart/x; boundary=b\r\n\r\nrest", stream),
            ("HTTP/1.1 200\nContent-Type : multipart/x; boundary=b\n\nrest", stream),
            ("\r\nHTTP/1.1  200 OK\r\nContent-Type: multipart/x; boundary=b\r\n\r\nrest", stream),
            (
                "HTTP/1.1 200 OK\r\nTue, 12 Jun 2012 01:56:34 GMT\r\nX Name: a\r\n: b\r\nno colon\r\n\
                 Content-Type: multipart/x;\r\n boundary=b\r\nContent-Length: -1\r\n\r\nrest",
                "HTTP/1.1 200 \r\nContent-Type: multipart/x;   boundary=b\r\n\r\nrest",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Type: multipart/x; boundary=b\r\n\
                 Content-Type: image/jpeg\r\nContent-Length: 99\r\n\r\nrest",
                stream,
            ),
            (
                "ICY 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nrest",
                "HTTP/1.0 200 \r\nContent-Length: 4\r\n\r\nrest",
            ),
            (
                "HTTP/1.0 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: many\r\n\r\n",
                "HTTP/1.0 200 \r\nContent-Type: image/jpeg\r\n\r\n",
            ),
        ] {
            assert_eq!(ordered(head).as_deref(), Some(expected), "{head}");
        }
    }

    #[test]
    fn a_user_name_goes_out_in_its_letters() {
        let head =
            |user: &str| format!("GET / HTTP/1.1\r\nAuthorization: Digest {user}, a=b\r\n\r\n");
        for (written, sent) in [
            (format!("{USER}%C3%A4d%22m"), "username=\"\u{e4}d\\\"m\""),
            ("username=\"ann\"".to_owned(), "username=\"ann\""),
            ("username*=UTF-8''%C3%A4".to_owned(), "username*=UTF-8''%C3%A4"),
        ] {
            let request = with_user(head(&written).into_bytes());
            assert_eq!(String::from_utf8(request).expect("text"), head(sent));
        }
    }

    #[test]
    fn an_incomplete_head_is_not_repaired() {
        for head in
            ["", "ICY", "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n", "\u{ff}\u{d8} picture"]
        {
            assert_eq!(ordered(head), None, "{head}");
        }
    }
}
