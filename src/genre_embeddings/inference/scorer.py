"""The model as a program that PyTorch runs without this package, for a server.

    scorer = torch.export.load("exports/scorer.pt2").module()
    ratings = scorer(torch.tensor([0, -1]), torch.tensor([7, 7]))  # of movie 7: user 0 and unknown

Letters: B pairs, U users, M movies, D embedding size, R replicas.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from genre_embeddings.inference.predict import AnyUser
from genre_embeddings.model.network import Network


class Scorer(nn.Module):
    """Predicted ratings of pairs of user and movie, as `Network` computes them without times.

    Terms of a user alone, or of a movie alone, are summed beforehand, so that neither the histories
    nor the genres are needed.
    """

    anybody: Tensor
    movie: Tensor
    movie_bias: Tensor
    user: Tensor
    user_bias: Tensor

    def __init__(self, network: Network) -> None:
        super().__init__()
        bare = network.settings.model_copy(update={"genres": False, "history": 0})
        self.head = Network(bare, network.replicas, (1, 1, 0), network.limits)
        self.head.dense, self.head.centre = network.dense, network.centre
        del self.head.user, self.head.movie
        users, movies = torch.arange(network.users), torch.arange(network.unknown + 1)
        with torch.no_grad():
            # (U, R, D), (U, R), (M+1, R, D), (M+1, R)
            parts = network.vectors(users, movies)
        for name, part in zip(("user", "user_bias", "movie", "movie_bias"), parts, strict=True):
            self.register_buffer(name, part.clone())  # not the whole tensor that it is a part of
        anybody, _ = AnyUser(network).predict(movies.numpy())  # (M+1,)
        self.register_buffer("anybody", torch.tensor(anybody))

    def forward(self, users: Tensor, movies: Tensor) -> Tensor:
        """Ratings, (B,) float32.

        Args:
            users: (B,) int64, dense indices of users; -1 is an unknown user.
            movies: (B,) int64, dense indices of movies; -1 is an unknown movie without genres.
        """
        known = users.clamp(min=0)
        bias = self.user_bias[known] + self.movie_bias[movies]  # (B, R)
        rating = self.head.rate(self.user[known], bias, self.movie[movies]).rating  # (R, B)
        mean = rating.mean(0).clamp(*self.head.limits)
        return torch.where(users < 0, self.anybody[movies], mean)


def write_scorer(network: Network, path: Path) -> None:
    """Write the scorer for `torch.export.load`; the same model gives the same bytes."""
    pair = torch.zeros(2, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)
    rows = torch.export.Dim("rows")
    with torch.no_grad():
        scorer = Scorer(network).eval()
        program = torch.export.export(scorer, pair, dynamic_shapes=({0: rows}, {0: rows}))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names the folder of this checkout
    torch.export.save(program, path)
