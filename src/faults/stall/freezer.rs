//! A cgroup of one's own, that can be frozen.

use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::faults::Unsupported;

/// A group for one process, who is not in it yet. Removed when dropped.
///
/// Paths and texts are made beforehand: what uses them may not allocate.
pub(super) struct Freezer {
    group: PathBuf,
    /// The file that takes processes into the group, and that of the group where this one was.
    enter: CString,
    leave: CString,
    process: CString,
    /// The file that freezes and thaws, and what to write for either.
    state: CString,
    frozen: &'static CStr,
    thawed: &'static CStr,
}

impl Freezer {
    /// For this process.
    pub(super) fn new(process: libc::pid_t) -> Result<Self, Unsupported> {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::v1(process, &groups).or_else(|_| Self::v2(process, &groups)).map_err(|error| {
            Unsupported::because("a cgroup freezer below /sys/fs/cgroup, and root", &error)
        })
    }

    /// Of the old kind: a hierarchy to itself.
    fn v1(process: libc::pid_t, groups: &str) -> io::Result<Self> {
        let here = group(groups, |controllers| controllers.split(',').any(|one| one == "freezer"))?;
        let here = Path::new("/sys/fs/cgroup/freezer").join(here);
        Self::below(&here, process, "freezer.state", (c"FROZEN", c"THAWED"))
    }

    /// Of the new kind: in the one hierarchy, wherever that is.
    fn v2(process: libc::pid_t, groups: &str) -> io::Result<Self> {
        let here = group(groups, str::is_empty)?;
        let mut error = io::ErrorKind::NotFound.into();
        for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new) {
            if root.join("cgroup.controllers").exists() {
                match Self::below(&root.join(here), process, "cgroup.freeze", (c"1", c"0")) {
                    Ok(freezer) => return Ok(freezer),
                    Err(other) => error = other,
                }
            }
        }
        Err(error)
    }

    fn below(
        here: &Path,
        process: libc::pid_t,
        state: &str,
        (frozen, thawed): (&'static CStr, &'static CStr),
    ) -> io::Result<Self> {
        let group = here.join(format!("deadbeat-{process}"));
        fs::create_dir(&group)?;
        let freezer = Self {
            enter: c_path(&group.join("cgroup.procs"))?,
            leave: c_path(&here.join("cgroup.procs"))?,
            process: CString::new(process.to_string())?,
            state: c_path(&group.join(state))?,
            frozen,
            thawed,
            group,
        };
        if freezer.group.join(state).exists() {
            Ok(freezer)
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    /// Takes the process in, freezes it, runs `f`, and undoes both. `false` if it couldn't be.
    ///
    /// Safe in the handler of a signal, if `f` is.
    pub(super) fn freeze_while(&self, f: impl FnOnce()) -> bool {
        if !write(&self.enter, &self.process) {
            return false;
        }
        let frozen = write(&self.state, self.frozen);
        if frozen {
            f();
        }
        // Always, or nobody would.
        write(&self.state, self.thawed);
        write(&self.leave, &self.process) && frozen
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        // A group is busy for a moment after its last process has left.
        for _ in 0..1000 {
            if fs::remove_dir(&self.group).is_ok() {
                return;
            }
            std::thread::yield_now();
        }
    }
}

/// The group in the hierarchy that has these controllers, as a path to be joined to its root.
fn group(groups: &str, has: impl Fn(&str) -> bool) -> io::Result<&str> {
    let path = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        fields.next().filter(|controllers| has(controllers))?;
        fields.next()
    });
    path.map(|path| path.trim_start_matches('/')).ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn c_path(path: &Path) -> io::Result<CString> {
    use std::os::unix::ffi::OsStrExt as _;
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn write(path: &CStr, text: &CStr) -> bool {
    // SAFETY: a path and a text that end, and a descriptor of our own.
    unsafe {
        let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if file < 0 {
            return false;
        }
        let written = libc::write(file, text.as_ptr().cast(), text.count_bytes());
        libc::close(file);
        usize::try_from(written) == Ok(text.count_bytes())
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a clock that needs no other thread")]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn groups_are_found_by_their_controllers() {
        let groups = "6:freezer:/a/b\n4:cpu,cpuacct:/c\n0::/d:e\n";
        assert_eq!(group(groups, |all| all.split(',').any(|one| one == "freezer")).unwrap(), "a/b");
        assert_eq!(group(groups, str::is_empty).unwrap(), "d:e");
        assert!(group("", str::is_empty).is_err());
    }

    #[test]
    fn either_kind_freezes_where_there_is_one() {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap();
        for kind in [Freezer::v1, Freezer::v2] {
            // A process of its own: this one has other tests to run.
            let ended = crate::faults::in_child(Duration::from_secs(5), || {
                // SAFETY: asks for a number.
                let freezer = match kind(unsafe { libc::getpid() }, &groups) {
                    Ok(freezer) => freezer,
                    Err(error) => return format!("skipped: {error}"),
                };
                let begun = Instant::now();
                let pass = || super::super::pass(Duration::from_millis(50));
                let code = crate::faults::child::helper(|| freezer.freeze_while(pass).into());
                assert_eq!(code, Ok(1));
                let took = begun.elapsed();
                assert!(took >= Duration::from_millis(50), "{took:?}");
                assert!(
                    !fs::exists(&freezer.group).unwrap() || {
                        drop(freezer);
                        true
                    }
                );
                String::new()
            });
            println!("{}", ended.unwrap());
        }
    }
}
