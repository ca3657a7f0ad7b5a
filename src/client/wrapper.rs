//! The short-lived process that the build system starts in the compiler's place.
//!
//! It reads no settings and starts no runtime: it hands the command to the daemon and then either
//! replays what the daemon says, becomes the compiler itself, or runs it and tells what it wrote.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::termios::{isatty, tcgetwinsize};

use super::ipc::{self, CompileRequest, Diagnostics, OsText, Reply, Request, Told};
use super::slots::Slots;
use super::socket;
use super::view::{self, View};
use crate::exec::{self, Ended, Relayed, Written};
use crate::job::{Exit, Terminal};

/// What the shell gives for a program that is not there.
const NOT_FOUND: u8 = 127;
/// What the shell gives for a program that cannot be run.
const NOT_RUNNABLE: u8 = 126;
/// The hidden argument that makes this program the daemon.
pub const DAEMON_ARGUMENT: &str = "--internal-daemon";
/// What a daemon says on its standard output when its socket is ready.
pub const READY: &[u8] = b"ready\n";

/// The program with everything but the wrapper.
const JETCCD: &str = "jetccd";

/// The wrapper's program, seen from either of the two.
///
/// # Errors
/// When the running program's file cannot be found.
pub fn own_executable() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(if own.ends_with(JETCCD) { own.with_file_name("jetcc") } else { own })
}

/// The program with everything else, in the same folder.
///
/// # Errors
/// As [`own_executable`].
pub fn jetccd() -> io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(JETCCD))
}

/// How a wrapper reaches its daemon.
#[derive(Clone, Debug)]
pub struct Wrapper {
    /// The daemon's socket.
    pub socket: PathBuf,
    /// The wrapper's program.
    pub own_executable: PathBuf,
    /// Whether a daemon may be started.
    pub start: StartDaemon,
}

/// Whether a wrapper starts a daemon when there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartDaemon {
    /// It does.
    Yes,
    /// `JETCC_NO_DAEMON` forbids it.
    No,
}

impl Wrapper {
    /// Finds the socket as the environment says: `JETCC_SERVER_UDS`, else a private folder.
    ///
    /// # Errors
    /// When this program's own file cannot be found.
    #[expect(clippy::disallowed_methods, reason = "the wrapper may not read settings files")]
    pub fn from_environment() -> io::Result<Self> {
        let socket = match std::env::var_os("JETCC_SERVER_UDS") {
            Some(path) => path.into(),
            None => socket::default_path(std::env::var_os("XDG_RUNTIME_DIR").as_deref()),
        };
        let start = match std::env::var_os("JETCC_NO_DAEMON") {
            Some(_) => StartDaemon::No,
            None => StartDaemon::Yes,
        };
        Ok(Self { socket, own_executable: own_executable()?, start })
    }

    /// Compiles: `program` as written, and its arguments.
    pub fn compile(&self, program: &OsStr, arguments: &[OsString]) -> ExitCode {
        let Some(request) = self.request(program, arguments) else {
            return self.run_locally(program, arguments, None);
        };
        let Ok(mut stream) = self.connect_or_start() else {
            return self.run_locally(program, arguments, Some(&Slots::new(cores())));
        };
        let diagnostics = request.diagnostics;
        let mut said = Vec::new();
        let reply = await_reply(&mut stream, &Request::Compile(Box::new(request)), &mut said);
        match reply {
            Ok(Reply::Compiled { exit, stdout, stderr }) => replay(exit, &stdout, &stderr),
            Ok(Reply::RunLocally) if said.is_empty() => {
                pass_on_slot(&stream);
                self.run_locally(program, arguments, None)
            }
            Ok(Reply::RunLocally) => {
                pass_on_slot(&stream);
                self.run_after(program, arguments, &said)
            }
            Ok(Reply::RunAndTell) => {
                pass_on_slot(&stream);
                self.run_and_tell(program, arguments, (stream, diagnostics))
            }
            // The daemon died, hangs or speaks another version.
            _ if !said.is_empty() => self.run_after(program, arguments, &said),
            Ok(Reply::Text(_) | Reply::Noted | Reply::Busy | Reply::Said(_)) | Err(_) => {
                self.run_locally(program, arguments, Some(&Slots::new(cores())))
            }
        }
    }

