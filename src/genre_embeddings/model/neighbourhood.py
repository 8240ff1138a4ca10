"""The user's errors for similar movies: an item-based neighbourhood model on the residuals.

References: a neighbourhood model beside a factor model (Koren, "Factorization meets the
neighborhood", 2008); item-based neighbourhoods (Sarwar et al., 2001); similarities to a power above
1, called case amplification (Breese, Heckerman and Kadie, 1998).

Letters: U users, M movies, C candidates, K similar movies, N users at once, B batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from genre_embeddings.model.embedding import take_rows
from genre_embeddings.model.history import positions_in

CANDIDATES = 8_192
"""Maximum of C: a batch holds C errors for each of its users."""


class Neighbourhood(nn.Module):
    """How far the user's ratings of similar movies lie above or below the network's predictions.

    f(u, i) = a * sum_j w_ij e_uj / (sum_j |w_ij| + lambda)

    over those of the K candidates j most similar to i that user u rated in training, where e_uj is
    the rating less the prediction, in rating units. It is zero for users without ratings and for
    movies without similar ones, such as the unknown movie. `training.neighbourhood` computes the
    weights.
    """

    candidates: Tensor  # (C,) the movies with the most ratings, ascending
    similar: Tensor  # (M+1, K) int16 positions among the candidates; the last row: unknown movie
    weights: Tensor  # (M+1, K) w_ij
    residuals: Tensor  # (ratings,) e_uj of the training ratings, by user
    amplitude: Tensor  # () a
    shrinkage: Tensor  # () lambda
    starts: Tensor  # (U+1,) where the ratings of each user start
    columns: Tensor  # (ratings,) position of the movie among the candidates, C if it is none

    def __init__(self, rows: int, candidates: int, most: int) -> None:
        """Without similar movies and ratings yet; the sizes are M + 1, C and K."""
        super().__init__()
        self.register_buffer("candidates", torch.zeros(candidates, dtype=torch.int64))
        self.register_buffer("similar", torch.zeros(rows, most, dtype=torch.int16))
        self.register_buffer("weights", torch.zeros(rows, most))
        self.register_buffer("residuals", torch.zeros(0))
        self.register_buffer("amplitude", torch.ones(()))
        self.register_buffer("shrinkage", torch.ones(()))
        self.register_buffer("starts", None, persistent=False)
        self.register_buffer("columns", None, persistent=False)

    def index_ratings(self, starts: Tensor, rated: Tensor) -> None:
        """Index the training ratings: where those of each user start (U+1,), and their movies.

        Raises:
            ValueError: a candidate or a similar movie does not exist.
        """
        for index, size in ((self.candidates, len(self.similar)), (self.similar, self._count)):
            if ((index < 0) | (index >= size)).any() or self._count > CANDIDATES:
                raise ValueError("a similar movie does not exist")
        self.starts, self.columns = starts, self._columns(rated)

    def add_user(self, movies: Tensor, residuals: Tensor) -> None:
        """Replace the last user's ratings, of which there are none yet, by these."""
        self.columns = torch.cat([self.columns, self._columns(movies)])
        self.residuals = torch.cat([self.residuals, residuals])
        self.starts[-1] = len(self.columns)

    def forward(self, users: Tensor, movies: Tensor) -> Tensor:
        """f of a batch, (B,)."""
        return self.mean(*self.sums(users, movies))

    def mean(self, sums: Tensor, weights: Tensor) -> Tensor:
        """f from its two sums."""
        return self.amplitude * sums / (weights + self.shrinkage)

    def sums(self, users: Tensor, movies: Tensor) -> tuple[Tensor, Tensor]:
        """Sums of w_ij e_uj and of |w_ij| over the similar movies that were rated, (B,) each."""
        different, row = users.unique(return_inverse=True)
        errors = self._errors(different)  # (N, C+1)
        at = (row * errors.shape[1])[:, None] + take_rows(self.similar, movies)  # (B, K)
        found = take_rows(errors.flatten(), at.flatten()).view_as(at)
        weights = take_rows(self.weights, movies).masked_fill(found.isnan(), 0)
        return (weights * found.nan_to_num(0)).sum(1), weights.abs().sum(1)

    def grid(self, users: Tensor, movies: Tensor) -> Tensor:
        """f of N users for each of B movies, (N, B)."""
        errors = self._errors(users)[:, :-1].T.contiguous()  # (C, N)
        similar, weights = self.similar[movies].int(), self.weights[movies]  # (B, K)
        sums, total = (
            functional.embedding_bag(similar, table, mode="sum", per_sample_weights=part)
            for table, part in (
                (errors.nan_to_num(0), weights),
                ((~errors.isnan()).float(), weights.abs()),
            )
        )  # (B, N)
        return self.mean(sums, total).T

    def _errors(self, users: Tensor) -> Tensor:
        """Residuals of N users for the candidates, NaN for movies not rated, (N, C+1)."""
        at, count = positions_in(self.starts, users)
        row = torch.arange(len(users), device=users.device).repeat_interleave(count)
        errors = self.residuals.new_full((len(users), self._count + 1), torch.nan)
        errors[row, self.columns[at]] = self.residuals[at]
        return errors

    @property
    def _count(self) -> int:
        return len(self.candidates)

    def _columns(self, movies: Tensor) -> Tensor:
        place = self.candidates.new_full((len(self.similar),), self._count)
        place[self.candidates] = torch.arange(self._count, device=place.device)
        return place[movies.long()]
