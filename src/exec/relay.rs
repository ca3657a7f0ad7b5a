//! A program in our place, though as our child: it has our standard input, working directory,
//! variables, descriptors and process group. What it writes is passed on as it comes, and kept; where
//! we have a terminal, it has a pseudo-terminal as wide. Signals that we get are passed on to it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, PipeReader, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::tcgetwinsize;

use super::{Ended, ended, pty};

/// Signals that are passed on.
const PASSED_ON: [libc::c_int; 6] =
    [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2];
/// Longest wait, once a signal has ended the program, for a reader that takes no more.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Bytes that are read at once: all that a pipe holds.
const CHUNK_BYTES: usize = 64 << 10;

/// How a program ended, and what it wrote.
#[derive(Debug)]
pub struct Relayed {
    /// How it ended.
    pub status: Ended,
    /// All that it wrote; `None` when that was too much, or could not be passed on.
    pub written: Option<Written>,
}

/// What a program wrote.
#[derive(Debug, Default)]
pub struct Written {
    /// To its standard output.
    pub stdout: Vec<u8>,
    /// To its standard error.
    pub stderr: Vec<u8>,
}

/// Runs `program` to its end and keeps what it writes, up to `bytes_max` bytes of both streams. What
/// it writes to standard error is not passed on as far as it is what was `shown` before.
///
/// Each stream comes out byte for byte and at once. Between the two, order is kept as far as it can
/// be seen: what is found in both at one moment is passed on standard error first. So a program that
/// writes to one alone, as compilers do, writes into a file that is both streams what it would have
/// written there itself.
///
/// The wait ends with the program, as it would for the program itself: whatever it has left behind
/// may hold a stream open. A signal of the terminal has reached it already and is not passed on; one
/// that a process sends to the whole group reaches it twice. If this process is ended by force, so
/// is the program.
///
/// # Errors
/// When it cannot be started.
pub fn relay(
    program: &Path,
    argv0: &OsString,
    arguments: &[OsString],
    shown: &[u8],
    bytes_max: usize,
) -> io::Result<Relayed> {
    let signals = Signals::hold()?;
    let (from_stderr, stderr) = way_to(rustix::stdio::stderr())?;
    let (from_stdout, stdout) = way_to(rustix::stdio::stdout())?;
    let (at_end, end) = io::pipe()?;
    let mut streams = Streams::new([from_stderr, from_stdout], bytes_max);
    streams.both[0].shown = shown.to_vec();
    let (done, last) = mpsc::channel();
    // Everything that may fail comes before the start: whoever is told of an error may try otherwise.
    std::thread::Builder::new().spawn(move || streams.pass_on(&at_end, &done))?;
    let mut child = start((program, argv0, arguments), [stdout, stderr], &signals)?;
    let status = match signals.until_end_of(&mut child) {
        Ok(status) => status,
        Err(_) => child.wait()?,
    };
    drop((signals, end));
    let status = ended(status.code(), status.signal());
    Ok(Relayed { status, written: last_words(status, &last) })
}

/// A way from the program to us: to it, it is what the stream `to` would have been, a terminal of this
/// size or not.
fn way_to(to: BorrowedFd<'_>) -> io::Result<(File, OwnedFd)> {
    match tcgetwinsize(to) {
        Ok(size) => {
            let pair = pty::open(size)?;
            Ok((pair.ours.into(), pair.theirs))
        }
        Err(_) => {
            let (from, into) = io::pipe()?;
            Ok((File::from(OwnedFd::from(from)), into.into()))
        }
    }
}

/// Waits for the rest to be passed on. A reader that takes no more would have kept the program from
/// ending too, but for a signal.
fn last_words(status: Ended, last: &Receiver<Option<Written>>) -> Option<Written> {
    match status {
        Ended::Code(_) => last.recv().ok()?,
        Ended::Signal(_) => last.recv_timeout(LAST_WORDS).ok()?,
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one spawning module")]
#[expect(unsafe_code, reason = "signals have to be given back between fork and exec")]
fn start(
    (program, argv0, arguments): (&Path, &OsString, &[OsString]),
    [stdout, stderr]: [OwnedFd; 2],
    signals: &Signals,
) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.arg0(argv0).args(arguments).stdout(stdout).stderr(stderr);
    let (mask, on_child) = (signals.mask, signals.on_child);
    // SAFETY: all calls are async-signal-safe and touch no memory of the parent.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            libc::signal(libc::SIGCHLD, on_child);
            match libc::sigprocmask(libc::SIG_SETMASK, &raw const mask, std::ptr::null_mut()) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        });
    }
    command.spawn()
}

