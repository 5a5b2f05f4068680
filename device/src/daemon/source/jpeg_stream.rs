//! Splits a stream of JPEG files (MJPEG) into pictures, with or without other data between them.
//!
//! A stream may lose bytes, also in the header of a picture. Damage affects one picture only: the
//! next one is found by its start marker or by the delimiter between the parts of a multipart
//! stream.

use std::io::{ErrorKind, Read};

use fmlora_models::decode_picture;
use memchr::{memchr, memmem};

use super::Given;
use super::content::{HEAD, beginning};

/// Largest picture of a stream, in bytes: far above any camera's.
const MAX_BYTES: usize = 32 << 20;

/// Number of bytes per read.
const CHUNK: usize = 64 << 10;

/// Longest delimiter that is searched for: RFC 2046 allows 70 characters and two dashes.
const MAX_DELIMITER: usize = 72;

/// Start of a JPEG file: the start marker and the first byte of the next marker.
const START: [u8; 3] = [0xff, 0xd8, 0xff];

/// Reads pictures from a stream.
pub(super) struct JpegStream<R> {
    input: R,
    /// Bytes read so far. Within a picture, the buffer starts with that picture.
    buffer: Vec<u8>,
    picture: Option<Walk>,
    /// Delimiter between two parts: two dashes and a name.
    delimiter: Option<Vec<u8>>,
    ended: bool,
    /// Bytes before the first picture; not extended afterwards.
    passed: Passed,
    tell: Option<Tell>,
}

/// Callback that receives the bytes before the first picture.
type Tell = Box<dyn FnMut(&Passed) + Send>;

/// Bytes of a stream before its first picture.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// Number of bytes.
    pub(super) bytes: u64,
    /// The first bytes, at most [`HEAD`].
    head: Vec<u8>,
    /// True once a picture has begun.
    over: bool,
}

impl Passed {
    /// Describes the first bytes; `None` if a picture has begun or nothing was received.
    pub(super) fn beginning(&self) -> Option<String> {
        (!self.over && self.bytes > 0).then(|| beginning(&self.head))
    }

    fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        let room = HEAD.saturating_sub(self.head.len());
        self.head.extend_from_slice(&bytes[..room.min(bytes.len())]);
    }
}

/// Position within a picture that is followed marker by marker.
#[derive(Debug, Clone, Copy)]
struct Walk {
    at: usize,
    /// True within the data of a scan, which may hold all bytes but a marker.
    in_scan: bool,
    /// True while each segment was followed by a marker, as it must be.
    orderly: bool,
    /// No delimiter starts before this offset.
    searched: usize,
}

/// Result of following a picture.
enum Reached {
    /// End of the picture, at this offset.
    End(usize),
    /// Start of other data, before the end of the picture.
    Cut(usize),
    /// End of the bytes read so far.
    More,
}

impl<R: Read> JpegStream<R> {
    /// Reads pictures from `input`. `boundary` is that of a multipart stream; without it, the
    /// boundary is detected in the stream.
    pub(super) fn new(input: R, boundary: Option<&str>) -> Self {
        let delimiter = boundary.and_then(|boundary| delimiter(boundary.as_bytes()));
        Self {
            input,
            buffer: Vec::new(),
            picture: None,
            delimiter,
            ended: false,
            passed: Passed::default(),
            tell: None,
        }
    }

    /// Sets the callback for the bytes before the first picture.
    pub(super) fn telling(mut self, tell: impl FnMut(&Passed) + Send + 'static) -> Self {
        self.tell = Some(Box::new(tell));
        self
    }

    /// Returns the bytes before the first picture.
    pub(super) fn passed(&self) -> &Passed {
        &self.passed
    }

    /// Returns the first `n` bytes of the stream, fewer if it ends earlier. Must be called before
    /// the first picture is taken.
    ///
    /// # Errors
    ///
    /// Errors of the input.
    pub(super) fn peek(&mut self, n: usize) -> std::io::Result<&[u8]> {
        while self.buffer.len() < n && !self.ended {
            self.read()?;
        }
        Ok(&self.buffer[..n.min(self.buffer.len())])
    }

    /// Reads the rest of the stream, at most as many bytes as the largest picture.
    ///
    /// # Errors
    ///
    /// Errors of the input, and an error for a larger stream.
    pub(super) fn rest(mut self) -> std::io::Result<Vec<u8>> {
        while !self.ended {
            self.read()?;
            if self.buffer.len() > MAX_BYTES {
                return Err(std::io::Error::other("the picture is larger than 32 MiB"));
            }
        }
        Ok(self.buffer)
    }

