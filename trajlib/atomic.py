"""Files that are written whole or not at all, by one process at a time."""

import glob
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

STALE = 3600  # seconds; a temporary file of that age was left by a process that was killed
FREE = 200_000_000  # bytes: what a training of the largest shipped model needs, checkpoints included


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` next to `path`, then rename: a reader sees the old file or the new one, never half of one."""
    write_together({path: data})


def write_together(files: Mapping[Path, bytes]) -> None:
    """`write_atomic` for files that belong together: all are written before the first is renamed."""
    written = []
    try:
        for path, data in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            for old in path.parent.glob(f"{glob.escape(path.name)}.*.tmp"):
                if old.exists() and time.time() - old.stat().st_mtime > STALE:
                    old.unlink(missing_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.", suffix=".tmp")
            written.append((temporary, path))
            with os.fdopen(handle, "wb") as f:
                f.write(data)
                f.flush()
                os.fsync(f.fileno())
            os.chmod(temporary, 0o644)  # mkstemp's 0600 would follow the file into git and onto shared machines
        for temporary, path in written:
            os.replace(temporary, path)
    except BaseException:
        for temporary, _ in written:
            Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def locked(path: Path, timeout: float = -1, free: int = 0) -> Iterator[None]:
    """Hold the lock of `path` (the file .NAME.lock next to it), waiting for a process that has it.

    OSError at once if the folder cannot be written or its disk has fewer than `free` bytes left; TimeoutError after
    `timeout` seconds (-1: never).
    """
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        left = shutil.disk_usage(path.parent).free
    except TimeoutError:
        raise
    except OSError as error:
        raise OSError(f"{path.parent} cannot be written ({error.strerror}): name another folder.") from None
    try:
        if left < free:
            raise OSError(f"{path.parent} has {left / 1e6:,.0f} MB left, {free / 1e6:,.0f} MB are needed: free some.")
        yield
    finally:
        lock.release()
