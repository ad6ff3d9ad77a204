//! What is to be built in which order: pure, once the `.SRCINFO` of each is there.

use std::collections::{BTreeMap, BTreeSet};

use super::AurError;
use super::srcinfo::SrcInfo;

/// The sources of one build.
#[derive(Debug, Clone, Default)]
pub(super) struct Source {
    pub info: SrcInfo,
    /// Those of its packages that are needed, and whether they are to be in the snapshot: not what only building others needs.
    pub wanted: BTreeMap<String, bool>,
    /// The builds it needs first.
    pub after: BTreeSet<String>,
    /// What of its needs the repositories have.
    pub from_repositories: BTreeSet<String>,
}

/// All of them, by the name of the repository they come from.
#[derive(Debug, Clone, Default)]
pub(super) struct Sources(pub BTreeMap<String, Source>);

impl Sources {
    /// The build that makes the package `name` or something that provides it.
    pub(super) fn maker_of(&self, name: &str) -> Option<(&str, &str)> {
        let by_name = self.0.iter().find(|(_, s)| s.info.packages.iter().any(|p| p.name == name));
        let (base, source) = by_name.or_else(|| self.0.iter().find(|(_, s)| s.info.maker_of(name).is_some()))?;
        source.info.maker_of(name).map(|package| (base.as_str(), package.name.as_str()))
    }

    /// The builds in an order in which each comes after those it needs.
    ///
    /// Refuses: a circle, with those in it.
    pub(super) fn order(&self) -> Result<Vec<&str>, AurError> {
        let mut left: BTreeMap<&str, &BTreeSet<String>> = self.0.iter().map(|(base, source)| (base.as_str(), &source.after)).collect();
        let mut order = Vec::new();
        while !left.is_empty() {
            let ready: Vec<&str> = left
                .iter()
                .filter(|(_, after)| !after.iter().any(|base| left.contains_key(base.as_str())))
                .map(|(base, _)| *base)
                .collect();
            if ready.is_empty() {
                return Err(AurError::Circle(circle(&left)));
            }
            for base in ready {
                left.remove(base);
                order.push(base);
            }
        }
        Ok(order)
    }
}

/// One circle of those that wait for each other, without what only leads to it.
fn circle(left: &BTreeMap<&str, &BTreeSet<String>>) -> Vec<String> {
    let next = |base: &str| left.get(base).and_then(|after| after.iter().map(String::as_str).find(|b| left.contains_key(b)));
    let mut path: Vec<&str> = left.keys().take(1).copied().collect();
    while let Some(base) = path.last().and_then(|last| next(last)) {
        if let Some(start) = path.iter().position(|b| *b == base) {
            path.drain(..start);
            break;
        }
        path.push(base);
    }
    path.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(table: &[(&str, &[&str])]) -> Sources {
        let one = |(base, after): &(&str, &[&str])| {
            let after = after.iter().map(|s| (*s).to_owned()).collect();
            ((*base).to_owned(), Source { after, ..Source::default() })
        };
        Sources(table.iter().map(one).collect())
    }

    #[test]
    fn what_is_needed_comes_first() {
        let all = sources(&[("app", &["lib", "tool"]), ("lib", &["tool"]), ("tool", &[]), ("z", &[])]);
        assert_eq!(all.order().expect("no circle"), ["tool", "z", "lib", "app"]);
    }

    #[test]
    fn a_circle_is_named_without_what_leads_to_it() {
        let all = sources(&[("a", &["b"]), ("b", &["c"]), ("c", &["d"]), ("d", &["b"]), ("ok", &[])]);
        let Err(AurError::Circle(circle)) = all.order() else { panic!("an order of a circle") };
        assert_eq!(circle, ["b", "c", "d"]);
        assert!(matches!(sources(&[("self", &["self"])]).order(), Err(AurError::Circle(c)) if c == ["self"]));
    }
}
