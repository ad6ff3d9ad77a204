//! A mirror: one directory over HTTP on the loopback, where the emulator's user network shows it as 10.0.2.2.

use super::Result;
use super::error::Error;
use std::fs::File;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

/// Requests answered at the same time.
const THREADS: usize = 4;

/// A running mirror; it ends when dropped.
pub struct Server {
    server: Arc<tiny_http::Server>,
    threads: Vec<JoinHandle<()>>,
    port: u16,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({})", self.port)
    }
}

impl Server {
    /// The files below `root` are served on a free port. `root` is looked up anew for each request, so it may be a
    /// link that is flipped from one repository to another.
    pub fn start(root: &Path) -> Result<Self> {
        Self::start_on(root, 0)
    }

    /// The same on a given port.
    pub fn start_on(root: &Path, port: u16) -> Result<Self> {
        Self::start_at(root, "127.0.0.1", port)
    }

    /// The same on another of this machine's addresses.
    pub fn start_at(root: &Path, address: &str, port: u16) -> Result<Self> {
        let io = |source: std::io::Error| Error::Io { path: format!("{address}:{port}").into(), source };
        let server = Arc::new(tiny_http::Server::http((address, port)).map_err(|e| io(std::io::Error::other(e)))?);
        let port = server.server_addr().to_ip().map_or(port, |a| a.port());
        let thread = |_| {
            let (server, root) = (Arc::clone(&server), root.to_owned());
            std::thread::spawn(move || {
                while let Ok(request) = server.recv() {
                    answer(request, &root);
                }
            })
        };
        let threads = (0..THREADS).map(thread).collect();
        Ok(Self { server, threads, port })
    }

    /// The port on the loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// As the guest writes it into its mirror list.
    pub fn guest_url(&self) -> String {
        format!("http://10.0.2.2:{}/", self.port)
    }

    /// As a program on this machine reaches it.
    pub fn host_url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Each call wakes one thread, whichever: first as many calls as threads, then wait.
        for _ in &self.threads {
            self.server.unblock();
        }
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

/// Sends the file, or 404; a client that went away is of no interest.
fn answer(request: tiny_http::Request, root: &Path) {
    let path = request.url().split('?').next().unwrap_or_default().replace("%2B", "+").replace("%2b", "+").replace("%3A", ":");
    let file = inside(root, &path).and_then(|p| File::open(p).ok()).filter(|f| f.metadata().is_ok_and(|m| m.is_file()));
    drop(match file {
        Some(file) => request.respond(tiny_http::Response::from_file(file)),
        None => request.respond(tiny_http::Response::from_string("not found\n").with_status_code(404)),
    });
}

/// The path below `root`, unless it climbs out of it.
fn inside(root: &Path, path: &str) -> Option<PathBuf> {
    let relative = Path::new(path.trim_start_matches('/'));
    relative.components().all(|c| matches!(c, Component::Normal(_))).then(|| root.join(relative))
}
