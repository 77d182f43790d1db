"""The one masked transformer: trajectories, video given a trajectory, and COMMIT's tasks, trained together.

A step takes one batch of each kind. Trajectories cost little: they need no pixels, so most examples are of them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from trajlib.data.clips import Track, TrajectoryDataset
from trajlib.data.measure import measure_dot
from trajlib.generation.joint import JointTransformer, trajectory_loss, video_loss
from trajlib.generation.observed_track import observe_trajectories
from trajlib.generation.tasks import TASK_NUMBERS, TASKS, region
from trajlib.generation.trajectory_tokens import augment_trajectories
from trajlib.generation.transformer import commit_loss, drop_labels
from trajlib.tokenizer.video_tokenizer import Tokenizer
from trajlib.training.optimizers import bf16_autocast
from trajlib.zoo.batches import Batches, conditions_for, encode, observed_by, with_condition
from trajlib.zoo.config import JointRecipe
from trajlib.zoo.recipes import recipe, tokenizer

COMMIT_WEIGHT = 0.3  # of the plain mode's loss


@recipe(torch.float16)
def transformer(run):
    """The masked transformer with trajectory tokens: (`JointTransformer`, card).

    The data must know their tracks (`data.track(i)`); for videos without a tracked object, `recipes.plain_transformer`.
    """
    cfg, data, tokens_of = run.cfg, run.data, run.needs(tokenizer)
    tracks, clips = track_pool(data, cfg.tracks), encode_clips(tokens_of, data, cfg.clips)
    model = run.build(JointTransformer, data.num_classes, over=tokens_of, spec=data.spec, **vars(cfg.model))
    model.init_output_bias(clips["tokens"])
    model.fit_trajectories(augment_trajectories(tracks[0], data.spec.size))
    batch = joint_batches(tracks, clips, tokens_of, cfg, model.unconditional)
    said = f"{cfg.tracks:,} tracks in 16 augmentations, tokens of {cfg.clips:,} clips"
    return run.fit(model, joint_loss, batch, said)


def track_pool(data: TrajectoryDataset, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of the first `n` tracks, without pixels: `measured_tracks` and labels (n,), as trajectories, labels, darkness."""
    tracks = [data.track(i) for i in tqdm(range(n), "tracks", disable=None)]
    found, darkness = measured_tracks(tracks)
    return found, torch.tensor([track.label for track in tracks]), torch.from_numpy(darkness).float()


def measured_tracks(tracks: Sequence[Track]) -> tuple[Tensor, np.ndarray]:
    """Trajectories (n, frames, 3) as `measure_dot` gives them, and the mean darkness of the dots (n,).

    The measured radius is the true one times the root of the darkness, to 0.05 px.
    """
    darkness = np.array([1 - np.mean(track.params.colour) for track in tracks])
    radius = np.stack([track.radius for track in tracks]) * np.sqrt(darkness)[:, None]
    found = np.concatenate([np.stack([track.path for track in tracks]), radius[..., None]], -1)
    return torch.from_numpy(found).float(), darkness


@torch.no_grad()
def encode_clips(video_tokenizer: Tokenizer, data: TrajectoryDataset, n: int) -> dict[str, Tensor]:
    """The first `n` clips: "tokens" and "conditions" (n, *grid), "kinds" (n,) of these, "trajectories", "labels"."""

    def examples(videos: Tensor, indices: range) -> list[Tensor]:
        with bf16_autocast():  # every 4: not in step with the classes
            return [*with_condition(video_tokenizer, data, videos, indices, every=4), measure_dot(videos)]

    found = encode(data, n, examples)
    names = ("tokens", "labels", "conditions", "kinds", "trajectories")
    return dict(zip(names, found, strict=True))


def joint_batches(
    tracks: tuple[Tensor, Tensor, Tensor], clips: dict[str, Tensor], video_tokenizer: Tokenizer, cfg: JointRecipe,
    none: int,
) -> Batches:  # fmt: skip
    """batch_fn for `fit`; its random numbers come from torch's generator, which `fit` seeds in each step."""
    kinds_of = conditions_for(video_tokenizer.spec)
    labelled = torch.tensor([TASKS[task].labelled for task, _ in kinds_of])
    regions = torch.stack([region(task, video_tokenizer.spec, frames) for task, frames in kinds_of])
    numbers, observed = observed_by(kinds_of, video_tokenizer)
    generation = torch.tensor(TASK_NUMBERS["CG"])

    def draw_tracks(count: int) -> tuple[Tensor, Tensor, Tensor]:
        rows = torch.randint(len(tracks[0]), (count,))
        trajectories, labels, darkness = (part[rows] for part in tracks)
        return augment_trajectories(trajectories, video_tokenizer.spec.size), drop_labels(labels, none), darkness

    def batch(step: int) -> list[Tensor]:
        trajectories, labels, _ = draw_tracks(cfg.train.batch)
        partial, partial_labels, darkness = draw_tracks(cfg.observed_batch)
        kinds = torch.randint(len(kinds_of), (cfg.observed_batch,))
        partial_labels = partial_labels.masked_fill(~labelled[kinds], none)
        track = observe_trajectories(partial, darkness, regions, kinds)
        rows = torch.randint(len(clips["tokens"]), (cfg.video_batch,))
        video = [clips["tokens"][rows], clips["trajectories"][rows]]
        rows = torch.randint(len(clips["tokens"]), (cfg.commit_batch,))
        kind, free = clips["kinds"][rows], torch.rand(cfg.commit_batch) < cfg.generation_share
        plain = [clips["tokens"][rows], clips["labels"][rows], torch.where(free, generation, numbers[kind])]
        plain += [clips["conditions"][rows], observed[kind] & ~free.view(-1, *[1] * (observed.ndim - 1))]
        return [trajectories, labels, partial, partial_labels, numbers[kinds], track, *video, *plain]

    return batch


def joint_loss(
    model: JointTransformer, trajectories: Tensor, labels: Tensor, partial: Tensor, partial_labels: Tensor,
    tasks: Tensor, track: Tensor, tokens: Tensor, video_trajectories: Tensor, *plain: Any,
) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """The sum of the four losses; bits a trajectory, given the class or what is observed; bits a masked token."""
    generation = torch.full_like(labels, TASK_NUMBERS["CG"])
    losses, figures = {}, {}
    losses["trajectory"], figures["trajectory"] = trajectory_loss(model, trajectories, labels, generation)
    losses["observed"], figures["observed"] = trajectory_loss(model, partial, partial_labels, tasks, track)
    video_tasks = generation.new_full((len(tokens),), TASK_NUMBERS["CG"])
    losses["video"], figures["video"] = video_loss(model, tokens, video_trajectories, video_tasks)
    commit, parts = commit_loss(model, *plain)
    return sum(losses.values()) + COMMIT_WEIGHT * commit, figures | {"commit": parts["mask"]}
