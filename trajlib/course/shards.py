"""The tokens of a folder of videos as shards, made by any number of workers, and batches that stream from them.

`accelerate launch` starts the workers, one a device. Each input belongs to one shard and each shard to one worker, so
workers exchange nothing; a shard is written next to its place and renamed, so that what is there is done. Ray Data
would add a scheduler and 135 MB to download, for a task without a shuffle; accelerate is installed for training anyway.

    SHARDS/plan.json                   what was asked: tokenizer, inputs, settings, number of shards
    SHARDS/shard-000000.safetensors    "tokens" (n, *token_shape), "file" (n,): which of its files; facts as metadata
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors

from trajlib.atomic import write_atomic
from trajlib.data.spec import check_number
from trajlib.data.video_files import to_float
from trajlib.data.video_folder import VideoFileError, find_videos, read_windows
from trajlib.generation.tasks import TASK_NUMBERS
from trajlib.tokenizer.video_tokenizer import Tokenizer
from trajlib.training.loop import this_process
from trajlib.zoo.batches import Batches
from trajlib.zoo.files import to_json

PLAN = "plan.json"
FACTS = "facts"  # the one key of a shard's metadata: safetensors writes several in any order, and bytes would differ
FILES = 64  # inputs of a shard
BATCH = 16  # windows that are encoded at a time


def tokenize_folder(
    folder: str | Path, out: str | Path, tokenizer: Tokenizer, weights: str, *, files: int = FILES,
    stride: int | None = None, motion: bool = False, log: Callable[[str], None] = print,
) -> int:  # fmt: skip
    """Write the shards of `out` that are missing and this worker's; returns how many it wrote.

    The windows are those of `VideoFolder`, with the tokenizer's spec. `weights`: the SHA-256 of the tokenizer's
    weights; `files`: inputs of a shard. Memory is bounded by a shard's tokens. A file that cannot be read becomes a
    sentence in its shard. ValueError for a folder without videos, or if `out` holds the shards of something else.
    """
    folder, out = Path(folder).expanduser(), Path(out).expanduser()
    stride = tokenizer.spec.frames if stride is None else stride
    if files < 1 or stride < 1:
        raise ValueError(f"{files} files a shard and a stride of {stride} came; 1 or more of each was expected.")
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; the folder that holds the videos was expected.")
    inputs = find_videos(folder)
    if not inputs:
        raise ValueError(f"there are no videos in {folder}: name another folder.")
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; a folder for the shards was expected.")
    names = [path.relative_to(folder).as_posix() for path in inputs]
    listed = [[name, path.stat().st_size] for name, path in zip(names, inputs, strict=True)]
    plan = {"tokenizer": weights, "spec": asdict(tokenizer.spec), "token_shape": list(tokenizer.token_shape)}
    plan |= {"codebook_size": tokenizer.codebook_size, "stride": stride, "motion": motion, "files a shard": files}
    plan |= {"files": len(names), "inputs": hashlib.sha256(json.dumps(listed).encode()).hexdigest()}
    plan |= {"shards": -(-len(names) // files)}
    _check_plan(plan, out)
    worker, mark = this_process(), _mark(plan)
    missing = [k for k in range(plan["shards"]) if _facts(_shard(out, k)).get("plan") != mark]
    mine = [k for k in range(plan["shards"]) if k % worker.num_processes == worker.process_index and k in missing]
    who = f"worker {worker.process_index + 1} of {worker.num_processes} on {worker.device}"
    log(f"{who}: {len(mine)} shards to write, {plan['shards'] - len(missing)} of {plan['shards']} are there")
    tokenizer = tokenizer.to(worker.device).eval()
    for k in mine:
        chosen = range(k * files, min((k + 1) * files, len(names)))
        tokens, which, facts = _encode(tokenizer, [inputs[i] for i in chosen], [names[i] for i in chosen],
                                       stride, motion)  # fmt: skip
        for left in out.glob(f"{_shard(out, k).name}*.tmp"):  # by a worker that was killed; the shard is ours alone
            left.unlink(missing_ok=True)
        data = {"tokens": tokens, "file": which}
        write_atomic(_shard(out, k), safetensors.save(data, {FACTS: json.dumps(facts | {"plan": mark})}))
        log(f"{who}: shard {k} has {len(tokens)} windows of {len(chosen)} files, {len(facts['problems'])} problems")
    return len(mine)


def _check_plan(plan: dict[str, Any], out: Path) -> None:
    """Write the plan if there is none; ValueError if there is another."""
    file = out / PLAN
    if not file.exists():
        write_atomic(file, to_json(plan))  # by each worker: it is the same
        return
    found = read_plan(out)
    differ = [key for key in plan if found.get(key) != plan[key]]
    if differ:
        raise ValueError(
            f"{out} holds the shards of something else (it differs in {', '.join(differ)}): name another folder."
        )


def read_plan(out: str | Path) -> dict[str, Any]:
    """What the shards in `out` were made of; ValueError if there are none."""
    try:
        plan = json.loads((Path(out) / PLAN).read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{out} has no readable {PLAN} ({type(error).__name__}): a folder that `python -m trajlib tokenize` "
            "made was expected."
        ) from None
    return plan


def _mark(plan: dict[str, Any]) -> str:
    return hashlib.sha256(to_json(plan)).hexdigest()


def _shard(out: Path, number: int) -> Path:
    return out / f"shard-{number:06d}.safetensors"


def _facts(shard: Path) -> dict[str, Any]:
    """What a shard says about itself; {} if it is not there, or not whole."""
    try:
        with safe_open(shard, "pt") as file:
            return json.loads((file.metadata() or {}).get(FACTS, "{}"))
    except (SafetensorError, OSError, ValueError):
        return {}


def _encode(
    tokenizer: Tokenizer, inputs: Sequence[Path], names: Sequence[str], stride: int, motion: bool
) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    """Tokens (n, *token_shape) of all windows of some files, the file of each (n,), and facts about the files."""
    counts, problems = [0] * len(inputs), {}

    def windows() -> Iterator[tuple[int, np.ndarray]]:
        for k, path in enumerate(inputs):
            try:
                for window in read_windows(path, tokenizer.spec, stride, motion):
                    yield k, window
                    counts[k] += 1
            except (VideoFileError, OSError) as error:
                problems[names[k]] = str(error)

    small = torch.int16 if tokenizer.codebook_size <= 2**15 else torch.int32
    found, which, stream = [torch.zeros((0, *tokenizer.token_shape), dtype=small)], [], windows()
    while batch := list(islice(stream, BATCH)):
        videos = torch.from_numpy(np.stack([window for _, window in batch])).permute(0, 4, 1, 2, 3)
        device = next(tokenizer.parameters()).device
        found.append(tokenizer.encode(to_float(videos.contiguous()).to(device)).to("cpu", small))
        which += [k for k, _ in batch]
    facts = {"files": [[name, count] for name, count in zip(names, counts, strict=True)], "problems": problems}
    return torch.cat(found), torch.tensor(which, dtype=torch.int32), facts


class TokenShards:
    """The tokens in a folder of shards, read one shard at a time: memory holds one, however many there are.

    Attributes: `token_shape`, `codebook_size`; `counts`, windows of each shard; `problems`, {file: one sentence}.
    ValueError if shards are missing: then the message says how many.
    """

    def __init__(self, folder: str | Path):
        self.folder, plan = Path(folder).expanduser(), read_plan(folder)
        self.token_shape, self.codebook_size = tuple(plan["token_shape"]), int(plan["codebook_size"])
        self.shards = [_shard(self.folder, k) for k in range(plan["shards"])]
        mark, facts = _mark(plan), [_facts(shard) for shard in self.shards]
        lacking = sum(fact.get("plan") != mark for fact in facts)
        if lacking:
            raise ValueError(f"{folder} lacks {lacking} of {len(facts)} shards: run the same `tokenize` again.")
        self.counts = [sum(count for _, count in fact["files"]) for fact in facts]
        self.problems = {name: said for fact in facts for name, said in fact["problems"].items()}
        self._held: tuple[tuple[int, int, int] | None, torch.Tensor] = (None, torch.empty(0))

    def __len__(self) -> int:
        return sum(self.counts)

    def rows(self, first: int, count: int, seed: int = 0) -> torch.Tensor:
        """Tokens (count, *token_shape) int64 from running number `first` on.

        Running numbers go through all tokens once, then again in another order, and so on. An order is that of the
        shards, and in each that of its rows, drawn from (seed, pass): numbers next to each other need few shards.
        ValueError for what is no such number.
        """
        check_number("first", first, 0, whole=True)
        check_number("count", count, 1, whole=True)
        check_number("seed", seed, 0, whole=True)
        if not len(self):
            raise ValueError(f"the shards in {self.folder} hold no tokens: there was no window in any video.")
        found = []
        while count > 0:
            turn, place = divmod(first, len(self))
            order = np.random.default_rng((seed, turn)).permutation(len(self.counts))
            ends = np.cumsum([self.counts[k] for k in order])
            k = int(np.searchsorted(ends, place, side="right"))
            shard = int(order[k])
            start = place - int(ends[k] - self.counts[shard])
            found.append(self._shuffled(shard, seed, turn)[start : start + count])
            first, count = first + len(found[-1]), count - len(found[-1])
        return torch.cat(found).long()

    def _shuffled(self, shard: int, seed: int, turn: int) -> torch.Tensor:
        """The tokens of a shard in the order of a pass; the last one stays in memory."""
        if self._held[0] != (shard, seed, turn):
            tokens = safetensors.load_file(self.shards[shard])["tokens"]
            order = np.random.default_rng((seed, turn, shard)).permutation(len(tokens))
            self._held = ((shard, seed, turn), tokens[torch.from_numpy(order)])
        return self._held[1]

    def batches(self, size: int, seed: int = 0) -> Batches:
        """batch_fn for `fit` with `commit_loss`: so many windows a step, to be generated without a condition."""

        def batch(step: int) -> list[torch.Tensor]:
            tokens = self.rows(step * size, size, seed)
            labels = torch.zeros(size, dtype=torch.long)  # means "no class" to a model without classes
            return [tokens, labels, labels + TASK_NUMBERS["CG"], tokens, torch.zeros_like(tokens, dtype=torch.bool)]

        return batch
