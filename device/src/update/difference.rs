//! Computes the operation that leads from one learner to another.

use std::collections::BTreeMap;
use std::sync::Arc;

use fmlora_learner::{
    AdapterChange, AdapterState, Change, Class, Learner, Operation, OperationKind,
};

/// Creates a learner with these classes and this adapter state.
pub(super) fn learner_of(
    d_feature: usize,
    classes: impl IntoIterator<Item = Arc<Class>>,
    adapter: Option<AdapterState>,
) -> Learner {
    let mut learner = Learner::new(d_feature);
    let changes = classes.into_iter().map(|class| Change { before: None, after: Some(class) });
    let after = adapter.map(Arc::new);
    let adapter = after.is_some().then_some(AdapterChange { before: None, after });
    let changes = changes.collect();
    learner.apply(&Operation { kind: OperationKind::Update, changes, adapter });
    learner
}

/// Returns the operation that turns `now` into `next`: one change for each class that differs, and
/// a change of the network if it differs.
pub(super) fn difference(now: &Learner, next: &Learner) -> Operation {
    let mut after: BTreeMap<String, Arc<Class>> =
        next.classes().map(|class| (class.name.key(), class.clone())).collect();
    let mut changes: Vec<Change> = now
        .classes()
        .map(|class| Change { before: Some(class.clone()), after: after.remove(&class.name.key()) })
        .filter(|change| change.before != change.after)
        .collect();
    changes.extend(after.into_values().map(|class| Change { before: None, after: Some(class) }));
    let adapter = (now.adapter() != next.adapter())
        .then(|| AdapterChange { before: now.adapter().cloned(), after: next.adapter().cloned() });
    Operation { kind: OperationKind::Update, changes, adapter }
}
