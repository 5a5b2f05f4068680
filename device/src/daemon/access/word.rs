//! Random words for passwords, tokens and session keys.

use super::AccessError;

/// Alphabet without letters that look like another letter or a digit: the words are read from a
/// screen.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Generates `length` random letters and digits, 5 bits each.
pub(super) fn random_word(length: usize) -> Result<String, AccessError> {
    let mut bytes = vec![0; length];
    getrandom::fill(&mut bytes).map_err(AccessError::Random)?;
    // 256 is a multiple of 32: all letters are equally likely.
    Ok(bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect())
}
