"""The tools that are compared: how each is started on this machine alone, with a slot for each core."""

import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import measure

CORES = os.cpu_count()
# A program of others gives no sign when it is ready: how long, and how often, it is looked for.
STANDS_MAX_SECONDS = 20
LOOK_SECONDS = 0.02


@dataclass
class Tool:
    """A way to compile."""

    name: str
    prefix: list
    env: dict
    # Whether an equal compile is answered from a cache, and whether others compile for us.
    caches: bool = False
    remote: bool = False
    # Processes that work for the client besides the command itself, and all that stay.
    client: list = field(default_factory=list)
    roles: dict = field(default_factory=dict)

    def argv(self, compiler, arguments):
        """The command that compiles."""
        words = [*self.prefix, compiler] if self.prefix else [shutil.which(compiler)]
        return words + arguments


def started(folder, env, stack):
    """Every tool that is installed, ready to compile; `stack` stops them."""
    tools = [Tool("gcc alone", [], env), jetcc(env)]
    for name, start in [("ccache", ccache), ("sccache", sccache), ("distcc", distcc), ("icecc", icecc)]:
        home = folder / name
        home.mkdir()
        try:
            found = start(home, env, stack) if shutil.which(name) else None
        except (OSError, subprocess.CalledProcessError, TimeoutError) as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            continue
        tools += [found] if found else []
    return tools


def jetcc(env):
    """jetcc, in the farm of `jetcc dev` that runs us."""
    own = shutil.which("jetcc")
    daemon = daemon_of(env)
    roles = {"daemon": daemon}
    for pid in measure.tree(os.getppid()):
        command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        if Path(command[0]).name == "nats-server":
            roles["nats-server"] = pid
        elif len(command) > 2 and command[1] in ("scheduler", "worker"):
            roles[command[1]] = pid
    return Tool("jetcc", [own], env, caches=True, remote=True, client=[daemon], roles=roles)


def daemon_of(env):
    """The daemon that serves the wrappers of `env`."""
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.connect(env["JETCC_SERVER_UDS"])
        credentials = daemon.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return struct.unpack("3i", credentials)[0]


def ccache(folder, env, _stack):
    """ccache with a cache of its own."""
    return Tool("ccache", [shutil.which("ccache")], env | {"CCACHE_DIR": str(folder)}, caches=True)


def sccache(folder, env, stack):
    """sccache with a local cache."""
    program = shutil.which("sccache")
    own = {"SCCACHE_DIR": str(folder / "cache"), "SCCACHE_SERVER_PORT": str(free_port())}
    env = env | own
    subprocess.run([program, "--start-server"], env=env, check=True, capture_output=True)
    stack.callback(subprocess.run, [program, "--stop-server"], env=env, capture_output=True)
    daemon = listener(int(own["SCCACHE_SERVER_PORT"]))
    return Tool("sccache", [program], env, caches=True, client=[daemon], roles={"daemon": daemon})


def distcc(folder, env, stack):
    """distcc with a server on the loopback interface; it fails where it would compile locally."""
    port, pid_file = free_port(), folder / "pid"
    folder.chmod(0o777)
    options = ["--allow", "127.0.0.1", "--listen", "127.0.0.1", "--port", str(port)]
    options += ["--jobs", str(CORES), "--pid-file", pid_file, "--log-file", folder / "log"]
    program = shutil.which("distccd") or "distccd"
    # It listens before it goes to the background.
    subprocess.run([program, "--daemon", *options], check=True, env=env | {"TMPDIR": str(folder)})
    daemon = int(pid_file.read_text())
    stack.callback(os.kill, daemon, 15)
    env = env | {"DISTCC_DIR": str(folder), "DISTCC_FALLBACK": "0"}
    env["DISTCC_HOSTS"] = f"127.0.0.1:{port}/{CORES}"
    return Tool("distcc", [shutil.which("distcc")], env, remote=True, roles={"distccd": daemon})


def icecc(folder, env, stack):
    """icecream with a scheduler and two daemons, of which one compiles.

    Its programs announce themselves on every network: only in a network namespace of our own.
    """
    if [name for _, name in socket.if_nameindex()] != ["lo"]:
        raise OSError("it would announce itself on the network (root measures it in a namespace)")
    for name in ["client", "server"]:
        (folder / name).mkdir()
        shutil.chown(folder / name, "icecc")
    shutil.chown(folder, "icecc")
    port = free_port()
    roles = {"scheduler": service(stack, ["icecc-scheduler", "-p", str(port), "-l", folder / "s.log"], env)}
    client = env | {"ICECC_TEST_SOCKET": str(folder / "client.sock"), "ICECC_PREFERRED_HOST": "server"}
    client["ICECC_TEST_REMOTEBUILD"] = "1"
    server = env | {"ICECC_TEST_SOCKET": str(folder / "server.sock")}
    options = ["iceccd", "-s", f"127.0.0.1:{port}", "-m", str(CORES)]
    for role, own, more in [("client", client, ["--no-remote"]), ("server", server, [])]:
        more += ["-N", role, "-p", str(free_port()), "-b", folder / role, "-l", folder / f"{role}.log"]
        roles[role] = service(stack, options + more, own)
    tool = Tool("icecc", [shutil.which("icecc")], client, remote=True, roles=roles, client=[roles["client"]])
    probe = folder / "probe.c"
    probe.write_text("int probe;\n")
    words = tool.argv("gcc", ["-c", str(probe), "-o", str(folder / "probe.o")])
    log = folder / "s.log"
    stands(lambda: all(log.exists() and f"login {role}" in log.read_text() for role in ["client", "server"]))
    stands(lambda: "server=server" in compiled(words, client, log))
    return tool


def compiled(words, env, log):
    """Runs `words`; what `log` says then, nothing if they failed."""
    done = subprocess.run(words, env=env, capture_output=True)
    return log.read_text() if done.returncode == 0 else ""


def service(stack, words, env):
    """Starts a program that stays until `stack` ends it; its process id."""
    program = shutil.which(words[0]) or words[0]
    words = [program, "-v", "-v", "-v", *map(str, words[1:])]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    child = subprocess.Popen(words, env=env, start_new_session=True, **quiet)
    stack.callback(child.wait)
    stack.callback(os.killpg, child.pid, signal.SIGKILL)
    return child.pid


def stands(look):
    """Looks until `look` is true."""
    deadline = time.monotonic() + STANDS_MAX_SECONDS
    while not look():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not ready after {STANDS_MAX_SECONDS} s")
        time.sleep(LOOK_SECONDS)


def free_port():
    """A TCP port of the loopback interface that nobody has."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def listener(port):
    """The process that listens on a TCP port of the loopback interface."""
    table = Path("/proc/net/tcp").read_text().splitlines()[1:]
    inode = next(row.split()[9] for row in table if row.split()[1].endswith(f":{port:04X}") and row.split()[3] == "0A")
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(link) == f"socket:[{inode}]":
                return int(link.parts[2])
    raise OSError(f"nobody listens on port {port}")
