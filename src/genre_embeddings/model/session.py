"""The user's mood at a time: residuals of other ratings by the user, near in time or latest.

Letters: B batch, R replicas, N training ratings, S scales, W neighbours.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from genre_embeddings.model.embedding import take_rows

SCALES = {"near": (60.0, 600.0, 86_400.0), "latest": (16.0,)}
"""Initial scales, in seconds (near) or in ratings (latest); training changes them."""
WINDOW = 16
"""W / 2: ratings nearest in time are that many on either side, the latest twice as many."""
APART = 1 << 39
"""Seconds (17,000 years) between the ratings of one user and those of the next in `moments`."""
NEVER = 1e12
"""Distance to a missing rating: its weight is 0, and the arithmetic stays finite."""
FAINT = -80.0
"""Lowest exponent of a weight, 1e-35: where `exp` underflows, it takes ten times as long."""


class Session(nn.Module):
    """How far other ratings by the user lay above or below the prediction.

    f_s(u, t) = sum_j k_s(d_j) e_j / (sum_j k_s(d_j) + lambda_s),
    k_s(d) = exp(-d / scale_s),  e_j = r_j - timeless_j,

    over W training ratings j of user u: half of them before and half of them after t, at a
    distance d_j = |t - t_j| in seconds, or (`latest`) the last ones before t, where d_j is 1 for
    the last. The prediction of a training rating leaves that rating out: `own` is its position. f
    is zero where all of the user's training ratings are far away, and for a user without any.
    """

    times: Tensor  # (N,) seconds, by user, then time
    residuals: Tensor  # (N, R) e_j of each training rating
    moments: Tensor  # (N,) user and time in one ascending number

    def __init__(self, replicas: int, latest: bool) -> None:
        super().__init__()
        self.latest, scales = latest, SCALES["latest" if latest else "near"]
        shape = (replicas, len(scales))
        self.log_scale = nn.Parameter(torch.tensor(scales).log())  # (S,)
        self.log_lambda = nn.Parameter(torch.full(shape, math.log(2.0)))  # (R, S)
        self.amplitude = nn.Parameter(torch.full(shape, 0.9 / len(scales)))  # (R, S)
        self.register_buffer("times", torch.empty(0, dtype=torch.int64))
        self.register_buffer("residuals", torch.empty(0, replicas))
        self.register_buffer("moments", None, persistent=False)

    def index_ratings(self, users: Tensor, times: Tensor) -> None:
        """Index the training ratings, (N,) each, by user, then time.

        Raises:
            ValueError: they are not in this order, or a time is not possible.
        """
        self.times, self.moments = times, self.moment(users, times)
        if ((times < 0) | (times >= APART)).any() or (self.moments.diff() < 0).any():
            raise ValueError("the times of ratings are not in order")

    @staticmethod
    def moment(users: Tensor, times: Tensor) -> Tensor:
        """User and time in one number; those of two users are at least APART from each other."""
        return (users << 40) + times

    def forward(self, users: Tensor, times: Tensor, own: Tensor | None) -> Tensor:
        """f of a batch, (B, R, S)."""
        moment = self.moment(users, times)  # (B,)
        # Ratings of the same second count as earlier ones: `latest` looks at none that is newer.
        step = torch.arange(-WINDOW, WINDOW, device=users.device)  # (W,)
        if self.latest:
            step = torch.arange(-1, -2 * WINDOW - 1, -1, device=users.device)
        if own is None:
            at = torch.searchsorted(self.moments, moment, right=self.latest)[:, None] + step
        else:
            at = own[:, None] + step + (step >= 0)  # (B, W)
        inside = (at >= 0) & (at < len(self.moments))
        at = at.clamp(0, len(self.moments) - 1)
        distance = (self.moments[at] - moment[:, None]).abs()  # (B, W)
        inside &= distance < APART
        if self.latest:
            distance = -step.expand(at.shape)
        distance = distance.float().masked_fill(~inside, NEVER)[:, None]  # (B, 1, W)
        rate = (-self.log_scale).exp()[:, None]  # (S, 1)
        kernel = (distance * -rate).clamp_(min=FAINT).exp_()  # (B, S, W)
        residual = take_rows(self.residuals, at.flatten()).unflatten(0, at.shape)  # (B, W, R)
        total = kernel.sum(-1)[..., None] + self.log_lambda.exp().T  # (B, S, R)
        return (kernel @ residual / total).transpose(1, 2)
