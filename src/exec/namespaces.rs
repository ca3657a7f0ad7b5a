//! Namespaces for programs that shall see less than we do, made once: a program that starts there
//! pays nothing for them. They are there while a descriptor, or a program, holds them.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Where a program's loader, its libraries and the kernel's own files are.
const SYSTEM: [&str; 7] = ["/usr", "/bin", "/lib", "/lib64", "/etc", "/dev", "/proc"];

/// A network namespace whose devices are all down.
///
/// # Errors
/// The system's answer: most often that only root may make one.
pub fn empty_network() -> io::Result<OwnedFd> {
    made(UnshareFlags::NEWNET, "/proc/thread-self/ns/net", || Ok(()))
}

/// A mount namespace with our mounts as they are now, without those that neither the system's
/// programs nor `paths` need. Whoever makes another one of it, or reads its table, has less to do.
///
/// # Errors
/// As [`empty_network`], or that a path does not exist.
pub fn few_mounts(paths: &[&Path]) -> io::Result<OwnedFd> {
    let named = SYSTEM.iter().map(Path::new).filter(|path| path.exists());
    let needed = named.chain(paths.iter().copied()).map(fs::canonicalize);
    let needed: Vec<PathBuf> = needed.collect::<io::Result<_>>()?;
    made(UnshareFlags::NEWNS, "/proc/thread-self/ns/mnt", move || {
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
        let table = fs::read_to_string("/proc/thread-self/mountinfo")?;
        for point in surplus(&table, &needed) {
            // What cannot go is no harm.
            let _ = unmount(point, UnmountFlags::DETACH);
        }
        Ok(())
    })
}

/// The mount points of `table`, last first, that are neither on the way to a path of `needed` nor
/// below one.
fn surplus<'t>(table: &'t str, needed: &[PathBuf]) -> Vec<&'t str> {
    let points = table.lines().rev().filter_map(|line| line.split(' ').nth(4));
    let is_needed = |point: &str| {
        needed.iter().any(|path| path.starts_with(point) || Path::new(point).starts_with(path))
    };
    // The table writes a space as `\040`: such a name is not looked at further.
    points.filter(|point| !point.contains('\\') && !is_needed(point)).collect()
}

/// A new namespace of the `kind` that the calling thread has at `link`, once `prepare` has run in it.
fn made(
    kind: UnshareFlags,
    link: &'static str,
    prepare: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> io::Result<OwnedFd> {
    // A namespace is its thread's: this one has no other use.
    let make = move || {
        enter_new(kind)?;
        prepare()?;
        Ok(open(link, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
    };
    let thread = std::thread::Builder::new().name("namespace".to_owned()).spawn(make)?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("its thread failed")))
}

#[expect(unsafe_code, reason = "other flags would leave the thread without its descriptors")]
fn enter_new(namespace: UnshareFlags) -> io::Result<()> {
    // SAFETY: of a namespace alone, not of descriptors: see the callers of `made`.
    Ok(unsafe { unshare_unsafe(namespace) }?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::{Confinement, Spec, run_confined};

    #[tokio::test]
    async fn a_confined_program_is_where_it_is_told() {
        let made = empty_network().and_then(|network| Ok([network, few_mounts(&[])?]));
        let namespaces = match made {
            Ok(made) => made.map(Into::into).into(),
            Err(error) => return assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        };
        let script = "readlink /proc/self/ns/net /proc/self/ns/mnt; cat /proc/self/mountinfo";
        let arguments = vec!["-c".into(), script.into()];
        let spec = Spec { arguments, ..Spec::of(Path::new("/bin/sh")) };
        let confinement = Confinement { namespaces, ..Confinement::loose() };
        let done = run_confined(spec, confinement).await.unwrap();
        let printed = String::from_utf8(done.stdout).unwrap();
        let ours = ["net", "mnt"].map(|kind| fs::read_link(format!("/proc/self/ns/{kind}")));
        for ours in ours {
            assert!(!printed.contains(ours.unwrap().to_str().unwrap()), "{printed}");
        }
        let needed = SYSTEM.map(PathBuf::from);
        assert_eq!(surplus(&printed, &needed), Vec::<&str>::new());
    }

    #[test]
    fn mounts_that_nobody_needs_are_surplus() {
        let table = "\
            20 1 8:1 / / rw - ext4 /dev/a rw\n\
            21 20 0:4 / /proc rw - proc proc rw\n\
            22 20 0:5 / /sys rw - sysfs sysfs rw\n\
            23 22 0:6 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
            24 20 8:2 / /var rw - ext4 /dev/b rw\n\
            25 24 8:3 / /var/lib/docker rw - ext4 /dev/c rw\n\
            26 24 8:4 / /var/cache/jetcc/build rw - ext4 /dev/d rw\n\
            27 20 8:5 / /mnt/a\\040b rw - ext4 /dev/e rw\n\
            28 21 0:7 / /proc/kcore rw - tmpfs none rw\n";
        let needed = ["/proc", "/var/cache/jetcc"].map(PathBuf::from);
        assert_eq!(surplus(table, &needed), ["/var/lib/docker", "/sys/fs/cgroup", "/sys"]);
    }
}
