"""What a model answers when it is asked about genres: from predictions alone.

Two questions. A rotation of the embeddings, or a shift between a genre's vector and those of its
movies, changes the answers only if it changes predictions:

- `ask`: what do the genre embeddings say alone, for the unknown movie of a genre?
- `project`: what does the model as a whole say, for the known movies of a genre?

Letters: R replicas, N users asked, B movies asked, G genres.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from genre_embeddings.model.network import Network

USERS = 1_000
"""Most users who are asked; correlations over as many are off by 0.03 at most."""
MOVIES = 3_000
"""Most known movies that `project` asks about, for seconds at any size."""
ASKED_AT_ONCE = 8_192


def spaced_users(network: Network, most: int = USERS) -> np.ndarray:
    """Evenly spaced users with training ratings, at most `most`, (N,) int64."""
    rated = np.flatnonzero(network.user_counts.numpy())
    return rated[spaced(len(rated), most)]


@torch.no_grad()
def ask(network: Network, users: np.ndarray, genres: np.ndarray | None = None) -> np.ndarray:
    """Responses to some genres or all, (R, N, G) float64, see `answers`."""
    asked = None if genres is None else torch.from_numpy(genres)
    return answers(network, torch.from_numpy(users), asked).double().numpy()


def answers(
    network: Network,
    users: Tensor,
    genres: Tensor | None = None,
    vectors: Tensor | None = None,
) -> Tensor:
    """Responses to genres, (R, N, K).

    What the model predicts for a typical unknown movie of genre k, less what it predicts for the
    unknown movie of no genre, for each of N users and each replica.

    Args:
        network: the model.
        users: (N,).
        genres: (K,) the genres asked about; None for all.
        vectors: (G, R, D+1) genre embeddings to use in place of the model's.
    """
    every = len(network.genre_share[0])
    chosen = torch.arange(every, device=users.device) if genres is None else genres
    cards = torch.eye(every, device=users.device)[chosen]  # (K, G)
    cards = torch.cat([torch.zeros_like(cards[:1]), cards])
    asked = users.repeat_interleave(len(cards))  # (N*(K+1),)
    weights = {} if vectors is None else {"genre.mean": vectors}
    rated = []
    for part in torch.arange(len(asked), device=users.device).split(ASKED_AT_ONCE):
        movies = torch.full_like(part, network.unknown)
        shown = {"genres": cards[part % len(cards)], "typical": True}
        rated.append(functional_call(network, weights, (asked[part], movies), shown).timeless)
    found = torch.cat(rated, 1).view(network.replicas, len(users), len(cards))
    return found[..., 1:] - found[..., :1]


def project(network: Network, users: np.ndarray) -> np.ndarray:
    """Genre slopes of the model's predictions for known movies, (N, G) float64.

    For each user, the predictions (mean over replicas) for movies with training ratings are
    regressed on the shares of their genres and a constant, all movies alike.
    """
    known = np.flatnonzero(network.movie_counts[:-1].numpy())
    movies = known[spaced(len(known), MOVIES)]
    shares = network.genre_share[movies].numpy().astype(np.float64)
    regression = np.linalg.pinv(np.hstack([shares, np.ones((len(movies), 1))]))[:-1]  # (G, B)
    asked = torch.from_numpy(movies)
    parts = torch.from_numpy(users).split(max(1, ASKED_AT_ONCE * 32 // max(len(movies), 1)))
    rated = [
        network.grid(part, asked, corrected=False).mean(0).double().numpy() for part in parts
    ]  # (n, B) each
    return np.concatenate(rated) @ regression.T


def spaced(count: int, most: int) -> np.ndarray:
    """Evenly spaced positions among `count`, at most `most`."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(np.int64))
