use super::*;
use proptest::prelude::*;

fn sample() -> BootEnv {
    let args = ["quiet", "console=ttyS0,115200"].map(str::to_owned);
    let images = ["amd-ucode.img", "initramfs-linux.img"].map(str::to_owned);
    BootEnv::new("vmlinuz-linux", &images, &args, "Arch Linux").expect("fits")
}

#[test]
fn ast_env_reads_back() {
    let bytes = sample().encode().expect("fits");
    assert_eq!(bytes.len(), 1024);
    assert_eq!(BootEnv::parse(&bytes).expect("reads back"), sample());
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.starts_with("# GRUB Environment Block\nast_linux=vmlinuz-linux\nast_initrd=amd-ucode.img initramfs-linux.img\nast_args=quiet console=ttyS0,115200\nast_title=Arch Linux\nast_end=1\n##"), "{text}");
}

#[test]
fn good_cfg_reads_back() {
    let baked = Baked { good: DeployId::new(7), env: sample() };
    assert_eq!(Baked::parse(&baked.encode().expect("fits")).expect("reads back"), baked);
    assert!(matches!(Baked::parse(&sample().encode().expect("fits")), Err(GrubError::EnvKey("ast_baked_good"))));
}

#[test]
fn our_own_arguments_are_left_out_of_a_snapshots() {
    let args = ["root=UUID=1", "ast.d=9", "panic=0", "ro", "ast.attended", "quiet"].map(str::to_owned);
    let env = BootEnv::new("k", &["i".to_owned()], &args, "").expect("fits");
    assert_eq!(env.args(), ["ast.attended", "quiet"]);
}

#[test]
fn r7_what_cannot_be_carried_is_refused_by_its_name() {
    let image = ["i".to_owned()];
    for bad in ["a\"b\"", "a'b", "a\\b", "ä", "(hd0)", "/x", "*", "a\nb", ""] {
        let refused = BootEnv::new("k", &image, &[bad.to_owned()], "");
        assert!(matches!(&refused, Err(GrubError::Argument(arg)) if arg == bad), "{bad:?}: {refused:?}");
    }
    for bad in ["../x", "", "-k", "a b", "a/b", ".k", "$k"] {
        assert!(matches!(BootEnv::new(bad, &image, &[], ""), Err(GrubError::FileName(_))), "{bad:?}");
        assert!(matches!(BootEnv::new("k", &[bad.to_owned()], &[], ""), Err(GrubError::FileName(_))), "{bad:?}");
    }
    assert!(matches!(BootEnv::new("k", &[], &[], ""), Err(GrubError::NoInitramfs(_))));
    assert!(matches!(BootEnv::new("k", &image, &["x".repeat(2000)], ""), Err(GrubError::TooManyArguments { .. })));
}

proptest! {
    #[test]
    fn r7_any_bytes_are_read_without_a_crash(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        drop(Baked::parse(&bytes));
    }

    #[test]
    fn whatever_is_taken_reads_back(linux in "[ -~]{1,12}", arg in "[!-~ü]{1,12}", title in "\\PC{0,120}") {
        if let Ok(env) = BootEnv::new(&linux, &["i".to_owned()], &[arg], &title) {
            prop_assert_eq!(BootEnv::parse(&env.encode().expect("fits")).expect("reads back"), env);
        }
    }
}
