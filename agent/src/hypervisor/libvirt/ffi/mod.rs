//! Safe wrappers over the few libvirt calls that the agent makes. All the unsafe code of
//! the agent is here, and nothing here knows what a console or an inventory is.
//!
//! They stand on `virt-sys` and not on the `virt` crate: there `Stream::recv` answers
//! `Ok(-2)` for "would block", `Domain::state` turns errors into `Ok(Unknown)`, the stream
//! callback keeps a raw pointer that moving the stream leaves dangling, dropping can panic,
//! and domain events and the close callback are missing.
//!
//! # Callbacks
//! libvirt never gets a pointer to anything of ours. What it hands back to a callback is a
//! number, by which a [`registry`] finds the closure, or finds that it is gone. So no order
//! of drop and callback can touch freed memory, and it does not matter that libvirt's remote
//! driver forgets to call the free function of a stream callback (`remoteStreamCallbackFree`
//! in 9.0.0). No panic crosses into C.
//!
//! # Threads
//! libvirt's objects may be used from any thread. Calls marked *may block* wait for libvirtd
//! and belong on threads that exist for that. Domain events and stream callbacks come on the
//! event loop's thread; a connection's close callback comes on whichever thread noticed.
//!
//! # Letting go
//! Disposing of the last C reference to a connection is itself a call to libvirtd. Where that
//! happened on the event loop's thread, one stuck connection would stop them all. So every
//! object here keeps its [`Connection`] alive, and the connection lets go in
//! [`Connection::close`], or on a thread of its own when it is dropped.

#![allow(unsafe_code)]

mod connection;
mod domain;
mod domain_event;
mod effect;
mod error;
pub(crate) mod event_loop;
mod graphics;
mod pace;
mod registry;
mod screenshot;
mod stream;

pub(crate) use connection::{CloseReason, Connection};
pub(crate) use domain::{Domain, MAX_DOMAINS, RawState};
pub(crate) use domain_event::{DomainEvent, DomainEventKind};
pub(crate) use error::{LibvirtError, code};
pub(crate) use stream::{Readiness, Received, Stream, StreamDevice};
