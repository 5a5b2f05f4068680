//! `check`: opens base, state and device in the same way as `run`.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::Found;
use crate::base_file::BaseFile;
use crate::cli::Global;
use crate::daemon::config::{DaemonConfig, UpdateConfig};
use crate::report::with_causes;
use crate::store::{Access, refusal};
use crate::update::Updates;
use crate::{EdgeError, Session, StoreError};

/// A state opened for writing, with its temporary folder, if any, which is removed on drop.
struct Opened {
    session: Session,
    /// False for a scratch state, which only serves to try the device.
    real: bool,
    _folder: Option<TempDir>,
}

/// Tries the base, the state and the device that `global` names.
pub(super) fn try_state(found: &mut Found, global: &Global, config: &DaemonConfig) {
    if !found.sound(&["base", "device"]) {
        return;
    }
    if let Err(error) = BaseFile::open(global.base.as_deref()) {
        found.mistake("base", with_causes(&error));
        return;
    }
    let opened = if found.sound(&["state"]) { open(found, global) } else { None };
    let Some(mut opened) = opened.or_else(|| scratch(found, global)) else { return };
    if opened.real && found.sound(&["update"]) {
        try_root(found, &opened.session, &config.update);
    }
    if let Err(error) = opened.session.engine() {
        found.mistake("device", with_causes(&error));
    }
}

/// Opens the state in the same way as `run`. If there is none yet, opens a temporary one in the
/// nearest existing folder above it.
fn open(found: &mut Found, global: &Global) -> Option<Opened> {
    let directory = Session::state_directory(global);
    let (folder, place) = match missing_below(&directory) {
        None => (None, directory.clone()),
        Some(parent) => match tempfile::tempdir_in(&parent) {
            Ok(folder) => {
                let place = folder.path().to_owned();
                (Some(folder), place)
            }
            Err(error) => {
                let directory = directory.display();
                let parent = parent.display();
                let what = format!("{directory} cannot be made: {parent} is not writable: {error}");
                found.mistake("state", what);
                return None;
            }
        },
    };
    match Session::open_at(global, &place, Access::Write) {
        Ok(session) => {
            if let Some(why) = session.store().storage().trouble_now() {
                found.mistake("state", why);
            }
            Some(Opened { session, real: true, _folder: folder })
        }
        Err(EdgeError::Store(StoreError::InUse { path })) => {
            found.daemon_runs = true;
            if let Some(why) = refusal(&path) {
                found.mistake("state", why);
            }
            let path = path.display();
            found.note("state", format!("{path} is in use by a running daemon, and was not tried"));
            None
        }
        Err(error) => {
            found.mistake("state", with_causes(&error));
            None
        }
    }
}

/// Returns the nearest existing folder above a missing state; `None` if the state exists.
fn missing_below(directory: &Path) -> Option<PathBuf> {
    let file = directory.join(crate::store::FILE);
    // A dangling symlink counts as a state: opening it reports the missing file.
    if file.exists() || file.is_symlink() {
        return None;
    }
    let above = file.ancestors().skip(1).find(|above| above.exists());
    Some(above.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned())
}

/// Opens an empty state in a temporary folder, to try the device without the real state.
fn scratch(found: &mut Found, global: &Global) -> Option<Opened> {
    let folder = match tempfile::tempdir() {
        Ok(folder) => folder,
        Err(error) => {
            let place = std::env::temp_dir();
            found.note("device", format!("not tried: no folder in {}: {error}", place.display()));
            return None;
        }
    };
    match Session::open_at(global, folder.path(), Access::Write) {
        Ok(session) => Some(Opened { session, real: false, _folder: Some(folder) }),
        Err(error) => {
            found.note("device", format!("not tried: {}", with_causes(&error)));
            None
        }
    }
}

/// Checks that updates have a trusted root, either in the configuration or in the state.
fn try_root(found: &mut Found, session: &Session, config: &UpdateConfig) {
    if config.from.is_none() || config.root.is_some() {
        return;
    }
    match Updates::of(session).and_then(|updates| updates.trusts_a_root()) {
        Ok(true) => {}
        Ok(false) => found.mistake(
            "update.root",
            "missing: update.from needs the root.json of the repository that is trusted",
        ),
        Err(error) => found.mistake("state", with_causes(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_is_not_there_is_looked_for_above() {
        let folder = TempDir::new().expect("a folder");
        let state = folder.path().join("a/b");
        assert_eq!(missing_below(&state), Some(folder.path().to_owned()));
        std::fs::create_dir_all(&state).expect("a folder");
        assert_eq!(missing_below(&state), Some(state.clone()));
        std::fs::write(state.join(crate::store::FILE), "").expect("a file");
        assert_eq!(missing_below(&state), None);
    }
}
