//! `update` and `rollback`: one round by hand, while the daemon does not run.

use serde_json::json;
use tokio::runtime::Runtime;

use crate::cli::{Global, RollbackArgs, UpdateArgs};
use crate::daemon::config::UpdateConfig;
use crate::report;
use crate::store::Access;
use crate::update::{
    Again, Classes, Device, Location, Look, Offered, Phase, Piece, Remember, Settings, Then,
    Trusted, UpdateError, Updates, clock, read_root,
};
use crate::{EdgeError, Session};

pub(super) fn update(global: &Global, args: &UpdateArgs) -> Result<(), EdgeError> {
    let root = args.root.as_deref().map(read_root).transpose()?;
    let mut session = Session::open(global, Access::Write)?;
    let updates = Updates::of(&session)?;
    let again = args.again.as_deref().map_or(Again::None, Again::named);
    let settings = Settings { from: args.from.clone(), root, channel: args.channel.clone(), again };
    let device = Device {
        id: updates.record()?.device,
        base_id: session.base().id,
        feature_space: session.store().feature_space_id(),
        channel: args.channel.clone(),
    };
    let remember = if args.check { Remember::Nothing } else { Remember::Seen };
    let look = runtime()?.block_on(updates.look(&settings, &device, clock(), remember))?;
    if !global.json {
        for (target, offered) in &look.seen {
            match offered {
                Ok(_) => report::line(format!("{target}: for this box"))?,
                Err(why) => report::line(format!("{target}: {why}"))?,
            }
        }
    }
    if matches!(updates.record()?.phase, Phase::Trial { .. }) {
        // Frames prove it, and a look has none.
        tracing::warn!("{}", UpdateError::OnTrial);
    }
    if args.check || look.choices.is_empty() {
        if global.json {
            return report_json(&look, None, None);
        }
        return if args.check { Ok(()) } else { report::line("nothing to update") };
    }
    let known = session.learner().classes().len();
    let classes = classes(args.lose_classes);
    let applied = first_of(&look.choices, &updates, &settings, &mut session, &device, classes)?;
    let classes = session.learner().classes().len();
    if global.json {
        return report_json(&look, Some(&applied), Some(classes));
    }
    report::line(format!(
        "{} is in use: {classes} classes, {known} before (rollback takes it back)",
        applied.target
    ))
}

/// Fetches adapters until one is in use. No daemon watches over it: it was tried as far as can be, and stays.
///
/// # Errors
///
/// Why the first of them is not in use.
fn first_of(
    choices: &[Offered],
    updates: &Updates,
    settings: &Settings,
    session: &mut Session,
    device: &Device,
    classes: Classes,
) -> Result<Offered, UpdateError> {
    let (mut first, mut piece) = (None, Piece::Keep);
    for offered in choices {
        let fetched = updates.fetch(&settings.from, offered, piece);
        match fetched.and_then(|()| updates.switch(session, device, classes, Then::Stays)) {
            Ok(applied) => {
                if let Some(error) = first {
                    tracing::warn!("{}", report::with_causes(&error));
                }
                return Ok(applied);
            }
            Err(error) if error.is_about_one() => {
                if let UpdateError::Download(_) = error {
                    piece = Piece::Drop;
                }
                first = first.or(Some(error));
            }
            Err(error) => return Err(first.unwrap_or(error)),
        }
    }
    Err(first.unwrap_or(UpdateError::NothingFetched))
}

fn report_json(
    look: &Look,
    applied: Option<&Offered>,
    classes: Option<usize>,
) -> Result<(), EdgeError> {
    let seen = look.seen.iter().map(|(target, offered)| {
        let not_for_us = offered.as_ref().err().map(ToString::to_string);
        json!({ "target": target, "not_for_us": not_for_us })
    });
    let applied = applied.map(|applied| {
        let (name, release) = (applied.offer.name.to_string(), applied.offer.release);
        json!({ "target": applied.target, "name": name, "release": release })
    });
    let mut told = json!({ "applied": applied, "adapters": seen.collect::<Vec<_>>() });
    if let Some(classes) = classes {
        told["classes"] = json!(classes);
    }
    report::json(&told)
}

pub(super) fn roll_back(global: &Global, args: &RollbackArgs) -> Result<(), EdgeError> {
    let mut session = Session::open(global, Access::Write)?;
    let updates = Updates::of(&session)?;
    let lose = classes(args.lose_classes);
    let taken = updates.roll_back(&mut session, "taken back by hand", lose)?;
    let classes = session.learner().classes().len();
    if global.json {
        return report::json(&json!({ "rolled_back": taken.target, "classes": classes }));
    }
    report::line(format!("took back {}; {classes} classes", taken.target))
}

/// Looks whether a repository can be read and is to be believed; a stick that is not plugged in is none.
///
/// # Errors
///
/// [`UpdateError::Trust`]; without a root, nothing is believed, and nothing is tried.
pub(super) fn try_repository(config: &UpdateConfig) -> Result<(), EdgeError> {
    let Some(Settings { from, root: Some(root), .. }) = config.settings()? else { return Ok(()) };
    if matches!(&from, Location::Folder(folder) if !folder.exists()) {
        return Ok(());
    }
    let mut trusted = Trusted::new(root).map_err(UpdateError::from)?;
    let loaded = runtime()?.block_on(trusted.load(&from, clock()));
    loaded.map(|_| ()).map_err(|error| UpdateError::from(error).into())
}

fn classes(may_be_lost: bool) -> Classes {
    if may_be_lost { Classes::MayBeLost } else { Classes::Keep }
}

fn runtime() -> Result<Runtime, EdgeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|source| EdgeError::System { what: "start a runtime", source })
}
