//! Who may do what: accounts and tokens on disk, logins in memory.

mod accounts;
mod logins;
mod word;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use utoipa::ToSchema;

use crate::StoreError;
use crate::store::Record;
use accounts::Accounts;
pub(crate) use accounts::TokenDto;
use logins::Logins;
use word::random_word;

/// Characters of a password that nobody thought up: 100 bits.
const PASSWORD_LENGTH: usize = 20;

/// Fewest characters of a password that somebody thought up.
const SHORTEST_PASSWORD: usize = 10;

/// Most characters: what is longer only keeps the processor busy.
const LONGEST_PASSWORD: usize = 256;

/// Tokens for scripts.
const MAX_TOKENS: usize = 100;

/// What somebody may do.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Look.
    Viewer,
    /// Look, teach, and change who may.
    Admin,
}

/// Why access was not granted or not changed.
#[derive(Debug, Error)]
pub(crate) enum AccessError {
    /// No such account, or another password.
    #[error("user or password is wrong")]
    Wrong,
    /// A password that anybody could guess, or that is no password.
    #[error("a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters")]
    Password,
    /// The name of a token.
    #[error("a token's name has 1 to 64 characters")]
    TokenName,
    /// Too many.
    #[error("there are {MAX_TOKENS} tokens already: delete one first")]
    TooManyTokens,
    /// There is none of that number.
    #[error("there is no token {0}")]
    NoSuchToken(u32),
    /// The system gave no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// A password could not be hashed.
    #[error("the password could not be hashed: {0}")]
    Hash(String),
    /// What is known could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Keeps the doors.
pub(crate) struct Gate {
    record: Record,
    accounts: Mutex<Accounts>,
    logins: Mutex<Logins>,
    /// One password at a time: each takes 19 MiB and a core while it is checked.
    checking: Mutex<()>,
}

impl Gate {
    /// Opens what is kept of accounts. If there are none, makes the one of the administrator, and gives its password,
    /// which is nowhere else.
    ///
    /// # Errors
    ///
    /// [`AccessError::Store`], [`AccessError::Random`] or [`AccessError::Hash`].
    pub(crate) fn open(record: Record) -> Result<(Self, Option<String>), AccessError> {
        let known: Option<Accounts> = record.load()?;
        let gate = Self {
            record,
            accounts: Mutex::new(known.clone().unwrap_or_default()),
            logins: Mutex::default(),
            checking: Mutex::new(()),
        };
        if known.is_some() {
            return Ok((gate, None));
        }
        let password = random_word(PASSWORD_LENGTH)?;
        gate.set_password(Role::Admin, &password)?;
        Ok((gate, Some(password)))
    }

    /// A new password for an account, which nobody thought up.
    pub(crate) fn renew_password(&self, role: Role) -> Result<String, AccessError> {
        let password = random_word(PASSWORD_LENGTH)?;
        self.set_password(role, &password)?;
        Ok(password)
    }

    /// Gives an account a password; whoever was logged in with the old one is logged out.
    pub(crate) fn set_password(&self, role: Role, password: &str) -> Result<(), AccessError> {
        let length = password.chars().count();
        if !(SHORTEST_PASSWORD..=LONGEST_PASSWORD).contains(&length) {
            return Err(AccessError::Password);
        }
        let hash = {
            let _one = lock(&self.checking);
            accounts::hash(password)?
        };
        self.change(|accounts| {
            accounts.set_hash(role, hash);
            Ok(())
        })?;
        lock(&self.logins).end_all_of(role);
        Ok(())
    }

    /// Checks a password, which takes a good part of a second on a small box, and gives what opens a session.
    pub(crate) fn log_in(
        &self,
        user: &str,
        password: &str,
        lasts: Duration,
    ) -> Result<(String, Role), AccessError> {
        let role = match user {
            "admin" => Some(Role::Admin),
            "viewer" => Some(Role::Viewer),
            _ => None,
        };
        // What takes its time takes it for unknown users too.
        let hash = role.and_then(|role| lock(&self.accounts).hash_of(role).map(str::to_owned));
        let short = password.chars().count() <= LONGEST_PASSWORD;
        let right = {
            let _one = lock(&self.checking);
            accounts::verify(if short { password } else { "" }, hash.as_deref())
        };
        let role = role.filter(|_| right).ok_or(AccessError::Wrong)?;
        let key = random_word(logins::KEY_LENGTH)?;
        lock(&self.logins).begin(&key, role, Instant::now(), lasts);
        Ok((key, role))
    }

    /// Ends a session.
    pub(crate) fn log_out(&self, key: &str) {
        lock(&self.logins).end(key);
    }

    /// What the one who has a session may do.
    pub(crate) fn session(&self, key: &str) -> Option<Role> {
        lock(&self.logins).role(key, Instant::now())
    }

    /// What the one who has a token may do.
    pub(crate) fn token(&self, token: &str) -> Option<Role> {
        lock(&self.accounts).role_of_token(token)
    }

    /// Makes a token for a script. The token itself is nowhere else.
    pub(crate) fn add_token(
        &self,
        name: &str,
        role: Role,
    ) -> Result<(TokenDto, String), AccessError> {
        let length = name.trim().chars().count();
        if !(1..=64).contains(&length) || name.chars().any(char::is_control) {
            return Err(AccessError::TokenName);
        }
        let token = random_word(accounts::TOKEN_LENGTH)?;
        let dto = self.change(|accounts| {
            if accounts.tokens().len() >= MAX_TOKENS {
                return Err(AccessError::TooManyTokens);
            }
            Ok(accounts.add_token(name.trim(), role, &token))
        })?;
        Ok((dto, token))
    }

    /// All tokens, without what opens anything.
    pub(crate) fn tokens(&self) -> Vec<TokenDto> {
        lock(&self.accounts).tokens()
    }

    /// Takes a token back.
    pub(crate) fn remove_token(&self, id: u32) -> Result<(), AccessError> {
        self.change(|accounts| {
            if accounts.remove_token(id) { Ok(()) } else { Err(AccessError::NoSuchToken(id)) }
        })
    }

    /// Changes what is kept, on disk first.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Accounts) -> Result<T, AccessError>,
    ) -> Result<T, AccessError> {
        let mut accounts = lock(&self.accounts);
        let mut next = accounts.clone();
        let changed = change(&mut next)?;
        self.record.save(&next)?;
        *accounts = next;
        Ok(changed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
