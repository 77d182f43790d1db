"""The methods of the label-efficiency benchmark: what each is made of, and the features that all runs share."""

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy.sparse import csr_array
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional as F

from trajlib.classify.i3d import I3D, frame_loss, measure_frame
from trajlib.classify.readers import Simple3DCNN, TokenClassifier
from trajlib.data.augment import augmented
from trajlib.data.clips import split
from trajlib.data.measure import measure_dot
from trajlib.data.spec import VideoSpec
from trajlib.data.trajectories import FAMILIES
from trajlib.data.video_files import to_float
from trajlib.evaluate.metrics import exposure
from trajlib.evaluate.physics import fit_families
from trajlib.tokenizer.quantizers import level_indices
from trajlib.tokenizer.video_tokenizer import Tokenizer
from trajlib.training.loop import fit
from trajlib.zoo import checkpoints
from trajlib.zoo.batches import draw_augmentations
from trajlib.zoo.config import recipes_of

SPEC = VideoSpec()
CLASSES = len(FAMILIES)


@functools.lru_cache(maxsize=8)
def model(artifacts, name):
    """A trained model; the engine has made sure that it is there."""
    return checkpoints.load(name, artifacts)[0]


# ---- inputs and features, made once for all runs ----


def sizes(settings):
    """Clips of each split."""
    return {"train": settings.clips, "validation": settings.validation_clips, "test": settings.test_clips}


def augmentations(settings, name):
    """Which augmentations of each clip of a split have features: (n, count) numbers, 0 first; one but in training."""
    return draw_augmentations(sizes(settings)[name], settings.augmentations if name == "train" else 1, 0)


def videos(name, index, numbers):
    """Clips of a split in these augmentations: (b, 3, t, h, w) uint8."""
    clips = split(name).videos([int(i) for i in index])
    return torch.stack([augmented(video, int(number)) for video, number in zip(clips, numbers, strict=True)])


