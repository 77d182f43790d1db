"""The contenders of `trajlib.contest`: what each is made of, and the shelf of what is made once for all their runs."""

import contextlib
import copy
import functools
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from scipy.sparse import csr_array
from torch import nn
from torch.nn import functional as F

from trajlib import FAMILIES, pretrained, recipes, stamps
from trajlib.classifiers import Simple3DCNN, TokenClassifier, TokenTracker, seen_dot
from trajlib.codes import codebook_of
from trajlib.dataset import SEEDS, TrajectoryDataset, to_float, version
from trajlib.metrics import exposure, path_shape
from trajlib.physics import fit_families
from trajlib.render import FRAMES
from trajlib.tokenizer import Tokenizer
from trajlib.training import fit

CHUNK = 200  # clips in a file of the shelf


def families(index):
    """Labels of clips by their numbers: the world deals the families out in turn."""
    return torch.as_tensor(index) % len(FAMILIES)


# ---- the shelf: what is made once, before the runs ----


@dataclass(frozen=True, eq=False)
class Shelf:
    """What all runs share: the profile, where trained models are, and a folder for what is made once."""

    cfg: Any
    artifacts: str
    folder: Path

    @property
    def sizes(self):
        budget = self.cfg.contest
        return {"train": budget["clips"], "validation": budget["validation_clips"], "test": budget["test_clips"]}

    def turns(self, split):
        """Which versions of each clip there are codes of: (n, versions) numbers, 0 first; no others but in training."""
        count = self.cfg.contest["versions"] if split == "train" else 1
        return recipes.version_numbers(self.sizes[split], count, self.cfg.seed)

    def mark(self, name, *needs):
        """What tells a trained model from others; for codes of an untrained one, its shape is all that counts."""
        return model(self.artifacts, name)[1]["config" if "untrained" in needs else "sha256"]

    def path(self, need, split="", first=""):
        """The file, named after all that its content hangs on."""
        models = {name: self.mark(name, need) for name in MODELS[need]}
        budget = self.cfg.contest
        facts = [need, models, self.cfg.seed, self.sizes, budget["versions"]]
        if need in TAUGHT:
            facts = [need, self.cfg.seed, self.sizes["train"], budget["taught"], budget["recipes"]["pixels"]]
        return self.folder / f"{need}-{split}{first}-{stamps.digest([json.dumps(facts)])}.safetensors"


@functools.lru_cache(maxsize=8)
def model(artifacts, name):
    """(model, card); `run` has seen to it that it is there."""
    return pretrained.load(name, artifacts)


def films(split, index, turns):
    """Clips of a split in versions of them: (b, 3, 16, 64, 64) uint8."""
    world = TrajectoryDataset(recipes.WORLD, seed=SEEDS[split])
    pairs = zip(torch.as_tensor(index).tolist(), torch.as_tensor(turns).tolist(), strict=True)
    return torch.stack([version(torch.from_numpy(world[i].video), turn) for i, turn in pairs])


def pixels(split, index, turns):
    """The same in [0, 1]."""
    return to_float(films(split, index, turns))


def see(shelf, kind, split, index, turns):
    """A reader's inputs: `turns` (b,) are versions of pixels, or which of the versions that there are codes of."""
    found = pixels(split, index, turns) if kind == "pixels" else shelved(shelf, kind, split)[index, turns]
    return found.long() if found.dtype == torch.int16 else found


@functools.lru_cache(maxsize=6)
def shelved(shelf, kind, split):
    """All codes of a split, (n, versions, ...)."""
    if kind == "swapped":
        return dealt(shelved(shelf, "tokens", split))
    files = [shelf.path(kind, split, first) for first in range(0, shelf.sizes[split], CHUNK)]
    return torch.cat([load_file(file)["codes"] for file in files])


def dealt(tokens, seed=0):
    """Each place's tokens (n, ...), dealt anew among the clips: what they tell together is lost, nothing else."""
    order = torch.rand(len(tokens), tokens[0].numel(), generator=torch.Generator().manual_seed(seed)).argsort(0)
    return tokens.flatten(1).gather(0, order).view_as(tokens)


