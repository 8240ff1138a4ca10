"""The user's mood at a time: residuals of the ratings that the user gave shortly before and after.

Letters: B batch, R replicas, N training ratings, S time scales, W neighbours in time on either
side.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from genre_embeddings.model.embedding import take_rows

SCALES = (60.0, 600.0, 86_400.0)
"""Initial time scales, in seconds; training changes them."""
WINDOW = 16
"""W, how many ratings before and after a time are used."""
APART = 1 << 39
"""Seconds (17,000 years) between the ratings of one user and those of the next in `moments`."""
NEVER = 1e12
"""Distance in seconds to a missing rating: its weight is 0, and the arithmetic stays finite."""
FAINT = -80.0
"""Lowest exponent of a weight, 1e-35: where `exp` underflows, it takes ten times as long."""


class Session(nn.Module):
    """How far the user's ratings near in time lay above or below the prediction.

    f_s(u, t) = sum_j k_s(t - t_j) e_j / (sum_j k_s(t - t_j) + lambda_s),
    k_s(d) = exp(-|d| / scale_s),  e_j = r_j - timeless_j,

    over the 2W training ratings j of user u that are nearest before and after t. The prediction
    of a training rating leaves that rating out: `own` is its position. f is zero at a time far
    from all of the user's training ratings, and for a user without any.

    Attributes:
        times: (N,) seconds, by user, then time.
        residuals: (N, R) e_j of each training rating.
        moments: (N,) user and time in one ascending number.
    """

    moments: Tensor
    times: Tensor
    residuals: Tensor

    def __init__(self, users: Tensor, times: Tensor, replicas: int) -> None:
        super().__init__()
        shape = (replicas, len(SCALES))
        self.log_scale = nn.Parameter(torch.tensor(SCALES).log())  # (S,)
        self.log_lambda = nn.Parameter(torch.full(shape, math.log(2.0)))  # (R, S)
        self.amplitude = nn.Parameter(torch.full(shape, 0.9 / len(SCALES)))  # (R, S)
        self.register_buffer("times", times)
        self.register_buffer("residuals", torch.zeros(len(users), replicas))
        self.register_buffer("moments", torch.empty(0), persistent=False)
        self.index_ratings(users)

    def index_ratings(self, users: Tensor) -> None:
        """Index the training ratings by user and time; users (N,)."""
        self.moments = self.moment(users, self.times)

    def check_times(self, counts: Tensor) -> None:
        """Check that `times` are those of `counts` (U,) ratings, by user, then time.

        Raises:
            ValueError: they are not.
        """
        total = len(self.times)
        if ((counts < 0) | (counts > total)).any() or not 0 < counts.sum() == total:
            raise ValueError(f"users have {int(counts.sum())} ratings, and there are {total} times")
        users = torch.arange(len(counts)).repeat_interleave(counts)
        late = (self.times < 0) | (self.times >= APART)
        if late.any() or (self.moment(users, self.times).diff() < 0).any():
            raise ValueError("the times of ratings are not in order")

    @staticmethod
    def moment(users: Tensor, times: Tensor) -> Tensor:
        """User and time in one number; those of two users are at least APART from each other."""
        return (users << 40) + times

    def forward(self, users: Tensor, times: Tensor, own: Tensor | None) -> Tensor:
        """f of a batch, (B, R, S)."""
        step = torch.arange(-WINDOW, WINDOW, device=users.device)  # (2W,)
        moment = self.moment(users, times)  # (B,)
        if own is None:
            at = torch.searchsorted(self.moments, moment)[:, None] + step  # (B, 2W)
        else:
            at = own[:, None] + step + (step >= 0)  # (B, 2W)
        inside = (at >= 0) & (at < len(self.moments))
        at = at.clamp(0, len(self.moments) - 1)
        distance = (self.moments[at] - moment[:, None]).abs()  # (B, 2W)
        inside &= distance < APART
        distance = distance.float().masked_fill(~inside, NEVER)[:, None]  # (B, 1, 2W)
        rate = (-self.log_scale).exp()[:, None]  # (S, 1)
        kernel = (distance * -rate).clamp_(min=FAINT).exp_()  # (B, S, 2W)
        residual = take_rows(self.residuals, at.flatten()).unflatten(0, at.shape)  # (B, 2W, R)
        total = kernel.sum(-1)[..., None] + self.log_lambda.exp().T  # (B, S, R)
        return (kernel @ residual / total).transpose(1, 2)
