"""What a discriminator and a perceptual loss do to pictures: a small network after the tokenizer, one loss at a time.

The tokenizer (LFQ of 2^18 codes) stays as it is. A head of six convolutions corrects 16 x 16 pixels about each decoded
dot, and starts as the identity. Every variant trains such a head on the same crops:

- "squared error": the control. It shows what a head does without a further loss;
- "GAN": plus a discriminator of crops, with a gradient penalty of 0.03. Two more have MAGVIT's 10, or none;
- "perceptual": plus the features of the 3D CNN, a classifier of motions, on whole clips;
- "both".

How real a crop looks is measured by a classifier that is trained afterwards, on other clips, to tell real crops from
decoded ones. It has another architecture than the discriminator. 50 % is the best that a reconstruction can reach.
Whether the motion is still the same is measured in two ways, which no loss uses: by the class that our I3D names, and
by the equations that fit the tracked dot.

Three seeds take some 20 minutes of one core.
"""

import functools
import io
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from einops import rearrange
from PIL import Image
from studies.generation import frechet_distance, jackknife
from studies.sealed import student_half
from torch import nn
from torch.nn import functional as F

from trajlib.atomic import write_atomic
from trajlib.course.adversarial import Adversary, perceptual_from_cnn
from trajlib.data.clips import VideoSpec, split
from trajlib.data.measure import track_centroid
from trajlib.data.video_files import to_float
from trajlib.evaluate import metrics
from trajlib.evaluate.samples import check_physics, track_video
from trajlib.tokenizer.losses import reconstruction_loss
from trajlib.training.loop import fit
from trajlib.training.optimizers import bf16_autocast
from trajlib.zoo import checkpoints

BATCH = 50
SIDE = 16  # px, of a crop
NONE, CONTROL = "tokenizer", "squared error"
REFERENCE = {  # what is trained -> the variant to compare with
    NONE: "", CONTROL: NONE, "GAN": CONTROL, "perceptual": CONTROL, "both": CONTROL, "GAN, penalty 10": "GAN",
    "GAN, no penalty": "GAN",
}  # fmt: skip
ADVERSARY = {"kind": "crops", "spec": VideoSpec(size=SIDE), "weight": 0.3, "penalty": 0.03, "lr": 1e-3}
ADVERSARIES = {"GAN": {}, "both": {}, "GAN, penalty 10": {"penalty": 10.0}, "GAN, no penalty": {"penalty": 0.0}}
PERCEPTUAL = ("perceptual", "both")
SHOWN = (NONE, CONTROL, "GAN", "perceptual", "both")  # columns of the sheet of crops, after the real ones
MODELS = ("tokenizer_lfq18", "simple_3dcnn", "i3d")
KEYS = ("variant", "seed")
FRECHET, HINGE, GAIN = "Frechet distance, I3D", "hinge loss", ", gain"
# of each clip; 95 % intervals over clips. A metric that ends in ", gain": the same clips, the variant less `reference`
METRICS = ("PSNR (dB)", "localization error (px)", "edge steepness", "classifier accuracy", "I3D agreement",
           "class consistency")  # fmt: skip
COLUMNS = {"variant": str, "seed": int, "metric": str, "reference": str, "value": float, "low": float, "high": float,
           "n": int}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    steps: int = 400
    crops: int = 32  # a step
    train_clips: int = 800
    warm_up: int = 100  # steps in which the discriminator learns alone
    perceptual_weight: float = 1.0  # of 0.3 and 1, tried on validation clips, none lowers PSNR
    classifier_clips: int = 300  # further training clips, for the classifier
    classifier_steps: int = 200
    pairs: int = 64  # of a real and a decoded crop in each of its steps
    tested: int = 500
    shown: int = 6  # of the tested clips: one crop each in the sheet
    split: str = "test"
    groups: int = 10  # of the jackknife
    grid: dict = field(default_factory=lambda: {"seeds": (0, 1, 2), "variants": tuple(REFERENCE)})


FULL = Settings()
SMOKE = Settings(3, 4, 4, 1, 1.0, 4, 2, 8, 8, 2, "validation", 4, {"seeds": (0,), "variants": tuple(REFERENCE)[:5]})


def jobs(settings):
    """The tokenizer alone has no seed."""
    seeds, names = settings.grid["seeds"], settings.grid["variants"]
    return [{"variant": name, "seed": seed} for seed in seeds for name in names if name != NONE or seed == seeds[0]]


# ---- crops: frames (m, 3, h, w), the corners of their crops (m, 2) as x, y ----