def untrained(tokenizer):
    """A tokenizer of the same sizes with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Tokenizer(**tokenizer.config).eval()


def mean_states(transformer, tokens):
    """The transformer's hidden vectors, averaged over a time step's positions, the steps side by side: (b, t dim)."""
    found = transformer.features(tokens.flatten(1))  # none masked, no class given
    return found.unflatten(1, (transformer.grid[0], -1)).mean(2).flatten(1)


FEATURES = {  # from what, with which trained model, how
    "tokens": ("pixels", "tokenizer", lambda tokenizer: tokenizer.encode),
    "untrained": ("pixels", "tokenizer", lambda tokenizer: untrained(tokenizer).encode),
    "dots": ("pixels", None, lambda _: measure_dot),
    "paths": ("tokens", "token_tracker", lambda tracker: tracker),  # (b, t, 3) both: x, y, radius
    "exposures": ("pixels", None, lambda _: lambda x: torch.from_numpy(exposure(x))),
    "frozen": ("tokens", "plain_transformer", lambda transformer: partial(mean_states, transformer)),
}
INPUTS = {  # in words
    "pixels": "pixels", "tokens": "tokens", "frozen": "tokens, through the masked transformer's states",
    "paths": "tokens, through the tracker", "dots": "pixels, through the foreground centroid",
    "exposures": "pixels, without time", "own": "tokens of its own tokenizer, through its own tracker",
    "untrained": "tokens of an untrained tokenizer", "permuted": "tokens, permuted among the clips",
}  # fmt: skip


def maker(context, kind):
    """The function that makes features, and the model in it, or None."""
    _, name, how = FEATURES[kind]
    network = model(context.artifacts, name) if name else None
    return how(network), network


@functools.lru_cache(maxsize=6)
@torch.no_grad()
def features(context, kind, name):
    """All features of a kind of a split, (n, augmentations, ...); integers as int16."""
    if kind == "permuted":
        return permuted(features(context, "tokens", name))
    source, used, numbers = FEATURES[kind][0], FEATURES[kind][1], augmentations(context.settings, name)

    def make():
        how, parts = maker(context, kind)[0], []
        for index in torch.arange(len(numbers)).split(20):
            columns = torch.arange(numbers.shape[1])[:, None].expand(-1, len(index))
            each = numbers[index].T if source == "pixels" else columns  # (augmentations, b)
            parts.append(torch.stack([how(inputs(context, source, name, index, which)) for which in each], 1))
        found = torch.cat(parts)
        return {"features": found if found.is_floating_point() else found.to(torch.int16)}

    mark = "-".join(context.weights[m] for m in sorted({"tokenizer", used})) if used else "pixels"
    return context.cached(f"{kind}-{name}-{mark}", make)["features"]


def inputs(context, kind, name, index, which):
    """What a network receives: `which` (b,) are augmentations of pixels, or columns of `features`."""
    found = to_float(videos(name, index, which)) if kind == "pixels" else features(context, kind, name)[index, which]
    return found.long() if found.dtype == torch.int16 else found


def permuted(tokens, seed=0):
    """The tokens (n, ...) of each position, permuted among the clips: only what they say jointly is lost."""
    order = torch.rand(len(tokens), tokens[0].numel(), generator=torch.Generator().manual_seed(seed)).argsort(0)
    return tokens.flatten(1).gather(0, order).view_as(tokens)


# ---- networks that were pretrained without labels ----


def detector():
    """`Simple3DCNN` with an output for each number of the dot, (b, frames * 3), see `detection_loss`."""
    return Simple3DCNN(num_classes=3 * SPEC.frames)


def detection_loss(network, clips, dots):
    """Huber's loss to dots (b, t, 3) in units of a quarter of the picture; {"px": mean distance of the centres}."""
    centre, unit = torch.tensor([SPEC.centre, SPEC.centre, 0.0], device=dots.device), SPEC.size / 4
    found, true = network(clips).unflatten(1, (-1, 3)), (dots - centre) / unit
    return F.huber_loss(found, true), {"px": unit * (found - true)[..., :2].norm(dim=-1).mean()}


def pretrained(context, name):
    """State dict of "detector" or "frames", trained on clips of the train split after the labelled ones."""
    settings = context.settings

    def batch(step):
        first, size = settings.clips + step * settings.pretrain_batch, settings.pretrain_batch
        clips = to_float(split("train").videos(range(first, first + size)))
        if name == "detector":
            return [clips, measure_dot(clips)]
        frames = clips[:, :, step % 4 :: 4].transpose(1, 2).flatten(0, 1)[:, :, None]  # four of each clip
        return [frames, measure_frame(frames)]

    def make():
        torch.manual_seed(0)
        network, loss = (frame_network(), frame_loss) if name == "frames" else (detector(), detection_loss)
        options = settings.train["pixels"] | {"steps": settings.pretrain_steps, "log_lines": 0}
        return fit(network, lambda m, b: loss(m, *b), batch, **options)[0].state_dict()

    return context.cached(f"pretrained-{name}", make)


# ---- networks ----


def without_head(network, weights, head):
    """The network with all of these weights but those of its last layer."""
    network.load_state_dict({key: w for key, w in weights.items() if not key.startswith(head)}, strict=False)
    return network


def frame_network():
    """I3D for single frames, with an output for each number of `measure_frame`."""
    return I3D(6, VideoSpec(frames=1))


def inflated_i3d(context):
    frames = frame_network()
    frames.load_state_dict(pretrained(context, "frames"))
    return frames.inflated(SPEC.frames).with_head(CLASSES)


def new_classifier(context):
    """An untrained `TokenClassifier` of the profile's size."""
    tokenizer, recipe = model(context.artifacts, "tokenizer"), recipes_of(context.profile).token_classifier
    return TokenClassifier(tokenizer.codebook_size, tokenizer.token_shape, tokenizer.levels, **recipe.model)


