//! The verbs of the tree as plans. None of these functions touches anything.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::open::Store;
use super::run::now;
use super::{Need, StoreError};
use crate::id::{DeployId, Generation, SetId, SnapshotId};
use crate::layout::Part;
use crate::plan::{Commit, Plan, Step};
use crate::sys::btrfs::Access;
use crate::tree::{Label, Node, Tree};
use crate::volumes;

impl Store {
    /// Base 0 becomes a tree of its own (`new`).
    pub fn plan_new(&self, description: &str) -> Result<(Plan, SnapshotId), StoreError> {
        self.plan_copy(SnapshotId::BASE, None, description, "new tree")
    }

    /// `n` becomes a tree of its own (`clone`).
    pub fn plan_clone(&self, n: SnapshotId, description: &str) -> Result<(Plan, SnapshotId), StoreError> {
        self.plan_copy(n, None, description, "clone")
    }

    /// A copy of `n` below it (`branch`).
    pub fn plan_branch(&self, n: SnapshotId, description: &str) -> Result<(Plan, SnapshotId), StoreError> {
        self.plan_copy(n, Some(n), description, "branch")
    }

    /// A copy of `n` beside it (`cbranch`).
    pub fn plan_cbranch(&self, n: SnapshotId, description: &str) -> Result<(Plan, SnapshotId), StoreError> {
        let parent = self.tree()?.get(n)?.parent;
        self.plan_copy(n, parent, description, "clone beside it")
    }

    /// A copy of `n` below `parent` (`ubranch`).
    pub fn plan_ubranch(&self, parent: SnapshotId, n: SnapshotId, description: &str) -> Result<(Plan, SnapshotId), StoreError> {
        self.plan_copy(n, Some(parent), description, "clone")
    }

    fn plan_copy(
        &self,
        n: SnapshotId,
        parent: Option<SnapshotId>,
        description: &str,
        word: &str,
    ) -> Result<(Plan, SnapshotId), StoreError> {
        let from = self.set_of(n)?;
        self.plan_from(
            |part| self.layout().set_part(from, part),
            parent,
            description,
            |new| match parent {
                Some(parent) if parent != n => format!("{word} of {n} as {new} below {parent}"),
                _ => format!("{word} of {n} as {new}"),
            },
        )
    }

    /// A new snapshot out of four subvolumes wherever they are: a set, a working copy, a deployment.
    pub fn plan_from(
        &self,
        source: impl Fn(Part) -> PathBuf,
        parent: Option<SnapshotId>,
        description: &str,
        what: impl Fn(SnapshotId) -> String,
    ) -> Result<(Plan, SnapshotId), StoreError> {
        let mut after = self.tree()?.clone();
        let new = after.add(parent, label(description), volumes::highest_snapshot(self.layout())?)?;
        let mut prepare = Vec::new();
        self.push_set(&mut prepare, source, after.set_of(new)?);
        Ok((self.plan_tree(what(new), prepare, after)?, new))
    }

    /// The same for an unattended update below `parent`, which may delete it again by itself.
    pub fn plan_update(
        &self,
        source: impl Fn(Part) -> PathBuf,
        parent: SnapshotId,
        description: &str,
        what: impl Fn(SnapshotId) -> String,
    ) -> Result<(Plan, SnapshotId), StoreError> {
        let (mut plan, new) = self.plan_from(source, Some(parent), description, what)?;
        if let Commit::Tree { after, .. } = &mut plan.commit {
            after.made_by_update(new)?;
        }
        Ok((plan, new))
    }

    /// `n` and everything below it become a tree of their own, all or nothing (`clone-tree`). The copies, parents first, with what they are of.
    pub fn plan_clone_tree(&self, n: SnapshotId, description: Option<&str>) -> Result<(Plan, Vec<(SnapshotId, SnapshotId)>), StoreError> {
        let before = self.tree()?;
        let highest = volumes::highest_snapshot(self.layout())?;
        let mut after = before.clone();
        let mut prepare = Vec::new();
        let mut copies: BTreeMap<SnapshotId, SnapshotId> = BTreeMap::new();
        let mut made = Vec::new();
        for visit in before.walk_from(n)? {
            let node = visit.node;
            // The parent of the first is outside of what is copied.
            let parent = node.parent.and_then(|p| copies.get(&p)).copied();
            let text = description.filter(|_| node.id == n).unwrap_or(&node.description);
            let new = after.add(parent, label(text), highest)?;
            let from = self.set_of(node.id)?;
            self.push_set(&mut prepare, |part| self.layout().set_part(from, part), after.set_of(new)?);
            copies.insert(node.id, new);
            made.push((node.id, new));
        }
        Ok((self.plan_tree(format!("clone of the tree {n}, {} snapshots", made.len()), prepare, after)?, made))
    }

    /// `n` and everything below it are deleted (`del`). What goes, parents first.
    ///
    /// Refuses: the base, and a tree that holds a booted, default, trial, fallback or pinned snapshot, which it names.
    pub fn plan_del(&self, n: SnapshotId) -> Result<(Plan, Vec<SnapshotId>), StoreError> {
        let mut after = self.tree()?.clone();
        let gone = after.remove(n)?;
        self.not_needed(&gone)?;
        let ids: Vec<SnapshotId> = gone.iter().map(|node| node.id).collect();
        Ok((self.plan_tree(format!("delete {}", list(&ids)), Vec::new(), after)?, ids))
    }

