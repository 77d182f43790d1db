"""The environment of notebook kernels: this interpreter, fixed numbers of threads, and no settings of the user's."""

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from jupyter_client.connect import LocalPortCache

from trajlib.course.options import UsageError

# One thread, so that figures do not depend on the number of cores (the rounding of a sum depends on the threads that
# share it), unless models of full size are trained.
THREADS, TRAINING_THREADS = 1, 2
HOME = ".kernel-"  # begins the name of a folder of kernels' files

# A kernel that is stopped while its event loop is busy leaves a task behind, and asyncio reports it on stderr: no fault
# of the notebook. Every other message of asyncio passes.
_LAUNCH = """
import logging
from ipykernel.kernelapp import launch_new_instance
logging.getLogger("asyncio").addFilter(lambda m: "Task was destroyed but it is pending" not in m.getMessage())
launch_new_instance()
"""
_INSTALL = f"run `{sys.executable} -m pip install -r requirements.txt` in the clone."


def kernel_variables(results: Path, threads: int = THREADS) -> dict[str, str]:
    """Environment variables for notebook kernels: the results file, and what makes two runs print the same."""
    return {
        "TRAJLIB_RESULTS": str(results),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait sleep: spinning, they wait for a busy machine's scheduler
        "PYTHONHASHSEED": "0",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # the debugger's advice on frozen modules, on stderr
    }


def write_kernelspec(home: Path) -> None:
    """Under `home`, a kernel `python3` that is this interpreter, whatever kernels the user has registered."""
    spec = home / "kernels" / "python3"
    spec.mkdir(parents=True)
    argv = [sys.executable, "-c", _LAUNCH, "-f", "{connection_file}", "--log-level=CRITICAL"]
    content = {"argv": argv, "display_name": "Python 3", "language": "python", "metadata": {"debugger": False}}
    (spec / "kernel.json").write_text(json.dumps(content), encoding="utf-8")


@contextlib.contextmanager
def kernel_env(results: Path, threads: int = THREADS) -> Iterator[None]:
    """Kernels started inside get `kernel_variables`, this interpreter, an empty IPython profile, inline figures.

    Their files are in a folder next to `results`, where the next run finds and deletes what a killed one left.
    """
    separate_ports()
    before = dict(os.environ)
    results.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=HOME, dir=results.parent) as name:
        home = Path(name).resolve()
        write_kernelspec(home)
        os.environ.update(kernel_variables(results, threads), JUPYTER_PATH=str(home), IPYTHONDIR=str(home / "ipython"))
        os.environ["JUPYTER_RUNTIME_DIR"] = str(home / "runtime")
        os.environ.pop("MPLBACKEND", None)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def separate_ports() -> None:
    """From now on, kernels of this process take their ports from a range that is chosen by its number.

    jupyter_client closes a free port that it has found before the kernel opens it; two processes that start kernels at
    the same time would now and then choose the same.
    """
    first = 10_000 + os.getpid() % 200 * 100
    numbers = itertools.cycle(range(first, first + 100))

    def find_available_port(ip: str) -> int:
        for port in itertools.islice(numbers, 100):
            with socket.socket() as probe:
                try:
                    probe.bind(("" if ip in ("*", "0.0.0.0") else ip, port))
                    return port
                except OSError:
                    continue
        raise OSError(f"no port from {first} to {first + 99} is free")

    LocalPortCache.instance().find_available_port = find_available_port


def check_environment(cwd: Path) -> None:
    """UsageError unless a kernel of this Python, started in the notebooks' folder, would import this very package."""
    script = "import ipykernel, trajlib; print(trajlib.__file__)"
    done = subprocess.run([sys.executable, "-c", script], cwd=cwd, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise UsageError(f"A kernel of {sys.executable} lacks the course's packages ({last[0]}): {_INSTALL}")
    found = done.stdout.strip()
    if Path(found).resolve() != Path(__file__).resolve().parents[1] / "__init__.py":
        raise UsageError(f"A kernel of {sys.executable} would import another trajlib, {found}: {_INSTALL}")
