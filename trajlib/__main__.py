"""The command line: `python -m trajlib run`, `ablate`, `bench`."""

import argparse
import os
import sys
from pathlib import Path

RUN = """\
Execute the notebooks headless, in order, and write executed copies, one web page each and index.html.
Stops at the first notebook that fails, and says which cell. With the full profile and the shipped weights
(the defaults), the figures that come out are compared with the shipped ones.
"""
EXAMPLES = """\
examples:
  python -m trajlib run                                  the report, with the shipped weights
  python -m trajlib run --only 03                        one notebook
  python -m trajlib run --profile smoke                  everything tiny, trained from nothing: does it all work?
  python -m trajlib run --artifacts my_run --out my_out  train what my_run lacks, at full size

exit code: 0 all well, 1 a notebook failed or a figure differs, 2 the command cannot be run as given
"""
BENCH = """\
Measure how fast training, encoding and decoding are, and print each figure beside another: our tokenizer beside the
README configuration of magvit2-pytorch (17 frames of 64x64 pixels, without discriminator and perceptual loss, one clip
a step, since a step takes seconds), arithmetic beside the machine's matrix product. A benchmark, not a test: where
something else runs at the same time, take OMP_NUM_THREADS=1, and only the ratios for good. About four minutes.
"""
ABLATE = """\
Train the tokenizer many times, each time with one part of MAGVIT's recipe switched on or off, on equal budgets, and
write one row of figures for each run. A study that was stopped goes on where it was: give the same --out.
"""
ABLATE_EXAMPLES = """\
examples:
  python -m trajlib ablate                               every arm, two seeds: some 25 minutes on two cores
  python -m trajlib ablate --only base attend_time       two arms
  python -m trajlib ablate --commit                      the parts of COMMIT, for the transformer
  python -m trajlib ablate --damage                      damaged clips, for the readers of notebook 07
  python -m trajlib ablate --contest                     tokens or pixels: readers, numbers of labels, seeds; hours
  python -m trajlib ablate --profile smoke               tiny: does it work?

exit code: 0 all well, 1 an arm failed that should not, 2 the command cannot be run as given
"""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: {message.rstrip('.')}. See `{self.prog} --help`.\n")


def parser() -> Parser:
    """Subcommands are functions `args -> exit code`, found in the parsed arguments as `command`."""
    top = Parser(prog="python -m trajlib", description="Run the trajlib course without a browser.")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_run(commands)
    _add_ablate(commands)
    _add_bench(commands)
    return top


