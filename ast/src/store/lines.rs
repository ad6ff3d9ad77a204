//! The lines of the menu, one for each snapshot: what the tree, its set on disk, and the records of deployments and trials say about it.

use std::collections::BTreeMap;
use std::path::Path;

use super::derive::boot_env;
use super::document;
use super::open::Store;
use crate::grub::menu::{Health, SnapshotLine};
use crate::id::{SetId, SnapshotId};
use crate::layout::{self, Layout, Part};
use crate::sys::file;
use crate::tree::{Marks, Node, Tree};
use crate::updates::{TrialResult as Ended, Updates};

/// Every snapshot, parents first. No program is run, and of each set a directory, a file and a few names are looked at.
pub(super) fn lines(store: &Store, tree: &Tree, marks: &Marks) -> Vec<SnapshotLine> {
    let layout = store.layout();
    let healths = Healths::of(layout);
    // A set does not change, so a verb that writes the menu twice looks once. Whoever died with the lock held had only read.
    let mut seen = store.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    tree.walk().map(|visit| line(layout, visit.node, marks, &healths, &mut seen)).collect()
}

/// What the menu says of a set that is on disk: the version of its kernel, and whether it can be started.
pub(super) type Seen = BTreeMap<SetId, (Option<String>, bool)>;

fn line(layout: &Layout, node: &Node, marks: &Marks, healths: &Healths, seen: &mut Seen) -> SnapshotLine {
    let set = node.set();
    let look = || (kernel(layout, set), is_bootable(&layout.set_part(set, Part::Boot)));
    let (kernel, bootable) = seen.entry(set).or_insert_with(look).clone();
    SnapshotLine {
        set,
        description: node.description.clone(),
        kernel,
        created: Some(node.created),
        health: Some(healths.health(layout, set)),
        state: states(node.id, marks, node.pinned),
        bootable,
    }
}

fn states(id: SnapshotId, marks: &Marks, pinned: bool) -> Vec<String> {
    let all = [(marks.default == Some(id), "default"), (marks.trial == Some(id), "on trial"), (pinned, "pinned")];
    all.into_iter().filter(|(is, _)| *is).map(|(_, word)| word.to_owned()).collect()
}

/// Version of the kernel of a set: the name of its directory of modules, the last one where there are several.
fn kernel(layout: &Layout, set: SetId) -> Option<String> {
    let names = file::names(&layout.set_part(set, Part::Root).join("usr/lib/modules")).ok()?;
    names.last().and_then(|name| name.to_str()).map(str::to_owned)
}

/// Whether everything that its `ast.env` names is in a boot subvolume.
fn is_bootable(boot: &Path) -> bool {
    boot_env(boot)
        .is_ok_and(|env| std::iter::once(env.linux()).chain(env.initrd().iter().map(String::as_str)).all(|f| boot.join(f).is_file()))
}

/// What is known of how sets booted, gathered once for all of them.
#[derive(Debug, Default)]
struct Healths {
    /// How the newest remembered trial of a set ended.
    trials: BTreeMap<SetId, Health>,
}

impl Healths {
    /// What cannot be read says nothing.
    fn of(layout: &Layout) -> Self {
        let updates = document::load_if_exists::<Updates>(&layout.document(layout::UPDATES)).ok().flatten().map(|loaded| loaded.body);
        let mut healths = Self::default();
        for verdict in updates.iter().flat_map(|updates| &updates.verdicts) {
            let health = match verdict.result {
                Ended::Promoted => Health::Well,
                Ended::Failed => Health::Failed,
                _ => continue,
            };
            healths.trials.extend(verdict.set.map(|set| (set, health)));
        }
        healths
    }

    /// The newest trial speaks first: a set that booted well once and failed since has failed. Deployments are not asked: some are garbage,
    /// and a menu must not change when they go.
    fn health(&self, layout: &Layout, set: SetId) -> Health {
        match self.trials.get(&set) {
            Some(health) => *health,
            None if layout.set_well(set).exists() => Health::Well,
            None => Health::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ArmId, DeployId};
    use crate::updates::{Age, Verdict};

    fn set(text: &str) -> SetId {
        text.parse().expect("a set")
    }

    #[test]
    fn the_health_of_a_set_is_what_its_newest_trial_and_its_marks_say() {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = Layout::at(dir.path());
        let verdict = |d: u32, of: &str, result| Verdict {
            arm: ArmId::new(d),
            d: DeployId::new(d),
            set: Some(set(of)),
            at: Age(1),
            result,
            cause: None,
            evidence: Vec::new(),
            later: Default::default(),
        };
        let verdicts = vec![
            verdict(1, "1.1", Ended::Promoted),
            verdict(2, "1.1", Ended::Failed),
            verdict(3, "2.1", Ended::Failed),
            verdict(4, "2.1", Ended::StartFailed),
            verdict(5, "2.1", Ended::Promoted),
            verdict(6, "3.1", Ended::StartFailed),
            verdict(7, "4.1", Ended::Superseded),
        ];
        file::make_dirs(&layout.documents()).expect("a directory");
        let mut updates = Updates::default();
        updates.verdicts = verdicts;
        document::save(&layout.document(layout::UPDATES), &updates).expect("saved");
        let mark = layout.set_well(set("6.1"));
        file::make_dirs(mark.parent().expect("a directory")).expect("made");
        file::replace(&mark, b"1\n").expect("written");
        let healths = Healths::of(&layout);
        for (of, expected) in [
            ("1.1", Health::Failed),
            ("2.1", Health::Well),
            ("3.1", Health::Never),
            ("4.1", Health::Never),
            ("6.1", Health::Well),
            // Another generation is another system.
            ("6.2", Health::Never),
            ("7.1", Health::Never),
        ] {
            assert_eq!(healths.health(&layout, set(of)), expected, "{of}");
        }
    }
}
