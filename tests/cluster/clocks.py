"""Wall clocks that can be moved while a process runs (see skew.c)."""

import shutil
import struct
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).with_name("skew.c")


def missing() -> str:
    """Why clocks cannot be moved here, or nothing."""
    return "" if shutil.which("gcc") else "not installed: gcc"


def build(folder: Path) -> Path:
    """Compiles the shim and returns the library."""
    library = folder / "skew.so"
    compile_it = ["gcc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library), str(_SOURCE)]
    subprocess.run(compile_it, check=True)
    return library


class Clock:
    """One process's wall clock; `env` goes to the process."""

    def __init__(self, library: Path, path: Path) -> None:
        self._path = path
        path.write_bytes(struct.pack("<q", 0))
        self.env = {"LD_PRELOAD": str(library), "SKEW_FILE": str(path)}

    def set(self, offset_s: float) -> None:
        """The wall clock jumps to this far from the true time."""
        with self._path.open("r+b") as file:
            file.write(struct.pack("<q", int(offset_s * 1e9)))
