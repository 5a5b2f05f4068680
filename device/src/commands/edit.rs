//! `forget`, `rename`, `undo`: instant, exact, journaled.

use fmlora_learner::ClassName;
use serde_json::json;

use crate::cli::{ForgetArgs, Global, RenameArgs, UndoArgs};
use crate::report;
use crate::store::Access;
use crate::{EdgeError, Session};

pub(super) fn forget(global: &Global, args: &ForgetArgs) -> Result<(), EdgeError> {
    let name = ClassName::new(&args.name)?;
    let mut session = Session::open(global, Access::Write)?;
    let operation = session.learner().forget(&name)?;
    session.apply(&operation)?;
    let left = session.learner().classes().len();
    if global.json {
        return report::json(&json!({ "forgot": name.as_str(), "classes": left }));
    }
    report::line(format!("forgot {name}; {left} classes left (undo takes it back)"))
}

pub(super) fn rename(global: &Global, args: &RenameArgs) -> Result<(), EdgeError> {
    let old = ClassName::new(&args.old)?;
    let new = ClassName::new(&args.new)?;
    let mut session = Session::open(global, Access::Write)?;
    let operation = session.learner().rename(&old, &new)?;
    session.apply(&operation)?;
    if global.json {
        return report::json(&json!({ "old": old.as_str(), "new": new.as_str() }));
    }
    report::line(format!("{old} is now {new}"))
}

pub(super) fn undo(global: &Global, args: &UndoArgs) -> Result<(), EdgeError> {
    let mut session = Session::open(global, Access::Write)?;
    let undone = session.undo(args.count)?;
    let left = session.learner().classes().len();
    if global.json {
        return report::json(&json!({ "undone": undone, "classes": left }));
    }
    for title in undone {
        report::line(format!("took back: {title}"))?;
    }
    report::line(format!("{left} classes"))
}
