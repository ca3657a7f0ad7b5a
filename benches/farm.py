"""Runs a benchmark inside a farm of `jetcc dev` on this machine."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

import sources


def in_farm(argv, stdout):
    """Runs `argv` in a new farm, and waits for it and for whatever else becomes our child."""
    with tempfile.TemporaryFile("w+") as errors:
        farm = subprocess.Popen(["jetcc", "dev", "--", *argv], stdout=stdout, stderr=errors)
        ended, status = os.wait()
        while ended != farm.pid:
            ended, status = os.wait()
        farm.returncode = os.waitstatus_to_exitcode(status)
        if farm.returncode != 0:
            errors.seek(0)
            raise SystemExit(errors.read())


def stats(env=None):
    """Everything that a daemon counted."""
    text = subprocess.check_output(["jetcc", "--show-stats", "--stats-format", "json"], env=env)
    return json.loads(text)


def use_own_programs():
    """Puts the release programs and fetched tools before everything else."""
    places = [sources.REPOSITORY / "target/release", sources.REPOSITORY / "build/tools/bin"]
    os.environ["PATH"] = os.pathsep.join([*map(str, places), os.environ["PATH"]])
    os.environ["LC_ALL"] = "C"
    if not Path(places[0] / "jetcc").exists():
        raise SystemExit("no target/release/jetcc\nhint: make build")
