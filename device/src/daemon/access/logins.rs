//! Login sessions, in memory only: a restart ends them all.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Role;
use super::accounts::digest;

/// Length of a session key, in characters: 160 bits.
pub(super) const KEY_LENGTH: usize = 32;

/// Largest number of sessions; a new one replaces the oldest.
const MAX_LOGINS: usize = 256;

/// Sessions by the digest of their key.
#[derive(Debug, Default)]
pub(super) struct Logins(HashMap<[u8; 32], Login>);

#[derive(Debug, Clone, Copy)]
struct Login {
    role: Role,
    since: Instant,
    lasts: Duration,
}

impl Logins {
    pub(super) fn begin(&mut self, key: &str, role: Role, now: Instant, lasts: Duration) {
        self.0.retain(|_, login| login.is_on(now));
        if self.0.len() >= MAX_LOGINS {
            let oldest = self.0.iter().min_by_key(|(_, login)| login.since).map(|(&key, _)| key);
            self.0.remove(&oldest.unwrap_or_default());
        }
        self.0.insert(digest(key), Login { role, since: now, lasts });
    }

    pub(super) fn role(&self, key: &str, now: Instant) -> Option<Role> {
        self.0.get(&digest(key)).filter(|login| login.is_on(now)).map(|login| login.role)
    }

    pub(super) fn end(&mut self, key: &str) {
        self.0.remove(&digest(key));
    }

    pub(super) fn end_all_of(&mut self, role: Role) {
        self.0.retain(|_, login| login.role != role);
    }
}

impl Login {
    fn is_on(&self, now: Instant) -> bool {
        now.duration_since(self.since) < self.lasts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_end_by_time_by_word_and_by_number() {
        let mut logins = Logins::default();
        let start = Instant::now();
        let hour = Duration::from_hours(1);
        let minute = Duration::from_mins(1);
        logins.begin("a", Role::Admin, start, hour);
        logins.begin("v", Role::Viewer, start, hour);
        assert_eq!(logins.role("a", start + 59 * minute), Some(Role::Admin));
        assert_eq!(logins.role("a", start + hour), None);
        assert_eq!(logins.role("b", start), None);
        logins.end_all_of(Role::Admin);
        assert_eq!(logins.role("a", start), None);
        logins.end("v");
        assert_eq!(logins.role("v", start), None);
        for i in 0..=MAX_LOGINS {
            logins.begin(&i.to_string(), Role::Viewer, start + minute * i as u32, 1000 * hour);
        }
        assert_eq!(logins.role("0", start), None);
        assert_eq!(logins.role("1", start), Some(Role::Viewer));
    }
}
