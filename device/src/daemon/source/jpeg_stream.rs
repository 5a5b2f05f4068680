//! Single JPEG pictures out of a stream of them, with or without anything between.

use std::io::{BufRead, Read};

/// Largest picture of a stream: far beyond any camera's.
const MAX_BYTES: usize = 32 << 20;

/// Reads up to the end of the next picture; `None` at the end of the stream.
///
/// Segments are passed over by their length, so that a thumbnail within one does not count; within a scan, `FF` is
/// followed by 0 or a restart marker, and the end marker cannot occur by chance.
pub(super) fn next_jpeg(stream: &mut impl BufRead) -> std::io::Result<Option<Vec<u8>>> {
    if !skip_to_start(stream)? {
        return Ok(None);
    }
    let mut picture = vec![0xff, 0xd8];
    loop {
        // To the next marker: at once after a segment, after the data of a scan otherwise.
        if !take_through(stream, 0xff, &mut picture)? {
            return Ok(None);
        }
        let mut marker = 0xff;
        while marker == 0xff {
            let Some(byte) = next_byte(stream)? else { return Ok(None) };
            marker = byte;
            picture.push(byte);
        }
        match marker {
            0xd9 => return Ok(Some(picture)),
            // Stuffed data, restart markers, markers without a segment.
            0x00 | 0x01 | 0xd0..=0xd8 => {}
            _ => {
                let mut length = [0; 2];
                if !filled(stream, &mut length)? {
                    return Ok(None);
                }
                picture.extend_from_slice(&length);
                let rest = usize::from(u16::from_be_bytes(length)).saturating_sub(2);
                let start = picture.len();
                picture.resize(start + rest, 0);
                if !filled(stream, &mut picture[start..])? {
                    return Ok(None);
                }
            }
        }
        if picture.len() > MAX_BYTES {
            return Err(std::io::Error::other("a picture of the stream is too large"));
        }
    }
}

/// Passes over everything up to and with the start marker.
fn skip_to_start(stream: &mut impl BufRead) -> std::io::Result<bool> {
    let mut before = 0;
    while let Some(byte) = next_byte(stream)? {
        if (before, byte) == (0xff, 0xd8) {
            return Ok(true);
        }
        before = byte;
    }
    Ok(false)
}

fn take_through(stream: &mut impl BufRead, end: u8, to: &mut Vec<u8>) -> std::io::Result<bool> {
    let room = (MAX_BYTES + 1).saturating_sub(to.len()) as u64;
    stream.take(room).read_until(end, to)?;
    if to.len() > MAX_BYTES {
        return Err(std::io::Error::other("a picture of the stream is too large"));
    }
    Ok(to.last() == Some(&end))
}

fn next_byte(stream: &mut impl BufRead) -> std::io::Result<Option<u8>> {
    let mut byte = [0];
    Ok(filled(stream, &mut byte)?.then_some(byte[0]))
}

fn filled(stream: &mut impl BufRead, to: &mut [u8]) -> std::io::Result<bool> {
    match stream.read_exact(to) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
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

    #[test]
    fn pictures_come_out_whole_whatever_is_between_them() {
        let (first, second) = (jpeg(1), jpeg(2));
        let mut stream = b"--boundary\r\nContent-Type: image/jpeg\r\n\r\n".to_vec();
        stream.extend(&first);
        stream.extend(b"\r\n--boundary\xff\r\n\r\n");
        stream.extend(&second);
        stream.extend(&first[..first.len() / 2]);
        let mut stream = Cursor::new(stream);
        assert_eq!(next_jpeg(&mut stream).expect("bytes"), Some(first));
        assert_eq!(next_jpeg(&mut stream).expect("bytes"), Some(second));
        assert_eq!(next_jpeg(&mut stream).expect("bytes"), None, "half a picture is none");
    }

    #[test]
    fn a_thumbnail_within_a_segment_ends_nothing() {
        let whole = jpeg(1);
        let thumbnail = jpeg(2);
        let mut with = whole[..2].to_vec();
        with.extend([0xff, 0xe1]);
        with.extend(((thumbnail.len() + 2) as u16).to_be_bytes());
        with.extend(&thumbnail);
        with.extend(&whole[2..]);
        assert!(thumbnail.len() < 60_000);
        assert_eq!(next_jpeg(&mut Cursor::new(&with)).expect("bytes"), Some(with.clone()));
    }
}
