//! Whether a working copy belongs to a process that is alive: its name says whose it is (`work` gives the names).

use std::path::Path;

use crate::sys::{SysError, file};

/// Digits of the boot id in the name of a working copy.
const BOOT_DIGITS: usize = 8;

/// Whether the owner of the working copy `token` (`PID-START-BOOT-NUMBER`) is gone. A name of another form belongs to somebody.
pub fn is_dead(token: &str) -> Result<bool, SysError> {
    let words: Vec<&str> = token.split('-').collect();
    let [pid, start, boot, _number] = words.as_slice() else { return Ok(false) };
    let (Ok(pid), Ok(start)) = (pid.parse::<u32>(), start.parse::<u64>()) else { return Ok(false) };
    let now: String = boot_id()?.chars().take(BOOT_DIGITS).collect();
    Ok(*boot != now || start_of(pid)? != Some(start))
}

fn boot_id() -> Result<String, SysError> {
    let bytes = file::read(Path::new("/proc/sys/kernel/random/boot_id"))?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// When the process was started; `None` when there is none.
fn start_of(pid: u32) -> Result<Option<u64>, SysError> {
    let text = match file::read_if_exists(Path::new(&format!("/proc/{pid}/stat"))) {
        Ok(Some(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
        Ok(None) => return Ok(None),
        Err(error) if error.errno() == Some(nix::errno::Errno::ESRCH) => return Ok(None),
        Err(error) => return Err(error),
    };
    // The name of the program is in parentheses and may hold anything: count from behind it. Source: proc_pid_stat(5), field 22.
    let mut fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    Ok(fields.nth(19).and_then(|f| f.parse().ok()))
}
