"""How the words are trained: word vectors and adapters of the joint transformer, whose own weights stay as they are.

A step takes one batch of each kind: sentences given a trajectory (short, so most examples are of these), sentences
given a trajectory that was read from a clip's tokens and the tokens near it, trajectories given a sentence, and video
tokens given a trajectory and a sentence. Sentences are new in each step.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from trajlib.data.clips import TrajectoryDataset
from trajlib.data.measure import measure_dot
from trajlib.data.slots import hue_of, name_slots, true_measures
from trajlib.generation.joint import JointTransformer, nearest_positions
from trajlib.generation.masks import random_masks
from trajlib.generation.trajectory_tokens import augment_trajectories
from trajlib.language.captions import mask_sentences, trajectory_slots, words_loss, write_captions
from trajlib.language.grammar import MASK, NUMBERS, PAD
from trajlib.language.model import LanguageModel, Reading
from trajlib.training.optimizers import bf16_autocast
from trajlib.zoo.batches import Batches, encode
from trajlib.zoo.config import LanguageRecipe
from trajlib.zoo.joint_recipe import measured_tracks, transformer
from trajlib.zoo.recipes import recipe, token_tracker, tokenizer

UNCONDITIONAL = 0.1  # share of the trajectories without a sentence, for guidance later
TRACKER_ERROR = (0.3, 0.3, 0.12)  # px: up to so much noise is added to x, y, radius of true trajectories


@recipe(torch.float16)
def language(run):
    """The language model: (`LanguageModel`, card). The data must know their tracks (`data.track(i)`)."""
    cfg, data, joint = run.cfg, run.data, run.needs(transformer)
    tracks = described_tracks(data, cfg.tracks)
    clips = described_clips(run.needs(tokenizer), run.needs(token_tracker), data, cfg.clips)
    model, batch = run.build(LanguageModel, joint, cfg.rank), language_batches(tracks, clips, joint, cfg)
    said = f"{cfg.tracks:,} tracks in 16 augmentations, tokens of {cfg.clips:,} clips"
    model, card = run.fit(model, language_loss, batch, said)
    return model, card | {"backbone": {"name": "transformer", "sha256": run.trained_on["transformer"]}}


def described_tracks(data: TrajectoryDataset, n: int) -> tuple[Tensor, Tensor]:
    """Trajectories (n, frames, 3) as `measure_dot` gives them; class, mean darkness, hue, turns (n, 4); no pixels."""
    tracks = [data.track(i) for i in tqdm(range(n), "tracks", disable=None)]
    found, darkness = measured_tracks(tracks)
    hue = hue_of([track.params.colour for track in tracks])
    turns = [track.params.motion.turns for track in tracks]
    facts = np.stack([[track.label for track in tracks], darkness, hue, turns], 1)
    return found, torch.from_numpy(facts)


@torch.no_grad()
def described_clips(video_tokenizer: nn.Module, tracker: nn.Module, data: TrajectoryDataset, n: int) -> list[Tensor]:
    """Of the first `n` clips: tokens (n, k), the dot as `tracker` reads it from them and as measured in the pixels,
    both (n, frames, 3), and named slots (n, 9).
    """

    def examples(videos: Tensor, indices: range) -> list[Tensor]:
        with bf16_autocast():
            tokens = video_tokenizer.encode(videos)
        named = name_slots(true_measures([data.track(i) for i in indices], videos.shape[-1]))
        return [tokens.flatten(1), tracker(tokens).float(), measure_dot(videos), torch.from_numpy(named)]

    return encode(data, n, examples, 64)


def language_batches(
    tracks: tuple[Tensor, Tensor], clips: list[Tensor], joint: JointTransformer, cfg: LanguageRecipe
) -> Batches:
    """batch_fn for `fit`; its random numbers come from torch's generator, which `fit` seeds in each step."""

    def draw_tracks(count: int, rng: np.random.Generator, asked: float) -> tuple[Tensor, Tensor, Tensor]:
        rows = torch.randint(len(tracks[0]), (count,))
        found = augment_trajectories(tracks[0][rows], joint.spec.size)
        return found, *write_captions(trajectory_slots(found, tracks[1][rows], joint.spec.size), rng, asked)

    def draw_clips(count: int, rng: np.random.Generator, dots: int, asked: float) -> list[Tensor]:
        rows = torch.randint(len(clips[0]), (count,))
        offsets = joint.offsets(clips[dots][rows])
        kept = nearest_positions(offsets, min(cfg.positions, offsets.shape[1]), joint.spec.frames // joint.grid[0])
        each = torch.arange(count)[:, None]
        video = [clips[0][rows][each, kept], offsets[each, kept], kept]
        return [clips[dots][rows], *video, *write_captions(clips[3][rows].numpy(), rng, asked)]

    def batch(step: int) -> list[Tensor]:
        rng = np.random.default_rng(torch.randint(2**31, (1,)).item())
        true, *read = draw_tracks(cfg.train.batch, rng, cfg.asked)
        noise = torch.rand(len(true), 1, 1) * torch.tensor(TRACKER_ERROR)
        wanted, words, _ = draw_tracks(cfg.sample_batch, rng, 0.0)
        words = words.masked_fill(torch.rand(len(words), 1) < UNCONDITIONAL, NUMBERS[PAD])
        clip = draw_clips(cfg.clip_batch, rng, 1, cfg.asked)
        along = draw_clips(cfg.video_batch, rng, 2, 0.0)
        return [true + noise * torch.randn_like(true), *read, wanted, words, *clip, *along]

    return batch


def language_loss(
    model: LanguageModel, read: Tensor, words: Tensor, given: Tensor, wanted: Tensor, wanted_words: Tensor,
    seen: Tensor, seen_tokens: Tensor, seen_offsets: Tensor, seen_kept: Tensor, seen_words: Tensor, seen_given: Tensor,
    along: Tensor, tokens: Tensor, offsets: Tensor, kept: Tensor, video_words: Tensor, _: Any,
) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """The sum of the losses of the four kinds, and each of them, in nats.

    A third of the sentences are predicted masked, the others each word from those before it.
    """
    losses, joint = {}, model.joint

    def sentences(words: Tensor, given: Tensor, reading: Reading) -> Tensor:
        third = len(words) // 3
        masked = mask_sentences(words[:third], given[:third])
        filled = words[:third].masked_fill(masked, NUMBERS[MASK])
        both = words_loss(model.word_logits(filled, reading[:third]), words[:third], masked)
        after = torch.arange(words.shape[1]) >= given[third:, None]
        logits = model.word_logits(words[third:], reading[third:], causal=True)
        return both + 2 * words_loss(logits, words[third:], after)

    losses["trajectory to words"] = sentences(words, given, Reading(read))
    losses["clip to words"] = sentences(seen_words, seen_given, Reading(seen, seen_tokens, seen_offsets, seen_kept))
    levels = joint.trajectory.encode(wanted)
    logits = joint.trajectory_logits(levels, context=model.context(wanted_words)).float()
    losses["words to trajectory"] = F.cross_entropy(logits.flatten(0, 1), levels.flatten())
    masked = random_masks(*tokens.shape)
    filled = tokens.masked_fill(masked, joint.mask_token)
    logits = joint.video_logits(filled, offsets, None, None, kept, masked, model.context(video_words)).float()
    losses["words to video"] = F.cross_entropy(logits, tokens[masked])
    return sum(losses.values()), {name: loss.detach() for name, loss in losses.items()}
