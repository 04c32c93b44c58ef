//! The `vmconsole.v1` interface, generated from the `.proto` files beside this crate.
//!
//! The files themselves are the reference: every message, field and promise is
//! described there.

pub mod codec;

/// Package `vmconsole.v1`.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("vmconsole.v1");
}

/// The encoded `FileDescriptorSet` of the package with its imports, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
