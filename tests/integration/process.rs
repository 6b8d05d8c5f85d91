//! What the system knows of a running program: its memory and its open files, and how it is told to stop.

use std::io::ErrorKind;

use rustix::process::{Pid, Signal, kill_process};

/// Bytes of a mebibyte.
pub(crate) const MIB: u64 = 1 << 20;

/// A program that runs, by its number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process(pub(crate) Pid);

impl Process {
    pub(crate) fn new(id: u32) -> Self {
        let id = i32::try_from(id).expect("a process has a number that fits");
        Self(Pid::from_raw(id).expect("and it is not nought"))
    }

    /// Bytes that it holds in memory now.
    pub(crate) fn memory(self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most that it ever held.
    pub(crate) fn most_memory(self) -> u64 {
        self.status("VmHWM:")
    }

    /// How many files and sockets it has open; nothing where only root may know, and this is not root.
    pub(crate) fn open_files(self) -> Option<usize> {
        match std::fs::read_dir(format!("/proc/{}/fd", self.0)) {
            Ok(files) => Some(files.count()),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => None,
            Err(error) => panic!("the program does not run: {error}"),
        }
    }

    pub(crate) fn signal(self, signal: Signal) {
        kill_process(self.0, signal).expect("the program runs");
    }

    fn status(self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0)).expect("the program runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux says so");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib << 10
    }
}
