//! Compiles the protos with protox, so that no installed `protoc` is needed.

use std::path::PathBuf;

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=vmconsole");
    let descriptors = protox::compile(
        [
            "vmconsole/v1/console_service.proto",
            "vmconsole/v1/graphics.proto",
            "vmconsole/v1/session_service.proto",
        ],
        ["."],
    )?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // `connect` would pull a transport into the agent, which has its own accept loop.
        .build_transport(false)
        .codec_path("crate::codec::SmallBuffers")
        // Output and input bytes are shared slices of the message they came in, not copies.
        .bytes(".vmconsole.v1.Output.data")
        .bytes(".vmconsole.v1.Input.data")
        .bytes(".vmconsole.v1.RelayData.data")
        .compile_fds(descriptors)?;
    Ok(())
}
