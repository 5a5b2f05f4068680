//! `export` and `import`: write all classes to one file, and read them back.

use std::io::Write;
use std::sync::Arc;

use atomic_write_file::AtomicWriteFile;
use fmlora_learner::format::{StateFile, decode_state, encode_state};
use fmlora_learner::{AdapterChange, Class};
use serde_json::json;

use crate::cli::{ExportArgs, Global, ImportArgs};
use crate::report;
use crate::store::Access;
use crate::update::Updates;
use crate::{EdgeError, Session};

pub(super) fn export(global: &Global, args: &ExportArgs) -> Result<(), EdgeError> {
    let session = Session::open(global, Access::Read)?;
    let base_id = session.base().id;
    let classes: Vec<Class> = session.learner().classes().map(|c| c.as_ref().clone()).collect();
    let n_classes = classes.len();
    let feature_space_id = session.store().feature_space_id();
    let adapter = session.learner().adapter().map(|state| state.as_ref().clone());
    let state = StateFile { base_id, feature_space_id, adapter, classes };
    let bytes = encode_state(&state)
        .map_err(|source| EdgeError::Import { path: args.file.clone(), source })?;
    write_whole(&args.file, &bytes)?;
    let file = args.file.display().to_string();
    if global.json {
        return report::json(&json!({ "file": file, "classes": n_classes, "bytes": bytes.len() }));
    }
    report::line(format!(
        "wrote {n_classes} classes to {file} ({} KiB)",
        bytes.len().div_ceil(1024)
    ))
}

pub(super) fn import(global: &Global, args: &ImportArgs) -> Result<(), EdgeError> {
    let fail = |source| EdgeError::File { path: args.file.clone(), what: "read", source };
    let bytes = std::fs::read(&args.file).map_err(fail)?;
    let state = decode_state(&bytes)
        .map_err(|source| EdgeError::Import { path: args.file.clone(), source })?;
    let mut session = Session::open(global, Access::Write)?;
    let base_id = session.base().id;
    if state.base_id != base_id {
        return Err(EdgeError::OtherBase {
            path: args.file.clone(),
            found: state.base_id.to_string(),
            expected: session.base().id.to_string(),
        });
    }
    let same_features = state.feature_space_id == session.store().feature_space_id();
    let untaught = session.learner().classes().len() == 0;
    if !same_features && !untaught {
        return Err(EdgeError::OtherFeatures { path: args.file.clone() });
    }
    // The rollback data of the adapters would refer to features that no longer exist.
    if !same_features && !Updates::of(&session)?.record()?.in_use.is_empty() {
        return Err(EdgeError::UpdatesInUse { path: args.file.clone() });
    }
    let names: Vec<String> = state.classes.iter().map(|c| c.name.to_string()).collect();
    let mut operation = session.learner().import(state.classes, args.replace)?;
    if !same_features {
        // No class is taught yet, so the network may become the one of the imported classes.
        let before = session.learner().adapter().cloned();
        operation.adapter = Some(AdapterChange { before, after: state.adapter.map(Arc::new) });
    }
    session.apply(&operation)?;
    if global.json {
        let all = session.learner().classes().len();
        return report::json(&json!({ "imported": names, "classes": all }));
    }
    report::line(format!("imported {} classes: {}", names.len(), names.join(", ")))
}

/// Writes the file atomically: after a power cut, it is complete or absent.
fn write_whole(path: &std::path::Path, bytes: &[u8]) -> Result<(), EdgeError> {
    let write = || {
        let mut file = AtomicWriteFile::open(path)?;
        file.write_all(bytes)?;
        file.commit()
    };
    write().map_err(|source| EdgeError::File { path: path.to_owned(), what: "write", source })
}
