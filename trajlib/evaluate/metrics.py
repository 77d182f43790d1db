"""Metrics of reconstructions, codebooks, shares and paths. Videos are float tensors (b, 3, t, h, w) in [0, 1].

No model and no figure is known here.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import stats
from torch import Tensor

from trajlib.data.checks import check_array, check_pixels, check_tokens
from trajlib.data.measure import FOREGROUND_THRESHOLD
from trajlib.data.spec import check_number, describe

# ---- reconstructions ----


def psnr(videos: Tensor, recon: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each clip in dB, (b,): over all pixels and frames, or some (b, m); peak 1."""
    check_pixels(videos, recon, dims=range(2, 6))  # or some pixels of each clip
    from torchmetrics.functional.image import peak_signal_noise_ratio  # a second, which not every notebook has to wait

    return peak_signal_noise_ratio(recon, videos, data_range=1.0, reduction="none", dim=tuple(range(1, videos.ndim)))


def foreground_psnr(videos: Tensor, recon: Tensor) -> Tensor:
    """PSNR in dB over the pixels that belong to the foreground of `videos`, (b,)."""
    check_pixels(videos, recon)
    where = ((1 - videos).amax(1, keepdim=True) > FOREGROUND_THRESHOLD).expand_as(videos)
    squared = ((recon - videos) ** 2 * where).flatten(1).sum(1) / where.flatten(1).sum(1)
    return -10 * squared.log10()


def colour_error(videos: Tensor, recon: Tensor) -> Tensor:
    """Share of the dot's intensity in the wrong one of red, green and blue, (b, t): 0 is the right hue.

    Of pixels with at least a tenth of the frame's darkest. A model that has lost the colour paints grey: compare with
    that. NaN without foreground.
    """
    check_pixels(videos, recon)
    shares = []
    for intensity in (1 - videos, 1 - recon):
        mean = intensity.mean(1, keepdim=True)
        dot = (mean > 0.1 * mean.amax((-1, -2), keepdim=True)) & (mean > FOREGROUND_THRESHOLD)
        total = (intensity * dot).sum((-1, -2))
        shares.append(total / total.sum(1, keepdim=True))  # (b, 3, t)
    return (shares[0] - shares[1]).abs().sum(1) / 2


# ---- codebooks and features ----


class Usage(NamedTuple):
    """How a codebook is used: number of codes that occur, entropy in bits a token, perplexity = 2^entropy."""

    used: int
    entropy: float
    perplexity: float


def codebook_usage(tokens: Tensor, codebook_size: int) -> Usage:
    """`Usage` of tokens of any shape."""
    check_tokens(tokens, None, codebook_size)
    bits = entropy(tokens.flatten().cpu().numpy())
    return Usage(len(tokens.unique()), bits, 2**bits)


def information_gain(
    features: np.ndarray, answers: np.ndarray, clips: ArrayLike, seed: int = 0, trees: int = 50
) -> np.ndarray:
    """Bits that `features` (m, d) give about `answers` (m,), whole numbers from 0: mean over the rows of each clip.

    `clips` (m,) says which clip a row belongs to. Held out: a forest learns on the other half of the clips, and a row's
    gain is log2 of the probability that it gives to the answer over the answer's frequency. Features that carry no
    information get 0 or less; mutual information from counted pairs would favour a large codebook. ValueError for
    fewer than two clips, and for other shapes or numbers.
    """
    from sklearn.ensemble import RandomForestClassifier  # slow to import, and only this function needs it

    answers = _whole("answers", answers)
    features, clips = check_array("features", features, len(answers), None), check_array("clips", clips, len(answers))
    check_number("seed", seed, 0, whole=True)
    clips = np.unique(clips, return_inverse=True)[1]
    check_number("the number of clips", clips.max() + 1, 2, whole=True)
    fold = np.random.default_rng(seed).permutation(clips.max() + 1)[clips] % 2
    gain = np.empty(len(answers))
    for k in range(2):
        learn, test = fold != k, fold == k
        prior = np.bincount(answers[learn], minlength=answers.max() + 1) + 0.5
        prior /= prior.sum()
        forest = RandomForestClassifier(trees, min_samples_leaf=20, random_state=seed)
        forest.fit(features[learn], answers[learn])
        predicted = np.zeros((test.sum(), len(prior)))
        predicted[:, forest.classes_] = forest.predict_proba(features[test])
        predicted = 0.95 * predicted + 0.05 * prior  # no answer has probability 0
        gain[test] = np.log2((predicted / prior)[np.arange(len(predicted)), answers[test]])
    return np.bincount(clips, gain) / np.bincount(clips)