    /// These snapshots alone are deleted, with the `/var` that was kept when `vars` were armed and package files that no other has;
    /// what was below a snapshot is below its parent then.
    ///
    /// Refuses: the base, and a booted, default, trial, fallback or pinned snapshot, which it names.
    pub fn plan_take_out(&self, ids: &[SnapshotId], vars: &[DeployId]) -> Result<Plan, StoreError> {
        let mut after = self.tree()?.clone();
        let gone = ids.iter().map(|id| after.take_out(*id)).collect::<Result<Vec<_>, _>>()?;
        self.not_needed(&gone)?;
        let snapshots = (!ids.is_empty()).then(|| format!("snapshots {}", list(ids)));
        let kept_vars = (!vars.is_empty()).then(|| format!("the /var before deployments {}", list(vars)));
        let what = snapshots.into_iter().chain(kept_vars).collect::<Vec<_>>().join(" and ");
        let mut plan = self.plan_tree(format!("retention: delete {what}"), Vec::new(), after)?;
        // Before the last step, which is to collect what nothing names any more.
        let collect = plan.after.len().saturating_sub(1);
        plan.after.splice(collect..collect, vars.iter().copied().map(Step::ForgetVar).chain([Step::CleanCache]));
        Ok(plan)
    }

    /// Refuses: what is needed to run and to start this machine, and what its owner pinned.
    fn not_needed(&self, gone: &[Node]) -> Result<(), StoreError> {
        let marks = self.marks();
        for node in gone {
            let needs = [
                (marks.booted == Some(node.id), Need::Booted),
                (marks.default == Some(node.id), Need::Default),
                (marks.trial == Some(node.id), Need::Trial),
                (marks.fallback == Some(node.id), Need::Fallback),
                (node.pinned, Need::Pinned),
            ];
            if let Some((_, need)) = needs.into_iter().find(|(is, _)| *is) {
                return Err(StoreError::Needed { id: node.id, need });
            }
        }
        Ok(())
    }

    /// `n` is described by `text` (`desc`).
    pub fn plan_describe(&self, n: SnapshotId, text: &str) -> Result<Plan, StoreError> {
        let mut after = self.tree()?.clone();
        after.describe(n, text)?;
        self.plan_tree(format!("describe {n} as {:?}", after.get(n)?.description), Vec::new(), after)
    }

    /// `n` is pinned or not (`pin`, `unpin`); `None` when it is already.
    pub fn plan_pin(&self, n: SnapshotId, pinned: bool) -> Result<Option<Plan>, StoreError> {
        let mut after = self.tree()?.clone();
        if !after.pin(n, pinned)? {
            return Ok(None);
        }
        let word = if pinned { "pin" } else { "unpin" };
        self.plan_tree(format!("{word} {n}"), Vec::new(), after).map(Some)
    }

    /// The four subvolumes in `dir` (a finished working copy of `from`) become the next generation of its snapshot (`seal`), for `what`.
    ///
    /// Refuses: when somebody saved the snapshot meanwhile.
    pub fn plan_seal(&self, from: SetId, dir: &std::path::Path, what: &str) -> Result<(Plan, SetId), StoreError> {
        let now = self.tree()?.set_of(from.snapshot)?;
        if now != from {
            return Err(StoreError::Moved { from, now });
        }
        let on_disk = volumes::sets(self.layout())?.into_iter().filter(|set| set.snapshot == from.snapshot);
        let highest = on_disk.map(|set| set.generation).max().unwrap_or(from.generation).max(from.generation);
        let generation: Generation = highest.next().ok_or(crate::tree::TreeError::NumbersUsedUp("generation"))?;
        let to = SetId { snapshot: from.snapshot, generation };
        let mut after = self.tree()?.clone();
        after.set_generation(from.snapshot, generation)?;
        let mut prepare = Vec::new();
        self.push_set(&mut prepare, |part| dir.join(part.name()), to);
        Ok((self.plan_tree(format!("{what}: {from} becomes {to}"), prepare, after)?, to))
    }

    fn push_set(&self, steps: &mut Vec<Step>, source: impl Fn(Part) -> PathBuf, to: SetId) {
        steps.push(Step::MakeDir(self.layout().set(to)));
        let snapshot = |part| Step::Snapshot { from: source(part), to: self.layout().set_part(to, part), access: Access::ReadOnly };
        steps.extend(Part::ALL.map(snapshot));
    }

    fn plan_tree(&self, what: String, mut prepare: Vec<Step>, after: Tree) -> Result<Plan, StoreError> {
        if !prepare.is_empty() {
            prepare.push(Step::Sync);
        }
        let commit = Commit::Tree { before: Box::new(self.tree()?.clone()), after: Box::new(after) };
        // The menu before the garbage: nothing is deleted that it still names.
        let after = vec![Step::Links, Step::Menu, Step::Record(what.clone()), Step::Sync, Step::Collect];
        Ok(Plan { what, prepare, commit, after })
    }
}

fn list(ids: &[impl ToString]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn label(description: &str) -> Label {
    Label { description: description.to_owned(), created: now() }
}