def untrained(tokenizer):
    """A tokenizer of the same shape that has learnt nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Tokenizer(**tokenizer.config).eval()


def states(transformer, tokens):
    """The masked transformer's states of (b, 8, 4, 4), nothing hidden and no class told: (b, 128, dim)."""
    nobody = torch.full((len(tokens),), transformer.unconditional, device=tokens.device)
    return transformer.features(tokens.flatten(1), nobody)


CODES = {  # what is on the shelf: made from what, by which trained model, how
    "tokens": ("pixels", "tokenizer", lambda codec: codec.encode),
    "untrained": ("pixels", "tokenizer", lambda codec: untrained(codec).encode),
    "dots": ("pixels", None, lambda _: seen_dot),
    "paths": ("tokens", "token_tracker", lambda tracker: tracker),  # (b, 16, 3) both: x, y, radius
    "exposures": ("pixels", None, lambda _: lambda videos: torch.from_numpy(exposure(videos))),
    # 16 places of a step averaged, steps side by side: (b, 8 dim)
    "frozen": ("tokens", "transformer", lambda net: lambda x: states(net, x).unflatten(1, (-1, 16)).mean(2).flatten(1)),
}
SEES = {"pixels": "pixels", "tokens": "tokens", "frozen": "tokens, by their states", "paths": "tokens, by the tracker"}
SEES |= {"dots": "pixels, by their ink", "exposures": "pixels, without time"}
SEES |= {"few": "own tokens, by a tracker", "untrained": "other codes", "swapped": "tokens, dealt anew"}  # to be read
TAUGHT = ("follower", "frames")  # networks that have learnt without labels where the dot is
MODELS = {"tokens": ("tokenizer",), "untrained": ("tokenizer",), "paths": ("tokenizer", "token_tracker")}
MODELS |= {"frozen": ("tokenizer", "transformer"), "dots": (), "exposures": ()}
MODELS |= dict.fromkeys(TAUGHT, ())


def maker(shelf, kind):
    """The function that makes codes, and the model in it, if any."""
    _, name, how = CODES[kind]
    net = model(shelf.artifacts, name)[0] if name else None
    return how(net), net


@torch.no_grad()
def encode(shelf, kind, split, first):
    """Put the codes of some clips on the shelf, if they are not there."""
    file, source = shelf.path(kind, split, first), CODES[kind][0]
    if file.exists():
        return
    make, parts = maker(shelf, kind)[0], []
    for index in torch.arange(first, min(first + CHUNK, shelf.sizes[split])).split(20):
        turns = shelf.turns(split)[index].T  # (versions, b)
        turns = turns if source == "pixels" else torch.arange(len(turns))[:, None].expand_as(turns)
        parts.append(torch.stack([make(see(shelf, source, split, index, turn)) for turn in turns], 1))
    codes = torch.cat(parts)
    pretrained.write_atomic(file, to_bytes({"codes": codes if codes.is_floating_point() else codes.to(torch.int16)}))


def follower():
    """`Simple3DCNN` that says where the dot is and how large, (b, 48), in units of its own."""
    net = Simple3DCNN()
    net.head[-1] = nn.Linear(net.head[-1].in_features, 3 * FRAMES)
    return net


def following_loss(net, videos, dots):
    """Huber's loss against `seen_dot`, in units of a quarter of the picture; and {"px": mean distance of centres}."""
    middle = torch.tensor([TokenTracker.middle, TokenTracker.middle, 0.0], device=dots.device)
    found, true = net(videos).unflatten(1, (-1, 3)), (dots - middle) / TokenTracker.unit
    return F.huber_loss(found, true), {"px": TokenTracker.unit * (found - true)[..., :2].norm(dim=-1).mean()}