def entropy(answers: np.ndarray) -> float:
    """Entropy in bits of whole numbers from 0, (m,), by their frequencies; ValueError for anything else."""
    p = np.bincount(_whole("answers", answers)) / len(answers)
    return float(-(p[p > 0] * np.log2(p[p > 0])).sum())


def _whole(name: str, values: ArrayLike) -> np.ndarray:
    found = np.asarray(values)
    if found.ndim != 1 or not found.size or found.dtype.kind not in "iub" or found.min() < 0:
        raise ValueError(f"{name} came as {describe(values)}; whole numbers from 0 were expected, of shape (m,).")
    return found.astype(int)


def sectors(vectors: np.ndarray, parts: int = 8) -> np.ndarray:
    """Directions of vectors (m, 2) as one of `parts` equal sectors, (m,); 0 begins at the x axis."""
    vectors = check_array("vectors", vectors, None, 2)
    turn = np.arctan2(vectors[:, 1], vectors[:, 0]) / (2 * np.pi) % 1
    return np.floor(turn * parts).astype(int) % parts


# ---- intervals ----


def wilson(hits: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share, `hits` of `n`: (low, high). ValueError unless 0 <= hits <= n, n from 1."""
    hits, n = int(check_array("hits", hits)), int(check_array("n", n))
    check_number("n", n, 1, whole=True)
    check_number("hits", hits, 0, n, whole=True)
    interval = stats.binomtest(hits, n).proportion_ci(confidence, method="wilson")
    return interval.low, interval.high


def mean_interval(values: ArrayLike, seed: int = 0) -> tuple[float, float]:
    """Bootstrap 95 % interval of the mean over clips, values (n,): (low, high). ValueError for fewer than two."""
    check_number("seed", seed, 0, whole=True)
    rng, sample = np.random.default_rng(seed), (check_array("values", values, None, finite=False),)
    check_number("the number of values", sample[0].size, 2, whole=True)
    result = stats.bootstrap(sample, np.mean, n_resamples=1000, method="percentile", rng=rng)
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def median_interval(values: ArrayLike) -> tuple[float, float]:
    """95 % interval of the median over clips, values (n,), from order statistics: (low, high). ValueError for none."""
    found = check_array("values", values, None, finite=False)
    check_number("the number of values", found.size, 1, whole=True)
    low, high = np.quantile(found, np.clip(0.5 + np.array([-0.98, 0.98]) / np.sqrt(len(found)), 0, 1))
    return float(low), float(high)


def holm(p_values: ArrayLike) -> np.ndarray:
    """P values (n,) of n comparisons made at once, corrected for their number (Holm, 1979).

    If all below a level are called significant, the chance that any of them is so by accident is at most this level.
    """
    p = check_array("p_values", p_values, None)
    order = np.argsort(p)
    corrected = np.empty(len(p))
    corrected[order] = np.maximum.accumulate(np.minimum(1.0, p[order] * np.arange(len(p), 0, -1)))
    return corrected


# ---- shapes ----


def shape_moments(pictures: np.ndarray, order: int = 5) -> np.ndarray:
    """A shape, wherever it lies and however it is rotated: pictures of darkness (n, h, w) -> (n, 21).

    Absolute central moments along the shape's principal axes, in its own unit of length; then that unit, and the
    total and the largest darkness.
    """
    check_array("pictures", pictures, None, None, None)
    v, u = np.mgrid[: pictures.shape[1], : pictures.shape[2]].astype(np.float32)
    mass = pictures / pictures.sum((1, 2), keepdims=True)
    u, v = (w - (mass * w).sum((1, 2), keepdims=True) for w in (u, v))  # (n, h, w) about the centroid
    uu, uv, vv = ((mass * w).sum((1, 2), keepdims=True) for w in (u * u, u * v, v * v))
    angle, unit = np.arctan2(2 * uv, uu - vv) / 2, np.sqrt(uu + vv)
    u, v = (u * np.cos(angle) + v * np.sin(angle)) / unit, (v * np.cos(angle) - u * np.sin(angle)) / unit
    powers = [(i, j) for i in range(order + 1) for j in range(order + 1 - i) if i + j >= 2]
    found = [np.abs((mass * u**i * v**j).sum((1, 2))) for i, j in powers]
    return np.stack([*found, unit[:, 0, 0], pictures.sum((1, 2)), pictures.max((1, 2))], 1)


def exposure(videos: Tensor, size: int = 32) -> np.ndarray:
    """`shape_moments` of the mean frame of each video, at `size` pixels: the path without its timing, (n, 21)."""
    check_pixels(videos)
    dark = 1 - videos.mean((1, 2))
    return shape_moments(torch.nn.functional.adaptive_avg_pool2d(dark, size).numpy())