/// Signals that wait to be read; as they were when this is dropped.
struct Signals {
    waiting: File,
    /// Those that were held back before.
    mask: libc::sigset_t,
    /// What happened when a child ended.
    on_child: libc::sighandler_t,
}

impl Signals {
    #[expect(unsafe_code, reason = "no safe wrapper holds signals back")]
    fn hold() -> io::Result<Self> {
        // SAFETY: the sets are plain memory that the calls fill; the new descriptor is ours alone.
        unsafe {
            let mut held = std::mem::zeroed();
            let mut mask = std::mem::zeroed();
            libc::sigemptyset(&raw mut held);
            for signal in PASSED_ON.iter().chain(&[libc::SIGCHLD]) {
                libc::sigaddset(&raw mut held, *signal);
            }
            let descriptor = libc::signalfd(-1, &raw const held, libc::SFD_CLOEXEC);
            if descriptor < 0 {
                return Err(io::Error::last_os_error());
            }
            let waiting = OwnedFd::from_raw_fd(descriptor).into();
            if libc::sigprocmask(libc::SIG_BLOCK, &raw const held, &raw mut mask) != 0 {
                return Err(io::Error::last_os_error());
            }
            // Who ignores the ends of children is told of none.
            let on_child = libc::signal(libc::SIGCHLD, libc::SIG_DFL);
            Ok(Self { waiting, mask, on_child })
        }
    }

    /// Waits for the end of `child`, and passes signals on to it meanwhile.
    fn until_end_of(&self, child: &mut Child) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            let (number, code) = self.next()?;
            let is_of_a_process = code <= 0;
            let signal = Signal::from_named_raw(number).filter(|_| is_of_a_process);
            let id = Pid::from_raw(child.id().cast_signed());
            if let (Some(signal), Some(id)) = (signal.filter(|it| *it != Signal::CHILD), id) {
                // It cannot be another process: nobody has waited for it yet.
                let _ = kill_process(id, signal);
            }
        }
    }

    /// The next signal, and how it came.
    fn next(&self) -> io::Result<(i32, i32)> {
        let mut record = [0; size_of::<libc::signalfd_siginfo>()];
        (&self.waiting).read_exact(&mut record)?;
        let number = |at: usize| i32::from_ne_bytes(std::array::from_fn(|byte| record[at + byte]));
        let number_at = std::mem::offset_of!(libc::signalfd_siginfo, ssi_signo);
        let code_at = std::mem::offset_of!(libc::signalfd_siginfo, ssi_code);
        Ok((number(number_at), number(code_at)))
    }
}

impl Drop for Signals {
    #[expect(unsafe_code, reason = "no safe wrapper lets signals go")]
    fn drop(&mut self) {
        // SAFETY: the set was filled by the system; both calls only set what it had said.
        unsafe {
            libc::signal(libc::SIGCHLD, self.on_child);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const self.mask, std::ptr::null_mut());
        }
    }
}

/// A stream of the program: standard error, or else standard output.
struct Stream {
    from: Option<File>,
    to: BorrowedFd<'static>,
    kept: Vec<u8>,
    /// What may come again of what was shown before.
    shown: Vec<u8>,
}

impl Stream {
    /// What of `chunk` is new.
    fn unseen<'c>(&mut self, chunk: &'c [u8]) -> &'c [u8] {
        let same = self.shown.iter().zip(chunk).take_while(|(one, other)| one == other).count();
        // Other words than before are all new from there on.
        let goes_on = same == chunk.len();
        self.shown = if goes_on { self.shown.split_off(same) } else { Vec::new() };
        &chunk[same..]
    }
}

/// Both streams of a program on their way to ours.
struct Streams {
    /// In the order in which they are looked at.
    both: [Stream; 2],
    bytes_max: usize,
    is_whole: bool,
}

impl Streams {
    fn new([stderr, stdout]: [File; 2], bytes_max: usize) -> Self {
        let stream =
            |from: File, to| Stream { from: Some(from), to, kept: Vec::new(), shown: Vec::new() };
        let stderr = stream(stderr, rustix::stdio::stderr());
        let stdout = stream(stdout, rustix::stdio::stdout());
        Self { both: [stderr, stdout], bytes_max, is_whole: true }
    }

    /// Passes everything on until both are closed, or the program has ended and they are empty.
    fn pass_on(mut self, at_end: &PipeReader, done: &Sender<Option<Written>>) {
        let mut chunk = vec![0; CHUNK_BYTES];
        while let Ok(true) = self.wait_and_pass(at_end, &mut chunk) {}
        let [stderr, stdout] = self.both.map(|stream| stream.kept);
        // Who has stopped waiting does not want it.
        let _ = done.send(self.is_whole.then_some(Written { stdout, stderr }));
    }

