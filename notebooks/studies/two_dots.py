"""Does what the course found with one dot hold with two that pass each other? See `passing_dots` for the clips.

"one dot" and "two dots" go through the same recipes with the same budgets, much smaller than the course's, so figures
compare with each other and not with other tables. Class: the motion of the only dot, or of the darker one.

"tokenizer": one training each, of half the course's width; "shipped" is the course's own, trained on one dot.
"classifiers": pixels against tokens with few labels (one training) and with many, and under corruptions.
"trajectories": coarse to fine against frame by frame, see `path_models`. Where there are three trainings, they differ
in initialization, order and test clips, and share their training clips and the tokenizer. Batches and steps were chosen
on validation clips of two dots. Some 40 minutes on one quiet core.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch
from studies import path_models, robustness
from studies.linear_gaussian import LinearGaussian
from studies.passing_dots import Dots, coverage, locate
from studies.sealed import standard_error, student_half

from trajlib.classify.readers import TokenClassifier, classification_loss
from trajlib.data.video_files import to_float
from trajlib.evaluate import metrics, physics
from trajlib.training.loop import fit
from trajlib.zoo import checkpoints, recipes
from trajlib.zoo.batches import encode_augmented, shuffled_batches
from trajlib.zoo.config import FSQ_4375, RECIPES, half_width

BATCH = 50
DATA = {"one dot": 1, "two dots": 2}
THERE = "all dots there"  # share of the frames in which none is covered
PIXELS, TOKENS = "3D CNN on pixels", "transformer on tokens"
MODELS = ("tokenizer",)
KEYS = ("data", "part", "seed")
COLUMNS = {"data": str, "part": str, "seed": int, "method": str, "metric": str, "value": float, "low": float,
           "high": float, "n": int}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    tokenizer: int = 660  # steps of its first stage
    position: int = 110  # of its second
    clips: int = 300  # test clips: of a tokenizer, and of each training of the classifiers
    few: tuple[int, int] = (800, 2)  # labels, and augmentations of each as tokens
    many: tuple[int, int] = (6400, 1)
    cnn: tuple[int, int] = (240, 8)  # steps, and clips in each: smaller batches learn faster from as many clips
    classifier: int = 400  # steps
    corruptions: tuple = (("noise", 0.1), ("darkness", -0.15), ("frame drops", 0.5))
    tracks: int = 6000  # in 16 augmentations
    paths: int = 300  # steps of a trajectory model
    path_batch: int = 64
    samples: int = 400
    grid: dict = field(default_factory=lambda: {"seeds": (0, 1, 2)})


FULL = Settings()
SMOKE = Settings(
    4, 2, 8, (8, 2), (16, 1), (2, 4), 2, tracks=32, paths=2, path_batch=8, samples=8, grid={"seeds": (0,)}
)  # fmt: skip


def jobs(settings):
    """The tokenizers first: the classifiers need them."""
    found = [{"data": data, "part": "tokenizer", "seed": 0} for data in DATA]
    return found + [{"data": data, "part": part, "seed": seed} for part in ("trajectories", "classifiers")
                    for seed in settings.grid["seeds"] for data in DATA]  # fmt: skip


def run(job, context):
    """The rows of one part."""
    return {"tokenizer": reconstructions, "classifiers": classifiers, "trajectories": trajectories}[job["part"]](
        job, context
    )


def recipes_for(job, context):
    """The profile's recipes with this study's budgets."""
    settings, base = context.settings, RECIPES[context.profile]
    small = half_width(FSQ_4375, 3.0)
    if context.profile != "full":
        small = replace(base.tokenizer, model=replace(base.tokenizer.model, quantizer=FSQ_4375))
    small = replace(small, train=small.train.shortened(settings.tokenizer),
                    position=small.position.shortened(settings.position))  # fmt: skip
    steps, batch = settings.cnn
    cnn = replace(base.simple_3dcnn.train.shortened(steps), batch=batch)
    return replace(base, tokenizer=small, simple_3dcnn=replace(base.simple_3dcnn, train=cnn), seed=job["seed"])


def folder_of(job, context, name=""):
    return context.folder / f"{job['data']} {name}".strip().replace(" ", "-")


def tokenizer_of(job, context):
    """The tokenizer of these clips: trained by the first that needs it, others wait."""
    recipe = recipes_for(job | {"seed": 0}, context)
    return recipes.tokenizer(folder_of(job, context), recipe, Dots("train", DATA[job["data"]]))[0]


def rows_of(job, method, examples, values, interval=metrics.mean_interval, middle=np.mean):
    """A row for each metric in `values`: {metric: values of the clips}."""
    rows = []
    for metric, found in values.items():
        found = np.asarray(found, float)
        low, high = interval(found)
        rows.append(job | {"method": method, "metric": metric, "value": float(middle(found)), "low": low, "high": high}
                    | {"n": len(found), "examples": examples})  # fmt: skip
    return rows


def share(hits):
    """Wilson's interval of hits (n,)."""
    return metrics.wilson(hits.sum(), len(hits))


