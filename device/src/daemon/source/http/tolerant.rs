//! Heads of answers that break the rules of HTTP, as those of many cameras do, put in order before `ureq` reads them.
//!
//! The rest of a connection passes through as it is. ureq calls its interface for transports unversioned: a new minor
//! version may change it, and the compiler says so.

use std::ops::Range;

use httparse::{Header, ParserConfig, Response, Status};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

/// Largest head that is put in order; ureq takes none that is larger.
const MAX_HEAD: usize = 64 << 10;

/// What stands before a user name of a login that goes out as it is, between quotation marks; `ureq` sends none with letters
/// beyond ASCII. The name has its escapes, and a comma behind it.
pub(super) const USER: &str = "username*=BYTES''";

/// Most lines of a head.
const MAX_LINES: usize = 100;

/// Puts the heads of answers in order; behind the connector that makes connections.
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
        // Room for a head that has grown, with all that came behind it.
        let buffers = LazyBuffers::new(input + 2 * MAX_HEAD, output);
        Ok(chained.map(|inner| TolerantTransport { inner, buffers, head: None }))
    }
}

/// A connection that puts heads in order.
#[derive(Debug)]
pub(super) struct TolerantTransport<In> {
    inner: In,
    buffers: LazyBuffers,
    /// What came of a head so far, while one is expected.
    head: Option<Vec<u8>>,
}

impl<In: Transport> TolerantTransport<In> {
    /// Hands on what has come.
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
        // Requests of cameras begin so; what goes to a proxy does not.
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
            // ureq says what is wrong with it.
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

/// A request with its user name in the letters that were meant.
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

/// Where a user name stands that is marked by [`USER`].
fn user_of(request: &[u8]) -> Option<Range<usize>> {
    let start = memchr::memmem::find(request, USER.as_bytes())?;
    let length = memchr::memchr(b',', &request[start..])?;
    Some(start..start + length)
}

/// A head in order, and what came behind it; `None` as long as it is not complete, or is none.
///
/// Lines that are no `Name: value` are left out, blanks before the colon as well. `ICY` is HTTP/1.0. A length that is no
/// number, and that of a stream, which has none, are left out: a stream ends when its connection does. Of two types, the
/// first is that of the answer; the other one belongs to the first part of a stream that does not begin with a boundary.
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
        // A value that goes on in the next line.
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
    fn what_is_no_complete_head_is_left_as_it_is() {
        for head in
            ["", "ICY", "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n", "\u{ff}\u{d8} picture"]
        {
            assert_eq!(ordered(head), None, "{head}");
        }
    }
}