def classifier_from_tracker(context):
    """`TokenClassifier` with all of the tracker but its last layer."""
    tracker = model(context.artifacts, "token_tracker")
    config = {key: value for key, value in tracker.config.items() if key != "spec"}
    return without_head(TokenClassifier(**config), tracker.state_dict(), "head.")


class BackboneClassifier(nn.Module):
    """The masked transformer, all its weights trained, and a linear head on the mean of its states: logits (b, 4)."""

    def __init__(self, transformer):
        super().__init__()
        self.backbone = copy.deepcopy(transformer)
        self.head = nn.Linear(transformer.config["dim"], CLASSES)

    def forward(self, tokens):
        return self.head(self.backbone.features(tokens.flatten(1)).mean(1))


# ---- numbers for linear classifiers ----


def counts(context, tokens):
    """Square roots of how often each code occurs: (m, codebook), sparse."""
    rows, columns = np.repeat(np.arange(len(tokens)), tokens[0].numel()), tokens.flatten().numpy()
    size = model(context.artifacts, "tokenizer").codebook_size
    return np.sqrt(csr_array((np.ones(len(rows)), (rows, columns)), (len(tokens), size)))  # adds up what comes twice


def one_hot(context, tokens):
    """The level indices of all tokens, one-hot: (m, n * sum of levels)."""
    levels = model(context.artifacts, "tokenizer").levels
    indices = level_indices(tokens.flatten(1), levels)
    hot = [F.one_hot(indices[..., k], size) for k, size in enumerate(levels)]
    return torch.cat(hot, -1).flatten(1).float().numpy()


def vectors(context, tokens, pooled=False):
    """The level indices as coordinates from -1 to 1: (m, n d), or averaged over a time step's positions, (m, t d)."""
    levels = model(context.artifacts, "tokenizer").levels
    found = 2 * level_indices(tokens.flatten(2), levels) / (torch.tensor(levels) - 1) - 1  # (m, t, h w, d)
    return (found.mean(2) if pooled else found).flatten(1).float().numpy()


def path_shape(paths: np.ndarray) -> np.ndarray:
    """How paths bend, turn and change speed, wherever they lie and however they are rotated: (n, t, 2) -> (n, 2 t + 7).

    Lengths of their Legendre coefficients, turning angles in order of size, log of the speed, and four sums: of 16
    frames, 39 numbers.
    """
    bend = np.polynomial.legendre.legvander(np.linspace(-1, 1, paths.shape[1]), 6)  # (t, 7): constant, line, parabola
    parts = np.linalg.norm(np.einsum("nti,kt->nki", paths, np.linalg.pinv(bend)), axis=-1)[:, 1:]  # (n, 6)
    step = np.diff(paths, axis=1)  # (n, t - 1, 2)
    speed = np.linalg.norm(step, axis=-1)
    cross = step[:, :-1, 0] * step[:, 1:, 1] - step[:, :-1, 1] * step[:, 1:, 0]
    turn = np.arctan2(cross, (step[:, :-1] * step[:, 1:]).sum(-1))  # (n, t - 2) radians
    sums = np.stack([np.abs(turn.sum(1)), np.abs(turn).sum(1), turn.std(1), speed.std(1) / speed.mean(1)], 1)
    return np.concatenate([parts, np.sort(turn, 1), np.log(speed + 0.1), sums], 1)


def shapes(context, dots):
    """The shape of the path of dots (m, t, 3): (m, 39)."""
    return path_shape(dots[..., :2].numpy())


def shapes_and_fits(context, dots):
    """How well each family's equation fits the dots (m, t, 3), and the shape of their path: (m, 4 + 39)."""
    fits = fit_families(dots[..., :2].numpy(), dots[..., 2].clamp_min(0.5).numpy())
    return np.concatenate([np.stack([found.score for found in fits.values()], 1), shapes(context, dots)], 1)


