//! ast
fn main() {}