# ---- 1: the tokenizer ----


def reconstructions(job, context):
    """dB of each clip; px and presence of each dot, by its colour; of the own tokenizer under corruptions, too."""
    settings, data, rows = context.settings, Dots("test", DATA[job["data"]]), []
    own, shipped = tokenizer_of(job, context), checkpoints.load("tokenizer", context.artifacts)[0]

    def all_clips(tokenizer, corruption=("none", 0.0)):
        chunks = torch.arange(settings.clips).split(BATCH)
        parts = [measured(tokenizer, data, chunk.tolist(), corruption) for chunk in chunks]
        return {metric: np.concatenate([part[metric] for part in parts]) for metric in parts[0]}

    found = {"own": all_clips(own), "shipped": all_clips(shipped)}
    for kind, strength in settings.corruptions:
        if kind != "frame drops":  # these move the dots, too
            found["own"][f"{THERE}, {kind}"] = all_clips(own, (kind, strength))[THERE]
    seen = {"own": clips_seen(recipes_for(job, context)), "shipped": clips_seen(RECIPES[context.profile])}
    for method, metric, values in ((name, *pair) for name, part in found.items() for pair in part.items()):
        typical = "(px)" in metric  # a dot that is lost is as far off as the picture is wide
        kind = (metrics.median_interval, np.median) if typical else (metrics.mean_interval, np.mean)
        rows += rows_of(job, method, seen[method], {metric: values}, *kind)
    return rows


def clips_seen(every):
    """How many clips the tokenizer of these recipes sees in training, as crops or whole."""
    recipe = every.tokenizer
    crops = round(recipe.crop_share * recipe.train.steps)
    whole = (recipe.train.steps - crops) * recipe.train.batch + recipe.position.steps * recipe.position.batch
    return crops * recipe.crop_batch + whole


def measured(tokenizer, data, indices, corruption):
    """{metric: values of the clips}: reconstructions of corrupted clips against the clean clips."""
    videos, colours = to_float(data.videos(indices)), data.colours(indices)
    recon = tokenizer.reconstruct(to_float(replace(data, corruption=corruption).videos(indices)))
    (true, area), (found, found_area) = (locate(coverage(x, colours)) for x in (videos, recon))
    shows = area > 0.5 * area.median(-1, keepdim=True).values  # (b, dots, t): not covered by the other
    error, ratio, both = (found - true).norm(dim=-1).nan_to_num(64.0), found_area / area, shows.all(1)
    there = ((error < 3) & (ratio > 0.5) & (ratio < 2)).all(1)  # (b, t)
    own, blank = metrics.psnr(videos, recon), metrics.psnr(videos, torch.ones_like(videos))
    result = {"PSNR (dB)": own, "PSNR of a blank frame (dB)": blank, "PSNR over a blank frame (dB)": own - blank}
    result |= {
        "foreground PSNR (dB)": metrics.foreground_psnr(videos, recon),
        THERE: (there & both).sum(1) / both.sum(1),
    }
    for k, name in enumerate(("class dot", "other dot")[: data.count]):
        for guess, distance in (("", error), (", centre as the guess", (true - data.spec.centre).norm(dim=-1))):
            of_clips = distance[:, k].masked_fill(~shows[:, k], torch.nan).nanmedian(-1).values
            result[f"error of the {name}{guess} (px)"] = of_clips
    return {metric: values.numpy() for metric, values in result.items()}


# ---- 2 and 4: tokens against pixels, and corruptions ----


def classifiers(job, context):
    """Accuracy of both classifiers, with few labels and with many; of the latter under corruptions, too."""
    settings, seed, dots = context.settings, job["seed"], DATA[job["data"]]
    test = range(seed * settings.clips, (seed + 1) * settings.clips)
    tokenizer, data, rows = tokenizer_of(job, context), Dots("train", dots), []
    labels = Dots("test", dots).labels(test)
    for count, augmentations in (settings.few, settings.many) if seed == 0 else (settings.many,):
        nets = trained(job, context, count, augmentations, tokenizer, data)
        for kind, strength in [("none", 0.0), *(settings.corruptions if count == settings.many[0] else ())]:
            shown, hits = Dots("test", dots, (kind, strength)), {name: [] for name in nets}
            metric = f"accuracy, {count:,} labels" + f", {kind}" * (kind != "none")
            for part in torch.tensor(test).split(BATCH):
                videos, own = shown.videos(part), labels[part - test[0]]
                tokens = tokenizer.encode(to_float(videos))
                for name, (net, _) in nets.items():
                    scores = robustness.by_network(net, tokens if name == TOKENS else videos)
                    hits[name].append(robustness.correct(scores, own))
            for name, (_, examples) in nets.items():
                rows += rows_of(job, name, examples, {metric: np.concatenate(hits[name])}, share)
    paths = Dots("test", dots).trajectories(test)[:, 0].numpy()
    hits = physics.best_family(paths[..., :2], paths[..., 2]) == labels.numpy()
    return rows + rows_of(job, "equations, true path", len(test), {"accuracy": hits}, share)


