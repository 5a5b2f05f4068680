//! `update` and `rollback`: one round of updates by hand, while the daemon is not running.

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::cli::{Global, RollbackArgs, UpdateArgs};
use crate::daemon::config::UpdateConfig;
use crate::report;
use crate::store::Access;
use crate::tls_roots::Authorities;
use crate::update::{
    Again, Classes, Client, Device, Location, Look, Offered, Origin, Phase, Piece, Remember,
    Settings, TakenOut, Then, Trusted, UpdateError, Updates, clock, read_root,
};
use crate::{EdgeError, Session};

pub(super) fn update(global: &Global, args: &UpdateArgs) -> Result<(), EdgeError> {
    let root = args.root.as_deref().map(read_root).transpose()?;
    let again = args.again.as_deref().map_or(Again::None, Again::named);
    let client = Client {
        channel: args.channel.clone(),
        authorities: Authorities::from_value(args.authority.as_deref()),
        key: "--authority",
    };
    let from = Origin::new(args.from.clone(), &client).map_err(UpdateError::Settings)?;
    let settings = Settings { from, root, channel: args.channel.clone(), again };
    let mut session = Session::open(global, Access::Write)?;
    let updates = Updates::of(&session)?;
    if !args.check {
        updates.begin_run()?;
    }
    let device = device(&session, &updates, &settings)?;
    let remember = if args.check { Remember::Nothing } else { Remember::Seen };
    let look = runtime()?.block_on(updates.look(&settings, &device, clock(), remember))?;
    if !global.json {
        list(&look)?;
    }
    if matches!(updates.record()?.phase, Phase::Trial { .. }) {
        // A trial ends by looking at frames, and this command has none.
        tracing::warn!("{}", UpdateError::OnTrial);
    }
    let round = if args.check {
        Round { waiting: look.choices.clone(), ..Round::default() }
    } else {
        round(&mut session, &updates, &settings, &look, classes(args.lose_classes))?
    };
    let features = session.store().feature_space_id().to_string();
    if global.json {
        return report::json(&round.as_json(&look, &device.id, &features, &session));
    }
    if args.check {
        return Ok(());
    }
    round.print(&session)
}

/// Result of one round of updates.
#[derive(Default)]
struct Round {
    /// Withdrawn adapters that were taken out of use.
    withdrawn: TakenOut,
    applied: Option<Offered>,
    /// Number of classes before an adapter was applied.
    known: usize,
    /// Adapters for this device that are not in use yet.
    waiting: Vec<Offered>,
}

/// Takes withdrawn adapters out of use, then applies the first adapter that can be applied.
///
/// # Errors
///
/// The reason why no withdrawn adapter was taken out or no offered adapter was applied.
fn round(
    session: &mut Session,
    updates: &Updates,
    settings: &Settings,
    look: &Look,
    classes: Classes,
) -> Result<Round, EdgeError> {
    let withdrawn = updates.withdraw(session, &look.withdrawn, classes);
    let mut round = Round { known: session.learner().classes().len(), ..Round::default() };
    let trouble = match withdrawn {
        Ok(withdrawn) => {
            round.withdrawn = withdrawn;
            None
        }
        Err(error) => Some(error),
    };
    // Other adapters may fit after the withdrawal.
    let judged = |session: &Session| {
        let device = device(session, updates, settings)?;
        Ok::<_, EdgeError>(updates.judged(look.list.clone(), &device, &settings.again, clock())?)
    };
    let choices = judged(session)?.choices;
    if !choices.is_empty() {
        let device = device(session, updates, settings)?;
        round.applied = match first_of(&choices, updates, settings, session, &device, classes) {
            Ok(applied) => Some(applied),
            // The withdrawal succeeded, so this error is only logged.
            Err(error) if !round.withdrawn.targets.is_empty() => {
                tracing::warn!("{}", report::with_causes(&error));
                None
            }
            Err(error) => return Err(trouble.unwrap_or(error).into()),
        };
    }
    match trouble {
        Some(error) if round.applied.is_none() => return Err(error.into()),
        Some(error) => tracing::warn!("{}", report::with_causes(&error)),
        None => {}
    }
    round.waiting = judged(session)?.choices;
    Ok(round)
}