    /// Asks a running daemon; `None` when there is none.
    ///
    /// # Errors
    /// When the daemon went away in the middle, or is another user's.
    pub fn ask(&self, request: &Request) -> io::Result<Option<Reply>> {
        match socket::connect(&self.socket) {
            Ok(mut stream) => await_reply(&mut stream, request, &mut Vec::new()).map(Some),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// Starts the daemon and waits until it answers.
    ///
    /// # Errors
    /// What the daemon said instead of becoming ready.
    pub fn start_daemon(&self) -> io::Result<()> {
        socket::prepare_folder(&self.socket)?;
        let arguments = [DAEMON_ARGUMENT.into(), self.socket.clone().into_os_string()];
        let mut words = exec::detach(&jetccd()?, &arguments)?;
        let mut said = Vec::new();
        let mut chunk = [0; 1_024];
        loop {
            let count = words.read(&mut chunk)?;
            said.extend_from_slice(&chunk[..count]);
            if said.ends_with(READY) {
                return Ok(());
            }
            if count == 0 {
                return Err(io::Error::other(String::from_utf8_lossy(&said).trim().to_owned()));
            }
        }
    }

    fn connect_or_start(&self) -> io::Result<UnixStream> {
        match socket::connect(&self.socket) {
            Ok(stream) => Ok(stream),
            Err(error) if self.start == StartDaemon::No => Err(error),
            Err(_) => {
                self.start_daemon()?;
                socket::connect(&self.socket)
            }
        }
    }

    fn request(&self, program: &OsStr, arguments: &[OsString]) -> Option<CompileRequest> {
        let environment: BTreeMap<OsText, OsText> = std::env::vars_os()
            .map(|(name, value)| (name.as_os_str().into(), value.as_os_str().into()))
            .collect();
        Some(CompileRequest {
            program: program.into(),
            arguments: arguments.iter().map(|text| text.as_os_str().into()).collect(),
            directory: std::env::current_dir().ok()?.as_os_str().into(),
            environment,
            umask: umask().bits(),
            diagnostics: diagnostics(),
            view: View::own(),
            limit: view::tight_limit().map(str::to_owned),
        })
    }

    /// Becomes the compiler. Returns only when that failed.
    fn run_locally(
        &self,
        program: &OsStr,
        arguments: &[OsString],
        slots: Option<&Slots>,
    ) -> ExitCode {
        let Some((compiler, argv0)) = self.find(program) else { return not_found(program) };
        let _slot = slots.map(Slots::acquire_for_exec);
        let error = exec::replace(&compiler, &argv0, arguments);
        not_run(&compiler, &error)
    }

    /// Runs the compiler as a child and ends as it ended, without the words of it that were shown
    /// already.
    fn run_after(&self, program: &OsStr, arguments: &[OsString], said: &[u8]) -> ExitCode {
        let Some((compiler, argv0)) = self.find(program) else { return not_found(program) };
        match exec::relay(&compiler, &argv0, arguments, said, 0) {
            Ok(Relayed { status: Ended::Code(code), .. }) => code.into(),
            Ok(Relayed { status: Ended::Signal(signal), .. }) => end_by(signal),
            Err(_) => self.run_locally(program, arguments, None),
        }
    }

    /// Runs the compiler as a child, ends as it ended, and tells the daemon what it wrote if it
    /// succeeded. That is not told if it is for another terminal than the daemon knows of.
    fn run_and_tell(
        &self,
        program: &OsStr,
        arguments: &[OsString],
        (mut stream, expected): (UnixStream, Diagnostics),
    ) -> ExitCode {
        let Some((compiler, argv0)) = self.find(program) else { return not_found(program) };
        match exec::relay(&compiler, &argv0, arguments, &[], ipc::TOLD_STREAMS_BYTES_MAX) {
            Ok(Relayed { status: Ended::Code(0), written }) => {
                let is_stream =
                    |stdout: &[u8]| stdout.is_empty() || !isatty(rustix::stdio::stdout());
                let known = written.filter(|it| is_stream(&it.stdout) && diagnostics() == expected);
                // Whatever goes wrong costs the cache a result.
                let _ = known.map(|written| tell(&mut stream, written));
                ExitCode::SUCCESS
            }
            Ok(Relayed { status: Ended::Code(code), .. }) => code.into(),
            Ok(Relayed { status: Ended::Signal(signal), .. }) => end_by(signal),
            Err(_) => self.run_locally(program, arguments, None),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "PATH decides which compiler this is")]
    fn find(&self, program: &OsStr) -> Option<(PathBuf, OsString)> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        find(program, &path, &self.own_executable)
    }
}

fn not_found(program: &OsStr) -> ExitCode {
    eprintln!("jetcc: `{}` is not in PATH", program.display());
    NOT_FOUND.into()
}

fn not_run(compiler: &Path, error: &io::Error) -> ExitCode {
    eprintln!("jetcc: `{}` cannot be run: {error}", compiler.display());
    if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUNNABLE }.into()
}

