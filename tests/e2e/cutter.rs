//! A way over TCP that can be cut: what is on it then is lost, and nobody is told.
//!
//! Refuses to look at what it carries.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Default)]
struct Ways {
    open: Mutex<Vec<TcpStream>>,
    made: AtomicUsize,
    closed: AtomicBool,
}

/// The way. Each connection to it goes on to the far end until it is cut.
pub(crate) struct Cutter {
    address: SocketAddr,
    ways: Arc<Ways>,
}

impl Cutter {
    /// A way to `far`.
    pub(crate) fn to(far: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ways = Arc::<Ways>::default();
        let kept = Arc::clone(&ways);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if kept.closed.load(Ordering::SeqCst) {
                    return;
                }
                // A far end that is not there ends the connection, as a cut does.
                if let Ok(far) = TcpStream::connect(far) {
                    kept.carry(near, far);
                }
            }
        });
        Self { address, ways }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections there were.
    pub(crate) fn made(&self) -> usize {
        self.ways.made.load(Ordering::SeqCst)
    }

    /// Cuts every connection, in both directions.
    pub(crate) fn cut(&self) {
        let open = std::mem::take(&mut *self.ways.lock());
        for stream in open {
            // One that has ended by itself is as good.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.ways.closed.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes the thread, which then sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

impl Ways {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn carry(&self, near: TcpStream, far: TcpStream) {
        self.made.fetch_add(1, Ordering::SeqCst);
        let mut open = self.lock();
        for (from, to) in [(&near, &far), (&far, &near)] {
            let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            open.push(from.try_clone().unwrap());
            std::thread::spawn(move || {
                // However it ends, the other direction ends too.
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Both);
                let _ = from.shutdown(Shutdown::Both);
            });
        }
    }
}