def teach(shelf, name):
    """Train one of TAUGHT on clips of the train world after the labelled ones, each seen once, and shelve it."""
    file, budget = shelf.path(name), shelf.cfg.contest["taught"]
    if file.exists():
        return
    torch.manual_seed(shelf.cfg.seed)
    if name == "frames":
        from trajlib.i3d import FrameInception, frame_loss, seen_in_frame

        net, loss = FrameInception(), frame_loss
    else:
        net, loss = follower(), following_loss

    def batch(step):
        first, size = shelf.cfg.contest["clips"] + step * budget["batch"], budget["batch"]
        videos = pixels("train", range(first, first + size), [0] * size)
        if name == "follower":
            return [videos, seen_dot(videos)]
        frames = videos[:, :, step % 4 :: 4].transpose(1, 2).flatten(0, 1)  # four of each clip
        return [frames, seen_in_frame(frames)]

    recipe = shelf.cfg.contest["recipes"]["pixels"]
    with contextlib.redirect_stdout(io.StringIO()):
        net, _ = fit(net, lambda m, b: loss(m, *b), batch, steps=budget["steps"], seed=shelf.cfg.seed, **recipe)
    pretrained.write_atomic(file, to_bytes({key: value.contiguous() for key, value in net.state_dict().items()}))


# ---- networks ----


def followed(shelf):
    """`Simple3DCNN` with all of `follower` but its last layer."""
    net = Simple3DCNN()
    known = {key: value for key, value in load_file(shelf.path("follower")).items() if not key.startswith("head.2.")}
    net.load_state_dict(known, strict=False)
    return net


def i3d(shelf, inflate):
    """I3D from random weights, or with those of the network that followed the dot in single frames."""
    from trajlib.i3d import I3D, FrameInception

    if not inflate:
        return I3D()
    frames = FrameInception()
    frames.load_state_dict(load_file(shelf.path("frames")))
    return I3D.inflated(frames).with_head(len(FAMILIES))


def reader(shelf):
    """An untrained `TokenClassifier` of the profile's size."""
    codec = model(shelf.artifacts, "tokenizer")[0]
    return TokenClassifier(codec.config["levels"], codec.grid, **shelf.cfg.token_classifier)


def followed_tokens(shelf):
    """`TokenClassifier` with all of the tracker but its last layer."""
    tracker = model(shelf.artifacts, "token_tracker")[0]
    net = TokenClassifier(**tracker.config)
    known = {key: value for key, value in tracker.state_dict().items() if not key.startswith("head.")}
    net.load_state_dict(known, strict=False)
    return net


class TrunkReader(nn.Module):
    """The masked transformer, all its weights free, under a head that reads the mean of its states: logits (b, 4)."""

    def __init__(self, transformer):
        super().__init__()
        self.trunk = copy.deepcopy(transformer)
        self.head = nn.Linear(transformer.config["dim"], len(FAMILIES))

    def forward(self, tokens):
        return self.head(states(self.trunk, tokens).mean(1))


# ---- numbers for readers without a network ----


def bag(shelf, tokens):
    """How often each token occurs, its root: (m, codebook), sparse. Logistic regression reads it."""
    rows, columns = np.repeat(np.arange(len(tokens)), tokens[0].numel()), tokens.flatten().numpy()
    size = model(shelf.artifacts, "tokenizer")[0].codebook_size
    counts = csr_array((np.ones(len(rows)), (rows, columns)), (len(tokens), size))  # adds up what comes twice
    return np.sqrt(counts)


def one_hot(shelf, tokens):
    """The digits of all tokens, each value of each a place of its own: (m, 128 * sum of levels)."""
    book = codebook_of(model(shelf.artifacts, "tokenizer")[0])
    digits = torch.from_numpy(book.digits(tokens.flatten(1).numpy()))
    hot = [F.one_hot(digits[..., k], steps) for k, steps in enumerate(book.steps)]
    return torch.cat(hot, -1).flatten(1).float().numpy()


def vectors(shelf, tokens, pooled=False):
    """The code vectors of all tokens side by side, (m, 128 d), or averaged over the picture, (m, 8 d)."""
    found = codebook_of(model(shelf.artifacts, "tokenizer")[0]).vectors(tokens.flatten(2).numpy())  # (m, 8, 16, d)
    return (found.mean(2) if pooled else found).reshape(len(tokens), -1).astype(np.float32)


# ---- the contenders ----


