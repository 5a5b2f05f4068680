//! Stored hashes of passwords and tokens.

use std::sync::LazyLock;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::{AccessError, Role};

/// Length of a token, in characters: 160 bits.
pub(super) const TOKEN_LENGTH: usize = 32;

/// Accounts and tokens, as postcard in the table `meta` of the state.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Accounts {
    /// Password hashes by role: argon2id in PHC format.
    passwords: Vec<(Role, String)>,
    tokens: Vec<Token>,
    next_id: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Token {
    id: u32,
    name: String,
    role: Role,
    /// A token has 160 random bits, so a fast hash is enough: it cannot be found by trying.
    sha256: [u8; 32],
}

/// A token as others may see it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct TokenDto {
    /// Number by which it is taken back; a token of the configuration has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<u32>,
    pub(crate) name: String,
    pub(crate) role: Role,
}

impl Accounts {
    pub(super) fn set_hash(&mut self, role: Role, hash: String) {
        self.passwords.retain(|(other, _)| *other != role);
        self.passwords.push((role, hash));
    }

    pub(super) fn hash_of(&self, role: Role) -> Option<&str> {
        self.passwords.iter().find(|(other, _)| *other == role).map(|(_, hash)| hash.as_str())
    }

    pub(super) fn add_token(&mut self, name: &str, role: Role, token: &str) -> TokenDto {
        let id = self.next_id + 1;
        self.next_id = id;
        let name = name.to_owned();
        let sha256 = digest(token);
        self.tokens.push(Token { id, name: name.clone(), role, sha256 });
        TokenDto { id: Some(id), name, role }
    }

    /// Role of the token with this SHA-256. A comparison in constant time is not needed: a digest
    /// can only be chosen by knowing its token.
    pub(super) fn role_of(&self, sha256: &[u8; 32]) -> Option<Role> {
        self.tokens.iter().find(|token| token.sha256 == *sha256).map(|token| token.role)
    }

    pub(super) fn tokens(&self) -> Vec<TokenDto> {
        let dto = |t: &Token| TokenDto { id: Some(t.id), name: t.name.clone(), role: t.role };
        self.tokens.iter().map(dto).collect()
    }

    /// Removes a token; returns true if there was one.
    pub(super) fn remove_token(&mut self, id: u32) -> bool {
        let before = self.tokens.len();
        self.tokens.retain(|token| token.id != id);
        self.tokens.len() < before
    }
}

pub(super) fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// Refuses a text that is no hash of a password.
pub(crate) fn check_hash(text: &str) -> Result<(), String> {
    let expected = "expected $argon2id$..., as `fmlora-edge password --hash` prints it";
    match PasswordHash::new(text) {
        Ok(hash) if hash.algorithm.as_str() == "argon2id" && hash.hash.is_some() => Ok(()),
        Ok(_) => Err(expected.to_owned()),
        Err(error) => Err(format!("{error}; {expected}")),
    }
}

/// Hashes a password with argon2id, 19 MiB and two passes, as OWASP recommends, and with a salt of
/// its own.
pub(crate) fn hash(password: &str) -> Result<String, AccessError> {
    let hash = Argon2::default().hash_password(password.as_bytes());
    hash.map(|hash| hash.to_string()).map_err(|e| AccessError::Hash(e.to_string()))
}

/// Checks a password against its stored hash. Takes the same time if there is none.
pub(super) fn verify(password: &str, kept: Option<&str>) -> bool {
    static NOBODY: LazyLock<Option<String>> = LazyLock::new(|| hash("nobody has this").ok());
    let Some(hash) = kept.or(NOBODY.as_deref()).and_then(|hash| PasswordHash::new(hash).ok())
    else {
        return false;
    };
    Argon2::default().verify_password(password.as_bytes(), &hash).is_ok() && kept.is_some()
}
