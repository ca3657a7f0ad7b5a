"""What is compiled: a trivial C file, a 50 KB one and a large C++ file, each time with other contents."""

import itertools
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PROJECTS = REPOSITORY / "build" / "bench"


@dataclass
class Kind:
    """A sort of source file, and how it is compiled."""

    name: str
    compiler: str
    flags: list
    suffix: str
    text: str


def trivial(name):
    """A C file of one line that no other is equal to."""
    return f"int {name}(int x) {{ return x * 3 + 1; }}\n"


def kinds(folder):
    """The three kinds; what the last two include is copied into `folder`."""
    zlib, leveldb = PROJECTS / "zlib" / "src", PROJECTS / "leveldb" / "src"
    for name, source in [("zlib", zlib), ("leveldb", leveldb)]:
        shutil.copytree(source, folder / name)
    zlib_flags = ["-D_LARGEFILE64_SOURCE=1", "-DHAVE_UNISTD_H", "-Izlib"]
    leveldb_flags = ["-std=c++11", "-Ileveldb", "-Ileveldb/include", "-DLEVELDB_PLATFORM_POSIX=1"]
    leveldb_flags += [f"-DHAVE_{it}=0" for it in ("SNAPPY", "CRC32C", "FULLFSYNC")]
    leveldb_flags += ["-DHAVE_FDATASYNC=1", "-DLEVELDB_IS_BIG_ENDIAN=0"]
    return [
        Kind("trivial C file", "gcc", [], "c", ""),
        Kind("50 KB C file", "gcc", zlib_flags, "c", (zlib / "inflate.c").read_text()),
        Kind("large C++ file", "g++", leveldb_flags, "cc", (leveldb / "db/db_impl.cc").read_text()),
    ]


def fetch():
    """Brings the sources of real projects here, once."""
    subprocess.run([REPOSITORY / "scripts/fetch-projects", PROJECTS], check=True, stdout=2)


class Files:
    """Writes files that were never compiled before."""

    def __init__(self, folder):
        self.folder = folder
        self.names = (f"unit_{os.getpid()}_{number}" for number in itertools.count())

    def fresh(self, kind):
        """A new file of `kind`; the arguments after the compiler's name that compile it."""
        name = next(self.names)
        (self.folder / f"{name}.{kind.suffix}").write_text(kind.text + trivial(name))
        return ["-O2", *kind.flags, "-c", f"{name}.{kind.suffix}", "-o", f"{name}.o"]

    def batch(self, count):
        """`count` new trivial files in a new folder; their paths without suffix."""
        folder = f"batch_{next(self.names)}"
        (self.folder / folder).mkdir()
        names = list(itertools.islice(self.names, count))
        for name in names:
            (self.folder / folder / f"{name}.c").write_text(trivial(name))
        return [f"{folder}/{name}" for name in names]