impl Round {
    fn print(&self, session: &Session) -> Result<(), EdgeError> {
        let classes = session.learner().classes().len();
        for out in &self.withdrawn.targets {
            report::line(format!("{} is out of use: {}", out.target, self.withdrawn.why))?;
        }
        match &self.applied {
            Some(applied) => report::line(format!(
                "{} is in use: {classes} classes, {} before (rollback takes it back)",
                applied.target, self.known
            ))?,
            None if self.withdrawn.targets.is_empty() => report::line("nothing to update")?,
            None => {}
        }
        if self.applied.is_none() || self.waiting.is_empty() {
            return Ok(());
        }
        let targets: Vec<&str> = self.waiting.iter().map(|offered| &*offered.target).collect();
        report::line(format!(
            "{} more for this box: {}; run update again for the next",
            targets.len(),
            targets.join(", ")
        ))
    }

    fn as_json(&self, look: &Look, device: &str, features: &str, session: &Session) -> Value {
        let seen = look.seen.iter().map(|(target, offered)| {
            let not_for_us = offered.as_ref().err().map(ToString::to_string);
            json!({ "target": target, "not_for_us": not_for_us })
        });
        let applied = self.applied.as_ref().map(|applied| {
            let name = applied.offer.name.to_string();
            let release = applied.offer.release;
            json!({ "target": applied.target, "name": name, "release": release })
        });
        let names = |all: &[Offered]| -> Vec<String> {
            all.iter().map(|offered| offered.target.clone()).collect()
        };
        let withdrawn = look.withdrawn.iter().map(|order| {
            let out = names(&self.withdrawn.targets).contains(&order.target);
            json!({ "target": order.target, "reason": order.reason, "in_use": !out })
        });
        let mut told = json!({
            "device": device,
            "feature_space": features,
            "applied": applied,
            "taken_out": names(&self.withdrawn.targets),
            "withdrawn": withdrawn.collect::<Vec<_>>(),
            "waiting": names(&self.waiting),
            "adapters": seen.collect::<Vec<_>>(),
        });
        if self.applied.is_some() || !self.withdrawn.targets.is_empty() {
            told["classes"] = json!(session.learner().classes().len());
        }
        told
    }
}

/// Describes this device: id, base, feature space and channel.
fn device(session: &Session, updates: &Updates, settings: &Settings) -> Result<Device, EdgeError> {
    Ok(Device {
        id: updates.record()?.device,
        base_id: session.base().id,
        feature_space: session.store().feature_space_id(),
        channel: settings.channel.clone(),
    })
}

/// Prints the adapters and withdrawals that a look has found.
fn list(look: &Look) -> Result<(), EdgeError> {
    for (target, offered) in &look.seen {
        match offered {
            Ok(_) => report::line(format!("{target}: for this box"))?,
            Err(why) => report::line(format!("{target}: {why}"))?,
        }
    }
    for order in &look.withdrawn {
        report::line(format!("{}: in use here until update takes it out", order.target))?;
    }
    Ok(())
}

/// Fetches adapters until one is applied. There is no trial, because no daemon watches over it: all
/// possible checks were made before, and the adapter stays.
///
/// # Errors
///
/// The reason why the first adapter was not applied.
fn first_of(
    choices: &[Offered],
    updates: &Updates,
    settings: &Settings,
    session: &mut Session,
    device: &Device,
    classes: Classes,
) -> Result<Offered, UpdateError> {
    let mut first = None;
    let mut piece = Piece::Keep;
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

/// Checks that the repository can be read and has valid signatures. A missing folder, such as a
/// stick that is not plugged in, is not checked.
///
/// # Errors
///
/// [`UpdateError::Trust`]. Without a root, nothing can be verified, and nothing is tried.
pub(super) fn try_repository(config: &UpdateConfig) -> Result<(), EdgeError> {
    let Some(Settings { from, root: Some(root), .. }) = config.settings()? else { return Ok(()) };
    if matches!(from.location(), Location::Folder(folder) if !folder.exists()) {
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
