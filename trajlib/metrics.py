"""Numbers from arrays; no model and no plot is known here. Videos are float tensors (b, 3, t, h, w) in [0, 1]."""

from typing import NamedTuple

import numpy as np
import torch
from scipy import stats
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

INK = 0.02  # of 1: what is darker than white by less counts as paper


def psnr(videos, reconstructions):
    """Peak signal-to-noise ratio of each clip in dB, (b,): over all pixels, all frames, peak 1."""
    pairs = zip(reconstructions, videos, strict=True)
    return torch.stack([peak_signal_noise_ratio(r, v, data_range=1.0) for r, v in pairs])


def foreground_psnr(videos, reconstructions, ink=INK):
    """PSNR in dB over the pixels that are not white in the true clip, (b,)."""
    where = ((1 - videos).amax(1, keepdim=True) > ink).expand_as(videos)
    squared = ((reconstructions - videos) ** 2 * where).flatten(1).sum(1) / where.flatten(1).sum(1)
    return -10 * squared.log10()


def ssim(videos, reconstructions):
    """Structural similarity of each clip, mean over its frames, (b,)."""
    frames = [x.transpose(1, 2).flatten(0, 1) for x in (reconstructions, videos)]  # (b t, 3, h, w)
    return (
        structural_similarity_index_measure(*frames, data_range=1.0, reduction="none")
        .unflatten(0, (len(videos), -1))
        .mean(1)
    )


def follow_dot(videos, threshold=0.1):
    """Where the dot is: positions (b, t, 2) x, y in pixels, and its ink (b, t), the sum of 1 - value over the frame.

    The position is the centroid of what is darker than `threshold` below white; without any it is NaN.
    """
    ink = (1 - videos).mean(1)  # (b, t, h, w)
    ink = ink * (ink > threshold * ink.amax((-1, -2), keepdim=True)) * (ink > INK)
    total = ink.sum((-1, -2))
    x, y = torch.arange(ink.shape[-1]).to(ink), torch.arange(ink.shape[-2]).to(ink)
    centre = torch.stack([(ink.sum(-2) * x).sum(-1), (ink.sum(-1) * y).sum(-1)], -1) / total[..., None]
    return centre, total


def colour_error(videos, reconstructions, threshold=0.1):
    """Share of the dot's ink that is in the wrong one of red, green and blue, (b, t): 0 is the right hue.

    Grey is what a model paints that has lost the colour: compare with that. Without any ink it is NaN.
    """
    true, found = (_ink_shares(x, threshold) for x in (videos, reconstructions))
    return (true - found).abs().sum(1) / 2


def _ink_shares(videos, threshold):
    """How the ink of what is darker than `threshold` of the darkest is divided among the three colours: (b, 3, t)."""
    ink = 1 - videos
    mean = ink.mean(1, keepdim=True)
    dot = (mean > threshold * mean.amax((-1, -2), keepdim=True)) & (mean > INK)
    total = (ink * dot).sum((-1, -2))
    return total / total.sum(1, keepdim=True)


class Usage(NamedTuple):
    """How a codebook is used: codes seen, entropy in bits per token, perplexity = 2^entropy."""

    used: int
    entropy: float
    perplexity: float


def codebook_usage(tokens, codebook_size):
    """`Usage` of tokens of any shape."""
    count = torch.bincount(tokens.flatten(), minlength=codebook_size).double()
    p = count[count > 0] / count.sum()
    entropy = -(p * p.log2()).sum().item()
    return Usage(int((count > 0).sum()), entropy, 2**entropy)


def bits_told(features, answers, clips, folds=2, seed=0, trees=50):
    """Bits that `features` (m, d) save about `answers` (m,), whole numbers: for each clip the mean over its rows.

    Held out: a forest learns from other clips, and is paid log2 of what it says of the answer over what the answers'
    frequencies say. What tells nothing gets 0 or less, never more: counting pairs would flatter a large codebook.
    """
    from sklearn.ensemble import RandomForestClassifier  # slow to import, and only this function needs it

    clips = np.unique(clips, return_inverse=True)[1]
    fold = np.random.default_rng(seed).permutation(clips.max() + 1)[clips] % folds
    saved = np.empty(len(answers))
    for k in range(folds):
        learn, test = fold != k, fold == k
        prior = np.bincount(answers[learn], minlength=answers.max() + 1) + 0.5
        prior /= prior.sum()
        forest = RandomForestClassifier(trees, min_samples_leaf=20, random_state=seed)
        forest.fit(features[learn], answers[learn])
        said = np.zeros((test.sum(), len(prior)))
        said[:, forest.classes_] = forest.predict_proba(features[test])
        said = 0.95 * said + 0.05 * prior  # so that nothing is called impossible
        saved[test] = np.log2((said / prior)[np.arange(len(said)), answers[test]])
    return np.bincount(clips, saved) / np.bincount(clips)


