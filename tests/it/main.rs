//! Whole programs and real servers, seen from outside.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod answers;
mod audit;
mod build_systems;
mod cache;
mod callers;
mod connections;
mod crates;
mod dev;
mod dist_auth;
mod edits;
mod farm;
mod faults;
mod fill;
mod flight;
mod harness;
mod identity;
mod poison;
mod projects;
mod remembered;
mod restart;
mod revocation;
mod rights;
mod scanned;
mod secrets;
mod seeds;
mod socket;
mod store;
mod tenants;
mod terminals;
mod tls;
