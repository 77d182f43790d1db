"""`python -m trajlib train`, `tokenize`, `detokenize` and `complete`: a folder of videos to tokens, and back."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from trajlib.course.options import as_path

TRAIN = """\
Train a tokenizer on the videos of a folder, and with --generate a masked transformer for the tasks that need no class.
Prints PSNR on held-out windows next to what costs nothing, codebook usage and bits; stops when it no longer learns.
A run that was stopped goes on when the same command is given again.
"""
TRAIN_EXAMPLES = """\
examples:
  python -m trajlib train --videos my_videos --out my_run                 a tokenizer, in twenty minutes
  python -m trajlib train --videos my_videos --out my_run --generate      and a masked transformer, in twenty more
  python -m trajlib train --videos my_videos --out fine --start shipped   go on from the shipped tokenizer
  python -m trajlib train --videos my_videos --out my_run --frames 17     the first frame has tokens of its own
"""
TOKENIZE = """\
Write the tokens of a video into a safetensors file, which names the tokenizer, the frames and the rate; or those of all
videos in a folder and its subfolders into a folder of shards. What was stopped continues where it was: a shard that is
there is done. A file that cannot be read is skipped, and named in its shard. `trajlib.course.shards.TokenShards` reads
shards one at a time, for a training on more tokens than memory holds.
"""
TOKENIZE_EXAMPLES = """\
examples:
  python -m trajlib tokenize in.mp4 -o out.tok           one video
  python -m trajlib tokenize videos -o tokens            a folder, in one process
  accelerate launch --multi_gpu --num_processes 8 --max_restarts 10 -m trajlib tokenize videos -o tokens
                                                         with eight workers; they are started again if one dies
"""
COMPLETE = """\
Complete the first window of a video: predict, in- or outpaint it. Prints the PSNR of what was masked next to the task's
own fill, such as the last observed frame repeated.
"""
REFUSED = (ValueError, RuntimeError, OSError, FloatingPointError)  # each says in one sentence what to do


def add_video_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Register the four; `add(name, summary, description, epilog)` makes a parser."""
    train = add("train", "train on a folder of videos", TRAIN, TRAIN_EXAMPLES)
    named = "folder of videos, subfolders included"
    train.add_argument("--videos", required=True, type=lambda text: as_path(text) and text, metavar="DIR", help=named)
    train.add_argument("--out", required=True, type=as_path, metavar="DIR", help="folder of the run")
    train.add_argument("--frames", type=int, default=16, help="frames of a window (default: 16)")
    train.add_argument("--size", type=int, default=64, help="pixels along a side (default: 64)")
    train.add_argument("--fps", type=float, help="frames a second (default: those of each file)")
    train.add_argument("--codebook", default="fsq:8,5,5,5", metavar="fsq:8,5,5,5|lfq:18", help="levels, or bits")
    train.add_argument("--cell", type=_cell, default=(4, 8), metavar="4,8", help="frames and pixels of a token")
    train.add_argument("--dim", type=int, default=64, help="width of the tokenizer (default: 64)")
    train.add_argument("--minutes", type=float, default=20.0, metavar="N", help="time of each training (default: 20)")
    train.add_argument("--seed", type=int, default=0, help="of all random numbers (default: 0)")
    train.add_argument("--start", metavar="shipped|DIR", help="train this tokenizer further; it sets all sizes")
    train.add_argument("--motion", action="store_true", help="take a still background away, and crop about what moves")
    train.add_argument("--perceptual", choices=("frames", "vgg16"), help="features: of a network trained on the frames")
    train.add_argument("--adversary", action="store_true", help="a discriminator, with MAGVIT's weights")
    train.add_argument("--generate", action="store_true", help="then a masked transformer")
    train.set_defaults(command=_guarded("train", _train))

    tokenize = add("tokenize", "write a video, or a folder of them, as tokens", TOKENIZE, TOKENIZE_EXAMPLES)
    _io(tokenize, "IN.mp4|DIR", "OUT.tok|SHARDS")
    tokenize.add_argument("--files", type=int, default=64, metavar="N", help="videos of a shard (default: 64)")
    tokenize.add_argument("--stride", type=int, metavar="N", help="of a folder: frames from window to window")
    tokenize.add_argument("--motion", action="store_true", help="of a folder: follow what moves on a still background")
    tokenize.add_argument("--entropy", action="store_true", help="as bytes of a range coder: smaller")
    tokenize.set_defaults(command=_guarded("tokenize", _tokenize))

    detokenize = add("detokenize", "write tokens as a video", "The inverse of `tokenize`, with the same tokenizer.")
    _io(detokenize, "IN.tok", "OUT.mp4")
    detokenize.set_defaults(command=_guarded("detokenize", _detokenize))

    complete = add("complete", "predict, in- or outpaint a video", COMPLETE)
    _io(complete, "IN.mp4", "OUT.mp4")
    complete.add_argument("--task", default="FP", help="FP, FI, OPC, OPV, OPH, OPD, IPC or IPD (default: FP)")
    complete.add_argument("--frames", type=int, default=4, help="observed frames, for FP (default: 4)")
    complete.add_argument("--seed", type=int, default=0, help="another seed, another answer (default: 0)")
    complete.set_defaults(command=_guarded("complete", _complete))


def _io(cmd: argparse.ArgumentParser, source: str, target: str) -> None:
    cmd.add_argument("source", type=as_path, metavar=source)
    cmd.add_argument("-o", "--out", type=as_path, required=True, metavar=target, help="the file to write")
    cmd.add_argument("--artifacts", default="shipped", metavar="shipped|DIR", help="whose models (default: shipped)")