def _add_run(commands) -> None:
    cmd = commands.add_parser(
        "run", help="execute the notebooks", description=RUN, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    cmd.add_argument("--profile", default="full", metavar="full|smoke", help="sizes of everything (default: full)")
    cmd.add_argument(
        "--artifacts", metavar="shipped|DIR",
        help="where trained models are looked for, and put (default: shipped; for smoke, OUT/artifacts, emptied first)",
    )  # fmt: skip
    only = "beginnings of the names of notebooks to run"
    cmd.add_argument("--only", action="extend", nargs="+", default=[], metavar="03", help=only)
    cmd.add_argument("--out", type=Path, metavar="DIR", help="where copies go (default: runs/PROFILE)")
    cmd.add_argument("--cell-seconds", type=float, metavar="S", help="the longest that one cell may take")
    cmd.add_argument("--notebooks", type=Path, metavar="DIR", help="another folder of notebooks to run")
    cmd.add_argument("--update", action="store_true", help="maintainers: store outputs and figures in the repository")
    cmd.set_defaults(command=_run)


def _add_ablate(commands) -> None:
    cmd = commands.add_parser(
        "ablate", help="compare the parts of the tokenizer's recipe", description=ABLATE, epilog=ABLATE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    cmd.add_argument("--profile", default="full", metavar="full|smoke", help="sizes of everything (default: full)")
    cmd.add_argument("--only", action="extend", nargs="+", default=[], metavar="ARM", help="names of arms to run")
    cmd.add_argument("--out", type=Path, metavar="FILE", help="the CSV (default: runs/ablations-PROFILE.csv)")
    cmd.add_argument("--artifacts", default="shipped", metavar="shipped|DIR", help="whose models the last three take")
    cmd.add_argument("--workers", type=int, default=2, metavar="N", help="processes of one thread each (default: 2)")
    other = cmd.add_mutually_exclusive_group()
    other.add_argument("--commit", action="store_true", help="the parts of COMMIT, in place of the tokenizer's")
    other.add_argument("--damage", action="store_true", help="who still reads damaged clips, in its place")
    other.add_argument("--contest", action="store_true", help="readers of tokens and of pixels, in its place")
    cmd.add_argument("--steps", type=int, metavar="N", help="training steps of each run (default: the profile's)")
    cmd.set_defaults(command=_ablate)


def _ablate(args: argparse.Namespace) -> int:
    import dataclasses

    from trajlib import ablations, config
    from trajlib.pretrained import ArtifactError

    try:
        for name, number in (("--workers", args.workers), ("--steps", args.steps)):
            if number is not None and number < 1:
                raise ablations.StudyError(f"{name} is {number}: 1 or more was expected.")
        cfg = config.profile(args.profile)
        steps = {"steps": args.steps} if args.steps else {}
        cfg = dataclasses.replace(cfg, ablation=cfg.ablation | steps, commit_study=cfg.commit_study | steps)
        kind = next((kind for kind in ("commit", "damage", "contest") if getattr(args, kind)), "ablations")
        out = args.out or Path("runs") / f"{kind}-{cfg.name}.csv"
        if out.is_dir():
            raise ablations.StudyError(f"{out} is a folder: name the CSV file that is to be written.")
        if args.only and kind in ("commit", "damage"):
            raise ablations.StudyError(f"--only is not for --{kind}, which runs all its arms.")
        if kind == "contest":
            from trajlib import contest

            if args.steps:
                raise ablations.StudyError("--steps is not for --contest: config.py has those of each kind.")
            rows = contest.run(cfg, args.artifacts, out, tuple(args.only), args.workers, say=_say)
        elif kind != "ablations":
            from trajlib import commit_study, damage_study

            module = commit_study if args.commit else damage_study
            rows = module.run(cfg, args.artifacts, out, args.workers, say=_say)
        else:
            rows = ablations.run(cfg, out, tuple(args.only), args.workers, say=_say)
    except (ValueError, ArtifactError) as error:
        print(f"python -m trajlib ablate: {error}", file=sys.stderr)
        return 2
    print(f"wrote {out}: {len(rows)} rows")
    return 0 if kind != "ablations" or all(ablations.finished(row) for row in rows) else 1


def _run(args: argparse.Namespace) -> int:
    from trajlib import course  # slow to import: `--help` need not wait for it

    options = course.Options(
        args.profile, args.artifacts, tuple(args.only), args.out, args.update,
        args.notebooks or course.NOTEBOOKS, args.cell_seconds,
    )  # fmt: skip
    try:
        return course.run(options, say=_say, live=_live if sys.stdout.isatty() else None)
    except (course.UsageError, course.pretrained.ArtifactError) as error:
        print(f"python -m trajlib run: {error}", file=sys.stderr)
        return 2


def _add_bench(commands) -> None:
    cmd = commands.add_parser(
        "bench",
        help="measure speeds, as ratios",
        description=BENCH,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    seconds = "how long each of the two is trained (default: 60); the README configuration makes at least one step"
    cmd.add_argument("--seconds", type=_seconds, default=60.0, metavar="S", help=seconds)
    cmd.add_argument("--profile", default="full", choices=("full", "smoke"), help="smoke: tiny models, to try it out")
    cmd.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    cmd.set_defaults(command=_bench)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text} came, a number above 0 and up to 3600 is needed")
    return seconds


def _bench(args: argparse.Namespace) -> int:
    if args.json and (args.json.is_dir() or not args.json.resolve().parent.is_dir()):
        print(
            f"python -m trajlib bench: {args.json} cannot be written: name a file in a folder that is there.",
            file=sys.stderr,
        )
        return 2
    from trajlib import bench, pretrained

    try:
        bench.run(args.profile, args.seconds, args.json, say=_say)
    except pretrained.ArtifactError as error:
        print(f"python -m trajlib bench: {error}", file=sys.stderr)
        return 2
    return 0


def _say(line: str) -> None:
    clear = "\r\x1b[K" if sys.stdout.isatty() else ""
    print(clear + line, flush=True)


def _live(line: str) -> None:
    print("\r\x1b[K" + line, end="", flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = parser().parse_args(argv)
    try:
        return args.command(args)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    sys.exit(main())
