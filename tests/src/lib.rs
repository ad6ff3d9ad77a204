//! The lab: package repositories, disk images, virtual machines, recorded power cuts.
