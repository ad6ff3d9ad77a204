//! The original's tree file: read as Python wrote it, and never more than that.

use proptest::prelude::*;

use super::python::{Value, parse};
use super::shape::shape;
use crate::id::SnapshotId;

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

#[test]
fn literals_are_read_as_python_writes_them() {
    let table = [
        ("None", Value::None),
        ("True", Value::Bool(true)),
        (" -12 ", Value::Int(-12)),
        ("'a'", text("a")),
        (r#""it's""#, text("it's")),
        (r"'it\'s \\ \n \x41 \u00e9 \q'", text("it's \\ \n A é \\q")),
        ("[]", Value::List(vec![])),
        ("[1, 'b',]", Value::List(vec![Value::Int(1), text("b")])),
        ("(1, 2)", Value::List(vec![Value::Int(1), Value::Int(2)])),
        ("{'name': 0, 'x': [None]}\n", Value::Dict(vec![(text("name"), Value::Int(0)), (text("x"), Value::List(vec![Value::None]))])),
    ];
    for (source, wanted) in table {
        assert_eq!(parse(source), Some(wanted), "{source}");
    }
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    for source in
        ["", "{", "{'a': }", "'a", "'a\nb'", "{'a': 1} x", "import os", "__import__('os')", "1.5", "99999999999999999999", r"'\xg0'", &deep]
    {
        assert_eq!(parse(source), None, "{source}");
    }
}

fn flat(source: &str) -> Option<Vec<(u32, Option<u32>)>> {
    shape(source).map(|all| all.into_iter().map(|(id, parent)| (id.get(), parent.map(SnapshotId::get))).collect())
}

#[test]
fn the_tree_is_what_the_file_draws() {
    let source =
        "{'name': 'root', 'children': [{'name': '0'}, {'name': 1, 'children': [{'name': 4, 'children': [{'name': 2}, {'name': '6'}]}]}]}";
    assert_eq!(flat(source), Some(vec![(0, None), (1, None), (2, Some(4)), (4, Some(1)), (6, Some(4))]));
    // Names that are none, a number twice, a base below something: the rest is as it says.
    let odd = "{'name': 'root', 'children': [{'name': 1, 'children': [{'name': '0'}, {'name': 'x', 'children': [{'name': 3}]}, {'name': -5}]}, {'name': 3}, {'name': 1, 'children': [{'name': 9}]}]}";
    assert_eq!(flat(odd), Some(vec![(0, None), (1, None), (3, Some(1))]));
    for source in ["", "{}", "[]", "{'name': 'root', 'children': [{'name': 1}", "root"] {
        assert_eq!(flat(source), None, "{source}");
    }
}

/// What Python writes for a value.
fn repr(value: &Value) -> String {
    let list = |items: Vec<String>| items.join(", ");
    match value {
        Value::None => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Int(n) => n.to_string(),
        Value::Text(text) => {
            format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t"))
        }
        Value::List(items) => format!("[{}]", list(items.iter().map(repr).collect())),
        Value::Dict(pairs) => format!("{{{}}}", list(pairs.iter().map(|(k, v)| format!("{}: {}", repr(k), repr(v))).collect())),
    }
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::None),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        "\\PC{0,12}|[\\\\'\"\n\t]{0,4}".prop_map(Value::Text),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            prop::collection::vec((inner.clone(), inner), 0..4).prop_map(Value::Dict),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_and_what_is_cut_is_not(value in values(), cut in any::<prop::sample::Index>()) {
        let written = repr(&value);
        prop_assert_eq!(parse(&written), Some(value.clone()));
        // A cut container, unlike a cut number, is nothing.
        if matches!(value, Value::List(_) | Value::Dict(_) | Value::Text(_)) {
            let mut at = cut.index(written.len());
            while !written.is_char_boundary(at) { at -= 1; }
            prop_assert_eq!(parse(&written[..at]), None);
        }
    }

    #[test]
    fn no_text_hurts(source in "\\PC*|[\\[\\]{}(),:'\"0-9a-zN\\\\ \n]*") {
        drop(parse(&source));
        drop(shape(&source));
    }
}
