use super::*;
use proptest::prelude::*;

fn words(text: &str) -> Vec<String> {
    match &parse(text).expect(text)[0].what {
        What::Command { words, .. } => words.iter().map(|w| w.literal().unwrap_or_else(|| format!("{:?}", w.pieces))).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn words_are_resolved() {
    for (text, wanted) in [
        ("echo a b\tc", vec!["echo", "a", "b", "c"]),
        ("echo 'a b'\\''c' \"d \\\"e\\\" \\n\"", vec!["echo", "a b'c", "d \"e\" \\n"]),
        ("echo a\\\n b", vec!["echo", "a", "b"]),
        ("echo a\\\nb # comment", vec!["echo", "ab"]),
        ("echo a#b if fi", vec!["echo", "a#b", "if", "fi"]),
        ("echo '' \"\" $\"x\"", vec!["echo", "", "", "x"]),
        ("[ -n ü ]", vec!["[", "-n", "ü", "]"]),
    ] {
        assert_eq!(words(text), wanted, "{text:?}");
    }
    let found = parse("linux $a\"${b}c\" $1").expect("words");
    let What::Command { words, .. } = &found[0].what else { panic!("a command") };
    let variable = |name: &str, quoted| Piece::Variable { name: name.into(), quoted };
    assert_eq!(words[1].pieces, [variable("a", false), Piece::Text(String::new()), variable("b", true), Piece::Text("c".into())]);
    assert_eq!(words[2].pieces, [variable("1", false)]);
}

#[test]
fn spans_are_the_bytes_of_a_sentence() {
    let text = "# ü\nset a=1; if true; then\n  echo 'x'\nfi\n";
    let found = parse(text).expect("a script");
    let spans: Vec<&str> = found.iter().map(|s| &text[s.span.clone()]).collect();
    assert_eq!(spans, ["set a=1", "if true; then\n  echo 'x'\nfi"]);
}

#[test]
fn wrong_scripts_name_their_line() {
    for (text, line) in [
        ("echo 'a", 1),
        ("echo \"a", 1),
        ("\necho ${", 2),
        ("if true; then fi", 1),
        ("if true; then echo; fi fi", 1),
        ("if true; then\necho\n", 3),
        ("menuentry x { echo", 1),
        ("menuentry x { }", 1),
        ("echo }", 1),
        ("a | b", 1),
        ("a && b", 1),
        ("for in in a; do b; done", 1),
        ("function 1a { b; }", 1),
        ("function f { b }", 1),
        ("then", 1),
        ("{ a; }", 1),
        ("a ;; b", 1),
        ("echo [[", 1),
    ] {
        let error = parse(text).expect_err(text);
        assert_eq!(error.line, line, "{text:?}: {error}");
    }
}

#[test]
fn a_million_braces_are_refused_without_a_crash() {
    assert!(parse(&"a {".repeat(1_000_000)).is_err());
    assert!(parse(&"if ".repeat(100_000)).is_err());
    assert!(parse(&"${".repeat(100_000)).is_err());
}

#[test]
fn ours_and_stock_files_are_read() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/grub");
    let mut seen = 0;
    for entry in std::fs::read_dir(&dir).expect("fixtures") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if !name.ends_with(".cfg") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("text");
        let result = parse(&text);
        assert_eq!(result.is_ok(), !name.starts_with("bad-"), "{name}: {result:?}");
        if let Ok(script) = result {
            if name.starts_with("stock-") {
                let found = entries(&script);
                assert!(found.iter().any(|e| e.title.is_some() && e.id.is_some()), "{name}: {found:?}");
            }
        }
        seen += 1;
    }
    assert!(seen >= 6, "only {seen} fixtures");
}

#[test]
fn entries_of_a_menu() {
    let text = "menuentry 'a' --id one { echo; }\nsubmenu 'b' $menuentry_id_option 'two' {\n menuentry \"c $x\" { echo; }\n}\nif true; then menuentry --class k 'd' { echo; }; fi\n";
    let found: Vec<_> = entries(&parse(text).expect("a menu")).into_iter().map(|e| (e.title, e.id, e.submenu, e.depth)).collect();
    let some = |s: &str| Some(s.to_owned());
    assert_eq!(
        found,
        [(some("a"), some("one"), false, 0), (some("b"), some("two"), true, 0), (None, None, false, 1), (some("d"), None, false, 0)]
    );
}

proptest! {
    #[test]
    fn r7_any_text_is_read_without_a_crash(text in "([a-c{}'\"$;|\\\\ \n#]|if |then |fi\n|menuentry |\\PC){0,80}") {
        drop(parse(&text));
    }

    #[test]
    fn r7_a_quoted_title_is_one_word_of_the_same_text(title in "\\PC{0,60}") {
        let quoted = crate::grub::menu::quote(&title);
        prop_assert_eq!(words(&format!("echo {quoted} end")), ["echo", title.as_str(), "end"]);
    }
}

/// As `grub-script-check` of GRUB 2.06 has it.
#[test]
fn a_continued_line_is_a_word_that_vanishes() {
    let taken = [
        "\\\n a b\n", "\\\n { a; }\n", "\\\n\n if a; then b; fi\n", "if a; then \\\n b; fi\n", "\\\n menuentry a { b; }\n", "menuentry a \\\n { b; }\n",
        "for x in \\\n a; do b; done\n", "if \\\n a; then b; fi\n", "a \\\n if b\n",
    ];
    for text in taken {
        assert!(parse(text).is_ok(), "{text:?}");
    }
    let refused = [
        "\\\n if a; then b; fi\n", "\\\nif a; then b; fi\n", "if a; \\\n then b; fi\n", "\\\n for x in a; do b; done\n", "function \\\n f { b; }\n",
        "function f \\\n { b; }\n", "for x \\\n in a; do b; done\n", "{ a; \\\n }\n", "if a; then b; \\\n fi\n",
    ];
    for text in refused {
        assert!(parse(text).is_err(), "{text:?}");
    }
    let script = parse("menuentry 'a' \\\n --class b \"\" \\\n {\n c\n}\n").expect("as stock menus write it");
    let What::Command { words, .. } = &script[0].what else { panic!("{script:?}") };
    assert_eq!(words.iter().filter_map(Word::literal).collect::<Vec<_>>(), ["menuentry", "a", "--class", "b", ""]);
}
