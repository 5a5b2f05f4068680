//! Access control: accounts and tokens on disk, login sessions in memory.

mod accounts;
mod configured;
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
pub(crate) use accounts::{TokenDto, check_hash, hash};
pub(crate) use configured::{Configured, ConfiguredToken, hex, parse_digest};
use logins::Logins;
use word::random_word;

/// Length of a generated password, in characters: 100 bits.
const PASSWORD_LENGTH: usize = 20;

/// Shortest password that may be set, in characters.
const SHORTEST_PASSWORD: usize = 10;

/// Longest password, in characters: a longer one only costs processor time.
const LONGEST_PASSWORD: usize = 256;

/// Time for which a successful Basic login is remembered, so that a client with one request per
/// second costs one hash.
const BASIC_LASTS: Duration = Duration::from_hours(1);

/// Largest number of tokens for scripts.
const MAX_TOKENS: usize = 100;

/// What a login or a token may do. The order of the variants is part of the state's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Look.
    Viewer,
    /// Look, teach, and change who may.
    Admin,
    /// See the camera's picture, and nothing else.
    Pictures,
}

impl Role {
    /// Returns true if this role has all permissions of `needed`.
    pub(crate) fn includes(self, needed: Self) -> bool {
        let rank = |role| match role {
            Self::Pictures => 0,
            Self::Viewer => 1,
            Self::Admin => 2,
        };
        rank(self) >= rank(needed)
    }
}

/// An account with a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Account {
    /// May only look.
    Viewer,
    /// May do everything.
    Admin,
}

impl Account {
    /// Returns the account of a user name.
    fn named(user: &str) -> Option<Self> {
        match user {
            "admin" => Some(Self::Admin),
            "viewer" => Some(Self::Viewer),
            _ => None,
        }
    }

    /// Returns the user name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Viewer => "viewer",
        }
    }

    /// Returns the configuration key that sets the password.
    fn key(self) -> &'static str {
        match self {
            Self::Admin => "login.password_hash",
            Self::Viewer => "login.viewer_password_hash",
        }
    }

    fn role(self) -> Role {
        match self {
            Self::Admin => Role::Admin,
            Self::Viewer => Role::Viewer,
        }
    }
}

