//! Starts a confined program without copying our memory.
//!
//! `fork` copies the page tables of a process, which then faults once more for every page it writes:
//! more than a millisecond for a worker at work. Here the child borrows our memory until exec, as with
//! `vfork`, on a stack of its own, and is born in its cgroup. Where that cannot be (an ordinary user, an
//! old kernel, a filter over us that does not know the call, another processor) the caller forks.

use std::ffi::{CString, OsString, c_char};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::ptr;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, geteuid, pidfd_send_signal, waitid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe::Receiver;

use super::confine::{INTO_CGROUP, Memory};
use super::pty::Seat;
use super::{Confinement, Ended, Spec, ended};

/// What the child needs before exec; its functions are small.
const STACK_BYTES: usize = 64 << 10;
/// `CLONE_CLEAR_SIGHAND` of `linux/sched.h`.
const CLEAR_SIGHAND: u64 = 0x1_0000_0000;
/// What a child exits with when it cannot become the program; nobody sees it.
const NO_EXEC: i32 = 127;

/// A program that runs; ended when dropped.
#[derive(Debug)]
pub(super) struct Newborn {
    pub(super) pid: Pid,
    /// Its streams, until somebody reads them.
    pub(super) stdout: Option<Receiver>,
    pub(super) stderr: Option<Receiver>,
    pidfd: AsyncFd<OwnedFd>,
    is_reaped: bool,
}

impl Newborn {
    /// Waits for its end.
    ///
    /// # Errors
    /// The system's answer.
    pub(super) async fn wait(&mut self) -> io::Result<Ended> {
        loop {
            let mut ready = self.pidfd.readable().await?;
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            match waitid(WaitId::PidFd(self.pidfd.get_ref().as_fd()), options)? {
                Some(status) => {
                    self.is_reaped = true;
                    return Ok(ended(status.exit_status(), status.terminating_signal()));
                }
                None => ready.clear_ready(),
            }
        }
    }
}

impl Drop for Newborn {
    fn drop(&mut self) {
        if self.is_reaped {
            return;
        }
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if let Ok(pidfd) = self.pidfd.get_ref().try_clone() {
            // It needs a moment to die, and somebody has to hear of it.
            runtime.spawn_blocking(move || {
                waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)
            });
        }
    }
}

/// Starts `spec`, in a process group of its own; `None` where programs start in the old way only. Where
/// it has a `seat`, standard error is there and not with the newborn.
///
/// # Errors
/// Why the program cannot be started.
pub(super) fn start(
    spec: &Spec,
    confinement: &Confinement,
    seat: Option<&Seat>,
) -> io::Result<Option<Newborn>> {
    // A role keeps its memory private, and the files in `/proc` of whoever has it are then root's: an
    // ordinary user's child could not say there that it is to give up its memory first.
    if !geteuid().is_root() {
        return Ok(None);
    }
    let words = Words::of(spec)?;
    let null = OwnedFd::from(std::fs::File::open("/dev/null")?);
    let (stdout, to_stdout) = io::pipe()?;
    let (stderr, to_stderr) = io::pipe()?;
    let stdin = seat.and_then(|seat| seat.input.as_ref()).unwrap_or(&null);
    let errors = seat.map_or(to_stderr.as_raw_fd(), |seat| seat.errors.as_raw_fd());
    let mut child = Child {
        program: words.program.as_ptr(),
        arguments: words.argument_pointers.as_ptr(),
        environment: words.environment_pointers.as_ptr(),
        directory: words.directory.as_ptr(),
        streams: [stdin.as_raw_fd(), to_stdout.as_raw_fd(), errors],
        confinement,
        error: 0,
    };
    let Some((pid, pidfd)) = bear(&mut child) else { return Ok(None) };
    let newborn = Newborn {
        pid,
        stdout: Some(Receiver::from_owned_fd(stdout.into())?),
        stderr: Some(Receiver::from_owned_fd(stderr.into())?),
        pidfd: watched(pidfd)?,
        is_reaped: false,
    };
    if child.error != 0 {
        return Err(io::Error::from_raw_os_error(child.error));
    }
    Ok(Some(newborn))
}

#[expect(unsafe_code, reason = "a descriptor could be closed behind the reactor's back")]
fn watched(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: it is open, ours alone, and stays the same until both are dropped.
    Ok(unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?)
}

/// The texts of a start, as exec wants them.
struct Words {
    program: CString,
    directory: CString,
    argument_pointers: Vec<*const c_char>,
    environment_pointers: Vec<*const c_char>,
    _arguments: Vec<CString>,
    _environment: Vec<CString>,
}