def corners(frames, side=SIDE):
    """Of squares about the dots' centroids, whole pixels inside the picture; about its middle without a dot."""
    size = frames.shape[-1]
    centre = track_centroid(frames.unsqueeze(2))[0][:, 0].nan_to_num(size / 2)
    return (centre + 0.5 - side / 2).round().long().clamp(0, size - side)


def places(corner, side=SIDE):
    """Indices that read and write the crops: frames[places(corner)] is (m, side, side, 3)."""
    x, y = (corner[:, k, None] + torch.arange(side) for k in (0, 1))
    return torch.arange(len(corner))[:, None, None], slice(None), y[:, :, None], x[:, None, :]


def crop(frames, corner):
    """(m, 3, side, side)."""
    return frames[places(corner)].movedim(-1, 1)


def paste(crops, frames, corner):
    """The frames with these crops in place of their own; crops keep their gradient."""
    pasted = frames.clone()
    pasted[places(corner)] = crops.movedim(1, -1)
    return pasted


def as_frames(videos):
    """(b, 3, t, h, w) -> (b t, 3, h, w)."""
    return rearrange(videos, "b c t h w -> (b t) c h w")


def as_videos(frames, count):
    """The inverse of `as_frames` for so many videos."""
    return rearrange(frames, "(b t) c h w -> b c t h w", b=count)


def edge_steepness(frames):
    """Mean slope of the darkness along the edges of what frames (m, 3, h, w) show, (m,), 1 / px.

    The slope of every pixel, weighted with itself: an edge that rises evenly by 1 over w pixels has 1 / w, however
    long it is. White has 0.
    """
    slope = torch.stack(torch.gradient((1 - frames).mean(1), dim=(1, 2))).norm(dim=0)
    return slope.square().sum((1, 2)) / slope.sum((1, 2)).clamp_min(1e-8)


# ---- the networks ----


class Head(nn.Module):
    """What is added to crops (m, 3, side, side): six convolutions. The last one starts at 0: no change at first."""

    def __init__(self, width=32, layers=6):
        super().__init__()
        inner = [part for _ in range(layers - 2) for part in (nn.Conv2d(width, width, 3, padding=1), nn.GELU())]
        self.last = nn.Conv2d(width, 3, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.net = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.GELU(), *inner, self.last)

    def forward(self, crops):
        return (crops + self.net(1 - crops)).clamp(0, 1)  # the background is 0, like the padding around it


def new_classifier(width=32):
    """Crops (m, 3, 16, 16) -> logit that they are real (m, 1)."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(2 * width * (SIDE // 4) ** 2, 64), nn.ReLU(), nn.Linear(64, 1),
    )  # fmt: skip


# ---- clips ----


@functools.lru_cache(maxsize=3)
def clips_of(part, context):
    """(`Batch` of real clips, their reconstructions (n, 3, t, h, w) uint8) for "train", "classifier" or "tested"."""
    settings = context.settings
    first, count, name = {
        "train": (0, settings.train_clips, "train"),
        "classifier": (settings.train_clips, settings.classifier_clips, "train"),
        "tested": (0, settings.tested, settings.split),
    }[part]
    clips = split(name).batch(range(first, first + count))

    def decoded():
        tokenizer = checkpoints.load("tokenizer_lfq18", context.artifacts)[0]
        with bf16_autocast():
            recons = [tokenizer.reconstruct(to_float(some)) for some in clips.videos.split(BATCH)]
        return {"recons": whole_levels(torch.cat(recons))}

    return clips, context.cached(part, decoded)["recons"]


@functools.lru_cache(maxsize=1)
def training_crops(context):
    """(real, decoded) crops about the decoded dots of the training clips, (n t, 3, side, side) uint8 each."""
    clips, recons = clips_of("train", context)
    found = []
    for pair in zip(clips.videos.split(BATCH), recons.split(BATCH), strict=True):
        corner = corners(as_frames(to_float(pair[1])))
        found.append([crop(as_frames(some), corner) for some in pair])
    return [torch.cat(part) for part in zip(*found, strict=True)]


def whole_levels(videos):
    """As a video file has them: uint8."""
    return videos.float().clamp(0, 1).mul(255).round().byte()


def corrected(head, videos):
    """Videos (b, 3, t, h, w) in [0, 1] with what the head makes of their crops; they keep their gradient."""
    frames = as_frames(videos)
    corner = corners(frames)
    return as_videos(paste(head(crop(frames, corner)), frames, corner), len(videos))


@torch.no_grad()
def finished(head, recons):
    """`corrected` of reconstructions (n, 3, t, h, w), all uint8; without a head they stay as they are."""
    if head is None:
        return recons
    return torch.cat([whole_levels(corrected(head, to_float(some))) for some in recons.split(BATCH)])


def dots(videos):
    """Crops (n t, 3, side, side) about each frame's own dot: where a crop lies does not give away what it is."""
    parts = (as_frames(to_float(some)) for some in videos.split(BATCH))
    return torch.cat([crop(frames, corners(frames)) for frames in parts])


