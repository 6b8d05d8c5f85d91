//! Which files a proxy that serves still opens.

use std::path::{Path, PathBuf};

use crate::config::{Config, CredentialSource};

/// What the system's library reads to find a host's address. Networks change, and then these files are replaced: what counts
/// is where they lie.
const NAMES: [&str; 6] =
    ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/gai.conf", "/etc/host.conf", "/etc/services"];

/// Where `/etc/resolv.conf` may lead later, when it does not yet; and where the library looks for parts of itself.
const SYSTEM: [&str; 13] = [
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/nix/store",
    "/gnu/store",
    // How many processors this process may use, and whose connections reach it.
    "/proc/self",
    "/sys/fs/cgroup",
    "/sys/devices/system/cpu",
];

/// Files, and directories with all that is below.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// To read.
    pub(super) read: Vec<PathBuf>,
    /// To remove files from.
    pub(super) remove: Vec<PathBuf>,
    /// To read, write, create and remove in.
    pub(super) write: Vec<PathBuf>,
}

impl Needs {
    pub(super) fn of(config: &Config, writable: &[PathBuf]) -> Self {
        let files = NAMES.into_iter().map(Path::new).chain(files(&config.credential.source));
        let system = SYSTEM.into_iter().map(PathBuf::from).filter(|path| path.exists());
        let mut read: Vec<_> = files.flat_map(whereabouts).chain(system).collect();
        read.sort();
        // What lies below another is allowed with it.
        read.dedup_by(|path, above| path.starts_with(above));
        Self {
            read,
            remove: config.listen.unix.iter().filter_map(|socket| directory(socket)).collect(),
            write: writable.to_vec(),
        }
    }
}

/// Files that a credential reads anew for every token.
fn files(source: &CredentialSource) -> Vec<&Path> {
    match source {
        CredentialSource::Auto(links) => links.iter().flat_map(files).collect(),
        CredentialSource::WorkloadIdentity { token_file: file, .. }
        | CredentialSource::ClientCertificate { path: file, .. } => vec![file],
        CredentialSource::ManagedIdentity(_)
        | CredentialSource::ClientSecret { .. }
        | CredentialSource::AzureCli { .. }
        | CredentialSource::AzureDeveloperCli { .. } => Vec::new(),
    }
}

/// The directory in which a file is named, and the one that this name leads to now. Whoever replaces a file puts the next one
/// beside it, or (Kubernetes, certbot) turns a link beside it; a file alone would be another one then.
fn whereabouts(file: &Path) -> impl Iterator<Item = PathBuf> {
    let meant = file.canonicalize().ok();
    [directory(file), meant.and_then(|meant| directory(&meant))].into_iter().flatten()
}

/// The directory of a file, or the nearest one above it that is there yet; never all there is.
fn directory(file: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(file).ok()?;
    let found = absolute.ancestors().skip(1).find(|path| path.is_dir())?;
    if found.parent().is_none() {
        tracing::warn!(file = %file.display(), "its directory does not exist, and when it does, it will not be readable");
        return None;
    }
    Some(found.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn found(file: &Path) -> Vec<PathBuf> {
        whereabouts(file).collect()
    }

    #[test]
    fn a_file_is_looked_for_where_it_is_named_and_where_the_name_leads() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        for name in ["named", "meant"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        std::fs::write(root.join("meant/file"), "").unwrap();
        symlink(root.join("meant/file"), root.join("named/link")).unwrap();
        assert_eq!(found(&root.join("named/link")), [root.join("named"), root.join("meant")]);
        assert_eq!(found(&root.join("named/none")), [root.join("named")]);
        assert_eq!(found(&root.join("named/not/yet/there")), [root.join("named")]);
        assert_eq!(found(Path::new("none")), [std::env::current_dir().unwrap()]);
        assert_eq!(found(Path::new("/no-such-place/file")), [""; 0].map(PathBuf::from), "not all there is");
    }

    #[test]
    fn what_lies_below_another_is_named_once() {
        let config = Config::isolated(&crate::config::Overrides {
            assignments: vec![
                "upstream.endpoint=https://name.openai.azure.com".to_owned(),
                "credential.kind=workload-identity".to_owned(),
                "credential.tenant_id=t".to_owned(),
                "credential.client_id=c".to_owned(),
                "credential.federated_token_file=/etc/ssl/token".to_owned(),
                "listen.unix_socket=/tmp/socket".to_owned(),
            ],
            ..crate::config::Overrides::default()
        })
        .unwrap();
        let needs = Needs::of(&config, &[PathBuf::from("/var/tmp")]);
        let etc = needs.read.iter().filter(|path| path.starts_with("/etc"));
        assert_eq!(etc.collect::<Vec<_>>(), [Path::new("/etc")], "{needs:?}");
        assert_eq!(needs.remove, [Path::new("/tmp")]);
        assert_eq!(needs.write, [Path::new("/var/tmp")]);
    }
}