impl Words {
    fn of(spec: &Spec) -> io::Result<Self> {
        let text = |bytes: &[u8]| Ok::<_, io::Error>(CString::new(bytes)?);
        let program = text(spec.program.as_os_str().as_bytes())?;
        let first = spec.argv0.as_deref().unwrap_or(spec.program.as_os_str());
        let all = std::iter::once(first).chain(spec.arguments.iter().map(OsString::as_os_str));
        let arguments: Vec<_> = all.map(|word| text(word.as_bytes())).collect::<io::Result<_>>()?;
        let pairs = spec.environment.iter().map(|(name, value)| {
            let mut pair = name.clone();
            pair.push("=");
            pair.push(value);
            pair.into_vec()
        });
        let environment: Vec<_> = pairs.map(|pair| text(&pair)).collect::<io::Result<_>>()?;
        Ok(Self {
            program,
            directory: text(spec.directory.as_os_str().as_bytes())?,
            argument_pointers: pointers(&arguments),
            environment_pointers: pointers(&environment),
            _arguments: arguments,
            _environment: environment,
        })
    }
}

/// A list as C has it: its last pointer is null.
fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}

/// What the child finds in our memory.
struct Child<'a> {
    program: *const c_char,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    directory: *const c_char,
    /// Become 0, 1 and 2.
    streams: [RawFd; 3],
    confinement: &'a Confinement,
    /// Why it did not become the program: an error number, or 0.
    error: i32,
}

impl Child<'_> {
    /// Becomes the program; comes back with the reason why not.
    #[expect(unsafe_code, reason = "between birth and exec only system calls are possible")]
    fn become_program(&self) -> io::Error {
        let prepared = || -> io::Result<()> {
            for (number, stream) in (0..).zip(self.streams) {
                // SAFETY: plain system call; both numbers are open, or it says so.
                if unsafe { libc::dup2(stream, number) } < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            rustix::process::setpgid(None, None)?;
            // SAFETY: the text outlives the call.
            if unsafe { libc::chdir(self.directory) } < 0 {
                return Err(io::Error::last_os_error());
            }
            self.confinement.apply(Memory::Borrowed)
        };
        if let Err(error) = prepared() {
            return error;
        }
        // SAFETY: signal state of this process alone; the pointers are those of `Words`, which our
        // parent holds until exec. On success nothing of this remains.
        unsafe {
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
            libc::execve(self.program, self.arguments, self.environment);
        }
        io::Error::last_os_error()
    }
}

/// The child's first and last function.
#[expect(unsafe_code, reason = "its caller is the assembly below")]
unsafe extern "C" fn live(child: *mut Child<'_>) -> ! {
    // SAFETY: `bear` gives its own argument, which nobody else uses until we are gone: our parent
    // waits in the kernel.
    let child = unsafe { &mut *child };
    child.error = child.become_program().raw_os_error().unwrap_or(libc::EINVAL);
    // SAFETY: ends this process without running anything of the parent's.
    unsafe { libc::_exit(NO_EXEC) }
}

/// Makes the process and waits until it is a program, or is gone with [`Child::error`] set. `None`
/// when the kernel does not do that.
#[expect(unsafe_code, reason = "no safe wrapper lends memory to a process")]
fn bear(child: &mut Child<'_>) -> Option<(Pid, OwnedFd)> {
    let mut stack = vec![0_u128; STACK_BYTES / size_of::<u128>()];
    let mut pidfd: RawFd = -1;
    // SAFETY: all fields are numbers, for which zero means absent.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD;
    arguments.flags = u64::from(flags.cast_unsigned()) | CLEAR_SIGHAND;
    arguments.pidfd = (&raw mut pidfd) as u64;
    arguments.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    arguments.stack = stack.as_mut_ptr() as u64;
    arguments.stack_size = STACK_BYTES as u64;
    if let Some(folder) = child.confinement.birthplace() {
        arguments.flags |= INTO_CGROUP;
        arguments.cgroup = u64::from(folder.as_raw_fd().cast_unsigned());
    }
    // SAFETY: signals are blocked, so that no handler of ours runs in the child; the child runs
    // `live` on `stack` and ends in exec or exit before this thread goes on.
    let born = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let born = clone(&raw const arguments, child);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
        born
    };
    let pid = Pid::from_raw(i32::try_from(born).ok()?)?;
    // SAFETY: the kernel has just opened it for us.
    Some((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// `clone3`; the child calls [`live`]. A negative number is an error's.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "the child returns to another stack than it left")]
unsafe fn clone(arguments: *const libc::clone_args, child: &mut Child<'_>) -> i64 {
    let result;
    // SAFETY: the kernel keeps every register but rax, rcx and r11; the child never returns.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r8",
            "call r9",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") arguments,
            in("rsi") size_of::<libc::clone_args>(),
            in("r8") ptr::from_mut(child),
            in("r9") live as unsafe extern "C" fn(*mut Child<'_>) -> !,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

#[cfg(not(target_arch = "x86_64"))]
#[expect(unsafe_code, reason = "the same signature everywhere")]
unsafe fn clone(_: *const libc::clone_args, _: &mut Child<'_>) -> i64 {
    i64::from(-libc::ENOSYS)
}
