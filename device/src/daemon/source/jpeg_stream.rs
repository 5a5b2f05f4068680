//! Pictures out of a stream of JPEG files, with or without anything between them.
//!
//! A stream may lose bytes, in the head of a picture as well. A damaged picture costs itself alone: the next one is found
//! by its start marker or by the line that stands between the parts of a multipart stream.

use std::io::{ErrorKind, Read};

use fmlora_models::decode_picture;
use memchr::{memchr, memmem};

use super::Given;
use super::content::{HEAD, beginning};

/// Largest picture of a stream: far beyond any camera's.
const MAX_BYTES: usize = 32 << 20;

/// Bytes that are read at a time.
const CHUNK: usize = 64 << 10;

/// Longest delimiter that is looked for: RFC 2046 allows 70 characters and two dashes.
const MAX_DELIMITER: usize = 72;

/// Start of a JPEG file: the start marker, and the first byte of the next one.
const START: [u8; 3] = [0xff, 0xd8, 0xff];

/// Pictures of a stream.
pub(super) struct JpegStream<R> {
    input: R,
    /// Bytes that were read. Within a picture, the first is the first of the picture.
    buffer: Vec<u8>,
    picture: Option<Walk>,
    /// What stands between two parts: two dashes and a name.
    delimiter: Option<Vec<u8>>,
    ended: bool,
    /// What came before the first picture; nothing more is added from then on.
    passed: Passed,
    tell: Option<Tell>,
}

/// Is told what comes as long as no picture does.
type Tell = Box<dyn FnMut(&Passed) + Send>;

/// Bytes of a stream without a picture.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// Their number.
    pub(super) bytes: u64,
    /// The first of them.
    head: Vec<u8>,
    /// Whether a picture has begun.
    over: bool,
}

impl Passed {
    /// What they begin with; `None` if a picture has begun, or nothing has come.
    pub(super) fn beginning(&self) -> Option<String> {
        (!self.over && self.bytes > 0).then(|| beginning(&self.head))
    }

    fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        let room = HEAD.saturating_sub(self.head.len());
        self.head.extend_from_slice(&bytes[..room.min(bytes.len())]);
    }
}

/// How far a picture was followed, marker by marker.
#[derive(Debug, Clone, Copy)]
struct Walk {
    at: usize,
    /// Whether what comes next are the data of a scan, in which anything but a marker may stand.
    in_scan: bool,
    /// Whether each segment was followed by a marker, as it has to be.
    orderly: bool,
    /// No delimiter begins before this place.
    searched: usize,
}

/// What following a picture came to.
enum Reached {
    /// The end of the picture.
    End(usize),
    /// The start of something else, before its end.
    Cut(usize),
    /// The end of what was read.
    More,
}

impl<R: Read> JpegStream<R> {
    /// Pictures of `input`. `boundary` is that of a multipart stream; without it, one is found in the stream itself.
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

    /// Tells what comes as long as no picture does.
    pub(super) fn telling(mut self, tell: impl FnMut(&Passed) + Send + 'static) -> Self {
        self.tell = Some(Box::new(tell));
        self
    }

    /// What came before the first picture.
    pub(super) fn passed(&self) -> &Passed {
        &self.passed
    }

    /// The first `n` bytes of the stream, fewer if it ends before; to be called before the first picture is taken.
    ///
    /// # Errors
    ///
    /// Those of the input.
    pub(super) fn peek(&mut self, n: usize) -> std::io::Result<&[u8]> {
        while self.buffer.len() < n && !self.ended {
            self.read()?;
        }
        Ok(&self.buffer[..n.min(self.buffer.len())])
    }

    /// Everything up to the end of the stream, which must not be more than the largest picture.
    ///
    /// # Errors
    ///
    /// Those of the input, and one for a stream that is larger.
    pub(super) fn rest(mut self) -> std::io::Result<Vec<u8>> {
        while !self.ended {
            self.read()?;
            if self.buffer.len() > MAX_BYTES {
                return Err(std::io::Error::other("the picture is larger than 32 MiB"));
            }
        }
        Ok(self.buffer)
    }

    /// The next picture, or what is wrong with it; `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// Those of the input.
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

    /// Tells what has come before the first picture, and that it has begun.
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

