//! Tests of the whole room: golden cases, properties, and the real compilers as judges.

mod crates;
mod golden;
mod oracle;
mod properties;