# ---- one run ----


def run(job, context):
    """The rows of one variant: its metrics, and their gains over its reference with the same seed."""
    variant, seed, settings = job["variant"], job["seed"], context.settings
    reference = REFERENCE[variant]
    found = measured(variant, seed, context)
    other = measured(reference, seed, context) if reference else found
    rows = [(metric, "", mean_of(found[metric])) for metric in METRICS]
    if reference:
        rows += [(metric + GAIN, reference, mean_of(found[metric] - other[metric])) for metric in METRICS]
    pair = [some.double().numpy() for some in (found["features"], found["real features"])]
    interval = jackknife(frechet_distance, *pair, groups=settings.groups)
    rows.append((FRECHET, "", (frechet_distance(*pair), *interval, settings.tested)))
    if variant in ADVERSARIES:
        last = found["hinge"][-100:]
        rows.append((HINGE, "", (float(last.mean()), np.nan, np.nan, len(last))))
    if variant == SHOWN[-1] and seed == settings.grid["seeds"][0]:
        write_sheet(context)
    names = ("value", "low", "high", "n")
    examples = settings.steps * settings.crops
    return [
        job | {"metric": metric, "reference": against, "examples": examples} | dict(zip(names, row, strict=True))
        for metric, against, row in rows
    ]


def mean_of(values):
    """Mean of values of clips (n,), its bootstrap interval, n; a clip's frames are already averaged."""
    values = values.double().numpy()
    return values.mean(), *metrics.mean_interval(values), len(values)


def measured(variant, seed, context):
    """Of each tested clip what METRICS name, the features of I3D, examples of crops; kept in the study's folder."""
    seed = context.settings.grid["seeds"][0] if variant == NONE else seed
    return context.cached(f"{variant} {seed}", lambda: measure(variant, seed, context))


def measure(variant, seed, context):
    """Train a head, then a classifier; what they make of the tested clips."""
    settings = context.settings
    head, hinges = trained(variant, seed, context)
    clips, recons = clips_of("tested", context)
    videos = finished(head, recons)
    classify = trained_classifier(head, seed, context)
    with torch.no_grad():
        scores = [(classify(dots(some)) > 0).view(len(videos), -1) for some in (clips.videos, videos)]
    pairs = list(zip(clips.videos.split(BATCH), videos.split(BATCH), strict=True))
    pairs = [(to_float(real), to_float(ours)) for real, ours in pairs]
    positions = torch.cat([track_centroid(ours)[0] for _, ours in pairs])
    steepness = [edge_steepness(dots(some)).view(len(videos), -1) for some in (videos, clips.videos)]
    found = {
        "PSNR (dB)": torch.cat([metrics.psnr(*pair) for pair in pairs]),
        "localization error (px)": (positions - clips.paths).norm(dim=-1).nan_to_num(64.0).mean(1),
        "edge steepness": (steepness[0] / steepness[1]).mean(1),
        "classifier accuracy": (scores[0].float().mean(1) + (~scores[1]).float().mean(1)) / 2,
        "hinge": torch.tensor(hinges or [0.0]),
        "crops": as_frames(videos[: settings.shown])[8 :: videos.shape[2]],
    }
    return found | compare_motion(pairs, clips, context)


def compare_motion(pairs, clips, context):
    """Whether I3D names the same class as for the real clip; whether the equations of the true class fit best."""
    i3d = checkpoints.load("i3d", context.artifacts)[0]
    with torch.no_grad():
        real, ours = (torch.cat([i3d.features(some) for some in part]) for part in zip(*pairs, strict=True))
        agree = i3d.head(real).argmax(-1) == i3d.head(ours).argmax(-1)
    normal, tracks = (track_video(torch.cat(part)) for part in zip(*pairs, strict=True))
    noise = float(np.nanmedian(np.linalg.norm(tracks.path - clips.paths.numpy(), axis=-1)))
    consistent = torch.from_numpy(check_physics(tracks, normal, noise).best) == clips.labels
    shares = {"I3D agreement": agree, "class consistency": consistent}
    return {name: hits.float() for name, hits in shares.items()} | {"features": ours, "real features": real}