def wilson(right, n, confidence=0.95):
    """Wilson's interval for a share: (low, high)."""
    interval = stats.binomtest(int(right), int(n)).proportion_ci(confidence, method="wilson")
    return interval.low, interval.high


def mean_interval(values, confidence=0.95, seed=0):
    """Bootstrap interval of the mean over clips: (low, high)."""
    values = np.asarray(values, float)
    result = stats.bootstrap(
        (values,), np.mean, confidence_level=confidence, n_resamples=1000, method="percentile",
        rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def median_interval(values):
    """95 % interval of the median over clips: the values so many ranks below and above it, (low, high)."""
    ranks = np.clip(0.5 + np.array([-0.98, 0.98]) / np.sqrt(len(values)), 0, 1)
    low, high = np.quantile(values, ranks)
    return float(low), float(high)


def shape_moments(pictures, order=5):
    """What shape it is, wherever it lies and however it is turned: (n, h, w) darkness -> (n, 21).

    Central moments without their signs, along the picture's own axes, in its own unit of length; then that unit, the
    total and the largest darkness.
    """
    v, u = np.mgrid[: pictures.shape[1], : pictures.shape[2]].astype(np.float32)
    mass = pictures / pictures.sum((1, 2), keepdims=True)
    u, v = (w - (mass * w).sum((1, 2), keepdims=True) for w in (u, v))  # (n, h, w) about the centre
    uu, uv, vv = ((mass * w).sum((1, 2), keepdims=True) for w in (u * u, u * v, v * v))
    angle, unit = np.arctan2(2 * uv, uu - vv) / 2, np.sqrt(uu + vv)
    u, v = (u * np.cos(angle) + v * np.sin(angle)) / unit, (v * np.cos(angle) - u * np.sin(angle)) / unit
    powers = [(i, j) for i in range(order + 1) for j in range(order + 1 - i) if i + j >= 2]
    found = [np.abs((mass * u**i * v**j).sum((1, 2))) for i, j in powers]
    return np.stack([*found, unit[:, 0, 0], pictures.sum((1, 2)), pictures.max((1, 2))], 1)


def exposure(videos, size=32):
    """Moments of videos (n, 3, t, h, w) in [0, 1] as one long exposure, which shows the path and no time: (n, 21)."""
    dark = 1 - videos.mean((1, 2))
    return shape_moments(torch.nn.functional.adaptive_avg_pool2d(dark, size).numpy())


def path_shape(paths):
    """How a path bends, turns and changes its speed, wherever it lies and however it is turned: (n, 16, 2) -> (n, 39).

    The lengths of its Legendre coefficients, its turns in order of size, the logarithm of its speed, and four sums.
    """
    bend = np.polynomial.legendre.legvander(np.linspace(-1, 1, paths.shape[1]), 6)  # (16, 7): constant, line, parabola
    parts = np.linalg.norm(np.einsum("nti,kt->nki", paths, np.linalg.pinv(bend)), axis=-1)[:, 1:]  # (n, 6)
    step = np.diff(paths, axis=1)  # (n, 15, 2)
    speed = np.linalg.norm(step, axis=-1)
    cross = step[:, :-1, 0] * step[:, 1:, 1] - step[:, :-1, 1] * step[:, 1:, 0]
    turn = np.arctan2(cross, (step[:, :-1] * step[:, 1:]).sum(-1))  # (n, 14) radians
    whole = np.stack([np.abs(turn.sum(1)), np.abs(turn).sum(1), turn.std(1), speed.std(1) / speed.mean(1)], 1)
    return np.concatenate([parts, np.sort(turn, 1), np.log(speed + 0.1), whole], 1)
