//! What people write for us: `/etc/ast/autoupdate.toml`; `/etc/ast.conf` lands next.

pub mod autoupdate;
