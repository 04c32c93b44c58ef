//! A proxy of one session that keeps a journal and is killed: `proxy DIRECTORY ADDRESS`.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, address] = arguments.as_slice() else {
        return Err("usage: proxy DIRECTORY ADDRESS".into());
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let serving = vmconsole_tests::proxy::serve(Path::new(directory), address.parse()?);
    runtime.block_on(serving)
}