@dataclass(frozen=True)
class Arm:
    """One contender. `build(shelf)` is its network; what a linear reader reads is `build(shelf, codes)`, (m, d)."""

    kind: str  # of budget: "pixels", "tokens", "trunk"; "linear"; or "pair", linear on a tokenizer of its own
    what: str
    sees: str
    build: Callable
    needs: tuple[str, ...] = ()  # what must be on the shelf
    models: tuple[str, ...] = ()  # trained ones that its network begins with
    plain: bool = False  # no versions, no decay, no early stop
    reader: str = "ridge"  # of its numbers, see `contest.LINEAR`
    few: bool = False  # of a pair: it sees the labelled clips alone


def shapes(shelf, dots):
    return path_shape(dots[..., :2].numpy())


def laid(shelf, dots):
    """How well each family's equation fits the dots (m, 16, 3), and the shape of their path: (m, 4 + 39)."""
    fits = fit_families(dots[..., :2].numpy(), dots[..., 2].clamp_min(0.5).numpy())
    return np.concatenate([np.stack([fit.score for fit in fits.values()], 1), shapes(shelf, dots)], 1)


ARMS = {
    "3D CNN, plain": Arm("pixels", "as drawn before us", "pixels", lambda _: Simple3DCNN(), plain=True),
    "3D CNN, modern": Arm("pixels", "versions, decay, early stop", "pixels", lambda _: Simple3DCNN()),
    "I3D, inflated": Arm(
        "pixels", "followed the dot in frames, then as above", "pixels", functools.partial(i3d, inflate=True),
        ("frames",),
    ),
    "I3D, from scratch": Arm("pixels", "without that", "pixels", functools.partial(i3d, inflate=False)),
    "3D CNN that followed dots": Arm("pixels", "in clips, without labels", "pixels", followed, ("follower",)),
    "transformer on codes": Arm("tokens", "TokenClassifier", "tokens", reader, ("tokens",)),
    "bag of tokens": Arm("linear", "counts, no places", "tokens", bag, ("tokens",), reader="logistic, unscaled"),
    "linear on codes": Arm("linear", "digits, each value by itself", "tokens", one_hot, ("tokens",)),
    "linear on code vectors": Arm("linear", "digits as coordinates", "tokens", vectors, ("tokens",)),
    "pooled code vectors": Arm(
        "linear", "averaged over the picture", "tokens", functools.partial(vectors, pooled=True), ("tokens",)
    ),
    "masked transformer, frozen": Arm(
        "linear", "states, averaged over a step's places", "frozen", lambda _, x: x.numpy(), ("tokens", "frozen")
    ),
    "masked transformer, fine-tuned": Arm(
        "trunk", "all its weights free", "tokens", lambda shelf: TrunkReader(model(shelf.artifacts, "transformer")[0]),
        ("tokens",), ("transformer",),
    ),
    "transformer that followed dots": Arm(
        "tokens", "the tracker, taught families", "tokens", followed_tokens, ("tokens",), ("token_tracker",)
    ),
    "dot read from tokens": Arm("linear", "the tracker's path, its shape", "paths", shapes, ("tokens", "paths")),
    "dot read, equations": Arm(
        "linear", "that, and how each family fits", "paths", laid, ("tokens", "paths"), reader="logistic"
    ),
    "dot seen in pixels": Arm("linear", "the centre of ink, its shape", "dots", shapes, ("dots",)),
    "dot seen, equations": Arm("linear", "that, and how each family fits", "dots", laid, ("dots",), reader="logistic"),
    "long exposure": Arm("linear", "its moments, no time", "exposures", lambda _, x: x.numpy(), ("exposures",)),
    "dot read, tokenizer of the few": Arm(
        "pair", "control: no other clips than those with labels", "few", laid, reader="logistic", few=True
    ),
    "dot read, tokenizer as small": Arm("pair", "control: the same from many clips", "few", laid, reader="logistic"),
    "untrained tokenizer's codes": Arm("tokens", "control: codes by chance", "untrained", reader, ("untrained",)),
    "tokens swapped between clips": Arm("tokens", "control: must be at chance", "swapped", reader, ("tokens",)),
}  # fmt: skip


def models_of(name):
    """The trained models that an arm takes."""
    return sorted({m for need in ARMS[name].needs for m in MODELS[need]} | set(ARMS[name].models))