    /// Whether there may be more.
    fn wait_and_pass(&mut self, at_end: &PipeReader, chunk: &mut [u8]) -> io::Result<bool> {
        let open =
            self.both.iter().enumerate().filter_map(|(at, it)| Some((at, it.from.as_ref()?)));
        let (places, files): (Vec<usize>, Vec<&File>) = open.unzip();
        if places.is_empty() {
            return Ok(false);
        }
        let wanted = files.iter().map(|file| file.as_fd()).chain([at_end.as_fd()]);
        let mut wanted: Vec<PollFd<'_>> =
            wanted.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        wait(&mut wanted)?;
        let is_ready: Vec<bool> = wanted.iter().map(|fd| !fd.revents().is_empty()).collect();
        let ready: Vec<usize> = places
            .into_iter()
            .zip(is_ready)
            .filter(|(_, ready)| *ready)
            .map(|(at, _)| at)
            .collect();
        for at in &ready {
            self.pass(*at, chunk);
        }
        // Nothing but the end was ready.
        Ok(!ready.is_empty())
    }

    fn pass(&mut self, at: usize, chunk: &mut [u8]) {
        let kept: usize = self.both.iter().map(|stream| stream.kept.len()).sum();
        let stream = &mut self.both[at];
        let Some(from) = &mut stream.from else { return };
        let count = match from.read(chunk) {
            Ok(0) | Err(_) => return stream.from = None,
            Ok(count) => count,
        };
        let unseen = stream.unseen(&chunk[..count]);
        match write_all(stream.to, unseen) {
            Ok(()) => {}
            // The program is told by its next write, as it would have been by this one.
            Err(Errno::PIPE) => (stream.from, self.is_whole) = (None, false),
            // Compilers do not care.
            Err(_) => self.is_whole = false,
        }
        self.is_whole &= kept + count <= self.bytes_max;
        match self.is_whole {
            true => stream.kept.extend_from_slice(&chunk[..count]),
            false => self.both.iter_mut().for_each(|stream| stream.kept = Vec::new()),
        }
    }
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            // Whoever gave us the descriptor may have made it so that nobody waits.
            Err(Errno::AGAIN) => wait(&mut [PollFd::from_borrowed_fd(to, PollFlags::OUT)])?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Waits until one of `wanted` is ready.
fn wait(wanted: &mut [PollFd<'_>]) -> Result<(), Errno> {
    loop {
        match poll(wanted, None) {
            Err(Errno::INTR) => {}
            done => return done.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// Passes `said` (true: to standard error) on into one pipe; what arrives there, and what is
    /// kept. The program has left its streams open behind it.
    fn passed_on(said: &[(bool, &str)], bytes_max: usize) -> (String, Option<Written>) {
        let (mut arrives, to) = io::pipe().unwrap();
        let to: &'static OwnedFd = Box::leak(Box::new(to.into()));
        let [(stderr, mut to_stderr), (stdout, mut to_stdout)] =
            [io::pipe().unwrap(), io::pipe().unwrap()];
        let mut streams =
            Streams::new([stderr, stdout].map(|from| OwnedFd::from(from).into()), bytes_max);
        streams.both.iter_mut().for_each(|stream| stream.to = to.as_fd());
        let (at_end, end) = io::pipe().unwrap();
        let (done, last) = mpsc::channel();
        let passing = std::thread::spawn(move || streams.pass_on(&at_end, &done));
        let mut text = String::new();
        for (is_error, words) in said {
            let stream = if *is_error { &mut to_stderr } else { &mut to_stdout };
            stream.write_all(words.as_bytes()).unwrap();
            // It comes at once.
            let mut bytes = vec![0; words.len()];
            arrives.read_exact(&mut bytes).unwrap();
            text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
        drop(end);
        passing.join().unwrap();
        drop((to_stderr, to_stdout));
        (text, last.recv().unwrap())
    }

    #[test]
    fn both_streams_come_at_once_and_are_kept_apart() {
        let said = [(true, "one "), (false, "two "), (true, "three")];
        let (text, written) = passed_on(&said, 13);
        assert_eq!(text, "one two three");
        let Written { stdout, stderr } = written.unwrap();
        assert_eq!((&stdout[..], &stderr[..]), (&b"two "[..], &b"one three"[..]));
        // More than is kept comes all the same.
        let (text, written) = passed_on(&said, 12);
        assert_eq!((text.as_str(), written.is_none()), ("one two three", true));
    }
}
