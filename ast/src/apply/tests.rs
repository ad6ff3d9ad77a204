//! What is pure: the format, kernel arguments.

use super::declaration::Declaration;
use super::kernel::edited;

fn refused(text: &str, names: &[&str]) {
    let error = Declaration::parse(text).expect_err(text);
    for name in names {
        assert!(error.contains(name), "{text:?} is refused without {name:?}: {error}");
    }
}

#[test]
fn what_nobody_knows_is_refused_with_line_and_name() {
    refused("description = \"x\"\nfrobnicate = 1\n", &["line 2", "frobnicate"]);
    refused("[packages]\ninstall = []\nexplode = []\n", &["line 3", "explode"]);
    refused("[[user]]\nname = \"kiosk\"\nshel = \"/bin/sh\"\n", &["line 3", "shel"]);
    refused("[[file]]\npath = \"/etc/x\"\ncontents = \"\"\n", &["line 3", "contents"]);
    refused("[kernel]\nargs = 1\n", &["line 2", "sequence"]);
    refused("snapshot = \"one\"\n", &["line 1"]);
    refused("[packages\n", &["line 1"]);
}

#[test]
fn r7_values_that_cannot_be_are_refused_with_their_line() {
    for (text, name) in [
        ("[packages]\ninstall = [\"--config=/x\"]", "--config=/x"),
        ("[packages]\naur = [\"../x\"]", "../x"),
        ("[services]\nenable = [\"-x\"]", "-x"),
        ("[services]\nenable = [\"a b\"]", "a b"),
        ("[[user]]\nname = \"Root:0\"", "Root:0"),
        ("[kernel]\nargs = [\"x;reboot\"]", "x;reboot"),
        ("[kernel]\nargs = [\"a b\"]", "a b"),
        ("[kernel]\nargs = [\"\\\"\"]", "kernel argument"),
    ] {
        refused(text, &["line 2", name]);
    }
    for path in [
        "etc/x",
        "/etc/../x",
        "/etc/./x",
        "/etc",
        "/",
        "/home/x/y",
        "/root/x",
        "/run/x",
        "/proc/sys/x",
        "/.snapshots/ast/tree.json",
        "/etc/a\\nb",
    ] {
        refused(&format!("[[file]]\nabsent = true\npath = \"{path}\""), &["line 3"]);
    }
    for (key, value) in [("shell", "/bin/sh:x"), ("comment", "a\\nroot::0:0::/:/bin/sh"), ("password", "plain"), ("password", "$6$a:b")] {
        refused(&format!("[[user]]\nname = \"x\"\n{key} = \"{value}\""), &["line 3"]);
    }
    refused("[[user]]\nname = \"x\"\nssh_keys = [\"ssh-rsa A\\ncommand=x B\"]", &["line 3"]);
    refused("[[file]]\npath = \"/etc/x\"\ncontent = \"\"\nmode = \"999\"", &["line 4"]);
    refused("[[file]]\npath = \"/etc/x\"\ncontent = \"\"\nowner = \"a:b:c\"", &["line 4"]);
}

#[test]
fn what_contradicts_itself_is_refused() {
    refused("[[file]]\npath = \"/etc/x\"", &["/etc/x", "one of"]);
    refused("[[file]]\npath = \"/etc/x\"\ncontent = \"\"\nabsent = true", &["/etc/x"]);
    refused("[[file]]\npath = \"/etc/x\"\nlink = \"y\"\nmode = \"0644\"", &["/etc/x"]);
    refused("[packages]\ninstall = [\"a\"]\nremove = [\"a\"]", &["a is named twice"]);
    refused("[services]\nenable = [\"a.service\"]\nmask = [\"a.service\"]", &["a.service"]);
    refused("[[command]]\nrun = []", &["without words"]);
}

#[test]
fn kernel_arguments_are_edited_and_every_other_byte_stays() {
    let wish = |text: &str| Declaration::parse(text).expect("good").kernel;
    let kernel = wish("[kernel]\nargs = [\"quiet\", \"console=ttyS0,115200\"]\nremove = [\"splash\", \"loglevel=\"]");
    let table = [
        ("", Some("GRUB_CMDLINE_LINUX_DEFAULT=\"quiet console=ttyS0,115200\"\n")),
        (
            "# mine\nGRUB_TIMEOUT=5\n GRUB_CMDLINE_LINUX_DEFAULT='loglevel=3 quiet  splash' # why\nA=$(x)",
            Some("# mine\nGRUB_TIMEOUT=5\n GRUB_CMDLINE_LINUX_DEFAULT=\"quiet console=ttyS0,115200\" # why\nA=$(x)"),
        ),
        ("GRUB_CMDLINE_LINUX_DEFAULT=\"quiet console=ttyS0,115200\"\n", None),
        (
            "A=splash\nGRUB_CMDLINE_LINUX_DEFAULT=\"$A\"\nGRUB_CMDLINE_LINUX_DEFAULT+=\" nosmt\"",
            Some(
                "A=splash\nGRUB_CMDLINE_LINUX_DEFAULT=\"$A\"\nGRUB_CMDLINE_LINUX_DEFAULT+=\" nosmt\"\nGRUB_CMDLINE_LINUX_DEFAULT=\"nosmt quiet console=ttyS0,115200\"\n",
            ),
        ),
        ("GRUB_CMDLINE_LINUX_DEFAULT=\n", Some("GRUB_CMDLINE_LINUX_DEFAULT=\"quiet console=ttyS0,115200\"\n")),
    ];
    for (before, after) in table {
        assert_eq!(edited(before, &kernel).expect("known").as_deref(), after, "{before:?}");
        let again = after.map(|text| edited(text, &kernel).expect("known"));
        assert!(again.is_none_or(|again| again.is_none()), "{before:?}: not idempotent");
    }
    assert!(edited("GRUB_CMDLINE_LINUX_DEFAULT=$(cat /x)", &kernel).is_err());
    assert!(edited("GRUB_CMDLINE_LINUX_DEFAULT='a=\"b c\"'", &kernel).is_err());
    assert_eq!(edited("GRUB_CMDLINE_LINUX_DEFAULT=$(cat /x)", &wish("")), Ok(None));
}

proptest::proptest! {
    #[test]
    fn r7_no_text_crashes_it(text in "(\\[\\[?(user|file|kernel|command)\\]\\]?\n|(path|name|run|args|link) = ?[\"\\[]?.{0,12}[\"\\]]?\n){0,8}") {
        drop(Declaration::parse(&text));
    }
}
