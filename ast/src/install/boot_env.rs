//! TEMPORARY until work::boot does it
use super::Result;
use crate::grub::BootEnv;
use crate::grub::defaults::Defaults;
use crate::sys::file;
use std::path::Path;
pub(super) fn write(boot: &Path, etc: &Path) -> Result<()> {
    let defaults = Defaults::parse(&String::from_utf8_lossy(&file::read(&etc.join("default/grub"))?));
    let args = defaults.kernel_args().map_err(crate::grub::GrubError::from)?;
    let env = BootEnv::new("vmlinuz-linux", &["initramfs-linux.img".into()], &args, "Arch Linux")?;
    file::replace(&boot.join("ast.env"), &env.encode()?)?;
    use sha2::Digest as _;
    let mut sums = String::new();
    for name in file::names(boot)? {
        let name = name.to_string_lossy().into_owned();
        if name == "grub" {
            continue;
        }
        let sum = sha2::Sha256::digest(file::read(&boot.join(&name))?);
        sums.push_str(&format!("{}  {name}\n", sum.iter().map(|b| format!("{b:02x}")).collect::<String>()));
    }
    file::make_dirs(&boot.join("grub"))?;
    Ok(file::replace(&boot.join("ast.sums"), sums.as_bytes())?)
}
