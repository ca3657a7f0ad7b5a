//! The system calls that a compile may make, as a seccomp filter.
//!
//! A list of what is allowed: everything else answers `ENOSYS`, as a kernel that never had it, so
//! that C libraries fall back (`clone3` on `clone`). It also ends programs of another architecture
//! (i386 on x86_64), and refuses x32, whose numbers are not in the list.
//!
//! bubblewrap reads the program from a descriptor, once for each sandbox.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};

use libc::c_long;
use rustix::fs::MemfdFlags;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: TargetArch = TargetArch::aarch64;

/// Calls that a compile may make whatever their arguments.
#[rustfmt::skip]
const ALLOWED: &[c_long] = &[
    // Files and folders.
    libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev, libc::SYS_pread64,
    libc::SYS_pwrite64, libc::SYS_preadv, libc::SYS_pwritev, libc::SYS_preadv2,
    libc::SYS_pwritev2, libc::SYS_openat, libc::SYS_openat2, libc::SYS_close,
    libc::SYS_close_range, libc::SYS_lseek, libc::SYS_fstat, libc::SYS_newfstatat,
    libc::SYS_statx, libc::SYS_statfs, libc::SYS_fstatfs, libc::SYS_readlinkat,
    libc::SYS_faccessat, libc::SYS_faccessat2, libc::SYS_fcntl, libc::SYS_flock,
    libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_truncate, libc::SYS_ftruncate,
    libc::SYS_fallocate, libc::SYS_fadvise64, libc::SYS_readahead,
    libc::SYS_getdents64, libc::SYS_mkdirat, libc::SYS_mknodat, libc::SYS_unlinkat,
    libc::SYS_renameat2, libc::SYS_linkat, libc::SYS_symlinkat,
    libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_fchown, libc::SYS_fchownat,
    libc::SYS_utimensat, libc::SYS_umask, libc::SYS_getcwd, libc::SYS_chdir, libc::SYS_fchdir,
    libc::SYS_dup, libc::SYS_dup3, libc::SYS_pipe2, libc::SYS_splice, libc::SYS_tee,
    libc::SYS_sendfile, libc::SYS_copy_file_range, libc::SYS_getxattr, libc::SYS_lgetxattr,
    libc::SYS_fgetxattr, libc::SYS_listxattr, libc::SYS_llistxattr, libc::SYS_flistxattr,
    // Memory.
    libc::SYS_mprotect, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_madvise,
    libc::SYS_mincore, libc::SYS_msync, libc::SYS_brk, libc::SYS_membarrier,
    // Processes, threads and signals.
    libc::SYS_execve, libc::SYS_execveat, libc::SYS_exit, libc::SYS_exit_group, libc::SYS_wait4,
    libc::SYS_waitid, libc::SYS_kill, libc::SYS_tkill, libc::SYS_tgkill, libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_rt_sigpending,
    libc::SYS_rt_sigtimedwait, libc::SYS_rt_sigsuspend, libc::SYS_sigaltstack,
    libc::SYS_restart_syscall, libc::SYS_getpid, libc::SYS_getppid, libc::SYS_gettid,
    libc::SYS_getuid, libc::SYS_geteuid, libc::SYS_getgid, libc::SYS_getegid,
    libc::SYS_getgroups, libc::SYS_getresuid, libc::SYS_getresgid, libc::SYS_setresuid,
    libc::SYS_setresgid, libc::SYS_setuid, libc::SYS_setgid, libc::SYS_getpgid,
    libc::SYS_getsid, libc::SYS_setpgid, libc::SYS_setsid, libc::SYS_capget,
    libc::SYS_set_tid_address, libc::SYS_set_robust_list, libc::SYS_get_robust_list,
    libc::SYS_rseq, libc::SYS_futex, libc::SYS_sched_yield, libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity, libc::SYS_sched_getparam, libc::SYS_sched_getscheduler,
    libc::SYS_sched_get_priority_max, libc::SYS_sched_get_priority_min, libc::SYS_getpriority,
    libc::SYS_setpriority, libc::SYS_getcpu, libc::SYS_prlimit64, libc::SYS_getrusage,
    // Time, waiting, and what the machine is.
    libc::SYS_nanosleep, libc::SYS_clock_nanosleep, libc::SYS_clock_gettime,
    libc::SYS_clock_getres, libc::SYS_gettimeofday, libc::SYS_times, libc::SYS_getitimer,
    libc::SYS_setitimer, libc::SYS_timer_create, libc::SYS_timer_settime,
    libc::SYS_timer_gettime, libc::SYS_timer_delete, libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime, libc::SYS_timerfd_gettime, libc::SYS_eventfd2,
    libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait, libc::SYS_ppoll,
    libc::SYS_pselect6, libc::SYS_sysinfo, libc::SYS_uname, libc::SYS_getrandom,
];

/// Older spellings of the same that only x86_64 has.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const ALLOWED_HERE: &[c_long] = &[
    libc::SYS_open, libc::SYS_creat, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access,
    libc::SYS_readlink, libc::SYS_getdents, libc::SYS_mkdir, libc::SYS_rmdir, libc::SYS_mknod,
    libc::SYS_unlink, libc::SYS_rename, libc::SYS_link, libc::SYS_symlink, libc::SYS_chmod,
    libc::SYS_chown, libc::SYS_lchown, libc::SYS_utime, libc::SYS_utimes, libc::SYS_futimesat,
    libc::SYS_dup2, libc::SYS_pipe, libc::SYS_fork, libc::SYS_vfork, libc::SYS_getpgrp,
    libc::SYS_arch_prctl, libc::SYS_time, libc::SYS_alarm, libc::SYS_pause, libc::SYS_eventfd,
    libc::SYS_epoll_create, libc::SYS_epoll_wait, libc::SYS_poll, libc::SYS_select,
    libc::SYS_renameat, libc::SYS_getrlimit, libc::SYS_setrlimit, libc::SYS_sync_file_range,
];
/// `renameat`, which the `libc` crate lacks for aarch64; the C library uses it.
#[cfg(target_arch = "aarch64")]
const ALLOWED_HERE: &[c_long] = &[38];

