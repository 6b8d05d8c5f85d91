//! The rules that the kernel enforces.

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, Scope, make_bitflags, path_beneath_rules,
};

use super::needs::Needs;

/// The newest that is asked for; an older kernel enforces what it knows. Later ones would also forbid to connect to Unix
/// sockets by their paths, through which systems look up names.
const KNOWN: ABI = ABI::V6;

/// Not to execute: a library is read and mapped, which is another thing.
const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});

const WRITE: BitFlags<AccessFs> =
    make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile | Truncate | MakeReg | RemoveFile});

/// Takes away from this thread, and from whatever it starts, all that is not in `needs`: files, programs, TCP ports to listen
/// on, signals to others and others' abstract sockets. What is open stays open.
pub(super) fn enforce(needs: &Needs) -> Result<RestrictionStatus, RulesetError> {
    Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(KNOWN))?
        .create()?
        .add_rules(path_beneath_rules(&needs.read, READ))?
        .add_rules(path_beneath_rules(&needs.remove, AccessFs::RemoveFile))?
        .add_rules(path_beneath_rules(&needs.write, WRITE))?
        .restrict_self()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind::PermissionDenied;
    use std::net::{TcpListener, TcpStream};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use landlock::RulesetStatus;
    use rustix::process::{Pid, test_kill_process};

    use super::*;
    use crate::config::{Config, Overrides};

    /// Runs `attempt` on a thread of its own that is confined to what serving needs, plus these; unless the kernel has no such
    /// thing.
    fn confined(remove: &Path, write: &Path, attempt: impl FnOnce() + Send) {
        let endpoint = "upstream.endpoint=https://name.openai.azure.com".to_owned();
        let config = Config::isolated(&Overrides { assignments: vec![endpoint], ..Overrides::default() }).unwrap();
        let mut needs = Needs::of(&config, &[write.to_owned()]);
        needs.remove.push(remove.to_owned());
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| match enforce(&needs).unwrap() {
                RestrictionStatus { ruleset: RulesetStatus::FullyEnforced, no_new_privs, .. } => {
                    assert!(no_new_privs);
                    attempt();
                }
                status => println!("skipped: this kernel does not enforce all of it: {status:?}"),
            });
            thread.join().unwrap();
        });
    }

    fn is_denied<T>(result: std::io::Result<T>) -> bool {
        result.is_err_and(|error| error.kind() == PermissionDenied)
    }

    fn directories() -> (tempfile::TempDir, [PathBuf; 3]) {
        let root = tempfile::tempdir().unwrap();
        let directories = ["elsewhere", "sockets", "ledger"].map(|name| root.path().join(name));
        for directory in &directories {
            fs::create_dir(directory).unwrap();
            fs::write(directory.join("file"), "content").unwrap();
        }
        (root, directories)
    }

    #[test]
    fn files_are_read_where_it_is_needed_and_nowhere_else() {
        let (_root, [elsewhere, sockets, ledger]) = directories();
        confined(&sockets, &ledger, || {
            for file in ["/etc/hosts", "/etc/resolv.conf", "/proc/self/cgroup", "/proc/self/net/tcp", "/proc/net/tcp"] {
                assert!(fs::read(file).is_ok(), "{file}: {:?}", fs::read(file));
            }
            assert!(fs::read_dir("/usr/lib").is_ok());
            for directory in [&elsewhere, &sockets, Path::new("/"), Path::new("/root"), Path::new("/proc")] {
                assert!(is_denied(fs::read_dir(directory)), "{}", directory.display());
            }
            for file in [&elsewhere.join("file"), &sockets.join("file"), Path::new("/proc/1/status")] {
                assert!(is_denied(fs::read(file)), "{}", file.display());
            }
        });
    }

    #[test]
    fn nothing_is_written_but_what_was_said() {
        let (_root, [elsewhere, sockets, ledger]) = directories();
        let listener = UnixListener::bind(sockets.join("socket")).unwrap();
        confined(&sockets, &ledger, || {
            for directory in [&elsewhere, &sockets, Path::new("/etc"), Path::new("/tmp"), Path::new("/dev/shm")] {
                assert!(is_denied(fs::write(directory.join("new"), "")), "{}", directory.display());
                assert!(is_denied(fs::create_dir(directory.join("new"))), "{}", directory.display());
            }
            // What is read, and this user may write to.
            for file in ["/etc/hosts", "/proc/self/comm"] {
                assert!(is_denied(fs::OpenOptions::new().append(true).open(file)), "{file}");
            }
            for directory in [&elsewhere, &sockets] {
                assert!(is_denied(fs::OpenOptions::new().append(true).open(directory.join("file"))));
                assert!(is_denied(fs::OpenOptions::new().write(true).truncate(true).open(directory.join("file"))));
                assert!(is_denied(UnixListener::bind(directory.join("new"))));
            }
            assert!(is_denied(fs::remove_file(elsewhere.join("file"))));
            fs::remove_file(sockets.join("socket")).unwrap();

            fs::write(ledger.join("new"), "1").unwrap();
            fs::write(ledger.join("new"), "2").unwrap();
            fs::rename(ledger.join("new"), ledger.join("file")).unwrap();
            assert_eq!(fs::read(ledger.join("file")).unwrap(), b"2");
        });
        drop(listener);
    }

    #[test]
    fn no_program_is_run() {
        let (_root, [_, sockets, ledger]) = directories();
        fs::copy("/bin/true", ledger.join("true")).unwrap();
        confined(&sockets, &ledger, || {
            for program in [Path::new("/bin/true"), Path::new("/usr/bin/true"), &ledger.join("true")] {
                assert!(is_denied(Command::new(program).status()), "{}", program.display());
            }
        });
    }

    #[test]
    fn no_port_is_listened_on_and_any_is_connected_to() {
        let (_root, [_, sockets, ledger]) = directories();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        confined(&sockets, &ledger, || {
            assert!(is_denied(TcpListener::bind("127.0.0.1:0")));
            assert!(TcpStream::connect(address).is_ok());
            assert!(listener.accept().is_ok(), "what was bound before serves");
        });
    }

    #[test]
    fn other_processes_are_left_alone() {
        let (_root, [_, sockets, ledger]) = directories();
        let name = SocketAddr::from_abstract_name(sockets.as_os_str().as_encoded_bytes()).unwrap();
        let _listener = UnixListener::bind_addr(&name).unwrap();
        let mut other = Command::new("/bin/cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(other.id()).unwrap()).unwrap();
        test_kill_process(pid).unwrap();
        confined(&sockets, &ledger, || {
            assert!(test_kill_process(pid).is_err());
            assert!(is_denied(UnixStream::connect_addr(&name).map(drop)));
        });
        // What it reads from ends with this.
        drop(other.stdin.take());
        other.wait().unwrap();
    }
}