/// Lets the compiler hold the connection too: the daemon counts the slot as taken until this
/// descriptor is closed everywhere.
fn pass_on_slot(stream: &UnixStream) {
    let _ = rustix::io::fcntl_setfd(stream.as_fd(), rustix::io::FdFlags::empty());
}

/// Tells what a compile wrote, and waits until its files have been read, but not for long.
fn tell(stream: &mut UnixStream, Written { stdout, stderr }: Written) -> io::Result<()> {
    stream.set_read_timeout(Some(ipc::KEEPING_MAX))?;
    stream.set_write_timeout(Some(ipc::KEEPING_MAX))?;
    ipc::write_frame(stream, &Told { stdout, stderr })?;
    let noted = ipc::read_frame::<Reply>(stream);
    // From now on the files may be others. What the compiler has left behind may hold the
    // connection: that alone would not tell the daemon.
    stream.shutdown(Shutdown::Both)?;
    noted.map(drop)
}

/// Sends `request` and reads frames until one is an answer. What the compiler has said until then is
/// shown at once, and added to `said`.
fn await_reply(
    stream: &mut UnixStream,
    request: &Request,
    said: &mut Vec<u8>,
) -> io::Result<Reply> {
    stream.set_read_timeout(Some(ipc::SILENCE_MAX))?;
    stream.set_write_timeout(Some(ipc::SILENCE_MAX))?;
    ipc::write_frame(stream, request)?;
    loop {
        match ipc::read_frame(stream)? {
            Reply::Busy => {}
            Reply::Said(words) => {
                let _ = io::stderr().write_all(&words);
                said.extend(words);
            }
            reply => return Ok(reply),
        }
    }
}

/// The program that a shell would start, passing over this program under other names. A path is
/// taken as it is: whether it can be run is the kernel's word. With it comes `argv[0]`: as written,
/// unless that leads to this program: compilers look for their own files beside it.
fn find(program: &OsStr, path: &OsStr, own: &Path) -> Option<(PathBuf, OsString)> {
    let identity = |file: &Path| fs::metadata(file).ok().map(|found| (found.dev(), found.ino()));
    let own_identity = identity(own);
    let is_own = |file: &Path| {
        // Another installation of this program would only look for us in turn.
        let real = file.canonicalize().unwrap_or_default();
        let name = real.file_name().unwrap_or_default();
        is_own_name(name) || (own_identity.is_some() && identity(file) == own_identity)
    };
    let direct = PathBuf::from(program);
    if program.as_encoded_bytes().contains(&b'/') && !is_own(&direct) {
        return Some((direct, program.to_owned()));
    }
    let is_program = |file: &Path| {
        fs::metadata(file).is_ok_and(|found| found.is_file() && found.mode() & 0o111 != 0)
    };
    let name = direct.file_name()?;
    let mut programs = std::env::split_paths(path)
        .map(|folder| folder.join(name))
        .filter(|file| is_program(file))
        .enumerate();
    let (number, found) = programs.find(|(_, file)| !is_own(file))?;
    let comes_first = number == 0 && name == program;
    let argv0 = if comes_first { program.to_owned() } else { found.as_os_str().to_owned() };
    Some((found, argv0))
}

