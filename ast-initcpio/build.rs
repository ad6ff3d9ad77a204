//! How the program is linked where size counts: it is in every image, and GRUB reads those slowly.
//!
//! Such a build aborts on a panic, so nothing is ever unwound. The standard library asks for libgcc_s all the same, a library that nothing else in an
//! image of busybox has: here that name stands for the few functions themselves. And the tables for unwinding are left out.
#![allow(clippy::disallowed_methods, reason = "two files that the linker reads")]

use std::path::Path;
use std::{env, fs, io};

/// Both are scripts of the linker, GNU's and LLVM's.
const LIBGCC_S: &str = "GROUP ( libgcc_eh.a libgcc.a )\n";
const NO_TABLES: &str = "SECTIONS { /DISCARD/ : { *(.eh_frame) *(.gcc_except_table .gcc_except_table.*) } } INSERT AFTER .text;\n";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    // Debug builds unwind: tests are such.
    if env::var("PROFILE").as_deref() != Ok("release") {
        return Ok(());
    }
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    let script = Path::new(&out).join("no-tables.ld");
    fs::write(Path::new(&out).join("libgcc_s.so"), LIBGCC_S)?;
    fs::write(&script, NO_TABLES)?;
    println!("cargo::rustc-link-search=native={out}");
    println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", script.display());
    Ok(())
}