LINEAR = {  # the strongest penalty first
    "ridge": [make_pipeline(StandardScaler(), RidgeClassifier(10.0**k)) for k in range(7, -1, -1)],
    "logistic": [make_pipeline(StandardScaler(), LogisticRegression(C=10.0**k, max_iter=2000)) for k in range(-3, 2)],
    "logistic, unscaled": [LogisticRegression(C=10.0**k, max_iter=2000) for k in range(-3, 1)],  # for sparse counts
}


@dataclass(frozen=True)
class Method:
    """`build(context)` is a network; the numbers of a linear classifier are `build(context, features)`, (m, d)."""

    kind: str  # "pixels", "tokens", "backbone": a network's budget; "linear"; "pair": on its own tokenizer and tracker
    what: str
    input: str  # a key of INPUTS
    build: Callable
    pretrained: str = ""  # the network without labels that it starts from
    plain: bool = False  # no augmentation, no weight decay, no early stopping
    linear: str = "ridge"  # a key of LINEAR
    subset: bool = False  # of a pair: it sees the labelled clips alone


METHODS = {
    "3D CNN, plain": Method("pixels", "without augmentation, weight decay or early stopping", "pixels",
        lambda _: Simple3DCNN(), plain=True),
    "3D CNN, regularized": Method("pixels", "augmentation, weight decay, early stopping", "pixels",
        lambda _: Simple3DCNN()),
    "I3D, inflated": Method("pixels", "pretrained to find the dot in frames, then regularized as above", "pixels",
        inflated_i3d, "frames"),
    "I3D, from scratch": Method("pixels", "without pretraining", "pixels", lambda _: I3D()),
    "3D CNN, pretrained on dot tracking": Method("pixels", "pretrained on clips without labels, then regularized",
        "pixels", lambda context: without_head(Simple3DCNN(), pretrained(context, "detector"), "head.2."), "detector"),
    "transformer on tokens": Method("tokens", "trained from scratch", "tokens", new_classifier),
    "bag of tokens": Method("linear", "counts, no positions", "tokens", counts, linear="logistic, unscaled"),
    "linear on tokens": Method("linear", "level indices, one-hot", "tokens", one_hot),
    "linear on code vectors": Method("linear", "level indices as coordinates", "tokens", vectors),
    "pooled code vectors": Method("linear", "averaged over the picture", "tokens", partial(vectors, pooled=True)),
    "masked transformer, frozen": Method("linear", "states, averaged over a time step", "frozen",
        lambda _, x: x.numpy()),
    "masked transformer, fine-tuned": Method("backbone", "all its weights trained", "tokens",
        lambda context: BackboneClassifier(model(context.artifacts, "plain_transformer"))),
    "transformer, pretrained on dot tracking": Method("tokens", "starts from the tracker", "tokens",
        classifier_from_tracker),
    "dot tracked in tokens": Method("linear", "the shape of the tracker's path", "paths", shapes),
    "dot tracked in tokens, equations": Method("linear", "the path's shape, and how well each family fits", "paths",
        shapes_and_fits, linear="logistic"),
    "dot tracked in pixels": Method("linear", "the foreground centroid, the shape of its path", "dots", shapes),
    "dot tracked in pixels, equations": Method("linear", "the path's shape, and how well each family fits", "dots",
        shapes_and_fits, linear="logistic"),
    "long exposure": Method("linear", "the moments of its shape, no time", "exposures", lambda _, x: x.numpy()),
    "own tokenizer, labelled subset": Method("pair", "control: trained on the labelled clips alone", "own",
        shapes_and_fits, linear="logistic", subset=True),
    "own tokenizer, unlabelled clips": Method("pair", "control: the same networks, trained on many unlabelled clips",
        "own", shapes_and_fits, linear="logistic"),
    "untrained tokenizer": Method("tokens", "control: codes of random weights", "untrained", new_classifier),
    "permuted tokens": Method("tokens", "control: must be at chance level", "permuted", new_classifier),
}  # fmt: skip