def trained(variant, seed, context):
    """The head, or None, and the discriminator's hinge loss in each step."""
    if variant == NONE:
        return None, []
    settings, hinges = context.settings, []
    clips, recons = clips_of("train", context)
    adversary = features = None
    torch.manual_seed(seed)
    head = Head()
    if variant in ADVERSARIES:
        adversary = Adversary(**ADVERSARY | {"start": settings.warm_up} | ADVERSARIES[variant])
    if variant in PERCEPTUAL:
        features = perceptual_from_cnn(checkpoints.load("simple_3dcnn", context.artifacts)[0])

    real, decoded = training_crops(context)

    def batch(step):
        rows = torch.randint(len(real), (settings.crops,))
        clip = torch.randint(len(recons), (1,))  # for the features, which need a whole one
        return [to_float(real[rows]), to_float(decoded[rows]), to_float(clips.videos[clip]), to_float(recons[clip])]

    def loss_fn(model, parts):
        truth, crops, *clip = parts
        found = model(crops)
        loss, _ = reconstruction_loss(found[:, :, None], truth[:, :, None], chroma_weight=10.0, position_weight=0.5)
        if features:
            loss = loss + settings.perceptual_weight * features(clip[0], corrected(model, clip[1]))
        if adversary:
            hinges.append(adversary.learn(truth, found).item())
            loss = loss + adversary.generator_loss(found, loss, model.last.weight)
        return loss, {}

    options = {"steps": settings.steps, "lr": 2e-3, "muon": 0.02, "weight_decay": 0.0, "seed": seed, "log_lines": 0}
    return fit(head, loss_fn, batch, **options)[0], hinges


def trained_classifier(head, seed, context):
    """A new network that has learned, on other clips, to tell real crops from corrected ones: crops -> logits (m,)."""
    settings = context.settings
    clips, recons = clips_of("classifier", context)
    real, ours = dots(clips.videos), dots(finished(head, recons))

    def batch(step):
        rows = torch.randint(len(real), (settings.pairs,))
        return [torch.cat([real[rows], ours[rows]]), torch.arange(2).eq(0).float().repeat_interleave(settings.pairs)]

    def loss_fn(model, parts):
        return F.binary_cross_entropy_with_logits(model(parts[0])[:, 0].float(), parts[1]), {}

    torch.manual_seed(1000 + seed)
    options = {"steps": settings.classifier_steps, "lr": 2e-3, "muon": 0.02, "seed": seed, "log_lines": 0}
    network, _ = fit(new_classifier(), loss_fn, batch, **options)
    return lambda crops: torch.cat([network(some)[:, 0] for some in crops.split(1000)])


# ---- the sheet of crops ----


def write_sheet(context):
    """`realism.png` next to the table: a row for each of the first tested clips (frame 8), real and by SHOWN."""
    settings = context.settings
    clips, recons = clips_of("tested", context)
    middle = [as_frames(some[: settings.shown])[8 :: some.shape[2]] for some in (clips.videos, recons)]
    corner = corners(to_float(middle[1]))
    columns = [middle[0], *(measured(name, settings.grid["seeds"][0], context)["crops"] for name in SHOWN)]
    sheet = rearrange([crop(some, corner) for some in columns], "k n c h w -> (n h) (k w) c")
    file = io.BytesIO()
    Image.fromarray(sheet.numpy()).save(file, "PNG", optimize=True)
    write_atomic(context.folder.with_name(context.folder.name.replace("-files", ".png")), file.getvalue())


def read_sheet(path):
    """The sheet -> crops (rows, columns, side, side, 3) uint8."""
    with Image.open(path) as picture:
        return rearrange(np.asarray(picture), "(n h) (k w) c -> n k h w c", h=SIDE, w=SIDE)


# ---- reading the table ----


def over_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """For each variant and metric: mean over the seeds, and a 95 % interval: columns value, low, high, seeds.

    The interval covers the seeds (Student's t) and the clips, the same for every seed.
    """
    found = {}
    for key, rows in frame.groupby(["variant", "metric"], sort=False):
        values, clips = rows["value"].to_numpy(), ((rows["high"] - rows["low"]) / 2).mean()
        half = float(np.hypot(np.nan_to_num(clips), student_half(values)))
        found[key] = {"value": values.mean(), "low": values.mean() - half, "high": values.mean() + half,
                      "seeds": len(values)}  # fmt: skip
    return pd.DataFrame(found).T.rename_axis(["variant", "metric"])
