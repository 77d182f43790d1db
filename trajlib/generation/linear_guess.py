"""The best linear guess of each trajectory token, given the observed track and the coarser tokens.

Means and covariances of trajectories give, for each coefficient, a conditional mean and spread (a Gaussian's; see any
text on Kalman filters). They are exact where trajectories are Gaussian; what is not, such as four families and the
picture's border, the transformer learns on top.
"""

import torch
from torch import Tensor, nn

from trajlib.generation.trajectory_tokens import TrajectoryTokens

TIGHT, LOOSE, UNKNOWN = 0.05, 1.5, 1e4  # px of noise of a dot that shows whole, of a cut one, of what does not show


class LinearGuess(nn.Module):
    """Mean and spread of each coefficient of `TrajectoryTokens`, in standard deviations; `fit` measures covariances."""

    def __init__(self, n: int, frames: int, rounding: float):
        super().__init__()
        size = frames * 3
        self.rounding = rounding  # variance that the levels add
        self.mean, self.covariance = nn.Buffer(torch.zeros(size)), nn.Buffer(torch.eye(size))  # of the trajectory
        self.cross, self.own = nn.Buffer(torch.zeros(n, size)), nn.Buffer(torch.eye(n))  # of coefficients: with it, own

    @torch.no_grad()
    def fit(self, coding: TrajectoryTokens, trajectories: Tensor) -> "LinearGuess":
        """Measure means and covariances on trajectories (m, frames, 3)."""
        flat, deviations = trajectories.flatten(1).double(), coding.deviations(trajectories).double()
        both, size = torch.cov(torch.cat([flat, deviations], 1).T), flat.shape[1]
        self.mean.copy_(flat.mean(0))
        self.covariance.copy_(both[:size, :size])
        self.cross.copy_(both[size:, :size])
        self.own.copy_(both[size:, size:])
        return self

    @torch.no_grad()
    @torch.autocast("cpu", enabled=False)
    def observe(self, dots: Tensor, cut: Tensor) -> tuple[Tensor, Tensor]:
        """Dots (b, frames, 3), NaN where none shows, cut (b, frames) bool -> mean (b, n) and covariance (b, n, n)."""
        shows = dots.isfinite()
        noise = torch.where(cut[..., None], dots.new_tensor([LOOSE, LOOSE, UNKNOWN]), TIGHT)
        noise = torch.where(shows, noise, UNKNOWN).flatten(1).double()
        difference = torch.where(shows.flatten(1), dots.flatten(1).double() - self.mean, 0.0)
        cross = self.cross.double().T
        gain = torch.linalg.solve(self.covariance.double() + torch.diag_embed(noise**2), cross).mT
        mean = (gain @ difference[..., None])[..., 0]
        return mean.float(), (self.own.double() - gain @ cross).float()

    @torch.no_grad()
    def forward(self, observed: tuple[Tensor, Tensor], values: Tensor, upto: int) -> tuple[Tensor, Tensor]:
        """Mean and spread (b, upto) of each coefficient given `observed` and the coarser ones of `values` (b, n)."""
        mean, covariance = observed
        means, spreads = [], []
        for k in range(upto):
            variance = covariance[:, k, k].clamp_min(0) + self.rounding
            means.append(mean[:, k])
            spreads.append(variance.sqrt())
            gain = covariance[:, :, k] / variance[:, None]
            mean = mean + gain * (values[:, k] - mean[:, k])[:, None]
            covariance = covariance - gain[:, :, None] * covariance[:, None, k]
        return torch.stack(means, 1), torch.stack(spreads, 1)