def _cell(text: str) -> tuple[int, int]:
    frames, _, pixels = text.partition(",")
    if not (frames.isdecimal() and pixels.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text} came, frames and pixels such as 4,8 are needed")
    return int(frames), int(pixels)


def _check_target(out: Path) -> None:
    """ValueError, before any work, where no file can be written."""
    if out.is_dir() or any(folder.is_file() for folder in out.parents):
        raise ValueError(f"{out} cannot be written: name a file in a folder.")


def _guarded(name: str, command: Callable[[argparse.Namespace], None]) -> Callable[[argparse.Namespace], int]:
    """A command whose refusals are one line, with exit code 2."""

    def run(args: argparse.Namespace) -> int:
        try:
            command(args)
        except REFUSED as error:
            print(f"python -m trajlib {name}: {error}", file=sys.stderr)
            return 2
        return 0

    return run


def _train(args: argparse.Namespace) -> None:
    from trajlib.course import held_out, own_videos
    from trajlib.course.video_losses import Losses
    from trajlib.training.loop import this_process

    if this_process().num_processes > 1 and (args.perceptual or args.adversary):
        raise ValueError("--perceptual and --adversary train a second network in one process only: leave them out.")
    if not this_process().is_main_process:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else each line comes once a process
    plan = own_videos.Plan(
        args.videos, args.frames, args.size, args.fps, args.codebook, args.cell, args.dim, minutes=args.minutes,
        seed=args.seed, motion=args.motion, start=args.start,
        losses=Losses(perceptual=args.perceptual, adversary=args.adversary),
    )  # fmt: skip
    own_videos.checked_plan(plan, args.out)  # before hours of video are decoded
    train, held, said = held_out.split_folder(plan, args.out / "cache")
    for line in [*said, f"{len(train)} training windows, {len(held)} held out"]:
        print(line, flush=True)
    tokenizer, card = own_videos.train_tokenizer(plan, args.out, train, held)
    print(*own_videos.describe(card["figures"]), sep="\n")
    if args.generate:
        _, card = own_videos.train_transformer(plan, args.out, tokenizer, train, held)
        print(f"transformer: {card['figures']['bits a masked token']} bits a masked token on held-out windows")
    print(f"the run is in {args.out}: python -m trajlib tokenize IN.mp4 -o OUT.tok --artifacts {args.out}")


def _tokenize(args: argparse.Namespace) -> None:
    from trajlib.zoo.checkpoints import load

    if args.source.is_dir():
        from trajlib.course.shards import tokenize_folder

        tokenizer, card = load("tokenizer", args.artifacts)
        options = {"files": args.files, "stride": args.stride, "motion": args.motion}
        tokenize_folder(args.source, args.out, tokenizer, card["sha256"], **options)
        return
    from trajlib.course.token_file import tokenize_file

    _check_target(args.out)
    found = tokenize_file(*load("tokenizer", args.artifacts), args.source, args.out, args.entropy)
    size = args.out.stat().st_size
    print(f"{args.out}: {found['frames']} frames in {found['windows']} windows, {size:,} bytes")


def _detokenize(args: argparse.Namespace) -> None:
    from trajlib.course.token_file import detokenize_file
    from trajlib.zoo.checkpoints import load

    _check_target(args.out)
    found = detokenize_file(*load("tokenizer", args.artifacts), args.source, args.out)
    print(f"{args.out}: {found['frames']} frames of {found['size']} px, {found['fps']} a second")


def _complete(args: argparse.Namespace) -> None:
    import torch

    from trajlib.course.token_file import write_frames
    from trajlib.data.video_files import to_float
    from trajlib.data.video_folder import VideoFileError, read_windows
    from trajlib.evaluate.metrics import psnr
    from trajlib.generation.joint_sampling import complete
    from trajlib.generation.tasks import TASKS, check_task, condition, region
    from trajlib.zoo.checkpoints import load

    _check_target(args.out)
    if TASKS[check_task(args.task)].labelled:
        raise ValueError(f"{args.task} needs a class, which a video of yours does not have: take another task.")
    tokenizer, _ = load("tokenizer", args.artifacts)
    transformer, _ = load("transformer", args.artifacts)
    spec, rate = tokenizer.spec, tokenizer.spec.fps
    seen = region(args.task, spec, args.frames)
    window = next(read_windows(args.source, spec, spec.frames), None)
    if window is None:
        raise VideoFileError(f"{args.source.name} has fewer than the {spec.frames} frames of a window.")
    videos = to_float(torch.from_numpy(window).permute(3, 0, 1, 2)[None].contiguous())
    tokens = complete(transformer, tokenizer, videos, args.task, frames=args.frames, seed=args.seed)
    found = torch.where(seen, videos, tokenizer.decode(tokens))
    fill = condition(videos, args.task, args.frames)
    masked = ~seen.expand_as(videos)
    dB = [psnr(videos[masked][None], x[masked][None]).item() for x in (found, fill)]
    frames = found[0].mul(255).round().byte().permute(1, 2, 3, 0).numpy()
    write_frames(frames, args.out, _rate(args.source, rate))
    print(f"{args.out}: {spec.frames} frames; masked pixels {dB[0]:.2f} dB, the task's own fill {dB[1]:.2f} dB")


def _rate(source: Path, fps: float | None):
    from fractions import Fraction

    from trajlib.course.token_file import frame_rate

    return Fraction(fps).limit_denominator(1001) if fps else Fraction(frame_rate(source))
