"""How each shipped model was trained: train-or-load, one function a model; the numbers are in `config.py`.

tokenizer -> transformer -> samples
         \\-> writer, planner (pixels) -> planned_samples
         \\-> autoregressive
         \\-> token_classifier, token_tracker        simple_3dcnn, i3d (pixels)
"""

import time
from functools import partial

import torch
from einops import rearrange
from tqdm import tqdm

from trajlib import FAMILIES
from trajlib.autoregressive import Autoregressive, autoregressive_loss
from trajlib.classifiers import (
    Simple3DCNN,
    TokenClassifier,
    TokenTracker,
    classification_loss,
    seen_dot,
    tracking_loss,
)
from trajlib.dataset import SEEDS, VERSIONS, TrajectoryDataset, close_ups, to_float, version
from trajlib.i3d import I3D, FrameInception, frame_loss, seen_in_frame
from trajlib.metrics import follow_dot, foreground_psnr, psnr
from trajlib.planner import MEND, PLAN_GUIDANCE, Planner, Writer, draw_plans, planner_loss, write, writer_loss
from trajlib.pretrained import ArtifactError, folder, load, train_or_load
from trajlib.sampling import GUIDANCE, Samples, generate
from trajlib.tasks import NUMBERS, TASKS, condition, given_tokens
from trajlib.tokenizer import Tokenizer, reconstruction_loss
from trajlib.training import fit, quick
from trajlib.transformer import MaskedTransformer, commit_loss

WORLD = 10**9  # clips are made when asked for: a tokenizer in training never sees one twice


def unlabelled(numbers):
    """Clips of the train world by their numbers: (b, 3, 16, 64, 64) uint8, and not a word on what they show."""
    return TrajectoryDataset(WORLD, seed=SEEDS["train"]).batch(numbers).videos


def tokenizer(cfg, artifacts, watch=None):
    """The video tokenizer of notebook 02, from clips without labels, each seen once: (model, card).

    In two parts: colours and shapes, from close-ups and then whole clips; then the place of the dot too.
    """
    steps, more = cfg.tokenizer_recipe["steps"], cfg.place_recipe["steps"]
    first = round(cfg.close_up_share * steps)  # steps of close-ups
    data = f"{first * cfg.close_up_batch:,} clips of world {SEEDS['train']} in close-ups, then"
    data += f" {(steps - first + more) * cfg.tokenizer_batch:,} whole ones, each seen once"
    part = "tokenizer_place"

    def train():
        began, batch = time.time(), tokenizer_batches(cfg)
        torch.manual_seed(cfg.seed)
        model, loss = Tokenizer(**cfg.tokenizer), partial(reconstruction_loss, hue=cfg.hue_weight)
        before = {}
        if not _checkpoint(part, artifacts).exists():  # else this was done, and the second part was stopped
            model, _ = _fit("tokenizer", cfg, artifacts, model, loss, batch, cfg.tokenizer_recipe, data, watch)
            before = judged(model, cfg)
        model, card = _fit(part, cfg, artifacts, model, partial(loss, **cfg.place_loss),
                           lambda step: batch(steps + step), cfg.place_recipe, data, watch, began)  # fmt: skip
        model.half().float()  # judged as it will be stored
        card |= {"recipe": cfg.tokenizer_recipe, "hue": cfg.hue_weight}
        card |= {"before": before, "then": cfg.place_recipe | cfg.place_loss}
        return model, card | {"figures": card["figures"] | judged(model, cfg)}

    return train_or_load("tokenizer", artifacts, train, torch.float16)


def tokenizer_batches(cfg, shown=unlabelled):
    """batch_fn for `fit`: close-ups at first, where most pixels have something to tell, and then whole clips.

    A film of 4 x 32 x 32 pixels costs a sixteenth of a clip and shows the dot four times as often for its pixels.
    `shown(numbers)` -> uint8 videos; each number comes but once.
    """
    near, far = cfg.close_up_batch, cfg.tokenizer_batch
    first = round(cfg.close_up_share * cfg.tokenizer_recipe["steps"])

    def batch(step):
        if step < first:
            videos = shown(range(step * near, (step + 1) * near))
            return [to_float(close_ups(videos, torch.Generator().manual_seed(step)))]
        start = first * near + (step - first) * far
        return [to_float(shown(range(start, start + far)))]

    return batch


