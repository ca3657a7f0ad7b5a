"""Measures processes: wall time, CPU time of a process and of everything below one, resident memory."""

import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
QUIET = [
    (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
    (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
]


@dataclass
class Run:
    """One command: milliseconds of wall time, and of CPU in it and in what it waited for."""

    wall_ms: float
    cpu_ms: float
    code: int


def run(argv, env):
    """Runs `argv` (its first word an absolute path) without output; nothing else is on the clock."""
    begun = time.perf_counter()
    pid = os.posix_spawn(argv[0], argv, env, file_actions=QUIET)
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - begun
    cpu = usage.ru_utime + usage.ru_stime
    return Run(wall * 1e3, cpu * 1e3, os.waitstatus_to_exitcode(status))


def _stat(pid):
    """Fields of /proc/PID/stat after the name (the first is field 3 of proc(5)); None when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _processes():
    """Every process: parent and CPU ticks, those of the children that it waited for included."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        if fields := _stat(name):
            found[int(name)] = (int(fields[1]), sum(map(int, fields[11:15])))
    return found


def tree(root, among=None):
    """`root` and all that descend from it."""
    among = among or _processes()
    children = {}
    for pid, (parent, _) in among.items():
        children.setdefault(parent, []).append(pid)
    found, pending = [], [root]
    while pending:
        pid = pending.pop()
        if pid in among:
            found.append(pid)
            pending.extend(children.get(pid, []))
    return found


def cpu_ms(*roots):
    """CPU so far of the processes `roots` and of all below them, in ms.

    Nothing is lost when a process ends, as long as its parent waits for it.
    """
    among = _processes()
    pids = {pid for root in roots for pid in tree(root, among)}
    return sum(among[pid][1] for pid in pids) * 1e3 / TICKS


def machine_cpu_s():
    """CPU seconds that this machine has worked since its start, whoever wanted it."""
    user, nice, system, _, _, irq, softirq = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + softirq) / TICKS


def resident_mb(pid):
    """Resident memory of `pid` now and at most so far, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return tuple(int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))


def named(pids):
    """Name of each of `pids`."""
    return {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in pids}


def spread(values):
    """Median and quartiles, as text: `12.3 [12.0-12.9]`."""
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.2f}"
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.2f} [{low:.2f} - {high:.2f}]"


def table(title, rows):
    """Prints rows of name and text under a title."""
    print(f"\n{title}")
    for name, text in rows:
        print(f"  {name:<28} {text}")
    print(end="", flush=True)
