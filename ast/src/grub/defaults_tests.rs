use super::*;
use proptest::prelude::*;

#[test]
fn stock_file_of_arch() {
    let text = "# GRUB boot loader configuration\n\nGRUB_DEFAULT=0\nGRUB_TIMEOUT=5\nGRUB_DISTRIBUTOR=\"Arch\"\nGRUB_CMDLINE_LINUX_DEFAULT=\"loglevel=3 quiet\"\nGRUB_CMDLINE_LINUX=\"\"\n\n# Preload both GPT and MBR modules\nGRUB_PRELOAD_MODULES=\"part_gpt part_msdos\"\n#GRUB_THEME=\"/path/to/gfxtheme\"\n";
    let defaults = Defaults::parse(text);
    assert_eq!(defaults.get("GRUB_TIMEOUT"), Ok(Some("5")));
    assert_eq!(defaults.get("GRUB_THEME"), Ok(None));
    assert_eq!(defaults.kernel_args(), Ok(vec!["loglevel=3".into(), "quiet".into()]));
    assert!(defaults.passed_over.is_empty(), "{:?}", defaults.passed_over);
}

#[test]
fn words_are_read_as_the_shell_reads_them() {
    for (text, value) in [
        ("A=b", "b"),
        ("A='b c'", "b c"),
        ("A=\"b \\\"c\\\" \\$d \\x\"", "b \"c\" $d \\x"),
        ("A=b'c'\"d\"\\ e # comment", "bcd e"),
        ("A=\"b \\\nc\"", "b c"),
        ("export A=b", "b"),
        ("  A=b; B=c", "b"),
        ("A=b\nA=c", "c"),
        ("B=x\nA=\"$B ${B}y $C.\"", "x xy ."),
        ("A=b\nA+=' c'", "b c"),
        ("A=b#c", "b#c"),
        ("A=", ""),
        ("A=a$", "a$"),
    ] {
        assert_eq!(Defaults::parse(text).get("A"), Ok(Some(value)), "{text:?}");
    }
}

#[test]
fn what_only_a_shell_could_tell_is_an_error_when_asked_for() {
    let text = "GRUB_TIMEOUT=5\nGRUB_DISTRIBUTOR=`lsb_release -i -s 2> /dev/null || echo Debian`\nX=\"$( . /etc/os-release; echo ${NAME} )\"\nY=${Z:-1}\n. /etc/other\nGRUB_CMDLINE_LINUX='quiet'\nOPEN=\"a\n";
    let defaults = Defaults::parse(text);
    assert_eq!(defaults.get("GRUB_TIMEOUT"), Ok(Some("5")));
    for (name, line) in [("GRUB_DISTRIBUTOR", 2), ("X", 3), ("Y", 4)] {
        assert_eq!(defaults.get(name), Err(DefaultsError::Command { name: name.into(), line }));
    }
    assert_eq!(defaults.get("OPEN"), Err(DefaultsError::Quote { name: "OPEN".into(), line: 7 }));
    assert_eq!(defaults.kernel_args(), Ok(vec!["quiet".into()]));
    assert_eq!(defaults.passed_over, [PassedOver { line: 5, text: ". /etc/other".into() }]);
}

#[test]
fn an_argument_that_grub_cannot_carry_is_named_with_its_line() {
    let defaults = Defaults::parse("\nGRUB_CMDLINE_LINUX='dyndbg=\"file x +p\"'");
    let error = defaults.kernel_args().expect_err("quotes").to_string();
    assert!(error.contains("line 2") && error.contains("dyndbg"), "{error}");
}

proptest! {
    #[test]
    fn r7_any_text_is_read_without_a_crash(text in "[A-C=+ \"'\\\\$(){}`#;\n\\PC]{0,200}") {
        let defaults = Defaults::parse(&text);
        drop(defaults.kernel_args());
        drop(defaults.get("A"));
    }
}
