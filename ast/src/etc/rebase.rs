//! What a path is compared with when the device's `/etc` was saved meanwhile.
//!
//! An edit that was saved and then taken back is an edit, though against `etc.base` it looks like none. So whatever differs from what was
//! saved was changed here since, and is compared with that; unless the new one has what was there in the beginning, where it makes no
//! difference who is right and a conflict would be none. Content and each piece of metadata apart.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::tree::{Kind, Meta, Node};

/// The base of `mine` and `new`, out of the first one and what was saved.
pub(super) fn rebased(base: &Node, saved: &Node, mine: &Node, new: &Node) -> Node {
    node(Some(base), Some(saved), Some(mine), Some(new)).unwrap_or_else(|| base.clone())
}

fn pick<'a, T: PartialEq + ?Sized>(base: &'a T, saved: &'a T, mine: &T, new: &T) -> &'a T {
    if mine == saved || new == base { base } else { saved }
}

fn node(base: Option<&Node>, saved: Option<&Node>, mine: Option<&Node>, new: Option<&Node>) -> Option<Node> {
    let all = [base, saved, mine, new];
    if all.iter().flatten().all(|node| node.children().is_some()) {
        return directory(all);
    }
    if let [Some(base), Some(saved), Some(mine), Some(new)] = all
        && let (Kind::File(b), Kind::File(s), Kind::File(m), Kind::File(n)) = (&base.kind, &saved.kind, &mine.kind, &new.kind)
    {
        let meta = meta(&base.meta, &saved.meta, &mine.meta, &new.meta);
        return Some(Node { kind: Kind::File(*pick(b, s, m, n)), meta });
    }
    pick(&base, &saved, &mine, &new).cloned()
}

/// Directories or nothing, all four.
fn directory(all: [Option<&Node>; 4]) -> Option<Node> {
    let names: BTreeSet<_> = all.iter().flatten().filter_map(|node| node.children()).flat_map(|children| children.keys()).collect();
    let mut children = std::collections::BTreeMap::new();
    for name in names {
        let [base, saved, mine, new] = all.map(|node| node.and_then(Node::children).and_then(|children| children.get(name)));
        if let Some(child) = node(base, saved, mine, new) {
            children.insert(name.clone(), child);
        }
    }
    let [base, saved, mine, new] = all.map(|node| node.map(|node| &node.meta));
    let is_there = *pick(&base.is_some(), &saved.is_some(), &mine.is_some(), &new.is_some());
    if !is_there && children.is_empty() {
        return None;
    }
    let meta = match (base, saved, mine, new) {
        (Some(base), Some(saved), Some(mine), Some(new)) => meta(base, saved, mine, new),
        _ => pick(&base, &saved, &mine, &new).or(base).or(saved).cloned().unwrap_or_default(),
    };
    Some(Node { kind: Kind::Dir(children), meta })
}

fn meta(base: &Meta, saved: &Meta, mine: &Meta, new: &Meta) -> Meta {
    let names: BTreeSet<_> = [base, saved, mine, new].iter().flat_map(|meta| meta.attributes.keys()).collect();
    let attribute = |name| {
        let [base, saved, mine, new] = [base, saved, mine, new].map(|meta| meta.attributes.get(name));
        pick(&base, &saved, &mine, &new).cloned()
    };
    Meta {
        mode: *pick(&base.mode, &saved.mode, &mine.mode, &new.mode),
        uid: *pick(&base.uid, &saved.uid, &mine.uid, &new.uid),
        gid: *pick(&base.gid, &saved.gid, &mine.gid, &new.gid),
        attributes: names.into_iter().filter_map(|name| Some((name.clone(), attribute(name)?))).collect(),
    }
}

/// Every path below `node` with its node, parents first.
pub(super) fn paths<'a>(node: &'a Node, at: PathBuf, found: &mut Vec<(PathBuf, &'a Node)>) {
    for (name, child) in node.children().into_iter().flatten() {
        let path = at.join(name);
        found.push((path.clone(), child));
        paths(child, path, found);
    }
}
