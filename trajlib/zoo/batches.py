"""Batches and encoded examples: what the recipes and the studies feed to `training.loop.fit`."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
import torch
from tqdm import tqdm

from trajlib.data.augment import NUM_AUGMENTATIONS, augmented, foreground_crops
from trajlib.data.checks import generator
from trajlib.data.measure import measure_dot
from trajlib.data.spec import VideoDataset, VideoSpec, check_number, check_numbers
from trajlib.data.video_files import to_float
from trajlib.generation.tasks import TASK_NUMBERS, TASKS, condition, observed_tokens
from trajlib.tokenizer.video_tokenizer import Tokenizer
from trajlib.zoo.config import ClassifierRecipe, TokenizerRecipe

Batches = Callable[[int], list[torch.Tensor]]


def epoch_indices(data: VideoDataset, numbers: Iterable[int]) -> list[int]:
    """Indices of the examples with these running numbers: the data in order, then again in another order, and so on."""
    size, found = len(data), []
    for number in check_numbers("numbers", numbers, 0, whole=True):
        epoch, k = divmod(number, size)
        found.append(k if epoch == 0 else int(np.random.default_rng(epoch).permutation(size)[k]))
    return found


def encode(
    data: VideoDataset, n: int, of: Callable[[torch.Tensor, range], Iterable[torch.Tensor]], batch_size: int = 32
) -> list[torch.Tensor]:
    """The tensors `of(videos, indices)` of the first `n` videos (b, 3, t, h, w) in [0, 1], batches put together."""
    check_number("n", n, 1, whole=True)
    found = []
    for first in tqdm(range(0, n, batch_size), "tokens", disable=None):
        indices = range(first, min(first + batch_size, n))
        found.append(of(to_float(data.videos(indices)), indices))
    return [torch.cat(parts) for parts in zip(*found, strict=True)]


def encode_videos(tokenizer: Tokenizer, data: VideoDataset, n: int, batch_size: int = 32) -> torch.Tensor:
    """Tokens (n, *token_shape) of the first `n` videos."""
    return encode(data, n, lambda videos, _: [tokenizer.encode(videos)], batch_size)[0]


def encode_tracks(tokenizer: Tokenizer, data: VideoDataset, n: int) -> list[torch.Tensor]:
    """Tokens (n, *token_shape), and the dot measured in the pixels, (n, frames, 3), of the first `n` videos."""
    return encode(data, n, lambda videos, _: [tokenizer.encode(videos), measure_dot(videos)])


def shuffled_batches(tensors: Sequence[torch.Tensor], batch_size: int, seed: int) -> Batches:
    """batch_fn for `fit`: each pass over the examples in an order of its own, from (seed, pass)."""
    check_number("batch_size", batch_size, 1, whole=True)
    check_number("seed", seed, 0, whole=True)
    per_pass = max(1, len(tensors[0]) // batch_size)

    def batch(step):
        epoch, k = divmod(step, per_pass)
        order = torch.randperm(len(tensors[0]), generator=torch.Generator().manual_seed(1000 * seed + epoch))
        return [t[order[k * batch_size : (k + 1) * batch_size]] for t in tensors]

    return batch


def labels_of(data: VideoDataset, indices: Sequence[int]) -> torch.Tensor:
    """Labels (b,); zeros, which then mean "no class", of data without classes."""
    return data.labels(indices) if data.num_classes else torch.zeros(len(indices), dtype=torch.long)


def tokenizer_batches(cfg: TokenizerRecipe, data: VideoDataset) -> Batches:
    """batch_fn for `fit`: crops about the foreground at first, where most pixels carry information; then whole clips.

    A crop is a quarter of the frames and half the width and height: a sixteenth of the cost of a clip. It consists of
    whole tokens: where a quarter of the frames does not, it has all of them.
    """
    spec, crop_steps, (frames, cell) = data.spec, round(cfg.crop_share * cfg.train.steps), cfg.model.cell
    size = {"frames": spec.frames if spec.frames % (4 * frames) else spec.frames // 4, "cell": cell}
    size["side"] = max(1, spec.size // 2 // cell) * cell

    def batch(step):
        if step < crop_steps:
            videos = data.videos(epoch_indices(data, range(step * cfg.crop_batch, (step + 1) * cfg.crop_batch)))
            return [to_float(foreground_crops(videos, torch.Generator().manual_seed(step), **size))]
        start = crop_steps * cfg.crop_batch + (step - crop_steps) * cfg.train.batch
        return [to_float(data.videos(epoch_indices(data, range(start, start + cfg.train.batch))))]

    return batch


def conditions_for(spec: VideoSpec) -> list[tuple[str, int]]:
    """(task, observed frames) that the transformer is trained on next to generation.

    Frame prediction comes from 1 frame, a quarter and half of them; no task comes more often for that.
    """
    several = [("FP", 1), ("FP", max(1, spec.frames // 4)), ("FP", max(1, spec.frames // 2))]
    return several + [(task, 1) for task in TASKS if task not in ("FP", "CG")]


def with_condition(tokenizer: Tokenizer, data: VideoDataset, videos: torch.Tensor, indices: range, every: int = 1):
    """Of videos with these indices tokens (b, *token_shape), labels (b,), condition tokens (b, *token_shape), and rows
    of `conditions_for` (b,): the next one after `every` videos.
    """
    kinds_of = conditions_for(tokenizer.spec)
    kinds = torch.tensor(indices) // every % len(kinds_of)
    filled = [condition(video[None], *kinds_of[kind]) for video, kind in zip(videos, kinds, strict=True)]
    return [tokenizer.encode(videos), labels_of(data, indices), tokenizer.encode(torch.cat(filled)), kinds]


def encode_conditions(tokenizer: Tokenizer, data: VideoDataset, n: int, batch_size: int = 32) -> list[torch.Tensor]:
    """`with_condition` of the first `n` videos."""
    return encode(data, n, partial(with_condition, tokenizer, data), batch_size)


def observed_by(kinds: Sequence[tuple[str, int]], tokenizer: Tokenizer) -> tuple[torch.Tensor, torch.Tensor]:
    """Task numbers (k,) of these (task, observed frames), and which tokens they observe, (k, *token_shape) bool."""
    observed = [observed_tokens(task, tokenizer.token_shape, frames, tokenizer.spec) for task, frames in kinds]
    return torch.tensor([TASK_NUMBERS[task] for task, _ in kinds]), torch.stack(observed)


def commit_batches(
    examples: Sequence[torch.Tensor], tokenizer: Tokenizer, batch_size: int, generation_share: float, seed: int
) -> Batches:
    """batch_fn for `fit`: a clip comes with its condition or, `generation_share` of the times, with none."""
    kinds = [*conditions_for(tokenizer.spec), ("CG", 1)]
    numbers, observed = observed_by(kinds, tokenizer)
    pick = shuffled_batches(examples, batch_size, seed)

    def batch(step):
        tokens, labels, conditions, kind = pick(step)
        free = torch.rand(len(kind), generator=torch.Generator().manual_seed(step)) < generation_share
        kind = kind.masked_fill(free, len(kinds) - 1)
        return [tokens, labels, numbers[kind], conditions, observed[kind]]

    return batch


def draw_augmentations(n: int, count: int, seed: int) -> torch.Tensor:
    """Which augmentations of each labelled clip all classifiers see: (n, count) numbers for `augmented`, 0 first."""
    drawn = torch.rand(n, NUM_AUGMENTATIONS - 1, generator=generator(seed)).argsort(1) + 1
    return torch.cat([torch.zeros(n, 1, dtype=torch.long), drawn[:, : count - 1]], 1)


def labelled_batches(cfg: ClassifierRecipe, data: VideoDataset, seed: int) -> Batches:
    """batch_fn for `fit`: the labelled clips in their augmentations, uint8, and their labels."""
    videos, labels = data.videos(range(cfg.clips)), data.labels(range(cfg.clips))
    numbers = draw_augmentations(cfg.clips, cfg.augmentations, seed).flatten()
    rows = torch.arange(cfg.clips).repeat_interleave(cfg.augmentations)
    pick = shuffled_batches((rows, numbers), cfg.train.batch, seed)

    def batch(step):
        index, numbers = pick(step)
        pairs = zip(videos[index], numbers.tolist(), strict=True)
        return [torch.stack([augmented(video, number) for video, number in pairs]), labels[index]]

    return batch


def encode_augmented(tokenizer: Tokenizer, data: VideoDataset, cfg: ClassifierRecipe, seed: int) -> list[torch.Tensor]:
    """Tokens (clips * augmentations, *token_shape) and labels: pixels are augmented first, and then encoded."""
    numbers = draw_augmentations(cfg.clips, cfg.augmentations, seed)

    def examples(videos: torch.Tensor, indices: range) -> list[torch.Tensor]:
        columns = numbers[list(indices)].T.tolist()
        changed = [torch.stack([augmented(v, k) for v, k in zip(videos, some, strict=True)]) for some in columns]
        return [torch.cat(list(map(tokenizer.encode, changed))), data.labels(indices).repeat(cfg.augmentations)]

    return encode(data, cfg.clips, examples)
