//! `publish remove`: a target goes off the list.
//!
//! Its file stays in `targets/`: a device may be between the list before and the file.

use anyhow::Result;
use serde_json::json;
use tough::TargetName;

use super::arguments::RemoveArgs;
use super::freshness::Signing;
use super::key_ring::KeyRing;
use super::lock::Lock;
use super::offers::{target_mut, withdrawal_of};
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
    for name in &args.names {
        let target = target_mut(&mut targets, name)?;
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
    }
    let ring = KeyRing::open(&args.keys)?;
    let signer = signers(&repository, keys_of(&ring, repository.root(), &roles)?);
    let plan = next_state(&repository, &signer, Some(targets), &lifetimes)?;
    let done = plan.carry_out(args.repo.dry_run)?;
    done.print(as_json, json!({ "removed": args.names }), &lines)
}
