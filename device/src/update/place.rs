//! Position of an adapter among those in use: on top of them, or in place of an older release.

use super::offer::{Device, NotForUs, Offered};
use super::record::Record;

/// A position for an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Number of adapters in use that stay unchanged beneath it.
    pub(super) beneath: usize,
    /// True if the next adapter is an older release of it, which is replaced.
    pub(super) replaces: bool,
}

/// Finds the position of an adapter, if it is for this device.
///
/// An adapter continues the current features, or replaces an older release of the same name that
/// began with the same features. The adapters on top of that release stay, if the new release
/// produces the features that they continue.
///
/// # Errors
///
/// [`NotForUs`], with the reason why there is none.
pub(super) fn place(
    record: &Record,
    device: &Device,
    offered: &Offered,
) -> Result<Place, NotForUs> {
    let in_use = &record.in_use;
    let offer = &offered.offer;
    let of_name = in_use.iter().rposition(|used| used.offered.offer.name == offer.name);
    let older = of_name.map(|i| (i, &in_use[i].offered.offer));
    if let Some((_, older)) = older.filter(|(_, older)| older.release >= offer.release) {
        return Err(NotForUs::InUse(older.release));
    }
    let replaced =
        older.filter(|(_, older)| older.feature_space_before == offer.feature_space_before);
    let Some((i, older)) = replaced else {
        offered.suits(device)?;
        return Ok(Place { beneath: in_use.len(), replaces: false });
    };
    let begun = Device { feature_space: older.feature_space_before, ..device.clone() };
    offered.suits(&begun)?;
    // A task that was learned on this device since then cannot be set aside.
    if in_use.last().is_none_or(|top| top.offered.offer.feature_space_after != device.feature_space)
    {
        return Err(NotForUs::OtherFeatures);
    }
    let uppermost = i + 1 == in_use.len();
    if !uppermost && older.feature_space_after != offer.feature_space_after {
        return Err(NotForUs::Beneath(older.release));
    }
    if !in_use[i].removable {
        return Err(NotForUs::ForGood(older.release));
    }
    Ok(Place { beneath: i, replaces: true })
}

#[cfg(test)]
mod tests {
    use fmlora_learner::{BaseId, FeatureSpaceId};

    use super::*;
    use crate::update::record::InUse;

    fn space(n: u8) -> FeatureSpaceId {
        BaseId::new([n; 32]).feature_space()
    }

    fn offered(name: &str, release: u64, from: u8, to: u8) -> Offered {
        let mut offered = Offered::example(name, release);
        offered.offer.feature_space_before = space(from);
        offered.offer.feature_space_after = space(to);
        offered
    }

    /// Returns the position of an adapter on a device with the adapters `used`, the oldest first.
    /// The last `kept` of them are removable.
    fn placed(
        used: &[&Offered],
        kept: usize,
        features: u8,
        new: &Offered,
    ) -> Result<Place, NotForUs> {
        let mut record = Record::new();
        let first = used.len() - kept;
        let in_use = used.iter().enumerate().map(|(i, &offered)| InUse {
            offered: offered.clone(),
            since: 0,
            removable: i >= first,
        });
        record.in_use = in_use.collect();
        let device = Device {
            id: String::new(),
            base_id: new.offer.base_id,
            feature_space: space(features),
            channel: "stable".to_owned(),
        };
        place(&record, &device, new)
    }

    #[test]
    fn an_adapter_goes_on_top_or_in_the_place_of_its_older_release() {
        let on_top = |beneath| Ok(Place { beneath, replaces: false });
        let instead = |beneath| Ok(Place { beneath, replaces: true });
        let birds = offered("birds", 1, 0, 0);
        let tools = offered("tools", 2, 0, 0);
        let moving = offered("moving", 3, 0, 1);
        assert_eq!(placed(&[], 0, 0, &birds), on_top(0));
        assert_eq!(placed(&[&birds], 1, 0, &tools), on_top(1));
        assert_eq!(placed(&[&birds], 1, 0, &birds), Err(NotForUs::InUse(1)));
        assert_eq!(placed(&[&birds], 1, 0, &offered("birds", 4, 0, 0)), instead(0));
        // The adapter on top finds the same features after the replacement.
        let both = [&birds, &tools];
        assert_eq!(placed(&both, 2, 0, &offered("birds", 4, 0, 0)), instead(0));
        assert_eq!(placed(&both, 2, 0, &offered("birds", 4, 0, 1)), Err(NotForUs::Beneath(1)));
        // The first adapter can no longer be taken out.
        assert_eq!(placed(&both, 1, 0, &offered("birds", 4, 0, 0)), Err(NotForUs::ForGood(1)));
        // An adapter that changed the features: its next release begins where it began, or
        // continues it.
        let moved = [&moving];
        assert_eq!(placed(&moved, 1, 1, &offered("moving", 4, 0, 2)), instead(0));
        assert_eq!(placed(&moved, 1, 1, &offered("moving", 4, 1, 2)), on_top(1));
        assert_eq!(placed(&moved, 1, 1, &tools), Err(NotForUs::OtherFeatures));
        // A task was learned on this device since then.
        assert_eq!(placed(&moved, 1, 9, &offered("moving", 4, 0, 2)), Err(NotForUs::OtherFeatures));
        assert_eq!(placed(&moved, 1, 9, &offered("moving", 4, 1, 2)), Err(NotForUs::OtherFeatures));
    }
}
