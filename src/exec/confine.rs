//! What the kernel holds a program and all its children to, set between fork and exec.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, open, openat};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, getrlimit, set_dumpable_behavior, setrlimit,
};
use rustix::thread::move_into_link_name_space;

use super::pty::Terminals;

/// A shell's word for a death by signal `n`: exit code 128 + `n`.
const SIGNAL_BASE: i32 = 128;
/// `CLONE_INTO_CGROUP` of `linux/sched.h`.
pub(super) const INTO_CGROUP: u64 = 0x2_0000_0000;

/// Limits and what else is particular to a confined program.
#[derive(Debug)]
pub struct Confinement {
    /// File mode creation mask.
    pub umask: u32,
    /// Largest file that it may write, in bytes; a larger one ends it with `SIGXFSZ`.
    pub file_bytes_max: u64,
    /// Most bytes of private memory of each process.
    pub data_bytes_max: Option<u64>,
    /// Cgroups that it is in from its first instruction on.
    pub doors: Arc<[Door]>,
    /// Namespaces that it is in, instead of ours of their kind.
    pub namespaces: Vec<Arc<OwnedFd>>,
    /// Descriptors that stay open in it, under their numbers; closed here once it runs.
    pub inherited: Vec<OwnedFd>,
    /// Hears what it writes to standard error, as it comes.
    pub listener: Option<Listener>,
    /// What its standard error is, and perhaps its standard input, instead of a pipe and nothing.
    pub terminals: Option<Terminals>,
}

/// Hears what a program writes.
pub type Listener = tokio::sync::mpsc::UnboundedSender<Vec<u8>>;

/// The way into a cgroup.
#[derive(Debug)]
pub enum Door {
    /// Version 1: its file `tasks`, open for writing.
    Tasks(File),
    /// Version 2: its folder.
    Folder(File),
}

/// Whose memory a child has until exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    /// A copy of ours.
    Own,
    /// Ours.
    Borrowed,
}

#[cfg(test)]
impl Confinement {
    /// One that holds a program to very little.
    pub(super) fn loose() -> Self {
        Self {
            umask: 0,
            file_bytes_max: 1 << 20,
            data_bytes_max: None,
            doors: Vec::new().into(),
            namespaces: Vec::new(),
            inherited: Vec::new(),
            listener: None,
            terminals: None,
        }
    }
}

impl Confinement {
    /// The folder of the cgroup that a child has to be born in.
    pub(super) fn birthplace(&self) -> Option<BorrowedFd<'_>> {
        self.doors.iter().find_map(|door| match door {
            Door::Folder(folder) => Some(folder.as_fd()),
            Door::Tasks(_) => None,
        })
    }

    /// Holds the calling process, which is about to call exec, to everything but its birthplace.
    /// System calls alone: nothing is allocated.
    ///
    /// # Errors
    /// The system's answer.
    pub(super) fn apply(&self, memory: Memory) -> io::Result<()> {
        rustix::process::umask(Mode::from_raw_mode(self.umask));
        limit(Resource::Core, 0)?;
        limit(Resource::Fsize, self.file_bytes_max)?;
        if let Some(bytes) = self.data_bytes_max {
            limit(Resource::Data, bytes)?;
        }
        if memory == Memory::Own {
            // A role keeps its memory to itself (see `lifecycle`), and the files in `/proc` of such a
            // process are root's.
            set_dumpable_behavior(DumpableBehavior::Dumpable)?;
        }
        // Where this is not possible the kernel's own choice stands.
        if let Ok(file) = open(c"/proc/self/oom_score_adj", OFlags::WRONLY, Mode::empty()) {
            let _ = rustix::io::write(file, b"1000");
        }
        for namespace in &self.namespaces {
            move_into_link_name_space(namespace.as_fd(), None)?;
        }
        for descriptor in &self.inherited {
            rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::empty())?;
        }
        for door in self.doors.iter() {
            // `tasks` moves one thread, and there is only one: 30 µs, where `cgroup.procs` waits
            // 10 ms for every thread of the machine.
            if let Door::Tasks(file) = door {
                rustix::io::write(file, b"0")?;
            }
        }
        Ok(())
    }
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let most = Some(getrlimit(resource).maximum.map_or(most, |hard| hard.min(most)));
    Ok(setrlimit(resource, Rlimit { current: most, maximum: most })?)
}

/// Applies `confinement` in a child that is forked.
#[expect(unsafe_code, reason = "limits have to be set between fork and exec")]
pub(super) fn confine(command: &mut Command, confinement: Arc<Confinement>) {
    // SAFETY: system calls alone, which are async-signal-safe and touch no memory of the parent.
    unsafe {
        command.pre_exec(move || {
            confinement.apply(Memory::Own)?;
            confinement.birthplace().map_or(Ok(()), go_on_in)
        });
    }
}

/// Goes on in a process that is born in the cgroup `folder`; this one waits for it and ends as it
/// did. Moving a process there would take the 10 ms that version 2 has no cheap way around.
#[expect(unsafe_code, reason = "no safe wrapper makes a process in a cgroup")]
fn go_on_in(folder: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: all fields are numbers, for which zero means absent.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = INTO_CGROUP;
    arguments.exit_signal = Signal::CHILD.as_raw().cast_unsigned().into();
    arguments.cgroup = folder.as_raw_fd().cast_unsigned().into();
    // SAFETY: without `CLONE_VM` it is a fork, of a process that has one thread and is about to
    // call exec; the structure is the kernel's own, with its size.
    let born = unsafe {
        libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>())
    };
    match born {
        0 => Ok(()),
        ..0 => {
            // A kernel before 5.7, or a filter over us that does not know the call.
            let procs = openat(folder, c"cgroup.procs", OFlags::WRONLY, Mode::empty())?;
            rustix::io::write(procs, b"0")?;
            Ok(())
        }
        1.. => stand_in(),
    }
}

/// Ends with our parent, and as our only child ends.
#[expect(unsafe_code, reason = "between fork and exec only system calls are possible")]
fn stand_in() -> ! {
    // A failure leaves it to the group's end, which reaches us too.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    // SAFETY: nothing after this uses a descriptor; the streams must end with the child's copies.
    // The others are plain system calls.
    unsafe {
        libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0);
        let mut status = 0;
        while libc::waitpid(-1, &raw mut status, 0) < 0 {}
        if libc::WIFSIGNALED(status) {
            libc::_exit(SIGNAL_BASE + libc::WTERMSIG(status));
        }
        libc::_exit(libc::WEXITSTATUS(status))
    }
}
