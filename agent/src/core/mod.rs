//! Pure machines and the vocabulary that every layer shares.
//!
//! Nothing here knows of tokio, of I/O or of a clock: time is passed in, and what
//! happened is returned. That is what makes the promises about offsets and the
//! writer's lease testable for any interleaving.

pub mod budget;
pub mod changes;
pub mod deadlines;
pub mod gather;
pub mod id;
pub mod input;
pub mod keys;
pub mod lease;
pub mod output;
pub mod pace;
pub mod position;
pub mod progress;
pub mod reason;
pub mod rfb;
pub mod ring;
pub mod selector;
pub mod stamps;
pub mod window;