    /// Begins a picture at the next start in the buffer; what stands before it goes.
    fn find_start(&mut self) {
        let Some(start) = memmem::find(&self.buffer, &START) else {
            // The last bytes may be the first of a start. The head of a part is kept, as far as one is long.
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

    /// Gives the picture that ends at `end`.
    fn take(&mut self, end: usize) -> Given {
        match decode_picture(&self.buffer[..end]) {
            Ok(frame) => {
                self.buffer.drain(..end);
                self.picture = None;
                Given::Frame(frame)
            }
            // A segment of a wrong length may have swallowed the start of the next picture.
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

    /// Passes over a damaged picture, up to a place in the buffer.
    fn skip(&mut self, to: usize, why: &str) -> Given {
        self.buffer.drain(..to);
        self.picture = None;
        Given::Damaged(format!("a damaged picture: {why}"))
    }
}

impl Walk {
    /// Follows a picture as far as it was read.
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

    /// Goes from marker to marker. Segments are passed over by their length, so that a thumbnail within one does not count;
    /// within a scan, `FF` is followed by 0 or a restart marker, and neither start nor end can occur by chance.
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
            // `FF` may be repeated before the kind of a marker.
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
                // Stuffed data, restart markers, markers without a segment.
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

/// The first delimiter at a line's beginning that ends behind `from`. Some servers put more dashes before it than they
/// should.
fn find_delimiter(bytes: &[u8], from: usize, delimiter: &[u8]) -> Option<usize> {
    memmem::find_iter(&bytes[from.min(bytes.len())..], delimiter).map(|at| at + from).find(|at| {
        let before = &bytes[..*at];
        let line = before.iter().rposition(|byte| *byte != b'-');
        line.is_none_or(|line| before[line] == b'\n')
    })
}

/// What stands between the parts of a stream with this boundary. Some servers count the dashes before it as a part of it.
fn delimiter(boundary: &[u8]) -> Option<Vec<u8>> {
    let name = boundary.iter().position(|byte| *byte != b'-').map(|at| &boundary[at..])?;
    (name.len() + 2 <= MAX_DELIMITER).then(|| [b"--", name].concat())
}

/// The delimiter of a stream that does not tell it elsewhere: a line before its first picture that begins with dashes.
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

    /// Gives its bytes a few at a time, as a line does.
    struct Trickle(Cursor<Vec<u8>>);

    impl Read for Trickle {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            let most = to.len().min(701);
            self.0.read(&mut to[..most])
        }
    }

    /// What a stream gives: `Some` picture that equals one of `sent` by its place, `None` for a damaged one.
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
        let (whole, thumbnail) = (jpeg(1), jpeg(2));
        assert!(thumbnail.len() < 60_000);
        let mut with = whole[..2].to_vec();
        with.extend([0xff, 0xe1]);
        with.extend(((thumbnail.len() + 2) as u16).to_be_bytes());
        with.extend(&thumbnail);
        with.extend(&whole[2..]);
        assert_eq!(given(with.clone(), None, &[with]), [Some(0)]);
    }

    /// A picture as it comes without its last bytes, without some in its middle, with a wrong byte in its head.
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
    fn a_damaged_picture_costs_itself_alone() {
        let sent = [jpeg(1), jpeg(2), jpeg(3), jpeg(4), jpeg(5), jpeg(6), jpeg(7)];
        let expected: Vec<usize> = (0..sent.len()).collect();
        for (n, bad) in damaged(&jpeg(9)).into_iter().enumerate() {
            // In a multipart stream that says so, in one that does not, and bare.
            for (framed, told) in [(true, Some("frame")), (true, None), (false, None)] {
                let piece = |picture: &Vec<u8>| {
                    if framed { part("frame", picture) } else { picture.clone() }
                };
                let stream = [&sent[..2], &[bad.clone()][..], &sent[2..]].concat();
                let stream: Vec<u8> = stream.iter().flat_map(piece).collect();
                let got = given(stream, told, &sent);
                let good: Vec<usize> = got.iter().copied().flatten().collect();
                assert_eq!(good, expected, "damage {n}, framed {framed}, told {told:?}");
                // Bare, the rest of a head may become a part of the next picture, which replaces what it says.
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
    fn what_comes_without_a_picture_is_told_until_one_comes() {
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
