"""The user's errors for similar movies: an item-based neighbourhood model on the residuals.

References: a neighbourhood model beside a factor model (Koren, "Factorization meets the
neighborhood", 2008); item-based neighbourhoods (Sarwar et al., 2001); similarities to a power above
1, called case amplification (Breese, Heckerman and Kadie, 1998).

Letters: N training ratings, U users, M movies, K similar movies, B batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Neighbourhood(nn.Module):
    """How far the user's ratings of similar movies lie above or below the network's prediction.

    f(u, i) = a * sum_j w_ij e_uj / (sum_j |w_ij| + lambda)

    over those of the K movies j most similar to i that user u rated in training, where e_uj is the
    rating less the prediction, in rating units. It is zero for users without ratings and for movies
    without similar ones, such as the unknown movie. `training.neighbourhood` computes the weights.
    """

    similar: Tensor  # (M+1, K) int32 movies; the last row is the unknown movie
    weights: Tensor  # (M+1, K) w_ij
    residuals: Tensor  # (N,) e_uj of the training ratings, by user
    amplitude: Tensor  # () a
    shrinkage: Tensor  # () lambda
    keys: Tensor  # (N,) user and movie of each training rating in one number, ascending
    errors: Tensor  # (N,) the residuals in this order

    def __init__(self, rows: int, most: int, ratings: int) -> None:
        """Without similar movies yet; the sizes are M + 1, K and N."""
        super().__init__()
        self.register_buffer("similar", torch.zeros(rows, most, dtype=torch.int32))
        self.register_buffer("weights", torch.zeros(rows, most))
        self.register_buffer("residuals", torch.zeros(ratings))
        self.register_buffer("amplitude", torch.ones(()))
        self.register_buffer("shrinkage", torch.ones(()))
        self.register_buffer("keys", None, persistent=False)
        self.register_buffer("errors", None, persistent=False)

    def index_ratings(self, counts: Tensor, rated: Tensor) -> None:
        """Index the training ratings: their number per user (U,), and their movies (N,), by user.

        Raises:
            ValueError: a similar movie does not exist, or there are no ratings.
        """
        rows = len(self.similar)
        if not len(rated) or ((self.similar < 0) | (self.similar >= rows)).any():
            raise ValueError("a similar movie does not exist, or there are no ratings")
        users = torch.arange(len(counts), device=rated.device).repeat_interleave(counts.long())
        self.keys, order = (users * rows + rated).sort()
        self.errors = self.residuals[order]

    def add_user(self, user: int, movies: Tensor, residuals: Tensor) -> None:
        """Index the ratings of one more user, whose number is higher than all others."""
        movies, order = movies.sort()
        self.keys = torch.cat([self.keys, user * len(self.similar) + movies])
        self.errors = torch.cat([self.errors, residuals[order]])

    def forward(self, users: Tensor, movies: Tensor) -> Tensor:
        """f of a batch, (B,)."""
        errors, weights = self.sums(users, movies)
        return self.amplitude * errors / (weights + self.shrinkage)

    def sums(self, users: Tensor, movies: Tensor) -> tuple[Tensor, Tensor]:
        """Sums of w_ij e_uj and of |w_ij| over the similar movies, (B,) each."""
        asked = users[:, None] * len(self.similar) + self.similar[movies]  # (B, K)
        at = torch.searchsorted(self.keys, asked).clamp(max=len(self.keys) - 1)
        weights = self.weights[movies] * (self.keys[at] == asked)
        return (weights * self.errors[at]).sum(1), weights.abs().sum(1)

    def grid(self, users: Tensor, movies: Tensor) -> Tensor:
        """f of N users for each of B movies, (N, B)."""
        rows = len(self.similar)
        start, stop = (torch.searchsorted(self.keys, (users + n) * rows) for n in (0, 1))  # (N,)
        count = stop - start
        column = torch.arange(len(users), device=users.device).repeat_interleave(count)
        at = torch.arange(len(column), device=users.device)
        at += (start - (count.cumsum(0) - count)).repeat_interleave(count)
        errors, known = torch.zeros(2, rows, len(users), device=users.device)  # (M+1, N)
        movie = self.keys[at] % rows
        errors[movie, column], known[movie, column] = self.errors[at], 1.0
        similar, weights = self.similar[movies], self.weights[movies]  # (B, K)
        sums, total = (
            functional.embedding_bag(similar, table, mode="sum", per_sample_weights=part)
            for table, part in ((errors, weights), (known, weights.abs()))
        )  # (B, N)
        return (self.amplitude * sums / (total + self.shrinkage)).T