def trained(job, context, count, augmentations, tokenizer, data):
    """{method: (network, examples that it has seen)}, trained on the first `count` clips."""
    every, settings, seed = recipes_for(job, context), context.settings, job["seed"]
    cfg, recipe = every.simple_3dcnn, replace(every.token_classifier, clips=count, augmentations=augmentations)
    cfg = replace(cfg, clips=min(count, cfg.train.steps * cfg.train.batch))  # there is no time for more
    cnn, card = recipes.simple_3dcnn(
        folder_of(job, context, f"{count} {seed}"), replace(every, simple_3dcnn=cfg), data
    )  # fmt: skip

    def encoded():
        return dict(zip(("tokens", "labels"), encode_augmented(tokenizer, data, recipe, 0), strict=True))

    examples = context.cached(f"{folder_of(job, context).name}-tokens-{count}", encoded)
    train = recipe.train.shortened(settings.classifier)
    torch.manual_seed(seed)
    net = TokenClassifier(tokenizer.codebook_size, tokenizer.token_shape, tokenizer.levels, **recipe.model)
    batch = shuffled_batches((examples["tokens"], examples["labels"]), train.batch, seed)
    net, _ = fit(net, lambda m, b: classification_loss(m, *b), batch, seed=seed, **train.options)
    return {PIXELS: (cnn, card["examples"]), TOKENS: (net, train.steps * train.batch)}


# ---- 3: trajectories ----


def trajectories(job, context):
    """Bits a trajectory, and how samples move, of either kind of tokens, a Gaussian, and real trajectories, rounded."""
    settings, seed, dots, rows = context.settings, job["seed"], DATA[job["data"]], []
    n, train, test = settings.samples, Dots("train", dots), Dots("test", dots)
    known = context.cached(f"{dots}-tracks", lambda: {"x": train.trajectories(range(settings.tracks))})["x"]
    real, labels = test.trajectories(range(seed * n, (seed + 1) * n)), test.labels(range(seed * n, (seed + 1) * n))
    classes, size = train.labels(range(settings.tracks)), test.spec.size
    torch.manual_seed(seed)
    augmented = path_models.augment(known, size)

    def add(method, examples, paths, noise):
        values = {"class consistency": moves_as(paths[:, 0], labels, noise)}
        values |= {"dots touch": touch(paths)} if dots > 1 else {}
        rows.extend(rows_of(job, method, examples, values, share))

    def batch(coding):
        def make(step):
            some = torch.randint(len(known), (settings.path_batch,))
            return [coding.encode(path_models.augment(known[some], size)), classes[some]]

        return make

    for kind in path_models.KINDS:
        torch.manual_seed(seed)
        coding = path_models.PathTokens(kind, dots).fit(augmented)
        tokens, seen = coding.encode(real), settings.paths * settings.path_batch
        rounded = coding.decode(tokens)
        error = (rounded - real)[:, 0, :, :2].norm(dim=-1)
        rows += rows_of(job, f"{kind}, rounded", n, {"rounding error (px)": error.mean(1)})
        add(f"{kind}, rounded", n, rounded, noise := max(0.02, float(error.median())))
        bits = path_models.independent_bits(coding, coding.encode(augmented), tokens)
        rows += rows_of(job, f"{kind}, independent", len(known), {"bits a trajectory": bits})
        model, _ = fit(path_models.PathModel(coding), lambda m, b: path_models.path_loss(m, *b), batch(coding),
                       steps=settings.paths, lr=3e-3, muon=0.02, seed=seed)  # fmt: skip
        with torch.no_grad():
            rows += rows_of(job, kind, seen, {"bits a trajectory": model.bits(tokens, labels)})
        add(kind, seen, model.sample(labels, seed), noise)
    gaussian, rng = torch.empty_like(real), np.random.default_rng(seed)
    for k, some in ((k, labels == k) for k in range(test.num_classes)):  # each dot a Gaussian of its own
        for dot in range(dots):
            gaussian[some, dot] = LinearGaussian(augmented[classes == k, dot]).sample(int(some.sum()), size, rng)
    add("Gaussian of each class", len(known), gaussian, 0.02)
    return rows


