//! What boots: plans that change the boot block.

pub mod record;
