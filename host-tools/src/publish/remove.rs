//! `publish remove`: removes a target from the list.
//!
//! Its file stays in `targets/`: a device may have read the previous list, and fetch the file next.

use std::path::Path;

use anyhow::Result;
use serde_json::json;
use tough::TargetName;

use super::arguments::RemoveArgs;
use super::freshness::Signing;
use super::key_ring::KeyRing;
use super::lock::Lock;
use super::offers::{target_mut, withdrawal_of};
use super::plan::Plan;
use super::repository::{Repository, target_file};
use super::role::{Lifetimes, Role};
use super::signing::next_state;
use super::{keys_of, signers, warn};

pub(super) fn run(args: &RemoveArgs, as_json: bool) -> Result<()> {
    let _lock = Lock::take(&args.repo.repo, args.repo.dry_run)?;
    let repository = Repository::open(&args.repo.repo)?;
    let lifetimes = Lifetimes::new(&args.repo.expires);
    let roles = [Role::Targets, Role::Snapshot, Role::Timestamp];
    Signing { repository: &repository, roles: &roles, now: lifetimes.now() }.check()?;
    let mut targets = repository.targets.signed.clone();
    let mut lines = Vec::new();
    let mut removed = Vec::new();
    for name in &args.names {
        let target = match target_mut(&mut targets, name) {
            Ok(target) => target,
            // An interrupted command may have removed it already.
            Err(_) if was_published(&args.repo.repo, name) => {
                warn(&format!("{name} is not on the list"));
                continue;
            }
            Err(error) => return Err(error),
        };
        if withdrawal_of(name, target)?.is_none() {
            warn(&format!(
                "{name}: devices that have it keep it, and it cannot be withdrawn once it is off the list; publish withdraw \
                 comes before"
            ));
        }
        let file = target_file(&args.repo.repo, name, &target.hashes.sha256);
        lines.push(format!(
            "{name}: off the list; {} may be deleted once no device can be fetching it",
            file.display()
        ));
        targets.targets.remove(&TargetName::new(name.as_str())?);
        removed.push(name);
    }
    let mut plan = Plan::default();
    if !removed.is_empty() {
        let ring = KeyRing::open(&args.keys)?;
        let signer = signers(&repository, keys_of(&ring, repository.root(), &roles)?);
        plan = next_state(&repository, &signer, Some(targets), &lifetimes)?;
    }
    let done = plan.carry_out(args.repo.dry_run)?;
    done.print(as_json, json!({ "removed": removed }), &lines)
}

/// Returns true if the repository has a file of a target of this name, on the list or not.
fn was_published(repository: &Path, name: &str) -> bool {
    let files = std::fs::read_dir(repository.join("targets")).into_iter().flatten().flatten();
    // A target's file is named by its SHA-256, a dot and the name of the target, which may have dots.
    files.into_iter().any(|file| {
        let file_name = file.file_name();
        file_name.to_string_lossy().split_once('.').is_some_and(|(_, target)| target == name)
    })
}