def moves_as(dot, labels, noise):
    """Whether dots (n, frames, 3) move as their class, (n,) bool; `noise` in px, see `physics.fit_family`."""
    x, y, radius = dot.double().unbind(-1)
    path = torch.stack([x, y], -1).numpy()
    return physics.best_family(path, radius.clamp_min(0.3).numpy(), noise) == labels.numpy()


def touch(paths):
    """Whether the two discs of trajectories (n, 2, frames, 3) overlap in some frame, (n,) bool."""
    distance = (paths[:, 0, :, :2] - paths[:, 1, :, :2]).norm(dim=-1)
    return (distance < paths[..., 2].sum(1)).any(1).numpy()


# ---- reading the table ----


@dataclass(frozen=True)
class Finding:
    """A sum of figures, {(method, metric): factor}, that is to lie above `limit`; or below it."""

    terms: dict
    limit: float = 0.0
    below: bool = False
    unit: str = ""


FEW, MANY = (f"accuracy, {count:,} labels" for count, _ in (FULL.few, FULL.many))
COARSE, FRAMES = path_models.KINDS


def loses_dots(kind):
    """The tokenizer loses dots under a corruption."""
    return Finding({("own", THERE): 1, ("own", f"{THERE}, {kind}"): -1}, unit="%")


def loses_more(one, other, kind):
    """One classifier loses more of its accuracy than the other."""
    worse = f"{MANY}, {kind}"
    return Finding({(one, MANY): 1, (one, worse): -1, (other, MANY): -1, (other, worse): 1}, unit="%")


FINDINGS = {
    "the tokenizer is better than a blank frame, dB": Finding({("own", "PSNR over a blank frame (dB)"): 1}),
    "it keeps the class dot within 1 px": Finding({("own", "error of the class dot (px)"): 1}, 1.0, below=True),
    f"pixels lead with {FULL.few[0]:,} labels": Finding({(PIXELS, FEW): 1, (TOKENS, FEW): -1}, unit="%"),
    f"pixels lead with {FULL.many[0]:,} labels": Finding({(PIXELS, MANY): 1, (TOKENS, MANY): -1}, unit="%"),
    f"tokens beat chance with {FULL.many[0]:,} labels": Finding({(TOKENS, MANY): 1}, 0.25, unit="%"),
    "noise takes dots from the reconstruction": loses_dots("noise"),
    "darkness takes dots from the reconstruction": loses_dots("darkness"),
    "noise costs tokens more": loses_more(TOKENS, PIXELS, "noise"),
    "darkness costs tokens more": loses_more(TOKENS, PIXELS, "darkness"),
    "frame drops cost pixels more": loses_more(PIXELS, TOKENS, "frame drops"),
    "coarse to fine moves as its class more often": Finding(
        {(COARSE, "class consistency"): 1, (FRAMES, "class consistency"): -1}, unit="%"
    ),
    "coarse to fine needs fewer bits": Finding({(FRAMES, "bits a trajectory"): 1, (COARSE, "bits a trajectory"): -1}),
}


def evaluate(frame: pd.DataFrame, data: str, terms: dict) -> tuple[float, float, float, int]:
    """The sum of figures on these clips, its 95 % interval, and how many trainings it is of.

    Student's interval of the trainings' mean, or that of the clips alone, as if figures were independent, if wider.
    """
    some = frame[frame["data"] == data].assign(error=standard_error)
    wide = some.pivot(index="seed", columns=["method", "metric"], values=["value", "error"])
    values = sum(factor * wide["value"][key] for key, factor in terms.items()).dropna()  # where all are measured
    errors = sum((factor * wide["error"][key]) ** 2 for key, factor in terms.items())[values.index]
    n, half = len(values), 1.96 * np.sqrt(errors.sum()) / len(values)
    half = max(half, student_half(values))
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half), n


def verdict(one, two, finding: Finding) -> str:
    """Whether a finding with one dot holds with two; each is (value, low, high, ...)."""
    sides = []
    for _, low, high, *_ in (one, two):
        low, high = (-high, -low) if finding.below else (low, high)
        limit = -finding.limit if finding.below else finding.limit
        sides.append(1 if low > limit else -1 if high < limit else 0)
    if sides[0] < 1:
        return "not shown with one dot"
    return {1: "holds", 0: "undecided", -1: "does not hold"}[sides[1]]


def compare(frame: pd.DataFrame) -> pd.DataFrame:
    """For each of FINDINGS what `evaluate` gives for one dot and for two, and the verdict."""
    rows = []
    for text, finding in FINDINGS.items():
        one, two = (evaluate(frame, data, finding.terms) for data in DATA)
        rows.append((text, one, two, finding.unit, verdict(one, two, finding)))
    return pd.DataFrame(rows, columns=["finding", *DATA, "unit", "verdict"])