    /// Reads the next picture or reports a damaged one; `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// Errors of the input.
    pub(super) fn next(&mut self) -> std::io::Result<Option<Given>> {
        loop {
            if self.picture.is_none() {
                self.find_start();
                self.tell();
            }
            let reached = match &mut self.picture {
                Some(walk) => walk.follow(&self.buffer, self.delimiter.as_deref()),
                None => Reached::More,
            };
            match reached {
                Reached::End(end) => return Ok(Some(self.take(end))),
                Reached::Cut(at) => return Ok(Some(self.skip(at, "it ends before its time"))),
                Reached::More if self.buffer.len() > MAX_BYTES => {
                    return Ok(Some(self.skip_to_next_start("it has no end within 32 MiB")));
                }
                Reached::More if self.ended && self.picture.is_some() => {
                    return Ok(Some(self.skip_to_next_start("the stream ends within it")));
                }
                Reached::More if self.ended => return Ok(None),
                Reached::More => self.read()?,
            }
        }
    }

    /// Calls the callback until the first picture has begun, and once at that time.
    fn tell(&mut self) {
        if self.passed.over {
            return;
        }
        self.passed.over = self.picture.is_some();
        if let Some(tell) = &mut self.tell {
            tell(&self.passed);
        }
    }

    fn read(&mut self) -> std::io::Result<()> {
        let filled = self.buffer.len();
        self.buffer.resize(filled + CHUNK, 0);
        let read = loop {
            match self.input.read(&mut self.buffer[filled..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.buffer.truncate(filled + *read.as_ref().unwrap_or(&0));
        if !self.passed.over {
            self.passed.add(&self.buffer[filled..]);
        }
        self.ended = read? == 0;
        Ok(())
    }

    /// Starts a picture at the next start marker in the buffer and drops the bytes before it.
    fn find_start(&mut self) {
        let Some(start) = memmem::find(&self.buffer, &START) else {
            // The last bytes may be the beginning of a start marker. As long as no delimiter is
            // known, the last 4096 bytes are kept: the header of a part may be among them.
            let keep = if self.delimiter.is_none() { 4096 } else { START.len() - 1 };
            let passed = self.buffer.len().saturating_sub(keep);
            self.buffer.drain(..passed);
            return;
        };
        if self.delimiter.is_none() {
            self.delimiter = delimiter_of(&self.buffer[..start]);
        }
        self.buffer.drain(..start);
        self.picture = Some(Walk { at: 2, in_scan: false, orderly: true, searched: 0 });
    }

    /// Takes the picture that ends at `end`.
    fn take(&mut self, end: usize) -> Given {
        match decode_picture(&self.buffer[..end]) {
            Ok(frame) => {
                self.buffer.drain(..end);
                self.picture = None;
                Given::Frame(frame)
            }
            // A segment with a wrong length may have swallowed the start of the next picture.
            Err(why) if self.picture.is_some_and(|walk| !walk.orderly) => {
                self.skip_to_next_start(&why.to_string())
            }
            Err(why) => self.skip(end, &why.to_string()),
        }
    }

    fn skip_to_next_start(&mut self, why: &str) -> Given {
        let next = memmem::find(&self.buffer[1..], &START).map(|at| at + 1);
        self.skip(next.unwrap_or(self.buffer.len()), why)
    }

    /// Skips a damaged picture, up to the offset `to`.
    fn skip(&mut self, to: usize, why: &str) -> Given {
        self.buffer.drain(..to);
        self.picture = None;
        Given::Damaged(format!("a damaged picture: {why}"))
    }
}

impl Walk {
    /// Follows a picture through the bytes read so far.
    fn follow(&mut self, bytes: &[u8], delimiter: Option<&[u8]>) -> Reached {
        let reached = self.walk(bytes);
        let end = match reached {
            Reached::End(end) | Reached::Cut(end) => end,
            Reached::More => bytes.len(),
        };
        let Some(delimiter) = delimiter else { return reached };
        if let Some(at) = find_delimiter(&bytes[..end], self.searched, delimiter) {
            return Reached::Cut(at);
        }
        self.searched = self.searched.max(end.saturating_sub(delimiter.len()));
        reached
    }

    /// Steps from marker to marker. Segments are skipped by their length, so a thumbnail within one
    /// does not count. Within a scan, `FF` is followed by 0 or a restart marker, and neither start
    /// nor end marker can occur by chance.
    fn walk(&mut self, bytes: &[u8]) -> Reached {
        loop {
            let rest = bytes.get(self.at..).unwrap_or_default();
            let Some(skipped) = memchr(0xff, rest) else {
                if !rest.is_empty() {
                    self.orderly &= self.in_scan;
                    self.at = bytes.len();
                }
                return Reached::More;
            };
            self.orderly &= self.in_scan || skipped == 0;
            self.at += skipped;
            // `FF` may be repeated before the type of a marker.
            let fill = bytes[self.at..].iter().take_while(|byte| **byte == 0xff).count();
            let kind_at = self.at + fill;
            let Some(kind) = bytes.get(kind_at).copied() else { return Reached::More };
            match kind {
                0xd9 => return Reached::End(kind_at + 1),
                0xd8 => match bytes.get(kind_at + 1) {
                    None => return Reached::More,
                    Some(0xff) => return Reached::Cut(kind_at - 1),
                    Some(_) => self.at = kind_at + 1,
                },
                // Stuffed bytes, restart markers, markers without a segment.
                0x00 | 0x01 | 0xd0..=0xd7 => self.at = kind_at + 1,
                _ => {
                    let Some(length) = bytes.get(kind_at + 1..kind_at + 3) else {
                        return Reached::More;
                    };
                    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
                    self.at = kind_at + 1 + length.max(2);
                    self.in_scan = kind == 0xda;
                }
            }
        }
    }
}

/// Finds the first delimiter at the start of a line, from the offset `from` on. Some servers put
/// more dashes before it than they should.
fn find_delimiter(bytes: &[u8], from: usize, delimiter: &[u8]) -> Option<usize> {
    memmem::find_iter(&bytes[from.min(bytes.len())..], delimiter).map(|at| at + from).find(|at| {
        let before = &bytes[..*at];
        let line = before.iter().rposition(|byte| *byte != b'-');
        line.is_none_or(|line| before[line] == b'\n')
    })
}

/// Delimiter between the parts of a stream with this boundary. Some servers count the dashes before
/// it as part of the boundary.
fn delimiter(boundary: &[u8]) -> Option<Vec<u8>> {
    let name = boundary.iter().position(|byte| *byte != b'-').map(|at| &boundary[at..])?;
    (name.len() + 2 <= MAX_DELIMITER).then(|| [b"--", name].concat())
}

/// Delimiter of a stream that declares none: a line before its first picture that begins with
/// dashes.
fn delimiter_of(before: &[u8]) -> Option<Vec<u8>> {
    let mut lines = before.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.find_map(|line| line.starts_with(b"--").then(|| delimiter(line)).flatten())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::synthetic::{SyntheticCamera, Thing};
    use std::io::Cursor;

    fn jpeg(seed: u64) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let frame = SyntheticCamera::new(seed).frame(Thing::Star);
        frame.write_to(&mut bytes, image::ImageFormat::Jpeg).expect("a JPEG");
        bytes.into_inner()
    }

    /// Reader that returns few bytes at a time, as a network connection does.
    struct Trickle(Cursor<Vec<u8>>);

    impl Read for Trickle {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            let most = to.len().min(701);
            self.0.read(&mut to[..most])
        }
    }

    /// Results of a stream: `Some` index in `sent` of an equal picture, `None` for a damaged one.
    fn given(stream: Vec<u8>, boundary: Option<&str>, sent: &[Vec<u8>]) -> Vec<Option<usize>> {
        let decoded: Vec<_> = sent.iter().map(|p| decode_picture(p).ok()).collect();
        let mut stream = JpegStream::new(Trickle(Cursor::new(stream)), boundary);
        let mut all = Vec::new();
        while let Some(given) = stream.next().expect("bytes") {
            all.push(match given {
                Given::Frame(frame) => {
                    let place = decoded.iter().position(|sent| sent.as_ref() == Some(&frame));
                    Some(place.expect("one of those that were sent"))
                }
                _ => None,
            });
        }
        all
    }

    fn part(boundary: &str, picture: &[u8]) -> Vec<u8> {
        let head = format!("--{boundary}\r\nContent-Type: image/jpeg\r\n\r\n");
        [head.as_bytes(), picture, b"\r\n"].concat()
    }

    #[test]
    fn pictures_come_out_whole_whatever_is_between_them() {
        let sent = [jpeg(1), jpeg(2)];
        let mut stream = part("boundary", &sent[0]);
        stream.extend(b"--boundary\xff\r\n\r\n");
        stream.extend(&sent[1]);
        stream.extend([0; 300]);
        stream.extend(&sent[0][..sent[0].len() / 2]);
        assert_eq!(given(stream, None, &sent), [Some(0), Some(1), None], "half a picture is none");
    }

    #[test]
    fn a_thumbnail_within_a_segment_ends_nothing() {
        let whole = jpeg(1);
        let thumbnail = jpeg(2);
        assert!(thumbnail.len() < 60_000);
        let mut with = whole[..2].to_vec();
        with.extend([0xff, 0xe1]);
        with.extend(((thumbnail.len() + 2) as u16).to_be_bytes());
        with.extend(&thumbnail);
        with.extend(&whole[2..]);
        assert_eq!(given(with.clone(), None, &[with]), [Some(0)]);
    }

    /// Damaged copies of a picture: without its last bytes, without some in its middle, with a
    /// wrong byte in its header.
    fn damaged(picture: &[u8]) -> Vec<Vec<u8>> {
        let mut kinds: Vec<Vec<u8>> =
            [3, 25, 100, 300, picture.len() / 2].map(|at| picture[..at].to_vec()).into();
        for at in [20, 100, 160, 300] {
            kinds.push([&picture[..at], &picture[at + 512..]].concat());
        }
        let tables = memmem::find(picture, &[0xff, 0xdb]).expect("tables");
        let mut wrong = picture.to_vec();
        wrong[tables + 4] = 0x77;
        kinds.push(wrong);
        let mut endless = picture.to_vec();
        (endless[tables + 2], endless[tables + 3]) = (0xff, 0xff);
        kinds.push(endless);
        kinds
    }

    #[test]
    fn a_damaged_picture_does_not_affect_the_others() {
        let sent = [jpeg(1), jpeg(2), jpeg(3), jpeg(4), jpeg(5), jpeg(6), jpeg(7)];
        let expected: Vec<usize> = (0..sent.len()).collect();
        for (n, bad) in damaged(&jpeg(9)).into_iter().enumerate() {
            // In a multipart stream with a declared boundary, in one without, and without any
            // framing.
            for (framed, told) in [(true, Some("frame")), (true, None), (false, None)] {
                let piece = |picture: &Vec<u8>| {
                    if framed { part("frame", picture) } else { picture.clone() }
                };
                let stream = [&sent[..2], &[bad.clone()][..], &sent[2..]].concat();
                let stream: Vec<u8> = stream.iter().flat_map(piece).collect();
                let got = given(stream, told, &sent);
                let good: Vec<usize> = got.iter().copied().flatten().collect();
                assert_eq!(good, expected, "damage {n}, framed {framed}, told {told:?}");
                // Without framing, the rest of a damaged header may become part of the next
                // picture, which overrides its values.
                assert!(!framed || got.len() > good.len(), "damage {n} is told");
            }
        }
    }

    #[test]
    fn delimiters_are_known_with_more_or_fewer_dashes() {
        let sent = [jpeg(1), jpeg(2)];
        let cut = &jpeg(3)[..200];
        for told in [None, Some("frame"), Some("--frame")] {
            for written in ["frame", "--frame"] {
                let parts = [part(written, &sent[0]), part(written, cut), part(written, &sent[1])];
                let got = given(parts.concat(), told, &sent);
                assert_eq!(got, [Some(0), None, Some(1)], "{told:?} {written}");
            }
        }
        assert_eq!(delimiter(b"--"), None);
    }

    #[test]
    fn bytes_before_the_first_picture_are_reported_until_it_begins() {
        let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let all = told.clone();
        let text = vec![b'a'; 1500];
        let bytes = [&text[..], &jpeg(1)].concat();
        let mut stream = JpegStream::new(Trickle(Cursor::new(bytes)), Some("frame"));
        stream = stream.telling(move |passed| {
            all.lock().expect("no panic").extend(passed.beginning());
        });
        assert!(matches!(stream.next(), Ok(Some(Given::Frame(_)))));
        assert_eq!(stream.passed().beginning(), None);
        let told = told.lock().expect("no panic");
        assert!((1..=3).contains(&told.len()), "{told:?}");
        assert!(told.iter().all(|text| text.starts_with("the text \"aaa")), "{told:?}");

        let mut stream = JpegStream::new(Cursor::new(b"no picture"), None);
        assert!(matches!(stream.next(), Ok(None)));
        assert_eq!(stream.passed().bytes, 10);
        assert_eq!(stream.passed().beginning().as_deref(), Some("the text \"no picture\""));
    }

    #[test]
    fn a_picture_is_given_when_its_last_byte_is_there() {
        struct Silent(Cursor<Vec<u8>>);
        impl Read for Silent {
            fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
                match self.0.read(to)? {
                    0 => Err(ErrorKind::TimedOut.into()),
                    read => Ok(read),
                }
            }
        }
        let bytes = part("frame", &jpeg(1));
        let without_end = bytes.len() - 2;
        let mut stream = JpegStream::new(Silent(Cursor::new(bytes[..without_end].to_vec())), None);
        assert!(matches!(stream.next(), Ok(Some(Given::Frame(_)))));
        assert!(stream.next().is_err());
    }
}
