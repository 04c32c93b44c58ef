//! The built `vmconsolectl` against a stand-in for the agent that is driven, message by
//! message, by each test. What only the real agent can show is tested with the real agent.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what helps a test fails it as the test itself would"
)]

mod certificates;
mod doctor;
mod effects;
mod fake_agent;
mod fake_console;
mod fake_display;
mod fake_stream;
mod lists;
mod pipes;
mod program;
mod reconnects;
mod refusals;
mod relay_ends;
mod relay_sockets;
mod relays;
mod tails;
mod terminals;
