//! `[login]`: switch of the login, and the accounts that the configuration sets.

use std::path::{Path, PathBuf};

use confique::Config;
use serde::{Deserialize, Serialize};

use super::{Mistake, Secret, secret};
use crate::daemon::access::{Configured, ConfiguredToken, Role, check_hash, parse_digest};

/// Largest file with a secret, in bytes.
const LARGEST: u64 = 4096;

/// `[login]`
#[allow(clippy::doc_markdown, reason = "these texts go into a TOML file too")]
#[derive(Debug, Clone, PartialEq, Serialize, Config)]
pub(crate) struct LoginConfig {
    /// Whether a password or a token is asked for. It can be turned off on 127.0.0.1 alone.
    #[config(env = "FMLORA_LOGIN_ENABLED", default = true)]
    pub(crate) enabled: bool,
    /// Hours until a browser has to log in again.
    #[config(env = "FMLORA_LOGIN_SESSION_HOURS", default = 168)]
    pub(crate) session_hours: u32,
    /// Hash of the administrator's password, as `fmlora-edge password --hash` prints it. With it no password is made at
    /// the first start, and the page cannot change it.
    #[config(env = "FMLORA_LOGIN_PASSWORD_HASH")]
    pub(crate) password_hash: Option<Secret>,
    /// A file that holds this hash and nothing else: a path, such as that of a systemd credential.
    #[config(env = "FMLORA_LOGIN_PASSWORD_HASH_FILE")]
    pub(crate) password_hash_file: Option<PathBuf>,
    /// The same for the viewer, who only looks.
    #[config(env = "FMLORA_LOGIN_VIEWER_PASSWORD_HASH")]
    pub(crate) viewer_password_hash: Option<Secret>,
    /// A file that holds the hash of the viewer's password.
    #[config(env = "FMLORA_LOGIN_VIEWER_PASSWORD_HASH_FILE")]
    pub(crate) viewer_password_hash_file: Option<PathBuf>,
    /// Tokens for scripts, as `fmlora-edge password --token` prints them: [{ name = "fleet", role = "admin", sha256 = "..." }];
    /// role is admin, viewer, or pictures, which opens the camera's picture alone.
    #[config(env = "FMLORA_LOGIN_TOKENS", default = [])]
    pub(crate) tokens: Vec<TokenConfig>,
}

/// A token of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenConfig {
    /// Purpose of the token.
    pub(crate) name: String,
    pub(crate) role: Role,
    /// SHA-256 of the token, 64 hexadecimal digits.
    #[serde(serialize_with = "secret::hidden")]
    pub(crate) sha256: String,
}

impl LoginConfig {
    /// Returns the accounts and tokens that the configuration sets; reads files of hashes.
    ///
    /// # Errors
    ///
    /// All mistakes, with their keys.
    pub(crate) fn accounts(&self) -> Result<Configured, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let mut hash = |key: &str, hash: Option<&Secret>, file: Option<&Path>| {
            let found = secret_of(key, hash, file).and_then(|found| {
                let Some((place, hash)) = found else { return Ok(None) };
                check_hash(&hash).map_err(|what| Mistake { place, what })?;
                Ok(Some(hash))
            });
            found.unwrap_or_else(|mistake| {
                mistakes.push(mistake);
                None
            })
        };
        let admin = hash(
            "login.password_hash",
            self.password_hash.as_ref(),
            self.password_hash_file.as_deref(),
        );
        let viewer = hash(
            "login.viewer_password_hash",
            self.viewer_password_hash.as_ref(),
            self.viewer_password_hash_file.as_deref(),
        );
        let mut tokens = Vec::new();
        for token in &self.tokens {
            match parse_digest(&token.sha256) {
                Some(sha256) => tokens.push(ConfiguredToken {
                    name: token.name.clone(),
                    role: token.role,
                    sha256,
                }),
                None => mistakes.push(Mistake {
                    place: "login.tokens".to_owned(),
                    what: format!(
                        "sha256 of the token {:?}: expected 64 hexadecimal digits",
                        token.name
                    ),
                }),
            }
        }
        if mistakes.is_empty() { Ok(Configured { admin, viewer, tokens }) } else { Err(mistakes) }
    }
}

/// Reads a secret from its key or from the file that `KEY_file` names; returns the used key and the
/// secret, `None` without either.
///
/// # Errors
///
/// The mistake: both keys are set, or the file cannot be read.
pub(super) fn secret_of(
    key: &str,
    value: Option<&Secret>,
    file: Option<&Path>,
) -> Result<Option<(String, String)>, Mistake> {
    let Some(path) = file else {
        return Ok(value.map(|value| (key.to_owned(), value.reveal().to_owned())));
    };
    let place = format!("{key}_file");
    if value.is_some() {
        let what = format!("{key} is set too: one of them is enough");
        return Err(Mistake { place, what });
    }
    match read(path) {
        Ok(text) => Ok(Some((place, text))),
        Err(why) => Err(Mistake { place, what: format!("{}: {why}", path.display()) }),
    }
}

/// Reads a small text file, without the line end at its end.
fn read(path: &Path) -> Result<String, String> {
    let about = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if about.is_file() && about.len() > LARGEST {
        return Err(format!("larger than {LARGEST} bytes, which no secret is"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() { Err("is empty".to_owned()) } else { Ok(text.to_owned()) }
}
