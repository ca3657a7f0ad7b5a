//! bubblewrap's argument vector. Pure.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::job::Command;
use crate::worker::layout::Start;

use super::{Argv0, DEVICES, Mode, Network, Proc, Users};

/// What is mounted where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::worker) struct Mount {
    pub(in crate::worker) source: PathBuf,
    /// As the compiler sees it.
    pub(in crate::worker) path: String,
    pub(in crate::worker) access: Access,
}

/// What the compiler may do there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::worker) enum Access {
    Read,
    Write,
}

/// The namespaces and rights of every sandbox.
pub(super) fn barriers(mode: Mode) -> Vec<OsString> {
    let users: &[&str] = match mode.users {
        Users::OwnAndLast => &["--unshare-user", "--disable-userns"],
        Users::Own => &["--unshare-user"],
        Users::Shared => &[],
    };
    let always = [
        "--unshare-ipc",
        "--unshare-pid",
        "--unshare-uts",
        "--unshare-cgroup-try",
        "--hostname",
        "jetcc",
        "--die-with-parent",
        "--new-session",
        "--cap-drop",
        "ALL",
        "--clearenv",
    ];
    let network: &[&str] = match mode.network {
        // It is there before bubblewrap starts.
        Network::Shared => &[],
        Network::Own => &["--unshare-net"],
    };
    users.iter().chain(network).chain(&always).map(OsString::from).collect()
}

/// A fresh `/proc` where that is possible, read-only: kernel settings in `/proc/sys` can be written
/// by user 0 without any capability, and bubblewrap does not always cover them.
pub(super) fn proc(mode: Mode) -> Vec<OsString> {
    match mode.proc {
        Proc::Fresh => ["--proc", "/proc", "--remount-ro", "/proc"].map(OsString::from).into(),
        Proc::Empty => Vec::new(),
    }
}

/// Everything after `bwrap`: `mounts` (the first is `/`) and `command`, started by name or path.
///
/// bubblewrap sets `PWD` to the command's directory, as a shell would: debug information names it.
pub(in crate::worker) fn of(
    mode: Mode,
    mounts: &[Mount],
    command: &Command,
    start: Start,
) -> Vec<OsString> {
    let mut arguments = barriers(mode);
    let mut push = |parts: [OsString; 3]| arguments.extend(parts);
    let (root, rest) = mounts.split_at(mounts.len().min(1));
    let mount = |mount: &Mount| {
        let flag = match mount.access {
            Access::Read => "--ro-bind",
            Access::Write => "--bind",
        };
        [flag.into(), mount.source.clone().into(), mount.path.clone().into()]
    };
    root.iter().map(mount).for_each(&mut push);
    for device in DEVICES {
        let path = format!("/dev/{device}");
        push(["--dev-bind".into(), path.clone().into(), path.into()]);
    }
    rest.iter().map(mount).for_each(&mut push);
    for (name, value) in &command.environment {
        push(["--setenv".into(), name.into(), value.into()]);
    }
    arguments.extend(proc(mode));
    arguments.extend(["--chdir".into(), command.directory.clone().into()]);
    let name = command.arguments.first().unwrap_or(&command.executable);
    let program = match (start, mode.argv0) {
        (Start::ByPath, Argv0::Free) => {
            arguments.extend(["--argv0".into(), name.into()]);
            &command.executable
        }
        (Start::ByName, _) | (Start::ByPath, Argv0::Searched) => name,
    };
    arguments.extend(["--".into(), program.into()]);
    arguments.extend(command.arguments.iter().skip(1).map(OsString::from));
    arguments
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{Calls, Memory, Processes};
    use super::*;

    fn mode(users: Users, proc: Proc, argv0: Argv0) -> Mode {
        let (calls, network, memory) = (Calls::Filtered, Network::Own, Memory::Job);
        Mode { users, proc, argv0, calls, network, memory, processes: Processes::Cgroup }
    }

    fn line(mode: Mode, start: Start) -> String {
        let mounts = [
            Mount { source: "/b/j/root".into(), path: "/".into(), access: Access::Read },
            Mount { source: "/b/j/0".into(), path: "/w".into(), access: Access::Write },
            Mount { source: "/b/j/root/w/i".into(), path: "/w/i".into(), access: Access::Read },
        ];
        let command = Command {
            executable: "/usr/bin/gcc".into(),
            arguments: vec!["cc".into(), "-c".into(), "--argv0".into()],
            environment: BTreeMap::from([("LANG".into(), "C".into())]),
            directory: "/w".into(),
        };
        of(mode, &mounts, &command, start).join(&OsString::from(" ")).into_string().unwrap()
    }

    #[test]
    fn every_barrier_then_mounts_then_command() {
        let mode = mode(Users::OwnAndLast, Proc::Fresh, Argv0::Free);
        let wanted = "--unshare-user --disable-userns --unshare-net --unshare-ipc --unshare-pid \
            --unshare-uts --unshare-cgroup-try --hostname jetcc --die-with-parent --new-session \
            --cap-drop ALL --clearenv --ro-bind /b/j/root / --dev-bind /dev/null /dev/null \
            --dev-bind /dev/urandom /dev/urandom --bind /b/j/0 /w --ro-bind \
            /b/j/root/w/i /w/i --setenv LANG C --proc /proc --remount-ro /proc \
            --chdir /w";
        let named = format!("{wanted} -- cc -c --argv0");
        assert_eq!(line(mode, Start::ByName), named);
        let apart = format!("{wanted} --argv0 cc -- /usr/bin/gcc -c --argv0");
        assert_eq!(line(mode, Start::ByPath), apart);
    }

    #[test]
    fn a_poor_machine_still_has_the_other_barriers() {
        let mode = mode(Users::Shared, Proc::Empty, Argv0::Searched);
        let line = line(mode, Start::ByName);
        assert!(!line.contains("--unshare-user") && !line.contains("--proc"));
        assert!(line.contains("--unshare-net") && line.contains("--cap-drop ALL"));
    }
}
