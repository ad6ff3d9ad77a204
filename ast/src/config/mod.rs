//! What people write for us: `/etc/ast/autoupdate.toml`, and `/etc/ast.conf` of a snapshot.

pub mod autoupdate;
pub mod snapshot;
pub mod space;