/// Error of a login, or of a change of accounts and tokens.
#[derive(Debug, Error)]
pub(crate) enum AccessError {
    /// The account does not exist, or the password is wrong.
    #[error("user or password is wrong")]
    Wrong,
    /// The password is too short or too long.
    #[error("a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters")]
    Password,
    /// The configuration sets the password.
    #[error("the configuration sets this password ({0}): change it there")]
    Configured(&'static str),
    /// The name of a token is empty, too long or has control characters.
    #[error("a token's name has 1 to 64 characters")]
    TokenName,
    /// There are too many tokens.
    #[error("there are {MAX_TOKENS} tokens already: delete one first")]
    TooManyTokens,
    /// There is no token of this number.
    #[error("there is no token {0}")]
    NoSuchToken(u32),
    /// The system gave no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// A password could not be hashed.
    #[error("the password could not be hashed: {0}")]
    Hash(String),
    /// The accounts could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Checks logins and tokens, and changes accounts.
pub(crate) struct Gate {
    record: Record,
    accounts: Mutex<Accounts>,
    /// Accounts and tokens of the configuration, which precede those of the state.
    configured: Mutex<Configured>,
    logins: Mutex<Logins>,
    /// Lock of password hashing, one at a time: each takes 19 MiB and a core.
    checking: Mutex<()>,
}

impl Gate {
    /// Reads the accounts of the state.
    ///
    /// # Errors
    ///
    /// [`AccessError::Store`].
    pub(crate) fn open(record: Record, configured: Configured) -> Result<Self, AccessError> {
        let known: Option<Accounts> = record.load()?;
        Ok(Self {
            record,
            accounts: Mutex::new(known.unwrap_or_default()),
            configured: Mutex::new(configured),
            logins: Mutex::default(),
            checking: Mutex::new(()),
        })
    }

    /// Applies a changed configuration. Sessions end where the password has changed.
    pub(crate) fn configure(&self, configured: Configured) {
        let before = std::mem::replace(&mut *lock(&self.configured), configured);
        let now = lock(&self.configured).clone();
        for account in [Account::Admin, Account::Viewer] {
            if before.hash_of(account) != now.hash_of(account) {
                lock(&self.logins).end_all_of(account.role());
            }
        }
    }

    /// Generates the administrator's password if there is none, and returns it. It is stored only
    /// as a hash.
    ///
    /// # Errors
    ///
    /// [`AccessError::Store`], [`AccessError::Random`] or [`AccessError::Hash`].
    pub(crate) fn first_password(&self) -> Result<Option<String>, AccessError> {
        if self.hash_of(Account::Admin).is_some() {
            return Ok(None);
        }
        self.renew_password(Account::Admin).map(Some)
    }

    /// Sets a new random password for an account, and returns it.
    pub(crate) fn renew_password(&self, account: Account) -> Result<String, AccessError> {
        let password = random_password()?;
        self.set_password(account, &password)?;
        Ok(password)
    }

    /// Sets the password of an account; sessions with the old one end.
    pub(crate) fn set_password(&self, account: Account, password: &str) -> Result<(), AccessError> {
        check_password(password)?;
        if lock(&self.configured).hash_of(account).is_some() {
            return Err(AccessError::Configured(account.key()));
        }
        let hash = {
            let _one = lock(&self.checking);
            accounts::hash(password)?
        };
        self.change(|accounts| {
            accounts.set_hash(account.role(), hash);
            Ok(())
        })?;
        lock(&self.logins).end_all_of(account.role());
        Ok(())
    }

    /// Checks a password, which takes a good part of a second on a small box, and returns the key
    /// of a new session.
    pub(crate) fn log_in(
        &self,
        user: &str,
        password: &str,
        lasts: Duration,
    ) -> Result<(String, Role), AccessError> {
        let role = self.check(user, password)?;
        let key = random_word(logins::KEY_LENGTH)?;
        lock(&self.logins).begin(&key, role, Instant::now(), lasts);
        Ok((key, role))
    }

    /// Checks user name and password of a Basic login. Afterwards [`Gate::session`] knows
    /// `basic_key(user, password)` for an hour, or until the password changes.
    pub(crate) fn log_in_basic(&self, user: &str, password: &str) -> Result<(), AccessError> {
        let role = self.check(user, password)?;
        let key = basic_key(user, password);
        lock(&self.logins).begin(&key, role, Instant::now(), BASIC_LASTS);
        Ok(())
    }

    fn check(&self, user: &str, password: &str) -> Result<Role, AccessError> {
        let account = Account::named(user);
        // An unknown user takes as long as a known one.
        let hash = account.and_then(|account| self.hash_of(account));
        let short = password.chars().count() <= LONGEST_PASSWORD;
        let right = {
            let _one = lock(&self.checking);
            accounts::verify(if short { password } else { "" }, hash.as_deref())
        };
        account.filter(|_| right).map(Account::role).ok_or(AccessError::Wrong)
    }

    fn hash_of(&self, account: Account) -> Option<String> {
        let configured = lock(&self.configured).hash_of(account).map(str::to_owned);
        configured.or_else(|| lock(&self.accounts).hash_of(account.role()).map(str::to_owned))
    }

    /// Ends a session.
    pub(crate) fn log_out(&self, key: &str) {
        lock(&self.logins).end(key);
    }

    /// Returns the role of a session.
    pub(crate) fn session(&self, key: &str) -> Option<Role> {
        lock(&self.logins).role(key, Instant::now())
    }

    /// Returns the role of a token.
    pub(crate) fn token(&self, token: &str) -> Option<Role> {
        let digest = accounts::digest(token);
        let configured = lock(&self.configured).role_of(&digest);
        configured.or_else(|| lock(&self.accounts).role_of(&digest))
    }

    /// Creates a token for a script. It is stored only as a hash.
    pub(crate) fn add_token(
        &self,
        name: &str,
        role: Role,
    ) -> Result<(TokenDto, String), AccessError> {
        let length = name.trim().chars().count();
        if !(1..=64).contains(&length) || name.chars().any(char::is_control) {
            return Err(AccessError::TokenName);
        }
        let token = random_token()?;
        let dto = self.change(|accounts| {
            if accounts.tokens().len() >= MAX_TOKENS {
                return Err(AccessError::TooManyTokens);
            }
            Ok(accounts.add_token(name.trim(), role, &token))
        })?;
        Ok((dto, token))
    }

    /// Lists all tokens, those of the configuration first, without their secrets.
    pub(crate) fn tokens(&self) -> Vec<TokenDto> {
        let configured = lock(&self.configured).tokens();
        [configured, lock(&self.accounts).tokens()].concat()
    }

    /// Revokes a token.
    pub(crate) fn remove_token(&self, id: u32) -> Result<(), AccessError> {
        self.change(|accounts| {
            if accounts.remove_token(id) { Ok(()) } else { Err(AccessError::NoSuchToken(id)) }
        })
    }

    /// Changes the accounts, on disk first.
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

/// Session key of a Basic login.
pub(crate) fn basic_key(user: &str, password: &str) -> String {
    format!("basic:{user}:{password}")
}

/// Generates a random password that is easy to read from a screen.
pub(crate) fn random_password() -> Result<String, AccessError> {
    random_word(PASSWORD_LENGTH)
}

/// Generates a random token.
pub(crate) fn random_token() -> Result<String, AccessError> {
    random_word(accounts::TOKEN_LENGTH)
}

/// Refuses a password that is too short or too long.
pub(crate) fn check_password(password: &str) -> Result<(), AccessError> {
    let length = password.chars().count();
    let fits = (SHORTEST_PASSWORD..=LONGEST_PASSWORD).contains(&length);
    if fits { Ok(()) } else { Err(AccessError::Password) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
