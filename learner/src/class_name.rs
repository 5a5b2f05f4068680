//! Validated names of classes.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use unicode_normalization::UnicodeNormalization;

/// Longest name, in characters.
pub const MAX_NAME_CHARS: usize = 64;

/// Name of a class as displayed: Unicode normal form C, without surrounding space.
///
/// Two names are the same class if they are equal after full case folding, so that `Cup`, `cup` and
/// any spelling of `é` cannot become two classes by accident; see [`ClassName::key`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClassName(String);

/// Reason why a text is not a valid class name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ClassNameError {
    /// Empty, or only space.
    #[error("a class name is empty")]
    Empty,
    /// Longer than [`MAX_NAME_CHARS`].
    #[error("class name {name:?} has {chars} characters, at most {MAX_NAME_CHARS} are allowed")]
    TooLong {
        /// The name.
        name: String,
        /// Its length.
        chars: usize,
    },
    /// Contains a path separator, a control character or an invisible one.
    #[error(
        "class name {name:?} holds {character:?}: path separators and control characters are not allowed"
    )]
    Character {
        /// The name.
        name: String,
        /// The offending character.
        character: char,
    },
    /// Consists of dots, which have another meaning in paths.
    #[error("class name {name:?} means a folder: choose another")]
    Dots {
        /// The name.
        name: String,
    },
}

impl ClassName {
    /// Normalises and checks a name.
    ///
    /// # Errors
    ///
    /// [`ClassNameError`] names the rule that the text breaks.
    pub fn new(text: &str) -> Result<Self, ClassNameError> {
        let name: String = text.trim().nfc().collect();
        if name.is_empty() {
            return Err(ClassNameError::Empty);
        }
        let chars = name.chars().count();
        if chars > MAX_NAME_CHARS {
            return Err(ClassNameError::TooLong { name, chars });
        }
        if let Some(character) = name.chars().find(|&c| is_forbidden(c)) {
            return Err(ClassNameError::Character { name, character });
        }
        if name.chars().all(|c| c == '.') {
            return Err(ClassNameError::Dots { name });
        }
        Ok(Self(name))
    }

    /// The name as displayed.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Key for comparisons: full case folding between two normalisations. Equal keys mean the same
    /// class.
    pub fn key(&self) -> String {
        let folded: String = caseless::default_case_fold_str(&self.0.nfd().collect::<String>());
        folded.nfc().collect()
    }
}

/// Returns true for separators, control characters, and invisible characters that change the
/// direction of text or cannot be seen in it.
fn is_forbidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '/' | '\\' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

impl fmt::Display for ClassName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ClassName {
    type Error = ClassNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(&text)
    }
}

impl From<ClassName> for String {
    fn from(name: ClassName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_name_share_a_key() {
        for (a, b) in [("Cup", " cUP "), ("caf\u{e9}", "cafe\u{301}"), ("STRASSE", "straße")] {
            let key = |text| ClassName::new(text).expect("a sound name").key();
            assert_eq!(key(a), key(b), "{a} and {b}");
        }
    }

    #[test]
    fn unsafe_names_are_refused() {
        let long = "x".repeat(MAX_NAME_CHARS + 1);
        for name in ["", "  ", "a/b", "a\\b", "a\nb", "a\0", "..", "\u{202e}cup", &long] {
            assert!(ClassName::new(name).is_err(), "{name:?} was accepted");
        }
    }
}
