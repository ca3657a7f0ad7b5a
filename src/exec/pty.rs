//! Pseudo-terminals: to a program they are a person's terminal, and we read what it writes there, byte
//! for byte.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::io::{Errno, ioctl_fionbio};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{
    OptionalActions, Winsize, ioctl_tiocexcl, tcgetattr, tcsetattr, tcsetwinsize,
};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, Interest, ReadBuf};

/// Rows of a window where nobody asks for them.
const ROWS: u16 = 24;

/// Both ends of a pseudo-terminal.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) ours: OwnedFd,
    pub(super) theirs: OwnedFd,
}

/// Makes one whose window has this size. What is written to it is not changed on the way, and it
/// becomes nobody's controlling terminal.
pub(super) fn open(size: Winsize) -> io::Result<Pair> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags)?;
    unlockpt(&ours)?;
    let theirs = ioctl_tiocgptpeer(&ours, flags)?;
    let mut modes = tcgetattr(&theirs)?;
    modes.make_raw();
    tcsetattr(&theirs, OptionalActions::Now, &modes)?;
    tcsetwinsize(&theirs, size)?;
    Ok(Pair { ours, theirs })
}

/// The pseudo-terminals of a confined program. It may use what it has of them and open none: what is
/// opened anew may become a controlling terminal.
#[derive(Debug)]
pub struct Terminals {
    pub(super) seat: Seat,
    pub(super) screen: Screen,
}

/// The program's ends; its standard streams are copies of them.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) input: Option<OwnedFd>,
    pub(super) errors: OwnedFd,
}

/// Our ends.
#[derive(Debug)]
pub(super) struct Screen {
    errors: AsyncFd<OwnedFd>,
    /// Nobody types there.
    _input: Option<OwnedFd>,
}

impl Terminals {
    /// One for standard error, so many `columns` wide, and one for standard input if it has a width.
    ///
    /// # Errors
    /// The system's answer.
    pub fn open(columns: u16, input: Option<u16>) -> io::Result<Self> {
        let open = |columns| {
            let pair = open(Winsize { ws_row: ROWS, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?;
            ioctl_tiocexcl(&pair.theirs)?;
            Ok::<_, io::Error>(pair)
        };
        let errors = open(columns)?;
        ioctl_fionbio(&errors.ours, true)?;
        let (_input, input) = input
            .map(open)
            .transpose()?
            .map_or((None, None), |pair| (Some(pair.ours), Some(pair.theirs)));
        Ok(Self {
            seat: Seat { input, errors: errors.theirs },
            screen: Screen { errors: watched(errors.ours)?, _input },
        })
    }
}

#[expect(unsafe_code, reason = "a descriptor could be closed behind the reactor's back")]
fn watched(end: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: it is open, ours alone, and stays the same until both are dropped.
    Ok(unsafe { AsyncFd::register_with_interest(end, Interest::READABLE) }?)
}

impl AsyncRead for Screen {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.errors.poll_read_ready(context))?;
            let room = buffer.initialize_unfilled();
            match ready.try_io(|end| Ok(rustix::io::read(end, room)?)) {
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // All who could write have gone.
                Ok(Err(error)) if Errno::from_io_error(&error) == Some(Errno::IO) => {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Confinement, Ended, Spec, run_confined};
    use super::*;

    #[tokio::test]
    async fn a_program_sees_windows_and_every_byte_comes_as_it_was_written() {
        // More than the kernel holds for a terminal, and what a terminal would change.
        let script = r#"stty size; stty size <&2; test -t 1 || echo no
            test -t 2 && printf 'a\tb\nc\r\n\004\003\033[m' >&2
            for n in 0 1 2 3 4 5 6 7 8 9; do printf '%4000s' x; done >&2"#;
        let spec = Spec {
            arguments: vec!["-c".into(), script.into()],
            environment: [("PATH".into(), "/usr/bin:/bin".into())].into(),
            ..Spec::of("/bin/sh".as_ref())
        };
        let terminals = Some(Terminals::open(70, Some(50)).unwrap());
        let confinement = Confinement { terminals, ..Confinement::loose() };
        let done = run_confined(spec, confinement).await.unwrap();
        assert_eq!(done.status, Ended::Code(0));
        assert_eq!(String::from_utf8_lossy(&done.stdout), "24 50\n24 70\nno\n");
        let start = b"a\tb\nc\r\n\x04\x03\x1b[m";
        assert!(done.stderr.starts_with(start), "{:?}", &done.stderr[..20]);
        assert_eq!(done.stderr.len(), start.len() + 40_000);
    }
}