def judged(tokenizer, cfg):
    """{figure: number} of a tokenizer on the profile's validation clips: its card says it, and a test repeats it."""
    clips = TrajectoryDataset(cfg.validation_clips, seed=SEEDS["validation"]).batch()
    parts = [to_float(videos) for videos in clips.videos.split(32)]
    films = [tokenizer.reconstruct(videos) for videos in parts]
    error = (torch.cat([follow_dot(film)[0] for film in films]) - clips.paths).norm(dim=-1).nan_to_num(64.0)
    db = {name: torch.cat([measure(*pair) for pair in zip(parts, films, strict=True)]).mean().item()
          for name, measure in (("psnr", psnr), ("foreground psnr", foreground_psnr))}  # fmt: skip
    db["blank psnr"] = torch.cat([psnr(videos, torch.ones_like(videos)) for videos in parts]).mean().item()
    return {f"validation {name}": round(value, 3) for name, value in
            (db | {"position error": error.median().item()}).items()}  # fmt: skip


def transformer(cfg, artifacts, watch=None):
    """The masked transformer of notebook 05, for all of COMMIT's tasks, on tokens alone: (model, card)."""

    def train():
        began = time.time()
        codec, _ = tokenizer(cfg, artifacts)
        examples = encode_conditions(codec, cfg.transformer_clips)
        torch.manual_seed(cfg.seed)
        model = MaskedTransformer(codec.config["levels"], codec.grid, **cfg.transformer)
        model.start_from(examples[0])
        batch = commit_batches(examples, cfg, codec.grid)
        data = f"tokens of {cfg.transformer_clips:,} clips of world {SEEDS['train']}, each with one condition"
        recipe = cfg.transformer_recipe
        return _fit("transformer", cfg, artifacts, model, commit_loss, batch, recipe, data, watch, began)

    return train_or_load("transformer", artifacts, train, torch.float16)


# (task, frames given): what the transformer is trained on beside generation. Forecasts are asked for from 1, 4 and 8
# frames; a single task does not come three times as often for that
CONDITIONS = [("FP", 1), ("FP", 4), ("FP", 8)] + [(task, 1) for task in TASKS if task not in ("FP", "CG")]


def encode_conditions(codec, n, batch_size=32):
    """Tokens (n, 8, 4, 4), labels (n,), condition tokens (n, 8, 4, 4) and their rows in CONDITIONS (n,)."""
    world, found = TrajectoryDataset(n, seed=SEEDS["train"]), []
    for first in tqdm(range(0, n, batch_size), "tokens", disable=None):
        clips = world.batch(range(first, min(first + batch_size, n)))
        videos = to_float(clips.videos)
        kinds = torch.arange(first, first + len(videos)) % len(CONDITIONS)
        filled = [condition(video[None], *CONDITIONS[kind]) for video, kind in zip(videos, kinds, strict=True)]
        found.append((codec.encode(videos), clips.labels, codec.encode(torch.cat(filled)), kinds))
    return [torch.cat(parts) for parts in zip(*found, strict=True)]


def commit_batches(examples, cfg, grid):
    """batch_fn for `fit`: a clip comes with its condition or, `generation_share` of the times, with none."""
    kinds = [*CONDITIONS, ("CG", 1)]
    numbers = torch.tensor([NUMBERS[task] for task, _ in kinds])
    given = torch.stack([given_tokens(task, frames, grid) for task, frames in kinds])
    pick = shuffled_batches(examples, cfg.transformer_batch, cfg.seed)

    def batch(step):
        tokens, labels, conditions, kind = pick(step)
        free = torch.rand(len(kind), generator=torch.Generator().manual_seed(step)) < cfg.generation_share
        kind = kind.masked_fill(free, len(CONDITIONS))
        return [tokens, labels, numbers[kind], conditions, given[kind]]

    return batch


def autoregressive(cfg, artifacts, watch=None):
    """The autoregressive decoder of notebook 06, on the tokens of the transformer's clips: (model, card)."""

    def train():
        began = time.time()
        codec, _ = tokenizer(cfg, artifacts)
        examples = encode_world(codec, "train", cfg.transformer_clips)
        torch.manual_seed(cfg.seed)
        model = Autoregressive(codec.config["levels"], codec.grid, **cfg.autoregressive)
        model.start_from(examples[0])
        batch = shuffled_batches(examples, cfg.transformer_batch, cfg.seed)
        data = f"tokens of {cfg.transformer_clips:,} clips of world {SEEDS['train']}"
        recipe, loss = cfg.autoregressive_recipe, autoregressive_loss
        return _fit("autoregressive", cfg, artifacts, model, loss, batch, recipe, data, watch, began)

    return train_or_load("autoregressive", artifacts, train, torch.int8)


