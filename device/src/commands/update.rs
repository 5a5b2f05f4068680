//! `update` and `rollback`: one round by hand, while the daemon does not run.

use fmlora_learner::format::MAX_ADAPTER_BYTES;
use jiff::Timestamp;
use serde_json::json;

use crate::cli::{Global, UpdateArgs};
use crate::report;
use crate::store::Access;
use crate::update::{Device, Settings, UpdateError, Updates};
use crate::{EdgeError, Session};

/// Largest root.json.
const MAX_ROOT: u64 = MAX_ADAPTER_BYTES as u64;

pub(super) fn update(global: &Global, args: &UpdateArgs) -> Result<(), EdgeError> {
    let root = args.root.as_deref().map(|path| read_root(path)).transpose()?;
    let mut session = Session::open(global, Access::Write)?;
    let updates = Updates::of(&session)?;
    updates.started(&mut session)?;
    let settings =
        Settings { from: args.from.clone(), root, channel: args.channel.clone() };
    let device = Device {
        id: updates.record()?.device,
        base_id: session.base().id,
        feature_space: session.store().feature_space_id(),
        channel: args.channel.clone(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|source| EdgeError::System { what: "start a runtime", source })?;
    let look = runtime.block_on(updates.look(&settings, &device, Timestamp::now()))?;
    let seen: Vec<_> = look
        .seen
        .iter()
        .map(|(target, offered)| {
            let not_for_us = offered.as_ref().err().map(ToString::to_string);
            json!({ "target": target, "not_for_us": not_for_us })
        })
        .collect();
    if !global.json {
        for (target, offered) in &look.seen {
            match offered {
                Ok(_) => report::line(format!("{target}: for this box"))?,
                Err(why) => report::line(format!("{target}: {why}"))?,
            }
        }
    }
    let Some(offered) = look.choice.filter(|_| !args.check) else {
        if global.json {
            return report::json(&json!({ "applied": null, "adapters": seen }));
        }
        return if args.check { Ok(()) } else { report::line("nothing to update") };
    };
    updates.fetch(&settings.from, &offered)?;
    let known = session.learner().classes().len();
    let applied = updates.switch(&mut session, args.lose_classes)?;
    // No daemon watches over it: it was tried as far as can be, and stays.
    updates.commit()?;
    let classes = session.learner().classes().len();
    if global.json {
        let (name, release) = (applied.offer.name.to_string(), applied.offer.release);
        let applied = json!({ "target": applied.target, "name": name, "release": release });
        return report::json(&json!({ "applied": applied, "classes": classes, "adapters": seen }));
    }
    report::line(format!(
        "{} is in use: {classes} classes, {known} before (rollback takes it back)",
        applied.target
    ))
}

pub(super) fn roll_back(global: &Global) -> Result<(), EdgeError> {
    let mut session = Session::open(global, Access::Write)?;
    let updates = Updates::of(&session)?;
    let taken = updates.roll_back(&mut session, "taken back by hand")?;
    let classes = session.learner().classes().len();
    if global.json {
        return report::json(&json!({ "rolled_back": taken.target, "classes": classes }));
    }
    report::line(format!("took back {}; {classes} classes", taken.target))
}

/// Reads a root.json.
fn read_root(path: &std::path::Path) -> Result<Vec<u8>, EdgeError> {
    let fail = |source| EdgeError::File { path: path.to_owned(), what: "read", source };
    std::fs::read(path).map_err(fail)
}
