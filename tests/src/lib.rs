//! The lab: package repositories, disk images, virtual machines, recorded power cuts.
#![allow(
    clippy::disallowed_methods,
    reason = "the lab drives foreign programs and throw-away files; the house's own seams are what it tests"
)]

pub mod bench;
pub mod campaign;
pub mod cut;
pub mod decide;
pub mod demo;
pub mod image;
pub mod lab;
pub mod scenario;
pub mod seeded;
pub mod vm;
