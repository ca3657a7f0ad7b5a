/* open: tries to open its terminals anew, or another one, and to have one as its own.
 * ask: asks of its terminals what no compiler asks; without the filter much of it is answered. */
#include "hostile.h"
#include <sys/ioctl.h>
#include <termios.h>

static int opens(const char *path) { return open(path, O_RDWR) >= 0; }

/* As the leader of a session of its own, which may get a controlling terminal. */
static int in_session(int (*attempt)(void)) {
  int status = 0;
  pid_t child = fork();
  if (child == 0) {
    setsid();
    _exit(attempt() ? 0 : 1);
  }
  return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

static int owns_by_opening(void) { return opens("/proc/self/fd/2") || opens("/proc/self/fd/0"); }

static int owns_by_asking(void) { return ioctl(0, TIOCSCTTY, 0) == 0; }

static int types(int descriptor) { return ioctl(descriptor, TIOCSTI, "x") == 0; }

static void open_anew(void) {
  tried("standard error anew", opens("/proc/self/fd/2"));
  tried("standard input anew", opens("/proc/self/fd/0"));
  tried("the controlling terminal", opens("/dev/tty"));
  tried("a pseudo-terminal", opens("/dev/ptmx"));
  tried("somebody's terminal", opens("/dev/pts/0"));
  tried("the console", opens("/dev/console"));
  tried("a terminal of its own", in_session(owns_by_opening));
  tried("a key pressed in standard input", types(0));
  tried("a key pressed in standard error", types(2));
}

static void ask(void) {
  struct winsize size = {1, 1, 1, 1};
  struct termios modes = {0};
  int line = 0;
  tried("TIOCSCTTY", in_session(owns_by_asking));
  tried("TIOCNXCL", ioctl(2, TIOCNXCL) == 0);
  tried("TIOCSWINSZ", ioctl(2, TIOCSWINSZ, &size) == 0);
  tried("TCSETS", ioctl(2, TCSETS, &modes) == 0);
  tried("TCFLSH", ioctl(2, TCFLSH, TCIOFLUSH) == 0);
  tried("TIOCSETD", ioctl(2, TIOCSETD, &line) == 0);
  tried("TIOCSTI", types(0));
}

static void attack(int count, char **words) {
  /* It is about terminals that are there. */
  if (!isatty(0) || isatty(1) || !isatty(2)) exit(3);
  if (count == 1 && strcmp(words[0], "open") == 0) open_anew();
  else if (count == 1 && strcmp(words[0], "ask") == 0) ask();
  else exit(2);
}
