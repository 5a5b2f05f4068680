//! Accounts and tokens that the configuration sets.

use std::fmt::Write;

use super::accounts::TokenDto;
use super::{Account, Role};

/// Password hashes and tokens of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Configured {
    /// Hash of the administrator's password: argon2id in PHC format.
    pub(crate) admin: Option<String>,
    /// Hash of the viewer's password: argon2id in PHC format.
    pub(crate) viewer: Option<String>,
    pub(crate) tokens: Vec<ConfiguredToken>,
}

/// A token of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfiguredToken {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) sha256: [u8; 32],
}

impl Configured {
    pub(super) fn hash_of(&self, account: Account) -> Option<&str> {
        match account {
            Account::Admin => self.admin.as_deref(),
            Account::Viewer => self.viewer.as_deref(),
        }
    }

    pub(super) fn role_of(&self, sha256: &[u8; 32]) -> Option<Role> {
        self.tokens.iter().find(|token| token.sha256 == *sha256).map(|token| token.role)
    }

    pub(super) fn tokens(&self) -> Vec<TokenDto> {
        let dto = |t: &ConfiguredToken| TokenDto { id: None, name: t.name.clone(), role: t.role };
        self.tokens.iter().map(dto).collect()
    }
}

/// Parses a SHA-256 of 64 hexadecimal digits.
pub(crate) fn parse_digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digits = std::str::from_utf8(digits).ok()?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(digest)
}

/// SHA-256 of a token as 64 hexadecimal digits.
pub(crate) fn hex(token: &str) -> String {
    super::accounts::digest(token).iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_64_hexadecimal_digits() {
        let token = "abcdefgh23456789";
        assert_eq!(parse_digest(&hex(token)), Some(super::super::accounts::digest(token)));
        for wrong in [String::new(), "0".repeat(63), "0".repeat(65), "g".repeat(64), "é".repeat(32)]
        {
            assert_eq!(parse_digest(&wrong), None, "{wrong}");
        }
    }
}
