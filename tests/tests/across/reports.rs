//! `install -P`, `which`, `diff`: packages and files of several snapshots.

use crate::bed::sh;
use crate::machine::{Machine, skipped};

#[test]
fn a_profile_is_installed_and_which_and_diff_tell_the_truth() {
    if skipped() {
        return;
    }
    let machine = Machine::new();
    machine.offer("note", "1", &[]);
    machine.offer("app", "1", &["note"]);
    machine.offer("tool", "9", &[]);
    for words in [&["clone", "0", "-d", "desk"][..], &["refresh", "1"]] {
        machine.ok(words);
    }
    let profile = machine.root.join("profile");
    let install = |text: &str, more: &[&str]| {
        std::fs::write(&profile, text).expect("written");
        machine.ast(&[&["install", "-P", profile.to_str().expect("text"), "1"][..], more].concat())
    };
    let sets = machine.sets();
    let said = install("app\n\n# two on a line\napp tool\n", &[]);
    assert!(said.code == 2 && said.err.contains("profile line 4: \"app tool\""), "{said:?}");
    assert_eq!(machine.sets(), sets);
    let said = install("# the desk\n\napp # and what it needs\napp\n", &["tool"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!([machine.versions("app", [1]), machine.versions("note", [1]), machine.versions("tool", [1])], [["1-1"], ["1-1"], ["9-1"]]);

    machine.ok(&["branch", "1", "-d", "newer"]);
    machine.offer("note", "2", &[]);
    machine.offer("other", "1", &[]);
    for words in [&["--json", "list", "2"][..], &["--json", "upgrade", "2"], &["remove", "2", "app"], &["install", "2", "other", "note"]] {
        machine.ok(words);
    }
    assert_eq!(machine.ok(&["which", "note"]).out, "1         1-1  desk\n2         2-1  newer\n");
    let rows = machine.ok(&["--json", "which", "app"]).json();
    let expected = serde_json::json!([{ "snapshot": 1, "description": "desk", "version": "1-1", "explicit": true }]);
    assert_eq!((&rows["snapshots"], &rows["unknown"]), (&expected, &serde_json::json!([])));
    let said = machine.ok(&["which", "nothing"]);
    assert!(said.out.is_empty() && said.err.contains("no snapshot has nothing"), "{said:?}");

    assert_eq!(machine.ok(&["diff", "1", "2"]).out, "added      other 1-1\nremoved    app 1-1\nupgraded   note 1-1 -> 2-1\n");
    assert_eq!(machine.ok(&["diff", "2", "1"]).out, "added      app 1-1\nremoved    other 1-1\ndowngraded note 2-1 -> 1-1\n");
    let json = machine.ok(&["--json", "diff", "2", "1"]).json();
    assert_eq!(json["packages"]["downgraded"], serde_json::json!([{ "name": "note", "from": "2-1", "to": "1-1" }]));
    assert_eq!((&json["packages"]["upgraded"], json.get("files"), json.get("etc")), (&serde_json::json!([]), None, None));
    assert_eq!(machine.ok(&["diff", "1", "1"]).out, "");

    // By hand, so that it is known what differs, and nothing else may be told.
    machine.ok(&["branch", "1"]);
    let script = "echo more >> /etc/hosts; chmod 600 /etc/profile; chown 1:2 /etc/hostname; rm /etc/locale.conf; touch /etc/fstab
        mkdir /etc/made; echo new > /etc/made/file; ln -sf elsewhere /etc/mtab; cp -a /etc/group /etc/g && mv /etc/g /etc/group
        echo same | tee /usr/share/note/twin > /usr/share/note/new; rm /usr/share/note/version; mkdir -p /var/lib/own; echo x > /boot/extra";
    machine.ok(&["run", "3", "sh", "-ec", script]);
    let etc = "~ /etc/hostname (owner)\n~ /etc/hosts (content)\n- /etc/locale.conf\n+ /etc/made\n+ /etc/made/file\n~ /etc/mtab (content)\n~ /etc/profile (mode)\n";
    assert_eq!(machine.ok(&["diff", "1", "3", "--etc"]).out, etc);
    let files = "~ /boot/ast.sums (content)\n+ /boot/extra\n+ /usr/share/note/new\n+ /usr/share/note/twin\n- /usr/share/note/version\n+ /var/lib/own\n";
    assert_eq!(machine.ok(&["diff", "--files", "1", "3"]).out, files);
    let json = machine.ok(&["--json", "diff", "3", "1", "--files", "--etc"]).json();
    let paths = |level: &str| json[level].as_array().expect("a list").len();
    assert_eq!((paths("files"), paths("etc"), json.get("packages")), (6, 7, None));
    assert_eq!(json["etc"][0], serde_json::json!({ "path": "/etc/hostname", "change": "changed", "what": ["owner"] }));
    assert_eq!(json["files"][2]["change"], "removed");
    // What is known to be the same without a look into it is the same.
    let by_hand = sh(&format!(
        "cd {}; diff -rq --no-dereference . {} 2>/dev/null | grep -v '^Only in .*: ' | wc -l",
        machine.part(1, ast::layout::Part::Root).display(),
        machine.part(2, ast::layout::Part::Root).display()
    ));
    let told = machine.ok(&["diff", "--files", "1", "2"]).out;
    let changed = told.lines().filter(|line| line.starts_with("~ /usr") && line.contains("content")).count();
    assert_eq!(changed.to_string(), by_hand, "{told}");
}