def planner(cfg, artifacts):
    """What plans the dot's way, notebook 06_planning, from paths seen in labelled pixels: (model, card)."""

    def train():
        began, world = time.time(), TrajectoryDataset(cfg.planner_clips, seed=SEEDS["train"])
        plans, labels = [], []
        for part in tqdm(torch.arange(len(world)).split(100), "paths", disable=None):
            clips = world.batch(part.tolist())
            plans.append(seen_dot(to_float(clips.videos)))
            labels.append(clips.labels)
        plans, labels = torch.cat(plans), torch.cat(labels)
        torch.manual_seed(cfg.seed)
        model = Planner(**cfg.planner)
        model.start_from(plans)
        batch = shuffled_batches((plans, labels), cfg.planner_batch, cfg.seed)
        data = f"paths seen in {cfg.planner_clips:,} labelled clips of world {SEEDS['train']}"
        return _fit("planner", cfg, artifacts, model, planner_loss, batch, cfg.planner_recipe, data, began=began)

    return train_or_load("planner", artifacts, train, torch.float16)


def writer(cfg, artifacts):
    """What writes the tokens of a plan, notebook 06_planning, from clips without labels: (model, card)."""

    def train():
        began = time.time()
        codec, _ = tokenizer(cfg, artifacts)
        examples = encode_dots(codec, cfg.writer_clips)
        torch.manual_seed(cfg.seed)
        model = Writer(codec.config["levels"], codec.grid, **cfg.writer)
        model.start_from(examples[0])
        batch = shuffled_batches(examples, cfg.transformer_batch, cfg.seed)
        data = f"tokens of {cfg.writer_clips:,} clips of world {SEEDS['train']}, and the paths seen in them"
        return _fit("writer", cfg, artifacts, model, writer_loss, batch, cfg.writer_recipe, data, began=began)

    return train_or_load("writer", artifacts, train, torch.int8)


SAMPLES_SEED, SAMPLES_BATCH = 4000, 50


def samples(cfg, artifacts):
    """The new clips of notebook 06, a quarter of each class: (`Samples`, card). ArtifactError for another's samples.

    Batch k comes from the seed SAMPLES_SEED + k, in bfloat16 where that takes half the time.
    """
    return _samples("samples", (transformer,), generate, {"guidance": GUIDANCE}, cfg, artifacts)


def planned_samples(cfg, artifacts):
    """The new clips of notebook 06_planning, as `samples`: each planned first, from the same seed."""

    def planned(planner, writer, tokenizer, labels, guidance, mend, seed):
        return write(writer, tokenizer, draw_plans(planner, labels, guidance, seed=seed), mend, seed)

    choices = {"guidance": PLAN_GUIDANCE, "mend": MEND}
    return _samples("planned_samples", (planner, writer, tokenizer), planned, choices, cfg, artifacts)


def _samples(name, authors, written, choices, cfg, artifacts):
    """`Samples` that `written(*the authors' models, labels, seed=, **choices)` gives; a card: whose, how drawn."""

    def make():
        began, models = time.time(), [author(cfg, artifacts)[0] for author in authors]
        batches = tqdm((torch.arange(cfg.samples) % len(FAMILIES)).split(SAMPLES_BATCH), "clips", disable=None)
        with quick():
            words = [written(*models, labels, seed=SAMPLES_SEED + k, **choices) for k, labels in enumerate(batches)]
        minutes = round((time.time() - began) / 60, 1)
        card = marks() | choices | {"seed": SAMPLES_SEED, "profile": cfg.name, "minutes": minutes}
        return Samples.of(torch.cat(words)), card

    def marks():
        return {author.__name__: load(author.__name__, artifacts)[1]["sha256"] for author in authors}

    found, card = train_or_load(name, artifacts, make)
    other = [author for author, mark in marks().items() if card.get(author) != mark]
    if other:
        raise ArtifactError(
            f"The samples in {str(artifacts)!r} were written by another {other[0]} than the one that is there: "
            f"delete {name}.json and {name}.safetensors, and they are written anew."
        )
    return found, card