/// Whether a program of this name is this one: `jetcc`, or `jetcc-0.1` as installations name it.
pub fn is_own_name(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"jetcc")
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The umask can only be read by setting it.
fn umask() -> rustix::fs::Mode {
    let mask = rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    rustix::process::umask(mask);
    mask
}

fn diagnostics() -> Diagnostics {
    let columns = |stream| tcgetwinsize(stream).ok().map(|size| size.ws_col);
    match isatty(rustix::stdio::stderr()) {
        true => Diagnostics::Terminal(Terminal {
            columns: columns(rustix::stdio::stderr()).unwrap_or_default(),
            input: columns(rustix::stdio::stdin()),
        }),
        false => Diagnostics::Stream,
    }
}

/// Shows what the compiler wrote and ends as it ended.
fn replay(exit: Exit, stdout: &[u8], stderr: &[u8]) -> ExitCode {
    // Whoever closed our output does not want it; the compiler's result stands all the same.
    let _ = io::stdout().write_all(stdout).and_then(|()| io::stdout().flush());
    let _ = io::stderr().write_all(stderr);
    match exit {
        Exit::Code(code) => code.into(),
        Exit::Signal(signal) => end_by(signal),
    }
}

/// Ends by the signal that ended the compiler, or as a shell would report it.
fn end_by(signal: u8) -> ExitCode {
    if let Some(number) = rustix::process::Signal::from_named_raw(i32::from(signal)) {
        // No core file of ours: it would not be the compiler's.
        let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
        let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
        let _ = rustix::process::kill_process(rustix::process::getpid(), number);
    }
    (128_u8.saturating_add(signal)).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_masquerade_folder_is_passed_over() {
        let root = tempfile::tempdir().unwrap();
        let (masks, real) = (root.path().join("masks"), root.path().join("real"));
        for folder in [&masks, &real] {
            std::fs::create_dir(folder).unwrap();
        }
        let own = root.path().join("jetcc");
        for file in [&own, &real.join("gcc")] {
            std::fs::write(file, "#!/bin/sh\n").unwrap();
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        std::os::unix::fs::symlink(&own, masks.join("gcc")).unwrap();
        let path = std::env::join_paths([&masks, &real]).unwrap();
        let gcc = real.join("gcc");
        let named = |name: &OsStr| Some((gcc.clone(), name.to_owned()));
        let masked = masks.join("gcc");
        assert_eq!(find(OsStr::new("gcc"), &path, &own), named(gcc.as_os_str()));
        assert_eq!(find(masked.as_os_str(), &path, &own), named(gcc.as_os_str()));
        assert_eq!(find(OsStr::new("gcc"), real.as_os_str(), &own), named(OsStr::new("gcc")));
        assert_eq!(find(OsStr::new("nothing"), &path, &own), None);
        let absent = real.join("absent/gcc");
        let as_written = (absent.clone(), absent.clone().into_os_string());
        assert_eq!(find(absent.as_os_str(), &path, &own), Some(as_written));
        // Another installation in the way.
        let other = root.path().join("jetcc-0.1");
        fs::rename(&own, &other).unwrap();
        fs::remove_file(&masked).unwrap();
        std::os::unix::fs::symlink(&other, &masked).unwrap();
        assert_eq!(find(OsStr::new("gcc"), &path, &own), named(gcc.as_os_str()));
    }
}
