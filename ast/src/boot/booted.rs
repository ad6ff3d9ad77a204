//! `/run/ast/booted`: what the initramfs says about this boot, as `key=value` lines.

use std::fmt;

use crate::cmdline::{BlockPlace, Why};
use crate::id::{ArmId, CoreId, DeployId, SetId};

/// What stands for the name of a watchdog where there is none.
pub const NO_WATCHDOG: &str = "none";
/// What Linux's watchdog in software calls itself (`drivers/watchdog/softdog.c`). A kernel that hangs, hangs with it.
pub const SOFT_WATCHDOG: &str = "Software Watchdog";

/// What was booted, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Booted {
    /// The deployment, unless a set was booted.
    pub d: Option<DeployId>,
    /// The set: the one booted by hand, or the one that the deployment was cloned from.
    pub set: Option<SetId>,
    /// Why GRUB started it.
    pub why: Option<Why>,
    /// Id of the arming that was current.
    pub arm: Option<ArmId>,
    /// Tries left of the trial.
    pub left: Option<u8>,
    /// Whether GRUB could write.
    pub env: Option<bool>,
    /// What should have been mounted, when it was another.
    pub wanted: Option<String>,
    /// Why that could not be.
    pub reason: Option<String>,
    /// Whether /etc ends with this boot.
    pub volatile: bool,
    /// Where the boot block is.
    pub block: Option<BlockPlace>,
    /// The build of GRUB that started it, as far as that says.
    pub grub: Option<CoreId>,
    /// Devices of the filesystem that were not there, by their numbers in it.
    pub missing: Vec<u64>,
    /// Those that were not there at an earlier start and are now: they lack what was written meanwhile.
    pub behind: Vec<u64>,
    /// What was done to mount a damaged filesystem, and what that may have cost, a line each.
    pub disk: Vec<String>,
    /// What notices a hang of this trial: the armed watchdog, as it calls itself, or [`NO_WATCHDOG`]. `None` at any other start.
    pub watchdog: Option<String>,
}

impl Booted {
    /// The record in these lines. Unknown keys and malformed values are passed over: an older ast reads a newer record.
    pub fn parse(text: &str) -> Self {
        let mut record = Self::default();
        for (key, value) in text.lines().filter_map(|l| l.split_once('=')) {
            match key {
                "d" => record.d = value.parse().ok(),
                "set" => record.set = value.parse().ok(),
                "why" => record.why = Why::from_word(value),
                "arm" => record.arm = value.parse().ok(),
                "left" => record.left = value.parse().ok(),
                "env" => {
                    record.env = match value {
                        "ok" => Some(true),
                        "fail" => Some(false),
                        _ => None,
                    }
                }
                "wanted" => record.wanted = Some(value.to_owned()),
                "reason" => record.reason = Some(value.to_owned()),
                "grub" => record.grub = value.parse().ok(),
                "volatile" => record.volatile = value == "1",
                "missing" => record.missing = ids(value),
                "behind" => record.behind = ids(value),
                "disk" => record.disk.push(value.to_owned()),
                "watchdog" => record.watchdog = Some(value.to_owned()),
                "block" => record.block = crate::cmdline::Cmdline::parse(&format!("ast.block={value}")).block,
                _ => {}
            }
        }
        record
    }

    /// Whether this boot is one of a trial that may be promoted.
    pub fn on_trial(&self) -> bool {
        self.why == Some(Why::Trial) && self.wanted.is_none() && !self.volatile && self.d.is_some()
    }
}

impl fmt::Display for Booted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |key: &str, value: Option<String>| match value {
            // A value stays on its line, whatever it says.
            Some(value) => writeln!(f, "{key}={}", value.replace(['\n', '\r'], " ")),
            None => Ok(()),
        };
        line("d", self.d.map(|d| d.to_string()))?;
        line("set", self.set.map(|s| s.to_string()))?;
        line("why", self.why.map(|w| w.word().to_owned()))?;
        line("arm", self.arm.map(|a| a.to_string()))?;
        line("left", self.left.map(|l| l.to_string()))?;
        line("env", self.env.map(|ok| if ok { "ok" } else { "fail" }.to_owned()))?;
        line("wanted", self.wanted.clone())?;
        line("reason", self.reason.clone())?;
        line("volatile", self.volatile.then(|| "1".to_owned()))?;
        line("grub", self.grub.as_ref().map(CoreId::to_string))?;
        for (key, ids) in [("missing", &self.missing), ("behind", &self.behind)] {
            let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
            line(key, (!ids.is_empty()).then(|| ids.join(",")))?;
        }
        for done in &self.disk {
            line("disk", Some(done.clone()))?;
        }
        line("watchdog", self.watchdog.clone())?;
        line(
            "block",
            self.block.as_ref().map(|b| match b {
                BlockPlace::Raw => "raw".to_owned(),
                BlockPlace::Local => "local".to_owned(),
                BlockPlace::Files(uuid) => format!("files:{uuid}"),
            }),
        )
    }
}

fn ids(value: &str) -> Vec<u64> {
    value.split(',').filter_map(|id| id.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back() {
        let record = Booted {
            d: Some(DeployId::new(7)),
            set: "3.2".parse().ok(),
            why: Some(Why::Trial),
            arm: Some(ArmId::new(4)),
            left: Some(2),
            env: Some(true),
            wanted: Some("d8".into()),
            reason: Some("no modules\nfor 6.1".into()),
            volatile: true,
            block: Some(BlockPlace::Files("ABCD-1234".into())),
            grub: "0123456789abcdef".parse().ok(),
            missing: vec![2, 30],
            behind: vec![4],
            disk: vec!["its log was dropped".into(), "more=1".into()],
            watchdog: Some("i6300ESB timer".into()),
        };
        let back = Booted::parse(&format!("later=1\n{record}"));
        assert_eq!(back, Booted { reason: Some("no modules for 6.1".into()), ..record });
    }
}