def simple_3dcnn(cfg, artifacts):
    """The 3D CNN of notebook 07, on labelled pixels: (model, card)."""

    def train():
        torch.manual_seed(cfg.seed)
        batch, recipe = labelled_batches(cfg), cfg.cnn_recipe
        return _fit("simple_3dcnn", cfg, artifacts, Simple3DCNN(), _pixel_loss, batch, recipe, _labelled(cfg))

    return train_or_load("simple_3dcnn", artifacts, train, torch.int8)


def i3d(cfg, artifacts, inflate=True):
    """I3D of notebook 07, on the same labelled pixels as the 3D CNN: (model, card).

    A network of single frames, which is not kept, learns from clips without labels what a frame tells, and is inflated;
    the card's "frames" says how it fared. Without `inflate` all that is left out, and I3D starts from chance.
    """
    name = "i3d" if inflate else "i3d_from_scratch"

    def train():
        began, facts, data = time.time(), {}, _labelled(cfg)
        torch.manual_seed(cfg.seed)
        model = I3D(**cfg.i3d)
        if inflate:
            flat, data = FrameInception(**cfg.i3d), f"frames of clips without labels, then {data}"
            seen = f"{cfg.frame_recipe['steps'] * cfg.frame_clips:,} clips of world {SEEDS['train']}, without labels"
            batch, recipe = frame_batches(cfg), cfg.frame_recipe
            flat, facts["frames"] = _fit("i3d_frames", cfg, artifacts, flat, frame_loss, batch, recipe, seen)
            torch.manual_seed(cfg.seed)
            model = I3D.inflated(flat).with_head(len(FAMILIES))
        batch, recipe = labelled_batches(cfg), cfg.i3d_recipe
        model, card = _fit(name, cfg, artifacts, model, _pixel_loss, batch, recipe, data, began=began)
        return model, card | facts

    return train_or_load(name, artifacts, train, torch.int8)


def frame_batches(cfg):
    """batch_fn for `fit`: every fourth frame of clips without labels, each seen once, and what is in it."""

    def batch(step):
        videos = unlabelled(range(step * cfg.frame_clips, (step + 1) * cfg.frame_clips))
        frames = to_float(rearrange(videos[:, :, step % 4 :: 4], "b c t h w -> (b t) c h w"))
        return [frames, seen_in_frame(frames)]

    return batch


def labelled_batches(cfg):
    """batch_fn for `fit`: the labelled clips in their versions, uint8, and their labels."""
    clips = TrajectoryDataset(cfg.labelled_clips, seed=SEEDS["train"]).batch()
    numbers = version_numbers(cfg.labelled_clips, cfg.versions, cfg.seed).flatten()
    index = torch.arange(len(clips)).repeat_interleave(cfg.versions)
    pick = shuffled_batches((index, numbers), cfg.cnn_batch, cfg.seed)

    def batch(step):
        index, numbers = pick(step)
        pairs = zip(clips.videos[index], numbers.tolist(), strict=True)
        return [torch.stack([version(video, number) for video, number in pairs]), clips.labels[index]]

    return batch


def token_classifier(cfg, artifacts):
    """The token classifier of notebook 07, on the tokens of the same clips in the same versions: (model, card)."""

    def train():
        codec, _ = tokenizer(cfg, artifacts)
        examples = encode_versions(codec, cfg)
        batch = shuffled_batches(examples, cfg.token_classifier_batch, cfg.seed)
        torch.manual_seed(cfg.seed)
        model = TokenClassifier(codec.config["levels"], codec.grid, **cfg.token_classifier)
        recipe = cfg.token_classifier_recipe
        data = f"tokens of {_labelled(cfg)}"
        return _fit("token_classifier", cfg, artifacts, model, classification_loss, batch, recipe, data)

    return train_or_load("token_classifier", artifacts, train, torch.int8)


def token_tracker(cfg, artifacts):
    """The reader of notebook 07 that learnt without labels to follow the dot in the tokens: (model, card)."""

    def train():
        began = time.time()
        codec, _ = tokenizer(cfg, artifacts)
        batch = shuffled_batches(encode_dots(codec, cfg.tracker_clips), cfg.tracker_batch, cfg.seed)
        torch.manual_seed(cfg.seed)
        model = TokenTracker(codec.config["levels"], codec.grid, **cfg.token_tracker)
        data = f"tokens of {cfg.tracker_clips:,} clips of world {SEEDS['train']}, without labels"
        recipe = cfg.tracker_recipe
        return _fit("token_tracker", cfg, artifacts, model, tracking_loss, batch, recipe, data, began=began)

    return train_or_load("token_tracker", artifacts, train, torch.float16)


