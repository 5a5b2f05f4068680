//! JPEGs of cameras that omit the Huffman tables.

use std::borrow::Cow;

/// Application segment of the pictures of an AVI film. It tells the decoder that missing tables are
/// the standard ones (ITU-T T.81, annex K.3).
const FILM: [u8; 10] = [0xff, 0xe0, 0, 8, b'A', b'V', b'I', b'1', 0, 0];

const START: [u8; 2] = [0xff, 0xd8];
const HUFFMAN_TABLES: u8 = 0xc4;
const START_OF_SCAN: u8 = 0xda;

/// Marks a JPEG without Huffman tables as a picture of an AVI film, so that the decoder can read
/// it. Many cameras send such pictures, in which the omitted tables are always the same, and not
/// all of them mark them.
pub(super) fn with_tables(jpeg: &[u8]) -> Cow<'_, [u8]> {
    if !jpeg.starts_with(&START) {
        return Cow::Borrowed(jpeg);
    }
    let mut at = START.len();
    while let Some(&[0xff, marker, high, low]) = jpeg.get(at..at + 4) {
        match marker {
            HUFFMAN_TABLES => break,
            START_OF_SCAN => return Cow::Owned([&START[..], &FILM, &jpeg[START.len()..]].concat()),
            _ => at += 2 + usize::from(u16::from_be_bytes([high, low])),
        }
    }
    Cow::Borrowed(jpeg)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::synthetic::{SyntheticCamera, Thing};
    use fmlora_models::decode_picture;

    /// Removes the segments of one kind from a picture.
    fn without(jpeg: &[u8], kind: u8) -> Vec<u8> {
        let mut left = jpeg[..2].to_vec();
        let mut at = 2;
        loop {
            let length = usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
            if jpeg[at + 1] == START_OF_SCAN {
                return [&left, &jpeg[at..]].concat();
            }
            if jpeg[at + 1] != kind {
                left.extend(&jpeg[at..at + 2 + length]);
            }
            at += 2 + length;
        }
    }

    #[test]
    fn tables_that_are_left_out_are_the_standard_ones() {
        let mut bytes = std::io::Cursor::new(Vec::new());
        let frame = SyntheticCamera::new(1).frame(Thing::Star);
        frame.write_to(&mut bytes, image::ImageFormat::Jpeg).expect("a JPEG");
        let whole = bytes.into_inner();
        assert!(matches!(with_tables(&whole), Cow::Borrowed(_)), "it has its tables");
        let bare = without(&whole, HUFFMAN_TABLES);
        assert!(bare.len() + 400 < whole.len(), "the tables are gone");
        assert!(decode_picture(&bare).is_err(), "it needs them");
        let expected = decode_picture(&whole).expect("a picture");
        assert_eq!(decode_picture(&with_tables(&bare)).expect("a picture"), expected);
    }

    #[test]
    fn other_bytes_than_a_jpeg_are_unchanged() {
        for bytes in [
            &[][..],
            &[0xff],
            &START,
            &[0xff, 0xd8, 0xff],
            &[0xff, 0xd8, 0xff, 0xe0, 0xff, 0xff],
            b"BM",
        ] {
            assert_eq!(with_tables(bytes), bytes);
        }
    }
}
