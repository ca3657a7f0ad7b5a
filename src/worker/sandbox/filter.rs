//! The system calls that a compile may make, as a seccomp filter.
//!
//! A list of what is allowed: everything else answers `ENOSYS`, as a kernel that never had it, so
//! that C libraries fall back (`clone3` on `clone`). It also ends programs of another architecture
//! (i386 on x86_64), and refuses x32, whose numbers are not in the list.
//!
//! bubblewrap reads the program from a descriptor, once for each sandbox. The kernel then runs it for
//! every number that there is, to know which need no look: the library's list of comparisons made that
//! 0.5 ms for each process that installs it, so the numbers are searched in halves here and only calls
//! with judged arguments are left to the library.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::fd::{AsRawFd as _, OwnedFd};

use libc::c_long;
use rustix::fs::MemfdFlags;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
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
    libc::SYS_pselect6, libc::SYS_recvfrom, libc::SYS_sysinfo, libc::SYS_uname, libc::SYS_getrandom,
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
const REQUESTS: [u64; 9] = [
    libc::TCGETS,
    libc::TCGETS2,
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

/// Steps of the library's program that end a program of another architecture.
const ARCHITECTURE_STEPS: usize = 3;
/// Where a call's number is in what the program looks at (`struct seccomp_data`).
const NUMBER: u32 = 0;
#[expect(clippy::cast_possible_truncation, reason = "codes have 16 bits")]
const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
#[expect(clippy::cast_possible_truncation, reason = "codes have 16 bits")]
const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
#[expect(clippy::cast_possible_truncation, reason = "codes have 16 bits")]
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

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

/// The search over [`ALLOWED`], between the library's check of the architecture and its rules.
fn program() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut program = judged()?;
    let rules = program.split_off(ARCHITECTURE_STEPS);
    program.extend(search(&borders(ALLOWED.iter().chain(ALLOWED_HERE))));
    program.extend(rules);
    Ok(program)
}

/// Where allowed numbers begin and end, in turn: `[0, 3, 5]` allows 0 to 2 and all from 5.
fn borders<'a>(calls: impl Iterator<Item = &'a c_long>) -> Vec<u32> {
    let mut numbers: Vec<u32> = calls.filter_map(|call| u32::try_from(*call).ok()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let mut borders: Vec<u32> = Vec::new();
    for number in numbers {
        match borders.last_mut() {
            Some(end) if *end == number => *end += 1,
            _ => borders.extend([number, number + 1]),
        }
    }
    borders
}

/// Allows the numbers within `borders`; others go on behind it. One comparison a border, of which
/// each number meets a few.
fn search(borders: &[u32]) -> BpfProgram {
    let load = sock_filter { code: LOAD, jt: 0, jf: 0, k: NUMBER };
    let allow = sock_filter { code: RETURN, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW };
    let mut steps = vec![load];
    halve(borders, 0..borders.len(), &mut steps);
    steps.push(allow);
    steps
}

/// Appends the comparisons with those `borders` that are in `part`.
fn halve(borders: &[u32], part: Range<usize>, steps: &mut BpfProgram) {
    if part.is_empty() {
        return;
    }
    let middle = part.start + part.len() / 2;
    let here = steps.len();
    steps.push(sock_filter { code: AT_LEAST, jt: 0, jf: 0, k: borders[middle] });
    // Behind the number of borders that a number is not below: odd is inside, even is outside. The
    // answer for inside is behind all comparisons, and what follows for outside behind that.
    let answer = |passed: usize| 1 + borders.len() + usize::from(passed.is_multiple_of(2));
    let arm = |steps: &mut BpfProgram, part: Range<usize>| {
        let to = if part.is_empty() { answer(part.start) } else { steps.len() };
        halve(borders, part, steps);
        u8::try_from(to - here - 1).unwrap_or_else(|_| unreachable!("fewer than 255 borders"))
    };
    steps[here].jf = arm(steps, part.start..middle);
    steps[here].jt = arm(steps, middle + 1..part.end);
}

/// The library's program: the architecture, and calls whose arguments are judged.
fn judged() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
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

    /// What the program answers for a call of this number, by running it as the kernel does.
    fn answer(program: &[sock_filter], number: u32) -> u32 {
        let (mut at, mut value) = (0, 0);
        loop {
            let step = &program[at];
            let jump = |yes: bool| at + 1 + usize::from(if yes { step.jt } else { step.jf });
            at = match u32::from(step.code) {
                code if code == u32::from(LOAD) => {
                    value = match step.k {
                        NUMBER => number,
                        4 if cfg!(target_arch = "x86_64") => 0xc000_003e,
                        4 => 0xc000_00b7,
                        // Arguments are zero.
                        _ => 0,
                    };
                    at + 1
                }
                code if code == u32::from(RETURN) => return step.k,
                code if code == u32::from(AT_LEAST) => jump(value >= step.k),
                0x15 => jump(value == step.k),
                0x25 => jump(value > step.k),
                0x54 => {
                    value &= step.k;
                    at + 1
                }
                0x05 => at + 1 + step.k as usize,
                code => panic!("{code:#x}"),
            };
        }
    }

    #[test]
    fn the_search_allows_the_list_and_nothing_else() {
        let program = program().unwrap();
        // Judged by their arguments, which are all zero here.
        let judged = [libc::SYS_clone, libc::SYS_mmap];
        for number in (0..600).chain([0x4000_0000, 0x4000_0001, u32::MAX]) {
            let call = c_long::from(number);
            let listed = ALLOWED.contains(&call) || ALLOWED_HERE.contains(&call);
            let allowed = answer(&program, number) == libc::SECCOMP_RET_ALLOW;
            assert_eq!(allowed, listed || judged.contains(&call), "call {number}");
        }
        assert_eq!(borders([7, 1, 2, 2].iter()), [1, 3, 7, 8]);
        assert!(program.len() < 400, "{}", program.len());
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
