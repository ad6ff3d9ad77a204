use super::*;
use proptest::prelude::*;

fn sample() -> BootBlock {
    BootBlock {
        good: DeployId::new(6),
        prev: Some(DeployId::new(5)),
        trial: Some(Trial { deployment: DeployId::new(7), mode: Mode::Trial, tries: 3 }),
        arm: ArmId::new(4),
        starts: 2,
        cap: 1,
        later: Vec::new(),
    }
}

/// Every fixture says in its name what a reader must make of it: `valid-*` is a block, everything else is refused.
#[test]
fn fixtures_are_read_as_their_names_say() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/block");
    let mut seen = 0;
    for entry in std::fs::read_dir(&dir).expect("fixtures") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let result = BootBlock::parse(&std::fs::read(&path).expect("bytes"));
        assert_eq!(result.is_ok(), name.starts_with("valid-"), "{name}: {result:?}");
        seen += 1;
    }
    assert!(seen >= 12, "only {seen} fixtures");
}

#[test]
fn the_block_of_the_interface_reads_back() {
    let bytes = sample().encode().expect("fits");
    assert_eq!(BootBlock::parse(&bytes), Ok(sample()));
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.starts_with("# GRUB Environment Block\nast_v=1\nast_good=6\nast_prev=5\nast_try=7\nast_mode=trial\nast_tries=111\nast_arm=4\nast_starts=11\nast_cap=1\nast_end=1\n##"), "{text}");
    assert!(!text.contains("\n\n"));
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut block = sample();
    block.later = vec![("ast_later".into(), "x".repeat(400))];
    assert!(matches!(block.encode(), Err(BlockError::TooLong(_))));
    block.later = vec![("ast_later".into(), "two\nlines".into())];
    assert!(block.encode().is_err());
}

proptest! {
    #[test]
    fn r7_any_bytes_are_read_without_a_crash(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        drop(BootBlock::parse(&bytes));
    }

    #[test]
    fn b5_a_flipped_byte_gives_another_block_or_none_but_never_a_crash(at in 0usize..512, with in any::<u8>()) {
        let mut bytes = sample().encode().expect("fits");
        bytes[at] = with;
        if let Ok(block) = BootBlock::parse(&bytes) {
            prop_assert_eq!(BootBlock::parse(&block.encode().expect("fits")), Ok(block));
        }
    }

    #[test]
    fn any_block_reads_back(good in any::<u32>(), prev in proptest::option::of(any::<u32>()), d in proptest::option::of((any::<u32>(), any::<bool>(), 0u8..=16)), arm in any::<u32>(), starts in 0u8..=16, cap in any::<u32>()) {
        let block = BootBlock {
            good: DeployId::new(good), prev: prev.map(DeployId::new),
            trial: d.map(|(d, once, tries)| Trial { deployment: DeployId::new(d), mode: if once { Mode::Once } else { Mode::Trial }, tries }),
            arm: ArmId::new(arm), starts, cap, later: vec![("ast_new".into(), "a b\\c".into())],
        };
        prop_assert_eq!(BootBlock::parse(&block.encode().expect("fits")), Ok(block));
    }
}
