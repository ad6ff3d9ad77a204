//! Numbers of things on disk: typed, made only by parsing or by the tree document, never reused.

use std::fmt;
use std::str::FromStr;

/// Why a text is not one of our numbers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {wanted}")]
pub struct ParseIdError {
    /// The text as given, cut to 40 characters.
    pub text: String,
    /// What was expected in its place.
    pub wanted: &'static str,
}

/// The digits of `text` as a number: no sign, no leading zero, no white space, at most ten digits.
fn digits(text: &str, wanted: &'static str) -> Result<u32, ParseIdError> {
    let plain = !text.is_empty() && text.len() <= 10 && text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten().ok_or_else(|| ParseIdError { text: text.chars().take(40).collect(), wanted })
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $wanted:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "host", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "host", serde(transparent))]
        pub struct $name(u32);

        impl $name {
            /// The id with this number, which the caller read from a document or counted up itself.
            pub const fn new(number: u32) -> Self { Self(number) }
            /// The number itself.
            pub const fn get(self) -> u32 { self.0 }
            /// The number after this one; `None` after the last of the 2³² numbers.
            pub fn next(self) -> Option<Self> { self.0.checked_add(1).map(Self) }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { self.0.fmt(f) }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> { digits(text, $wanted).map(Self) }
        }
    };
}

id!(
    /// A snapshot: a node of the tree.
    SnapshotId, "a snapshot number");
id!(
    /// A generation of a snapshot: its content at one time.
    Generation, "a generation number");
id!(
    /// A deployment: what is booted, cloned from one set.
    DeployId, "a deployment number");
id!(
    /// One arming of a trial. A spent one is never armed again.
    ArmId, "an arming number");

impl SnapshotId {
    /// The base snapshot, which only `base-update` and `chroot --base` change.
    pub const BASE: Self = Self(0);
}

/// Snapshot N in its generation G: four immutable subvolumes. Written `N.G`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetId {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Which of its generations.
    pub generation: Generation,
}

impl fmt::Display for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.snapshot, self.generation)
    }
}

impl FromStr for SetId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        const WANTED: &str = "a set (snapshot.generation, as 4.1)";
        let bad = || ParseIdError { text: text.chars().take(40).collect(), wanted: WANTED };
        let (snapshot, generation) = text.split_once('.').ok_or_else(bad)?;
        Ok(Self { snapshot: snapshot.parse().map_err(|_| bad())?, generation: generation.parse().map_err(|_| bad())? })
    }
}

#[cfg(feature = "host")]
impl serde::Serialize for SetId {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(feature = "host")]
impl<'de> serde::Deserialize<'de> for SetId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A build of GRUB for this machine: a core image and its modules. 16 hexadecimal digits out of the sum of what it was made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CoreId(String);

impl CoreId {
    /// Digits of an id.
    pub const DIGITS: usize = 16;
}

impl fmt::Display for CoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for CoreId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let plain = text.len() == Self::DIGITS && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if plain { Ok(Self(text.to_owned())) } else { Err(ParseIdError { text: text.chars().take(40).collect(), wanted: "a build of GRUB" }) }
    }
}

#[cfg(feature = "host")]
impl serde::Serialize for CoreId {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

#[cfg(feature = "host")]
impl<'de> serde::Deserialize<'de> for CoreId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_numbers_are_ids() {
        for good in ["0", "1", "4294967295"] {
            assert_eq!(good.parse::<SnapshotId>().map(|n| n.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "-1", "+1", "01", " 1", "1 ", "4294967296", "99999999999", "1a", "١", "../1", "1\n"] {
            assert!(bad.parse::<SnapshotId>().is_err(), "{bad:?} was taken for a number");
        }
    }

    #[test]
    fn a_set_is_two_numbers_and_a_dot() {
        let set: SetId = "4.12".parse().expect("a set");
        assert_eq!((set.snapshot.get(), set.generation.get(), set.to_string()), (4, 12, "4.12".into()));
        for bad in ["4", "4.", ".1", "4.1.1", "4.01", "4/1", "", "."] {
            assert!(bad.parse::<SetId>().is_err(), "{bad:?} was taken for a set");
        }
    }

    #[test]
    fn r7_a_build_is_sixteen_digits_and_no_path() {
        assert!("0123456789abcdef".parse::<CoreId>().is_ok());
        for bad in ["", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF", "../../../../etc/x", "0123456789abcde\n"] {
            assert!(bad.parse::<CoreId>().is_err(), "{bad:?} was taken for a build");
        }
    }

    #[test]
    fn the_last_number_has_no_next() {
        assert_eq!(SnapshotId::new(u32::MAX).next(), None);
        assert_eq!(SnapshotId::BASE.next(), Some(SnapshotId::new(1)));
    }
}
