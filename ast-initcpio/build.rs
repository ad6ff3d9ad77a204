//! How the program is linked where size counts: it is in every image, and GRUB reads those slowly.
//!
//! Such a build aborts on a panic, so nothing is ever unwound: the tables for that are left out. So is libgcc_s, which nothing else in an image of busybox
//! has (`ast/build.rs`).
#![allow(clippy::disallowed_methods, reason = "a file that the linker reads")]

use std::path::Path;
use std::{env, fs, io};

/// A script of the linker, GNU's and LLVM's.
const NO_TABLES: &str = "SECTIONS { /DISCARD/ : { *(.eh_frame) *(.gcc_except_table .gcc_except_table.*) } } INSERT AFTER .text;\n";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    // Debug builds unwind: tests are such.
    if env::var("PROFILE").as_deref() != Ok("release") {
        return Ok(());
    }
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    let script = Path::new(&out).join("no-tables.ld");
    fs::write(&script, NO_TABLES)?;
    println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", script.display());
    Ok(())
}
