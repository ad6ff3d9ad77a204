//! An amount of disk space as people write it: `500M`, `2G`, `10%`.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// The units, each 1024 of the one before it, as systemd, btrfs and snapper count.
const UNITS: [char; 4] = ['K', 'M', 'G', 'T'];

/// So much of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// Bytes.
    Bytes(u64),
    /// Hundredths of its size, up to 100.
    Percent(u8),
}

/// Why a text is no amount of space.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no amount of space, as \"500M\", \"2G\" or \"10%\" is")]
pub struct NoSpace(String);

impl Space {
    /// In bytes, on a disk of `size` bytes.
    pub fn of(self, size: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            // In hundredths first, so that no size overflows.
            Self::Percent(percent) => size / 100 * u64::from(percent) + size % 100 * u64::from(percent) / 100,
        }
    }
}

impl FromStr for Space {
    type Err = NoSpace;

    /// A number of bytes, of a unit (`K`, `M`, `G`, `T`; `MiB` is the same as `M`), or of hundredths of the disk (`%`). No fractions.
    fn from_str(text: &str) -> Result<Self, NoSpace> {
        let no = || NoSpace(text.to_owned());
        let trimmed = text.trim();
        let digits = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at_checked(digits).ok_or_else(no)?;
        let number: u64 = number.parse().map_err(|_| no())?;
        let unit = unit.trim_start();
        if unit == "%" {
            return u8::try_from(number).ok().filter(|percent| *percent <= 100).map(Self::Percent).ok_or_else(no);
        }
        let power = match unit.strip_suffix("iB").unwrap_or(unit) {
            "" if unit.is_empty() => 0,
            letter => UNITS.iter().position(|u| letter.eq_ignore_ascii_case(u.encode_utf8(&mut [0; 4]))).ok_or_else(no)? + 1,
        };
        (0..power).try_fold(number, |bytes, _| bytes.checked_mul(1024)).map(Self::Bytes).ok_or_else(no)
    }
}

impl fmt::Display for Space {
    /// In the largest unit that has no fraction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Bytes(bytes) => {
                let (mut number, mut unit) = (*bytes, None);
                for letter in UNITS {
                    if number == 0 || number % 1024 != 0 {
                        break;
                    }
                    (number, unit) = (number / 1024, Some(letter));
                }
                write!(f, "{number}{}", unit.map(String::from).unwrap_or_default())
            }
        }
    }
}

impl Serialize for Space {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_as_written() {
        let table: &[(&str, Space, &str)] = &[
            ("0", Space::Bytes(0), "0"),
            ("4096", Space::Bytes(4096), "4K"),
            ("500M", Space::Bytes(500 << 20), "500M"),
            ("500 MiB", Space::Bytes(500 << 20), "500M"),
            ("2g", Space::Bytes(2 << 30), "2G"),
            ("1T", Space::Bytes(1 << 40), "1T"),
            (" 10% ", Space::Percent(10), "10%"),
            ("100 %", Space::Percent(100), "100%"),
        ];
        for (text, space, shown) in table {
            assert_eq!((text.parse(), space.to_string().as_str()), (Ok(*space), *shown), "{text}");
            assert_eq!(shown.parse(), Ok(*space), "{text}");
        }
        for bad in [
            "",
            "G",
            "%",
            "-1G",
            "1.5G",
            "1,5G",
            "101%",
            "300%",
            "1P",
            "1GB",
            "iB",
            "1iB",
            "2 G B",
            "99999999999999999999",
            "99999999T",
            "é%",
        ] {
            assert!(bad.parse::<Space>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_part_of_a_disk_is_rounded_down_and_overflows_nowhere() {
        let table = [
            (Space::Percent(10), 1005, 100),
            (Space::Percent(100), u64::MAX, u64::MAX),
            (Space::Percent(0), 5, 0),
            (Space::Bytes(7), 3, 7),
        ];
        for (space, size, bytes) in table {
            assert_eq!(space.of(size), bytes, "{space} of {size}");
        }
    }
}
