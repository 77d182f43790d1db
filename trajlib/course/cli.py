"""The command line: `python -m trajlib run`, `study`, `bench`, `explore`, and those of `video_commands`."""

import argparse
import contextlib
import multiprocessing
import signal
import sys
import threading
from collections.abc import Iterator

from trajlib.course.options import PROFILES, as_path
from trajlib.course.video_commands import add_video_commands

RUN = """\
Execute the notebooks headless, the report last, and write executed copies and, in OUT/site, a web site of them.
Stops at the first notebook that fails, and names the cell. With the full profile and the shipped weights
(the defaults), figures and pictures are compared with those in the repository. Ends with a table of times.
"""
RUN_EXAMPLES = """\
examples:
  python -m trajlib run                                  the whole course, with the shipped weights
  python -m trajlib run --only 03                        one notebook
  python -m trajlib run --profile smoke                  everything tiny, trained from nothing: does it all work?
  python -m trajlib run --artifacts my_run --out my_out  train what my_run lacks, at full size

exit code: 0 all well, 1 a notebook failed or a figure or picture differs, 2 the command cannot be run as given
"""
STUDY = """\
Run the jobs of a study that its CSV file lacks. A study is a file notebooks/studies/NAME.py: a grid of jobs, each of
which becomes a row. A study that was stopped continues where it was.
"""
STUDY_EXAMPLES = """\
examples:
  python -m trajlib study tokenizer_ablation             every job whose row is missing
  python -m trajlib study tokenizer_ablation --only base only jobs with this value
  python -m trajlib study tokenizer_ablation --smoke     tiny: does it work?

exit code: 0 all well, 1 a job failed, 2 the command cannot be run as given
"""
BENCH = """\
Measure the speed of training, encoding and decoding, and print each figure next to a reference: our tokenizer next to
the README configuration of magvit2-pytorch (17 frames of 64x64 pixels, without discriminator and perceptual loss, one
clip a step, since a step takes seconds), arithmetic next to the machine's matrix product. A benchmark, not a test: if
something else runs at the same time, set OMP_NUM_THREADS=1 and trust only the ratios. About four minutes.

With --scaling: how time and memory of a training step grow with clips, size, frames, codebook and width, as measured
on one core, with a fitted law; then what data sheets of GPUs promise, extrapolated. About two minutes.
"""
EXPLORE = """\
Open the studios of the notebooks as one page in the browser: make a clip, explore its tokens, flip one of a token's 18
bits, mask and predict, draw a path, corrupt a clip. No JupyterLab and no network are needed; only this machine can open
the page. Ctrl+C ends it.
"""


