//! How the program is linked: most verbs take less time than loading it would, pointer by pointer and library by library.
#![allow(clippy::disallowed_methods, reason = "a file that the linker reads")]

use std::path::Path;
use std::{env, fs, io};

/// A build that aborts on a panic unwinds nothing, and what else the standard library wants of that library is a few functions. A script of the linker, for
/// all programs that link this crate.
const LIBGCC_S: &str = "GROUP ( libgcc_eh.a libgcc.a )\n";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    // Debug builds unwind: tests are such.
    if env::var("PROFILE").as_deref() != Ok("release") {
        return Ok(());
    }
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    fs::write(Path::new(&out).join("libgcc_s.so"), LIBGCC_S)?;
    println!("cargo::rustc-link-search=native={out}");
    // Needs glibc 2.36 where it runs. A linker that does not know it says so and goes on.
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    Ok(())
}
