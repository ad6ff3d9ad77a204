//! Which release a GRUB is, and what that means.

/// The first release that writes raw sectors of a btrfs device: 2.14.
const WRITES_RAW: (u32, u32) = (2, 14);

/// The release that GRUB's `normal.mod` would show above its menu, as `2:2.12-1`: a string of its own that begins with digits and `2.`.
pub fn version(module: &[u8]) -> Option<String> {
    let strings = module.split(|byte| *byte == 0).filter_map(|bytes| std::str::from_utf8(bytes).ok());
    strings.filter(|text| text.len() < 64 && release(text).is_some()).map(str::to_owned).next()
}

/// Its two numbers, without the epoch that a distribution puts in front.
pub fn release(text: &str) -> Option<(u32, u32)> {
    let text = text.split_once(':').filter(|(epoch, _)| epoch.bytes().all(|b| b.is_ascii_digit())).map_or(text, |(_, rest)| rest);
    let (major, rest) = text.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let plain = major.len() == 1 && minor.len() == 2 && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.~:_".contains(&b));
    Some((major.parse().ok()?, minor.parse().ok()?)).filter(|_| plain)
}

/// Whether a GRUB of this version can write its boot block past the filesystem.
pub fn writes_raw(version: Option<&str>) -> bool {
    version.and_then(release).is_some_and(|release| release >= WRITES_RAW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_found_as_distributions_write_it() {
        for (text, release) in
            [("2:2.12-1", "2:2.12-1"), ("2.06-13+deb12u2", "2.06-13+deb12u2"), ("2.14", "2.14"), ("2:2.14.r5.gabc-1", "2:2.14.r5.gabc-1")]
        {
            let module = [b"\x7fELF\0menu\0GNU GRUB  version %s\0", text.as_bytes(), b"\0more 2.99 words\0"].concat();
            assert_eq!(version(&module).as_deref(), Some(release));
        }
        assert_eq!(version(b"\x7fELF\0no release\x002.\0v2.12\0"), None);
        for (text, raw) in [("2:2.12-1", false), ("2.06-13+deb12u2", false), ("2.14", true), ("2:2.14-1", true), ("3.00", true)] {
            assert_eq!(writes_raw(Some(text)), raw, "{text}");
        }
        assert!(!writes_raw(None));
    }
}
