"""The linear-Gaussian baseline: a trajectory is one draw from a Gaussian over (x, y, radius) in all frames.

No network: a mean and a covariance. It draws new trajectories, and its conditional mean is the best linear answer to
what a task masks.
"""

import numpy as np
import torch
from torch import Tensor

from trajlib.generation.trajectory_tokens import inside_picture

WHOLE = 0.05  # px: standard deviation of the measured position and radius of a dot that shows as a whole
UNKNOWN = 1e4  # px: of what is not observed


class LinearGaussian:
    """Mean and covariance of trajectories (m, frames, 3): x, y, radius in pixels."""

    def __init__(self, trajectories: Tensor):
        flat = trajectories.flatten(1).double()
        self.shape = trajectories.shape[1:]
        self.mean, self.covariance = flat.mean(0), torch.cov(flat.T)

    def sample(self, n: int, size: int, rng: np.random.Generator, tries: int = 3) -> Tensor:
        """`n` trajectories (n, frames, 3); one that leaves a picture of `size` pixels is drawn again, `tries` times."""
        found, left = torch.empty(n, *self.shape), torch.arange(n)
        for _ in range(tries):
            drawn = rng.multivariate_normal(self.mean.numpy(), self.covariance.numpy(), len(left), method="eigh")
            found[left] = torch.from_numpy(drawn).float().view(-1, *self.shape)
            left = left[~inside_picture(found[left], size)]
            if len(left) == 0:
                break
        return found

    def conditional_mean(self, dots: Tensor, cut: Tensor, cut_noise: float) -> Tensor:
        """Trajectories (b, frames, 3) given `dots` (b, frames, 3) as measured, NaN where none shows.

        `cut` (b, frames) bool: the dot touches masked pixels. Then its position has a standard deviation of `cut_noise`
        px, and its radius is unknown.
        """
        noise = torch.where(cut[..., None], torch.tensor([cut_noise, cut_noise, UNKNOWN]), WHOLE)
        noise = torch.where(dots.isfinite(), noise, UNKNOWN).flatten(1).double()
        away = torch.where(dots.isfinite(), dots - self.mean.view(self.shape), 0.0).flatten(1)
        observed = self.covariance + torch.diag_embed(noise.square())  # (b, 3 frames, 3 frames)
        found = self.mean + torch.linalg.solve(observed, away.double()) @ self.covariance
        return found.float().view(dots.shape)