/// Flags of `clone` that make namespaces.
const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET)
    .cast_unsigned() as u64;

/// What may be asked of a descriptor: whether it is a terminal, what waits in it, how it closes and
/// blocks, and to share blocks when copying. Nothing that types into a terminal.
const REQUESTS: [u64; 8] = [
    libc::TCGETS,
    libc::TIOCGWINSZ,
    libc::TIOCGPGRP,
    libc::FIONREAD,
    libc::FIOCLEX,
    libc::FIONCLEX,
    libc::FIONBIO,
    libc::FICLONE,
];

/// What a process may ask for itself: its name, its end with its parent, fewer rights; and
/// `PR_SET_VMA`, the names of memory.
#[rustfmt::skip]
const WISHES: [i32; 12] = [
    libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_PDEATHSIG, libc::PR_GET_PDEATHSIG,
    libc::PR_GET_DUMPABLE, libc::PR_SET_DUMPABLE, libc::PR_CAPBSET_READ,
    libc::PR_SET_NO_NEW_PRIVS, libc::PR_GET_NO_NEW_PRIVS, libc::PR_SET_THP_DISABLE,
    libc::PR_GET_THP_DISABLE, libc::PR_SET_VMA,
];

/// The program, in memory.
#[derive(Debug)]
pub(super) struct Filter(File);

impl Filter {
    /// Makes it.
    ///
    /// # Errors
    /// The system's answer.
    pub(super) fn make() -> io::Result<Self> {
        let program = program().map_err(io::Error::other)?;
        let mut file = File::from(rustix::fs::memfd_create("seccomp", MemfdFlags::CLOEXEC)?);
        for step in program {
            file.write_all(&step.code.to_ne_bytes())?;
            file.write_all(&[step.jt, step.jf])?;
            file.write_all(&step.k.to_ne_bytes())?;
        }
        Ok(Self(file))
    }

    /// The program from its beginning, for one sandbox: descriptors that are copies of one another
    /// share their position, so each gets the file opened anew.
    ///
    /// # Errors
    /// The system's answer.
    pub(super) fn open(&self) -> io::Result<OwnedFd> {
        Ok(File::open(format!("/proc/self/fd/{}", self.0.as_raw_fd()))?.into())
    }
}

fn program() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in ALLOWED.iter().chain(ALLOWED_HERE) {
        rules.insert(*call, Vec::new());
    }
    rules.insert(libc::SYS_clone, vec![masked(0, NAMESPACES, 0)?]);
    // Memory that processes share belongs to no process, so that no limit of one counts it.
    let anonymous = libc::MAP_ANONYMOUS.cast_unsigned().into();
    let kind = libc::MAP_TYPE.cast_unsigned().into();
    let private = libc::MAP_PRIVATE.cast_unsigned().into();
    rules.insert(libc::SYS_mmap, vec![masked(3, anonymous, 0)?, masked(3, kind, private)?]);
    let requests = REQUESTS.iter().map(|request| equal(1, *request));
    rules.insert(libc::SYS_ioctl, requests.collect::<Result<_, _>>()?);
    let wishes = WISHES.iter().map(|wish| equal(0, wish.cast_unsigned().into()));
    rules.insert(libc::SYS_prctl, wishes.collect::<Result<_, _>>()?);
    // Rust's library makes a pair to start a program. Nothing can be named, reached or passed
    // through one: `connect`, `bind`, `sendto` and `sendmsg` are not in the list.
    let unix = libc::AF_UNIX.cast_unsigned().into();
    rules.insert(libc::SYS_socketpair, vec![equal(0, unix)?]);
    rules.insert(libc::SYS_recvfrom, Vec::new());
    // Asks which one is on; cannot change it.
    rules.insert(libc::SYS_personality, vec![equal(0, 0xffff_ffff)?]);
    let refuse = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    SeccompFilter::new(rules, refuse, SeccompAction::Allow, ARCHITECTURE)?.try_into()
}

fn equal(argument: u8, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    rule(argument, SeccompCmpOp::Eq, value)
}

fn masked(argument: u8, mask: u64, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    rule(argument, SeccompCmpOp::MaskedEq(mask), value)
}

/// The kernel looks at 32 bits of all arguments that are judged here.
fn rule(
    argument: u8,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule, seccompiler::BackendError> {
    let length = SeccompCmpArgLen::Dword;
    SeccompRule::new(vec![SeccompCondition::new(argument, length, operator, value)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sandbox_reads_the_whole_program() {
        let filter = Filter::make().unwrap();
        let read = || {
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut File::from(filter.open().unwrap()), &mut bytes).unwrap();
            bytes
        };
        let first = read();
        assert!(first.len() > 1_000 && first.len().is_multiple_of(8));
        assert_eq!(read(), first);
    }

    #[test]
    fn what_no_compiler_needs_is_not_in_the_list() {
        for call in [
            libc::SYS_ptrace,
            libc::SYS_socket,
            libc::SYS_unshare,
            libc::SYS_mount,
            libc::SYS_bpf,
            libc::SYS_keyctl,
            libc::SYS_clone3,
            libc::SYS_io_uring_setup,
            libc::SYS_memfd_create,
            libc::SYS_process_vm_readv,
            libc::SYS_seccomp,
        ] {
            assert!(!ALLOWED.contains(&call) && !ALLOWED_HERE.contains(&call), "{call}");
        }
    }
}
