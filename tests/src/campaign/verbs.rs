//! The verbs that are recorded, in an order in which each can be done: every plan that the program can make.
//!
//! A test compares this file with the plans that the source of the program offers, so a new one is missed here.

use std::path::PathBuf;

use ast::boot::booted::Booted;
use ast::config::autoupdate::Keep;
use ast::deploy::{self, Etc, How, Var};
use ast::id::{DeployId, SetId, SnapshotId};
use ast::layout::Part;
use ast::live;
use ast::plan::Plan;
use ast::retain;
use ast::store::{Locked, Store};
use ast::sys::btrfs::{self, Access};
use ast::sys::file;
use ast::transfer::{self, Secret, Wish};
use ast::updates::Updates;
use ast::work::Place;

use super::machine::{d, n, write};
use super::past::upgrade;

/// One change.
pub(super) struct Verb {
    /// What it is called in the report.
    pub name: &'static str,
    /// The deployment that runs meanwhile; 0: none.
    pub booted: u32,
    /// The plan, and whatever is at work before it.
    pub plan: fn(&Store) -> Plan,
}

const fn verb(name: &'static str, booted: u32, plan: fn(&Store) -> Plan) -> Verb {
    Verb { name, booted, plan }
}

/// In the comments: what is there then.
pub(super) const VERBS: [Verb; 31] = [
    // An update: snapshot 5, deployment 2.
    verb("branch", 0, |s| made(s.plan_branch(n(1), "update"))),
    verb("seal", 0, |s| sealed(s, n(5), true)),
    verb("deploy-trial", 1, |s| made(deploy::plan_deploy(s, n(5), How::Trial, Etc::MergedFrom(d(1))))),
    verb("promote", 0, |s| promoted(s, d(2))),
    verb("del", 2, |s| made(s.plan_del(n(2)))),
    verb("deploy-once", 2, |s| made(deploy::plan_deploy(s, n(1), How::Once, Etc::OfSnapshot))),
    verb("report-well", 0, |s| {
        deploy::plan_report_well(s, &Booted::parse("d=3\nwhy=once\narm=2\nleft=0\nenv=ok\n")).expect("allowed").expect("needed")
    }),
    verb("deploy-no-trial", 2, |s| made(deploy::plan_deploy(s, n(1), How::NoTrial, Etc::OfSnapshot))),
    // Deployment 4 is the good one. One commit that re-parents and deletes, and the /var that was kept for deployment 2.
    verb("clean", 4, |s| {
        let found = retain::look(s, &Updates::default(), &Keep::newest(1)).expect("looked");
        assert_eq!((found.going().as_slice(), found.vars.as_slice()), (&[n(3)][..], &[d(2)][..]));
        found.plan(s).expect("a plan").expect("something goes")
    }),
    // The tree: 6 to 9, then copies of 1, 4, 5 and 8.
    verb("new", 4, |s| made(s.plan_new("a tree"))),
    verb("clone", 4, |s| made(s.plan_clone(n(1), "cloned"))),
    verb("cbranch", 4, |s| made(s.plan_cbranch(n(4), "beside"))),
    verb("ubranch", 4, |s| made(s.plan_ubranch(n(6), SnapshotId::BASE, "below"))),
    verb("clone-tree", 4, |s| made(s.plan_clone_tree(n(1), None))),
    verb("del-tree", 4, |s| {
        let (plan, gone) = s.plan_del(n(10)).expect("a plan");
        assert_eq!(gone.len(), 4);
        plan
    }),
    verb("desc", 4, |s| s.plan_describe(n(7), "described").expect("a plan")),
    verb("pin", 4, |s| s.plan_pin(n(7), true).expect("a plan").expect("needed")),
    verb("unpin", 4, |s| s.plan_pin(n(7), false).expect("a plan").expect("needed")),
    verb("base-update", 4, |s| sealed(s, SnapshotId::BASE, false)),
    // An update that fails: snapshot 14, deployment 5.
    verb("update", 4, |s| {
        let from = s.set_of(n(1)).expect("whole");
        made(s.plan_update(|part| s.layout().set_part(from, part), n(1), "update", |new| format!("update {new}")))
    }),
    verb("deploy-bad", 4, |s| made(deploy::plan_deploy(s, n(14), How::Trial, Etc::MergedFrom(d(4))))),
    verb("fail-trial", 4, |s| {
        let arm = s.block().expect("a block").arm;
        deploy::plan_fail_trial(s, d(5), arm, "it was bad").expect("allowed").expect("needed")
    }),
    // Back: snapshot 15 and deployment 6, then deployment 4 again, then deployment 7.
    verb("rollback-save", 4, |s| made(deploy::plan_rollback_snapshot(s))),
    verb("rollback-with-var", 4, |s| made(deploy::plan_rollback_deploy(s, n(15), Var::OfThatTime))),
    verb("rollback-previous-with-var", 6, |s| made(deploy::plan_rollback_previous(s, Var::OfThatTime))),
    verb("rollback-to", 4, |s| made(deploy::plan_rollback_to(s, n(1), Var::AsItIs))),
    // What was changed on the device, saved and deployed as deployment 8.
    verb("etc-update", 7, |s| {
        let (from, dir) = copy(s, n(1));
        let mine = dir.join("mine");
        // What runs has reported well: there is something to go back to when the next one is changed live.
        file::replace(&s.layout().deployment_well(d(7)), b"1\n").expect("well");
        btrfs::snapshot(&s.layout().deployment_part(d(7), Part::Etc), &mine, Access::ReadOnly).expect("copied");
        write(&dir.join("etc/saved.conf"), "saved\n");
        made(deploy::plan_save_etc(s, d(7), &mine, from, &dir))
    }),
    verb("deploy-merged", 7, |s| made(deploy::plan_deploy(s, n(1), How::Trial, Etc::MergedFrom(d(7))))),
    verb("promote-again", 0, |s| promoted(s, d(8))),
    // What another machine exported: snapshot 16.
    verb("import", 8, |s| imported(s, n(1))),
    verb("clean-all", 8, |s| {
        let found = retain::look(s, &Updates::default(), &Keep::newest(0)).expect("looked");
        found.plan(s).expect("a plan").expect("something goes")
    }),
];

