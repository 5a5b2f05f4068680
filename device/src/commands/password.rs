//! `password`: sets a new password of an account, or prints hashes of passwords and tokens for
//! configurations.

use std::io::{BufRead, IsTerminal};

use serde_json::json;

use crate::cli::{Global, PasswordArgs, TokenRole};
use crate::daemon::access::{
    AccessError, Account, Configured, Gate, check_password, hash, hex, random_password,
    random_token,
};
use crate::report;
use crate::store::Access;
use crate::{EdgeError, Session};

pub(super) fn password(global: &Global, args: &PasswordArgs) -> Result<(), EdgeError> {
    match args.token {
        Some(role) => token(global, role),
        None if args.hash => hashed(global),
        None => renewed(global, args),
    }
}

/// Sets a new random password of an account.
fn renewed(global: &Global, args: &PasswordArgs) -> Result<(), EdgeError> {
    let session = Session::open(global, Access::Write)?;
    let gate = Gate::open(session.store().record("accounts")?, Configured::default());
    let account = if args.viewer { Account::Viewer } else { Account::Admin };
    let password =
        gate.and_then(|gate| gate.renew_password(account)).map_err(|error| fail(&error))?;
    let user = account.name();
    if global.json {
        return report::json(&json!({ "user": user, "password": password }));
    }
    report::line(format!("login: {user}, password {password} (told this once)"))
}

/// Prints the hash of the password on standard input. At a terminal, generates a password and
/// prints it too.
fn hashed(global: &Global) -> Result<(), EdgeError> {
    let stdin = std::io::stdin();
    let made = stdin.is_terminal();
    let password = if made {
        random_password().map_err(|error| fail(&error))?
    } else {
        let mut line = String::new();
        let what = "read the password from the standard input";
        let read = stdin.lock().read_line(&mut line);
        read.map_err(|source| EdgeError::System { what, source })?;
        line.trim_end_matches(['\r', '\n']).to_owned()
    };
    check_password(&password).map_err(|error| fail(&error))?;
    let hash = hash(&password).map_err(|error| fail(&error))?;
    if global.json {
        let password = made.then_some(&password);
        return report::json(&json!({ "password": password, "password_hash": hash }));
    }
    if made {
        report::line(format!("password {password} (told this once)"))?;
    }
    report::line(hash)
}

/// Prints a new token and its entry in `login.tokens`.
fn token(global: &Global, role: TokenRole) -> Result<(), EdgeError> {
    let token = random_token().map_err(|error| fail(&error))?;
    let role = role.name();
    let sha256 = hex(&token);
    if global.json {
        return report::json(&json!({ "token": token, "role": role, "sha256": sha256 }));
    }
    report::line(format!("token {token} (told this once)"))?;
    report::line(format!("{{ name = \"...\", role = \"{role}\", sha256 = \"{sha256}\" }}"))
}

fn fail(error: &AccessError) -> EdgeError {
    EdgeError::Access(report::with_causes(error))
}
