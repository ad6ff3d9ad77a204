//! `install`, `remove`, `upgrade`, `base-update`, `list`: the packages of a snapshot.