/// The deployment that is changed while it runs, after all of them.
pub(super) const CHANGED_LIVE: u32 = 8;

/// What `live-chroot` does, with a shell that writes to root, `/etc` and `/var`: more than lies inside metadata.
pub(super) fn change_live(locked: &Locked) {
    let session = live::Session::begin(locked).expect("allowed");
    let parts = session.copy().parts();
    let var = parts.var.clone().expect("a /var");
    for (path, text) in [(parts.root.join("usr/bin"), "program"), (parts.etc.clone(), "setting"), (var.join("lib"), "data")] {
        file::make_dirs(&path).expect("dir");
        // As a shell does: nothing is synced.
        std::fs::write(path.join("live"), format!("{text} of a live change\n").repeat(1000)).expect("written");
    }
    std::fs::write(parts.etc.join("saved.conf"), "changed\n".repeat(1000)).expect("written");
    let ready = session.finish(true).expect("judged");
    let applied = live::apply(locked, &ready, "live change").expect("applied");
    assert!(applied.unfinished.is_empty(), "{:?}", applied.unfinished);
}

/// Plans that another one is made with, and which.
pub const WITHIN: [(&str, &str); 3] =
    [("plan_from", "plan_rollback_snapshot"), ("plan_rollback_var", "plan_rollback_deploy"), ("plan_take_out", "found.plan")];

fn made<T>(planned: Result<(Plan, T), ast::store::StoreError>) -> Plan {
    planned.expect("a plan").0
}

/// What the gate makes of a good start of what is on trial.
fn promoted(store: &Store, trial: DeployId) -> Plan {
    let arm = store.block().expect("a block").arm;
    let booted = Booted::parse(&format!("d={trial}\nwhy=trial\narm={arm}\nleft=2\nenv=ok\n"));
    deploy::plan_promote(store, &booted).expect("allowed").expect("needed")
}

/// A working copy of `id` whose owner is dead, so that the verb clears it up, too.
pub(super) fn copy(store: &Store, id: SnapshotId) -> (SetId, PathBuf) {
    let from = store.set_of(id).expect("whole");
    let dir = copy_dir(store);
    for part in Part::ALL {
        btrfs::snapshot(&store.layout().set_part(from, part), &dir.join(part.name()), Access::Writable).expect("copied");
    }
    (from, dir)
}

/// An empty working copy whose owner is dead.
fn copy_dir(store: &Store) -> PathBuf {
    let dir = store.layout().work_copy(&format!("{}-1-00000000-0", std::process::id()));
    file::make_dirs(&dir).expect("dir");
    dir
}

/// `id` in its next generation.
fn sealed(store: &Store, id: SnapshotId, kernel: bool) -> Plan {
    let (from, dir) = copy(store, id);
    if kernel {
        upgrade(&dir);
    } else {
        write(&dir.join("root/word"), "a newer base");
    }
    made(store.plan_seal(from, &dir, "upgrade"))
}

/// A snapshot that is exported, and comes back as another machine's would: received, and sealed by the plan that every copy is.
fn imported(store: &Store, id: SnapshotId) -> Plan {
    let dir = copy_dir(store);
    let is_btrfs = nix::sys::statfs::statfs(store.layout().snapshots()).expect("readable").filesystem_type();
    if is_btrfs == nix::sys::statfs::BTRFS_SUPER_MAGIC {
        let away = tempfile::tempdir().expect("dir");
        let (export, key) = (away.path().join("export"), Secret::read_or_make(&away.path().join("key")).expect("a key").0);
        let wish = Wish { set: store.set_of(id).expect("whole"), description: "exported".into(), parent: None, packages: None, created: 0 };
        let place = Place::claim(store.layout()).expect("a place");
        let mut file = std::fs::File::create(&export).expect("made");
        transfer::pack(store.layout(), &wish, &key, &place, &mut file, &export).expect("exported");
        drop(place);
        let input = Box::new(std::io::BufReader::new(std::fs::File::open(&export).expect("there")));
        transfer::unpack(transfer::open(input, &export, &[key.public()]).expect("signed"), &dir).expect("received");
    } else {
        // In memory there is nobody to send or receive.
        let from = store.set_of(id).expect("whole");
        for part in Part::ALL {
            btrfs::snapshot(&store.layout().set_part(from, part), &dir.join(part.name()), Access::ReadOnly).expect("copied");
        }
    }
    made(store.plan_from(|part| dir.join(part.name()), None, "imported", |new| format!("import as {new}")))
}
