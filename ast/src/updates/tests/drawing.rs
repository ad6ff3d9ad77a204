//! The table of the docs, out of the machine itself.

use super::*;

/// Every state with what it may hold, but `Failed`, `Idle` and `Unknown`, which have nothing.
fn states() -> Vec<State> {
    let (d, arm) = (DeployId::new(2), ArmId::new(1));
    vec![
        State::Idle,
        State::Retaining,
        State::Checking,
        State::Upgrading { update: candidate() },
        State::Sealing { update: candidate(), snapshot: SnapshotId::new(2) },
        State::Verified { update: candidate(), set: set(2) },
        State::Deploying { update: candidate(), set: set(2), d, arm },
        awaiting(),
        on_trial(Some(true)),
        State::Failed { d, arm },
    ]
}

fn events() -> Vec<(&'static str, Event)> {
    let (d, arm) = (DeployId::new(2), ArmId::new(1));
    vec![
        ("Retained", Event::Retained(vec![])),
        ("Checked, nothing new", Event::Checked(Changes::default())),
        ("Checked", Event::Checked(v2())),
        ("Upgraded, nothing changed", Event::Upgraded(Changes::default())),
        ("Upgraded", Event::Upgraded(v2())),
        ("Whole", Event::Whole),
        ("NotWhole", Event::NotWhole(vec![])),
        ("Rejected", Event::Rejected(vec![])),
        ("SealPlanned", Event::SealPlanned(SnapshotId::new(2))),
        ("Sealed", Event::Sealed(set(2))),
        ("DeployPlanned", Event::DeployPlanned { d, arm }),
        ("Armed", Event::Armed),
        ("RebootAllowed", Event::RebootAllowed),
        ("RebootDenied", Event::RebootDenied("no".into())),
        ("Promoted", Event::Promoted),
        ("Superseded", Event::Superseded),
        ("TrialCleared", Event::TrialCleared),
        ("WentWrong", Event::WentWrong("x".into())),
        ("NoSpace", Event::NoSpace("x".into())),
    ]
}

fn name(effect: &Effect) -> String {
    format!("{effect:?}").chars().take_while(|c| c.is_alphanumeric()).collect()
}

fn table() -> String {
    let mut text = String::from("| state | event | state | does |\n|---|---|---|---|\n");
    for state in states() {
        for (event_name, event) in events() {
            // A cycle has begun, so that a check knows what it is about.
            let machine = Updates { state: state.clone(), ..begin(at(State::Idle), facts()).0 };
            let Ok((next, effects)) = machine.step(event) else { continue };
            let effects = effects.iter().map(name).collect::<Vec<_>>().join(", ");
            text.push_str(&format!("| {} | {event_name} | {} | {effects} |\n", state.name(), next.state.name()));
        }
    }
    text
}

#[test]
fn the_drawing_in_the_docs_is_that_of_the_machine() {
    const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/updates.md");
    let (begin, end) = ("<!-- states -->\n", "<!-- /states -->");
    let text = std::fs::read_to_string(PATH).expect("docs/updates.md");
    let (before, rest) = text.split_once(begin).expect("the beginning of the table");
    let (table_there, after) = rest.split_once(end).expect("its end");
    let table = table();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        crate::sys::file::replace(PATH.as_ref(), format!("{before}{begin}{table}{end}{after}").as_bytes()).expect("written");
    } else {
        assert_eq!(table_there, table, "docs/updates.md is not what the machine does: UPDATE_DOCS=1 writes it anew");
    }
}
