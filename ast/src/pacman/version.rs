//! Which of two versions is newer. Source: `alpm_pkg_vercmp` in `lib/libalpm/version.c`, which has it from rpm.

use std::cmp::Ordering;

/// As `vercmp` of pacman: epoch, version, and the release where both have one.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    let ((epoch, version, release), (other_epoch, other_version, other_release)) = (parts(a), parts(b));
    let upstream = segments(epoch, other_epoch).then_with(|| segments(version, other_version));
    upstream.then_with(|| match (release, other_release) {
        (Some(release), Some(other)) => segments(release, other),
        _ => Ordering::Equal,
    })
}

/// `epoch:version-release`.
fn parts(text: &str) -> (&str, &str, Option<&str>) {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (epoch, rest) = match (text.get(..digits), text.get(digits..).and_then(|rest| rest.strip_prefix(':'))) {
        (Some(epoch), Some(rest)) => (if epoch.is_empty() { "0" } else { epoch }, rest),
        _ => ("0", text),
    };
    // The last dash behind the leading digits: a version may have others.
    match rest.rsplit_once('-') {
        Some((version, release)) => (epoch, version, Some(release)),
        None => (epoch, rest, None),
    }
}

/// Runs of digits as numbers, runs of letters as words, one after the other.
fn segments(a: &str, b: &str) -> Ordering {
    if a == b {
        return Ordering::Equal;
    }
    let (mut one, mut two) = (a.as_bytes(), b.as_bytes());
    while !one.is_empty() && !two.is_empty() {
        let (separators, other) = (run(one, |c| !c.is_ascii_alphanumeric()), run(two, |c| !c.is_ascii_alphanumeric()));
        (one, two) = (&one[separators..], &two[other..]);
        let (Some(first), Some(_)) = (one.first(), two.first()) else { break };
        if separators != other {
            return separators.cmp(&other);
        }
        let is_number = first.is_ascii_digit();
        let kind: fn(&u8) -> bool = if is_number { u8::is_ascii_digit } else { u8::is_ascii_alphabetic };
        let (mut word, rest) = one.split_at(run(one, kind));
        let (mut other, other_rest) = two.split_at(run(two, kind));
        if other.is_empty() {
            // A number is newer than a word.
            return if is_number { Ordering::Greater } else { Ordering::Less };
        }
        if is_number {
            word = &word[run(word, |c| *c == b'0')..];
            other = &other[run(other, |c| *c == b'0')..];
            match word.len().cmp(&other.len()) {
                Ordering::Equal => {}
                longer => return longer,
            }
        }
        match word.cmp(other) {
            Ordering::Equal => (one, two) = (rest, other_rest),
            differs => return differs,
        }
    }
    match (one.first(), two.first()) {
        (None, None) => Ordering::Equal,
        // What follows is newer, unless it is a word: 1.0beta is before 1.0.
        (None, Some(c)) if !c.is_ascii_alphabetic() => Ordering::Less,
        (Some(c), _) if c.is_ascii_alphabetic() => Ordering::Less,
        _ => Ordering::Greater,
    }
}

/// How many bytes at the beginning are of this kind.
fn run(bytes: &[u8], kind: impl Fn(&u8) -> bool) -> usize {
    bytes.iter().take_while(|byte| kind(byte)).count()
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    /// What the real program says.
    fn real(a: &str, b: &str) -> Option<Ordering> {
        let out = std::process::Command::new("vercmp").args([a, b]).output().ok()?;
        Some(String::from_utf8_lossy(&out.stdout).trim().parse::<i32>().ok()?.cmp(&0))
    }

    #[test]
    fn versions_are_compared_as_pacman_does() {
        let table = [
            ("1-1", "1-1", Ordering::Equal),
            ("1-1", "1-2", Ordering::Less),
            ("1", "1-2", Ordering::Equal),
            ("1.0beta-1", "1.0-1", Ordering::Less),
            ("1.0.1-1", "1.0-1", Ordering::Greater),
            ("1.10-1", "1.9-1", Ordering::Greater),
            ("1:1-1", "2-1", Ordering::Greater),
            ("1.0", "1.0.", Ordering::Less),
            ("1..0", "1.0", Ordering::Greater),
            ("1.a", "1.1", Ordering::Less),
            ("1.001", "1.1", Ordering::Equal),
            ("6.12.1.arch1-1", "6.12.arch1-1", Ordering::Greater),
            ("", "1", Ordering::Less),
        ];
        for (a, b, expected) in table {
            assert_eq!(compare_versions(a, b), expected, "{a} and {b}");
            assert_eq!(real(a, b).unwrap_or(expected), expected, "vercmp of {a} and {b}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(128))]
        #[test]
        fn any_two_are_compared_as_vercmp_does(a in "[0-9a-c.:+_-]{0,9}", b in "[0-9a-c.:+_-]{0,9}") {
            // A word with a dash in front is an option to the program.
            if !a.starts_with('-') && !b.starts_with('-') && let Some(expected) = real(&a, &b) {
                assert_eq!(compare_versions(&a, &b), expected, "{:?} and {:?}", a, b);
            }
        }

        #[test]
        fn r7_no_version_crashes_it(a in ".*", b in ".*") {
            assert_eq!(compare_versions(&a, &b), compare_versions(&b, &a).reverse());
        }
    }
}
