//! The vmconsole agent: serial and virtio consoles of KVM guests over gRPC.
//!
//! ARCHITECTURE.md has the map of the modules. A module names only those of lower layers.

pub mod api;
pub mod app;
mod clock;
pub mod config;
pub mod console;
pub mod core;
pub mod diagnosis;
pub mod endpoint;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod graphics;
pub mod http;
pub mod hypervisor;
pub mod metrics;
pub mod pem;
pub mod picture;
pub mod session;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
