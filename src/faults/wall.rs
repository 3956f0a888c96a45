//! The wall clock steps, for a child process: libfaketime.
//!
//! The library (on Debian, in the package of that name) is loaded into the child, and told to leave
//! the other clocks alone: `SystemTime` steps, `Instant` doesn't. It deceives whoever asks the C
//! library, like [`kernel`](super::kernel), which does without it where the program can be
//! changed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::{env, fs, io, process};

use super::Unsupported;

/// What moves a child's wall clock. The file that does it is removed when this is dropped: keep it
/// for as long as the child runs.
#[derive(Debug)]
pub struct Control {
    file: PathBuf,
    ahead: f64,
}

impl Control {
    /// Sets `command` up: its wall clock shows the truth, until it is told to [`step`](Self::step).
    ///
    /// # Errors
    ///
    /// If libfaketime isn't installed where Debian, Fedora or Arch put it, or the file can't be
    /// written.
    pub fn over(command: &mut Command) -> Result<Self, Unsupported> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let library = library().ok_or(Unsupported::needs("libfaketime to be installed"))?;
        // Ordering: Relaxed, only unique.
        let name = format!("deadbeat-wall-{}-{}", process::id(), NEXT.fetch_add(1, Relaxed));
        let control = Self { file: env::temp_dir().join(name), ahead: 0.0 };
        control.write().map_err(|error| Unsupported::because("a temporary file", &error))?;
        let mut preload = OsString::from(library);
        if let Some(others) = env::var_os("LD_PRELOAD") {
            preload.push(":");
            preload.push(others);
        }
        command
            .env("LD_PRELOAD", preload)
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_TIMESTAMP_FILE", &control.file)
            .env_remove("FAKETIME");
        Ok(control)
    }

    /// The clock steps by this much, forward or back. Steps add up, to the microsecond.
    ///
    /// # Errors
    ///
    /// If the file can't be written: then the clock stays as it is.
    pub fn step(&mut self, seconds: f64) -> io::Result<()> {
        let before = self.ahead;
        self.ahead += seconds;
        self.write().inspect_err(|_| self.ahead = before)
    }

    /// All at once: the child reads the file at any time.
    fn write(&self) -> io::Result<()> {
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{:+.6}\n", self.ahead))?;
        fs::rename(new, &self.file)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // Left where it is, it does no harm.
        let _ = fs::remove_file(&self.file);
    }
}

/// For programs with threads, as any may be.
fn library() -> Option<&'static Path> {
    const PLACES: [&str; 5] = [
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
        "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
        "/usr/lib64/faketime/libfaketimeMT.so.1",
        "/usr/lib/faketime/libfaketimeMT.so.1",
        "/usr/local/lib/faketime/libfaketimeMT.so.1",
    ];
    PLACES.into_iter().map(Path::new).find(|path| path.exists())
}
