//! Whatever breaks, the build succeeds, says why, and the farm is clean afterwards: every row is a
//! real fault in a real farm.

mod absent;
mod daemon;
mod disks;
mod inputs;
mod load;
mod server;
mod workers;