class Parser(argparse.ArgumentParser):
    """Reports what is wrong in one line."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: {message.rstrip('.')}. See `{self.prog} --help`.\n")


def parser() -> Parser:
    """Subcommands are functions `args -> exit code`, stored in the parsed arguments as `command`."""
    top = Parser(prog="python -m trajlib", description="Run the trajlib course without a browser.")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="name_of_command")
    _add_run(commands)
    _add_study(commands)
    _add_bench(commands)
    _add_explore(commands)
    add_video_commands(lambda *about: _add(commands, *about))
    return top


def _add(commands, name: str, summary: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    return commands.add_parser(name, help=summary, description=description, epilog=epilog, formatter_class=raw)


def _add_run(commands) -> None:
    cmd = _add(commands, "run", "execute the notebooks", RUN, RUN_EXAMPLES)
    cmd.add_argument("--profile", default="full", metavar="full|smoke", help="sizes of everything (default: full)")
    cmd.add_argument(
        "--artifacts", type=lambda text: str(as_path(text)), metavar="shipped|DIR",
        help="folder of trained models, new ones included (default: shipped; for smoke, OUT/artifacts, emptied first)",
    )  # fmt: skip
    only = "beginnings of the names of notebooks to run"
    cmd.add_argument("--only", action="extend", nargs="+", default=[], metavar="03", help=only)
    cmd.add_argument("--out", type=as_path, metavar="DIR", help="where copies go (default: runs/PROFILE)")
    jobs = "notebooks that run at the same time (default: 2 with the shipped weights, else 1)"
    cmd.add_argument("--jobs", type=_count, metavar="N", help=jobs)
    cmd.add_argument("--cell-seconds", type=float, metavar="S", help="the longest that one cell may take")
    cmd.add_argument("--notebooks", type=as_path, metavar="DIR", help="another folder of notebooks to run")
    cmd.add_argument("--update", action="store_true", help="maintainers: store outputs and figures in the repository")
    cmd.set_defaults(command=_run)


def _run(args: argparse.Namespace) -> int:
    from trajlib.course import options, runner
    from trajlib.zoo.checkpoints import ArtifactError

    chosen = options.Options(
        args.profile, args.artifacts, tuple(args.only), args.out, args.update,
        args.notebooks or options.NOTEBOOKS, args.cell_seconds, args.jobs,
    )  # fmt: skip
    try:
        return runner.run_notebooks(chosen, _log, _progress if sys.stdout.isatty() else None)
    except (options.UsageError, ArtifactError) as error:
        return _refuse("run", error)


def _add_study(commands) -> None:
    cmd = _add(commands, "study", "run a long experiment into a CSV file", STUDY, STUDY_EXAMPLES)
    cmd.add_argument("name", metavar="NAME", help="a file of notebooks/studies, without its ending")
    cmd.add_argument("--only", action="extend", nargs="+", default=[], metavar="VALUE", help="values of jobs to run")
    cmd.add_argument("--smoke", action="store_true", help="tiny sizes, into runs/NAME-smoke.csv")
    cmd.add_argument("--jobs", type=_count, default=2, metavar="N", help="processes of one thread each (default: 2)")
    cmd.add_argument("--out", type=as_path, metavar="FILE", help="the CSV (default: the one next to the study)")
    cmd.add_argument(
        "--artifacts",
        type=lambda text: str(as_path(text)),
        default="shipped",
        metavar="shipped|DIR",
        help="folder of trained models it uses",
    )
    cmd.set_defaults(command=_study)


def _study(args: argparse.Namespace) -> int:
    from trajlib.course import study

    return study.main(args.name, tuple(args.only), args.smoke, args.jobs, args.out, args.artifacts)


def _add_bench(commands) -> None:
    cmd = _add(commands, "bench", "measure speeds, as ratios", BENCH)
    seconds = "how long each of the two is trained (default: 60); the README configuration makes at least one step"
    cmd.add_argument("--seconds", type=_seconds, default=60.0, metavar="S", help=seconds)
    cmd.add_argument("--profile", default="full", choices=PROFILES, help="smoke: tiny models, to try it out")
    cmd.add_argument("--json", type=as_path, metavar="FILE", help="also write the figures there")
    cmd.add_argument("--scaling", action="store_true", help="how cost grows with the sizes, instead")
    cmd.set_defaults(command=_bench)


def _bench(args: argparse.Namespace) -> int:
    if args.json and (args.json.is_dir() or not args.json.resolve().parent.is_dir()):
        return _refuse("bench", f"{args.json} cannot be written: name a file in a folder that exists.")
    from trajlib.course import bench
    from trajlib.zoo.checkpoints import ArtifactError

    if args.scaling:
        from trajlib.course import scaling

        scaling.run_scaling(args.profile, args.json, _log)
        return 0
    try:
        bench.run_benchmark(args.profile, args.seconds, args.json, _log)
    except ArtifactError as error:
        return _refuse("bench", error)
    return 0


def _add_explore(commands) -> None:
    cmd = _add(commands, "explore", "open the studios as a local page", EXPLORE)
    cmd.add_argument("--port", type=_port, default=0, metavar="N", help="port of the page (default: any that is free)")
    cmd.add_argument("--no-browser", action="store_true", help="print the address, open nothing")
    cmd.set_defaults(command=_explore)


def _explore(args: argparse.Namespace) -> int:
    from trajlib.widgets.explore import explore

    try:
        explore(args.port, not args.no_browser)
    except OSError as error:
        return _refuse("explore", f"port {args.port} cannot be used ({error.strerror}): name another, or leave it out.")
    return 0


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text} came, a number above 0 and up to 3600 is needed")
    return seconds


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"{text} came, a whole number from 1 to 256 is needed")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} came, a port from 0 to 65535 is needed")
    return int(text)


def _refuse(command: str, reason: object) -> int:
    print(f"python -m trajlib {command}: {reason}", file=sys.stderr)
    return 2


def _log(line: str) -> None:
    clear = "\r\x1b[K" if sys.stdout.isatty() else ""
    print(clear + line, flush=True)


def _progress(line: str) -> None:
    print("\r\x1b[K" + line, end="", flush=True)


@contextlib.contextmanager
def _ended_cleanly() -> Iterator[None]:
    """Inside, SIGTERM raises SystemExit, so that kernels and temporary folders are cleaned up; workers end at once."""

    def stop(number: int, _) -> None:
        for worker in multiprocessing.active_children():
            worker.terminate()
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():  # only there can a handler be set
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code. With `python -X dev`, an unexpected error shows its traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a console that cannot print "±" is no error
    args = parser().parse_args(argv)
    try:
        with _ended_cleanly():
            return args.command(args)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        return _refuse(args.name_of_command, " ".join(f"{type(error).__name__}: {error}".split()))
