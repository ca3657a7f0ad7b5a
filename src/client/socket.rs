//! The daemon's socket is for its user alone. Whoever could answer in the daemon's place would write
//! objects into somebody else's build, and whoever could ask it would read his files: so the folder
//! belongs to the user, and each side looks who the other is.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::process::{Uid, geteuid};

/// Mode of the folder that is made for the socket.
const FOLDER_MODE: u32 = 0o700;
/// Mode of the socket.
const SOCKET_MODE: u32 = 0o600;
/// Rights of a folder with which others could put a socket of theirs in it.
const OTHERS_WRITE: u32 = 0o022;

/// `$XDG_RUNTIME_DIR/jetcc/daemon.sock`, else a folder of this user in `/tmp`.
pub fn default_path(runtime_dir: Option<&OsStr>) -> PathBuf {
    match runtime_dir {
        Some(folder) if !folder.is_empty() => Path::new(folder).join("jetcc/daemon.sock"),
        _ => format!("/tmp/jetcc-{}/daemon.sock", geteuid().as_raw()).into(),
    }
}

/// Connects to the daemon, if it is this user's own.
///
/// # Errors
/// When nobody listens, or somebody else does.
pub fn connect(socket: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    check_peer(&stream).map_err(|error| at(socket, &error))?;
    Ok(stream)
}

/// Whether the process at the other end runs for this user, or for root, who can do anything anyway.
///
/// # Errors
/// [`io::ErrorKind::PermissionDenied`] naming the other user.
pub fn check_peer(stream: &impl AsFd) -> io::Result<()> {
    let peer = rustix::net::sockopt::socket_peercred(stream)?.uid;
    if is_trusted(peer, geteuid()) {
        return Ok(());
    }
    Err(denied(format!(
        "the other end belongs to user {}, wanted {}",
        peer.as_raw(),
        geteuid().as_raw()
    )))
}

fn is_trusted(peer: Uid, own: Uid) -> bool {
    peer == own || peer.is_root()
}

/// Makes the socket's folder if it is not there, and looks whose it is: another user may have made
/// it first, or put a link in its place.
///
/// # Errors
/// [`io::ErrorKind::PermissionDenied`] when it is not this user's own or others may write into it.
pub fn prepare_folder(socket: &Path) -> io::Result<()> {
    let folder = match socket.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
    let found = fs::symlink_metadata(folder)?;
    let (owner, mode, own) = (found.uid(), found.mode() & 0o7777, geteuid().as_raw());
    let what = if !found.is_dir() {
        "is a link".into()
    } else if owner != own {
        format!("belongs to user {owner}, wanted {own}")
    } else if mode & OTHERS_WRITE != 0 {
        format!("has mode {mode:04o}: others may write into it")
    } else {
        return Ok(());
    };
    Err(denied(format!(
        "folder `{}` {what}\nhint: let JETCC_SERVER_UDS name a socket in a folder of your own",
        folder.display()
    )))
}

/// Takes the rights of all others from a socket that was just made.
///
/// # Errors
/// When the system does not let us.
pub fn make_private(socket: &Path) -> io::Result<()> {
    fs::set_permissions(socket, fs::Permissions::from_mode(SOCKET_MODE))
}

fn denied(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

fn at(socket: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("socket `{}`: {error}", socket.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_folder_is_made_for_its_user_alone() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("a/b");
        prepare_folder(&folder.join("daemon.sock")).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, FOLDER_MODE);
        prepare_folder(&folder.join("daemon.sock")).unwrap();
    }

    #[test]
    fn a_folder_of_others_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let (folder, link) = (base.path().join("folder"), base.path().join("link"));
        fs::create_dir(&folder).unwrap();
        symlink(&folder, &link).unwrap();
        let refused = |folder: &Path| {
            let error = prepare_folder(&folder.join("daemon.sock")).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
            error.to_string()
        };
        assert!(refused(&link).contains("is a link"));
        for mode in [0o777, 0o1777, 0o770] {
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
            assert!(refused(&folder).contains("others may write"));
        }
        // `/proc/1` is root's; for root itself a folder can be given away.
        let foreign = match geteuid().is_root() {
            true => {
                fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
                std::os::unix::fs::chown(&folder, Some(65_534), None).unwrap();
                folder
            }
            false => PathBuf::from("/proc/1"),
        };
        assert!(refused(&foreign).contains("belongs to user"));
    }

    #[test]
    fn only_the_user_and_root_are_trusted() {
        let [root, one, two] = [Uid::ROOT, Uid::from_raw(1_000), Uid::from_raw(1_001)];
        assert!(is_trusted(one, one) && is_trusted(root, one) && is_trusted(root, root));
        assert!(!is_trusted(two, one) && !is_trusted(one, root));
        let (here, there) = UnixStream::pair().unwrap();
        assert!(check_peer(&here).is_ok() && check_peer(&there).is_ok());
    }
}
