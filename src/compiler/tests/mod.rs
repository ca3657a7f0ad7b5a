//! Tests of the whole room: golden cases, properties, and the real compilers as judges.

mod golden;
mod oracle;
mod properties;