def encode_dots(codec, n, shown=unlabelled):
    """Tokens (n, 8, 4, 4), and where the dot is in the pixels (n, 16, 3), of the uint8 videos `shown(range(n))`."""
    found = []
    for first in tqdm(range(0, n, 32), "tokens", disable=None):
        videos = to_float(shown(range(first, min(first + 32, n))))
        found.append((codec.encode(videos), seen_dot(videos)))
    return [torch.cat(parts) for parts in zip(*found, strict=True)]


def _labelled(cfg):
    return f"{cfg.labelled_clips:,} labelled clips of world {SEEDS['train']}, each in {cfg.versions} versions"


def version_numbers(n, count, seed):
    """Which versions of each labelled clip both contenders see: (n, count) numbers for `version`, 0 first."""
    drawn = torch.rand(n, VERSIONS - 1, generator=torch.Generator().manual_seed(seed)).argsort(1)[:, : count - 1] + 1
    return torch.cat([torch.zeros(n, 1, dtype=torch.long), drawn], 1)


def encode_versions(codec, cfg, batch_size=32):
    """Tokens (n * versions, 8, 4, 4) and labels (n * versions,): pixels are turned first, and then coded."""
    world = TrajectoryDataset(cfg.labelled_clips, seed=SEEDS["train"])
    numbers = version_numbers(cfg.labelled_clips, cfg.versions, cfg.seed)
    tokens, labels = [], []
    for first in range(0, len(world), batch_size):
        clips = world.batch(range(first, min(first + batch_size, len(world))))
        for column in numbers[first : first + batch_size].T.tolist():
            turned = torch.stack([version(video, k) for video, k in zip(clips.videos, column, strict=True)])
            tokens.append(codec.encode(to_float(turned)))
            labels.append(clips.labels)
    return torch.cat(tokens), torch.cat(labels)


def encode_world(codec, split, n, batch_size=32):
    """Tokens (n, 8, 4, 4) and labels (n,) of the first `n` clips of a split."""
    world = TrajectoryDataset(n, seed=SEEDS[split])
    tokens, labels = [], []
    for first in range(0, n, batch_size):
        clips = world.batch(range(first, min(first + batch_size, n)))
        tokens.append(codec.encode(to_float(clips.videos)))
        labels.append(clips.labels)
    return torch.cat(tokens), torch.cat(labels)


def shuffled_batches(tensors, batch_size, seed):
    """batch_fn for `fit`: each pass over the examples in an order of its own, from (seed, pass)."""
    per_pass = max(1, len(tensors[0]) // batch_size)

    def batch(step):
        turn, k = divmod(step, per_pass)
        order = torch.randperm(len(tensors[0]), generator=torch.Generator().manual_seed(1000 * seed + turn))
        return [t[order[k * batch_size : (k + 1) * batch_size]] for t in tensors]

    return batch


def _checkpoint(name, artifacts):
    return folder(artifacts) / f"{name}.checkpoint"


def _pixel_loss(model, videos, labels):
    return classification_loss(model, to_float(videos), labels)


def _fit(name, cfg, artifacts, model, loss_fn, batch_fn, recipe, data, watch=None, began=None):
    """`fit` with a checkpoint beside the artifacts; the model, and its card's facts (minutes since `began`)."""
    began = began or time.time()
    checkpoint = _checkpoint(name, artifacts)
    print(f"{name}: no trained one in {str(artifacts)!r}; training {recipe['steps']} steps")
    model, history = fit(
        model, lambda m, b: loss_fn(m, *b), batch_fn, **recipe, seed=cfg.seed, checkpoint=checkpoint, watch=watch
    )
    last = {key: round(sum(v[-50:]) / len(v[-50:]), 4) for key, v in history.items()}
    minutes = round((time.time() - began) / 60, 1)
    card = {"recipe": recipe, "seed": cfg.seed, "profile": cfg.name, "data": data, "figures": last}
    return model, card | {"minutes": minutes, "threads": torch.get_num_threads()}
