//! A machine that floods its 16550 arrives whole, in far fewer reads than it made writes.

use prometheus::Registry;
use vmconsole_agent::endpoint::Direct;

use crate::console::{Console, Site, flooding, listens, on_tcp, on_unix, terminal_of};

const BYTES: usize = 200_000;

/// What was counted under this name.
fn counted(registry: &Registry, name: &str) -> f64 {
    let families = registry.gather();
    let family = families
        .iter()
        .find(|family| family.name() == name)
        .unwrap();
    family.get_metric()[0].get_counter().get_value()
}

/// Reads so much that the port was flooded for a second or so.
async fn floods(site: &Site, console: &mut Console) {
    let registry = Registry::new();
    site.endpoints.register_metrics(&registry).unwrap();
    let begun = std::time::Instant::now();
    let came = console.until(|came| came.bytes.len() >= BYTES).await;
    let rate = came.bytes.len() as f64 / begun.elapsed().as_secs_f64();
    let reads = counted(&registry, "vmconsole_direct_reads_total");
    let read = counted(&registry, "vmconsole_direct_read_bytes_total");
    eprintln!("{rate:.0} bytes a second, {:.1} bytes a read", read / reads);
    let next = |pair: &[u8]| pair[1] == pair[0].wrapping_add(1);
    let lost = came.bytes.windows(2).filter(|pair| !next(pair)).count();
    assert_eq!(lost, 0, "every byte follows the one before");
    // 96 bytes are what may gather for a unix socket, which has the fewest.
    assert!(reads < read / 8.0, "{reads} reads of {read} bytes");
}

#[tokio::test]
async fn by_unix_socket() {
    let site = Site::new();
    let _qemu = flooding(site.dir.path(), &on_unix(&site.socket()));
    listens(&site.socket());
    let mut console = site.attach(&Direct::Unix(site.socket())).await;
    floods(&site, &mut console).await;
}

#[tokio::test]
async fn by_terminal() {
    let site = Site::new();
    let mut qemu = flooding(site.dir.path(), "pty,id=c0");
    let mut console = site.attach(&Direct::Pty(terminal_of(&mut qemu))).await;
    floods(&site, &mut console).await;
}

#[tokio::test]
async fn by_tcp() {
    let site = Site::new();
    let (chardev, direct) = on_tcp(false);
    let _qemu = flooding(site.dir.path(), &chardev);
    let mut console = loop {
        match site.try_attach(&direct).await {
            Ok(console) => break console,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    floods(&site, &mut console).await;
}
