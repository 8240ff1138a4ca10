"""A variational neural collaborative filter with user, movie and genre embeddings.

R replicas (an ensemble) are trained side by side, in one network.

References:
1) Variational matrix factorisation: Lim and Teh, "Variational Bayesian approach to movie rating
   prediction" (2007); the Bayesian factorisation machine: Rendle (2012).
2) Neural collaborative filtering: He et al. (2017), arXiv:1708.05031.
3) Implicit feedback (SVD++): Koren, "Factorization meets the neighborhood" (2008).
4) Time and sessions: Koren, "Collaborative filtering with temporal dynamics" (2009).
5) Local reparametrisation: Kingma, Salimans and Welling (2015), arXiv:1506.02557.
6) Averaged replicas (deep ensembles): Lakshminarayanan et al. (2017), arXiv:1612.01474.

Letters: B batch, U users, M movies, G genres, D embedding size, H hidden units, R replicas,
N training ratings, S time scales.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from genre_embeddings.model.embedding import EmbeddingTable, sample_normal
from genre_embeddings.model.history import History, starts_of
from genre_embeddings.model.neighbourhood import Neighbourhood
from genre_embeddings.model.ratings import Ratings, slices
from genre_embeddings.model.session import SCALES, Session
from genre_embeddings.settings import ModelSettings

STARS = 4.5
"""Ratings are rescaled to a width of 4.5 (MovieLens's 0.5 to 5), so that one set of priors fits any
scale."""
CACHING_PAYS = 10
"""The sums of all histories are cached if there are at most this many entries per prediction."""
UNKNOWN_ERROR = 10.0
"""Standard error of a similarity that was not measured: its interval is -1 to 1."""
TYPICAL_USERS = 4_096
"""Maximum number of users whose mean is the vector of users without ratings."""
RATINGS_AT_ONCE = 65_536
"""Training ratings whose genres are summed at once."""
GRID = 1 << 20
"""Maximum number of values that a layer holds at once in `Network.grid`."""


class Output(NamedTuple):
    """Predictions of a batch, with the time term and without it."""

    rating: Tensor  # (R, B)
    timeless: Tensor  # (R, B) from which `remember` takes residuals


class Vectors(NamedTuple):
    """Vectors and biases of N users and B movies, or variances of these."""

    u: Tensor  # (N, R, D)
    bias: Tensor  # (N, R)
    v: Tensor  # (B, R, D)
    movie_bias: Tensor  # (B, R)


class Dense(nn.Module):
    """R dense networks of the same shape, computed together: x (R, B, inputs) -> (R, B)."""

    def __init__(
        self, inputs: int, hidden: tuple[int, ...], replicas: int, generator: Generator | None
    ) -> None:
        super().__init__()
        sizes = (inputs, *hidden, 1)
        gains = [2.0] * len(hidden) + [0.1]
        self.weights = nn.ParameterList(
            torch.randn(replicas, a, b, generator=generator) * math.sqrt(gain / a)
            for a, b, gain in zip(sizes, sizes[1:], gains, strict=False)
        )
        self.biases = nn.ParameterList(torch.zeros(replicas, 1, b) for b in sizes[1:])

    def forward(self, x: Tensor) -> Tensor:
        """Apply each replica's network to its own inputs."""
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight)  # (R, B, H)
            x = functional.silu(x) if layer < last else x
        return x[..., 0]  # (R, B)


class Network(nn.Module):
    """Ratings from user, movie and genre embeddings.

    u = U[user] + sum_{j rated by user} Y[j] / sqrt(n_user) + sum_k share_k(user) F[k]
    m = M[movie] + sum_{v who rated movie} Z[v] / sqrt(n_movie)
    g = sum_{k in genres(movie)} E[k] / sqrt(|genres(movie)|)
    v = m + g
    timeless = c + bias(u) + bias(v) + <u, v> + NN([u, v, u*v, f])
    rating = timeless + sum_s a_s f_s(user, time)

    on a scale of width 4.5, to which ratings on another scale are rescaled. Once the network is
    trained, `neighbourhood` corrects the mean rating of the replicas.

    Row M of the movie table is the unknown movie: it has no history, so its prediction depends on
    its genres only, and `genre_rare` is added to their vectors. `own` is the position of a training
    rating, in the order by user, then time.

    Only v enters, so moving a vector from the movies of a genre to the genre changes no prediction
    for a known movie. `training.gauge` uses that freedom once the network is trained.
    """

    communality: Tensor  # (G,) share of users' taste for a genre that its embedding explains
    similarity_error: Tensor  # (G, G) standard error of Fisher's z of the similarity of two genres
    genre_rare: Tensor  # (G, R, D+1) by how much rare movies of a genre differ from its others
    genre_share: Tensor  # (M+1, G) weights of a movie's genres in its genre vector
    genres_seen: Tensor  # (U, G) weights of F in the vectors of users
    user_counts: Tensor  # (U,) training ratings
    movie_counts: Tensor  # (M+1,)
    rated: Tensor  # (N,) movies of the training ratings, by user

    def __init__(
        self,
        settings: ModelSettings,
        replicas: int,
        sizes: tuple[int, int, int],
        limits: tuple[float, float],
        generator: Generator | None = None,
    ) -> None:
        """Build an untrained network; `set_data` then tells it the ratings and the genres.

        Args:
            settings: section `model`; `time` and `genres` are off if the data have none.
            replicas: R.
            sizes: U, M and G.
            limits: lowest and highest rating of the scale.
            generator: draws the initial weights.
        """
        super().__init__()
        self.settings, self.replicas, self.limits = settings, replicas, limits
        self.star = (limits[1] - limits[0]) / STARS  # in rating units
        self.users, self.unknown, genres = sizes
        dim, users, rows = settings.dim, self.users, self.unknown + 1
        variational = settings.embedding == "variational"

        def table(rows: int, bias: float | None = None) -> EmbeddingTable:
            return EmbeddingTable(rows, dim, replicas, variational, generator, bias)

        self.user, self.movie = table(users, 0.3), table(rows, 0.3)
        if settings.genres:
            self.genre, self.genre_seen = table(genres, 0.1), table(genres)
            self.register_buffer("communality", torch.ones(genres))
            self.register_buffer("similarity_error", torch.full((genres, genres), UNKNOWN_ERROR))
            self.register_buffer("genre_rare", torch.zeros(genres, replicas, dim + 1))
        if settings.history:
            self.movie_seen, self.user_seen = table(rows), table(users)
            self.user_history = History((users, rows), settings.history)
            self.movie_history = History((rows, users), settings.history)
        self.session = None
        if settings.time != "none":
            self.session = Session(replicas, latest=settings.time == "latest")
        inputs = (2 + settings.cross) * dim + len(SCALES.get(settings.time, ()))
        self.dense = Dense(inputs, settings.hidden, replicas, generator)
        self.neighbourhood: Neighbourhood | None = None
        self.centre = nn.Parameter(torch.zeros(replicas, 1))  # (R, 1)
        self.log_noise = nn.Parameter(torch.zeros(replicas))  # (R,)
        self.register_buffer("genre_share", torch.zeros(rows, genres))
        self.register_buffer("genres_seen", torch.zeros(users, genres))
        self.register_buffer("user_counts", torch.zeros(users))
        self.register_buffer("movie_counts", torch.zeros(rows))
        self.register_buffer("rated", torch.empty(0, dtype=torch.int32))

    @torch.no_grad()
    def set_data(self, train: Ratings, membership: Tensor) -> None:
        """Store the training ratings, by user, then time, and start at their mean.

        `membership` (M, G) says which genres each movie has, 0 or 1.
        """
        low, high = self.limits
        centre = float(train.rating.double().mean())
        if self.settings.squash:
            share = min(max((centre - low) / (high - low), 0.01), 0.99)
            self.centre.fill_(math.log(share / (1 - share)))
        else:
            self.centre.fill_(centre / self.star)
        self.genre_share = functional.pad(self.shares(membership), (0, 0, 0, 1))  # (M+1, G)
        parts = (column.split(RATINGS_AT_ONCE) for column in (train.user, train.movie))
        for user, movie in zip(*parts, strict=True):
            self.genres_seen.index_add_(0, user, self.genre_share[movie])
        counts = torch.bincount(train.user, minlength=self.users)  # (U,)
        self.genres_seen /= counts.clamp(min=1)[:, None].sqrt()
        self.user_counts = counts.float()
        self.movie_counts = torch.bincount(train.movie, minlength=self.unknown + 1).float()
        self.rated = train.movie.int()
        if self.session is not None:
            self.session.index_ratings(train.user, train.time)
            self.session.residuals = torch.zeros(train.count, self.replicas)
        self.index_ratings(train)

    @classmethod
    def from_state(
        cls,
        settings: ModelSettings,
        replicas: int,
        limits: tuple[float, float],
        state: dict[str, Tensor],
    ) -> Network:
        """A network with the weights and buffers of a state, which may come from a stranger.

        It is built without memory, on torch's device `meta`, and then gets the tensors of the
        state, so a small file cannot ask for a large network.

        Raises:
            KeyError, OverflowError, RuntimeError, TypeError, ValueError: the state does not fit.
        """
        (users,), (rows,) = state["user_counts"].shape, state["movie_counts"].shape
        last_layer = f"dense.weights.{len(settings.hidden)}"
        if last_layer not in state:  # building thousands of layers would take seconds
            raise ValueError(f"{last_layer} is missing")
        if not users or rows < 2:
            raise ValueError(f"{users} users and {rows - 1} movies: at least one of each is needed")
        sizes = users, rows - 1, state["genre_share"].shape[1]
        with torch.device("meta"):
            network = cls(settings, replicas, sizes, limits)
            if "neighbourhood.weights" in state:
                (candidates,) = state["neighbourhood.candidates"].shape
                most = state["neighbourhood.weights"].shape[1]
                network.neighbourhood = Neighbourhood(rows, candidates, most)
        expected = network.state_dict()
        for name, blank in expected.items():
            module, _, leaf = name.rpartition(".")
            if leaf in ("entries", "rated", "residuals", "times"):  # one per rating, or per entry
                count = len(state[name if leaf == "entries" else "rated"])
                blank = blank.new_empty(count, *blank.shape[1:])
                setattr(network.get_submodule(module), leaf, blank)
        network.load_state_dict(state, assign=True)
        for name, blank in expected.items():
            if state[name].dtype != blank.dtype or not state[name].isfinite().all():
                raise ValueError(f"{name} has values that are not {blank.dtype}, or not finite")
        if settings.genres and not network.communality.clamp(0, 1).equal(network.communality):
            raise ValueError("a communality is not between 0 and 1")
        rated, counts = network.rated, network.user_counts.long()
        if (counts < 0).any() or sum(counts.tolist()) != len(rated):
            raise ValueError(f"users have {sum(counts.tolist())} ratings, not {len(rated)}")
        if ((rated < 0) | (rated >= network.unknown)).any():
            raise ValueError("a user rated movies that do not exist")
        if settings.history:
            network.user_history.check_lists()
            network.movie_history.check_lists()
        if network.session is not None:
            users_of_ratings = torch.arange(users).repeat_interleave(counts)
            network.session.index_ratings(users_of_ratings, network.session.times)
        if network.neighbourhood is not None:
            network.neighbourhood.index_ratings(network.user_starts, network.rated)
        return network.eval()

    def with_movies(self, sets: Tensor) -> Network:
        """This network with K more movies, which nobody rated: only their genres (K, G) count.

        They come last; the unknown movie stays behind them.
        """
        state, count, last = self.state_dict(), len(sets), self.unknown

        def insert(name: str, rows: Tensor) -> None:
            state[name] = torch.cat([state[name][:last], rows, state[name][last:]])

        insert("genre_share", self.shares(sets))
        insert("movie_counts", torch.zeros(count))
        tables = ("movie.mean", "movie.log_std", "movie_seen.mean", "movie_seen.log_std")
        for name in (*tables, "neighbourhood.similar", "neighbourhood.weights"):
            if name in state:  # these rows of tables are never read; no movie is similar
                insert(name, state[name].new_zeros(count, *state[name].shape[1:]))
        if self.settings.history:
            starts = "movie_history.starts"
            insert(starts, state[starts][last].expand(count))
        return Network.from_state(self.settings, self.replicas, self.limits, state)

    def replica_dims(self) -> dict[str, int]:
        """Names of the tensors of which each replica has its own part, and the dimension of R."""
        found = {}
        for name, value in self.state_dict(keep_vars=True).items():
            if name.endswith((".mean", ".log_std")) or name in ("genre_rare", "session.residuals"):
                found[name] = 1
            elif value.requires_grad and name != "session.log_scale":
                found[name] = 0
        return found

    @property
    def user_starts(self) -> Tensor:
        """Where the training ratings of each user start, and the end of all, (U+1,)."""
        return starts_of(self.user_counts)

    def index_ratings(self, train: Ratings) -> None:
        """Index the training ratings; a loaded network needs this before `own` can be used."""
        if self.settings.history:
            self.user_history.index_ratings(train.user, train.movie, train.time)
            self.movie_history.index_ratings(train.movie, train.user, train.time)

    def forward(
        self,
        users: Tensor,
        movies: Tensor,
        times: Tensor | None = None,
        genres: Tensor | None = None,
        own: Tensor | None = None,
        generator: Generator | None = None,
        typical: bool = False,
    ) -> Output:
        """Predict a batch, without the correction by `neighbourhood`.

        Args:
            users: (B,).
            movies: (B,); for `unknown`, or a movie without training ratings, only genres count.
            times: (B,) seconds since 1970, or None if unknown.
            genres: (B, G) genres to use instead of the movies' own, 0 or 1.
            own: (B,) positions among the training ratings, if these are training ratings.
            generator: if given, embeddings are sampled; otherwise, their means are used.
            typical: whether the unknown movie is as all movies of its genres, not as rare ones.
        """
        sampled = generator is not None and self.user.variational
        vectors, *variances = self.posterior(users, movies, genres, own, typical, sampled)
        if generator is not None and variances:
            # The sums are sampled instead of their terms (local reparametrisation): the variance of
            # the gradient is lower, and there are fewer numbers to draw.
            pairs = zip(vectors, *variances, strict=True)
            vectors = Vectors(*(sample_normal(mean, var, generator) for mean, var in pairs))
        near = None
        if self.session is not None and times is not None:
            near = self.session(users, times, own)  # (B, R, S)
        return self.rate(vectors, near)

    def rate(self, vectors: Vectors, near: Tensor | None = None) -> Output:
        """Ratings by the vectors of B users and movies.

        `near` (B, R, S) is what `session` says, None if the times are unknown.
        """
        u, bias, v, movie_bias = vectors
        bias, parts = bias + movie_bias, [u, v]  # (B, R)
        if self.settings.cross:
            product = u * v  # (B, R, D)
            bias = bias + product.sum(-1)  # (B, R)
            parts.append(product)
        if self.session is not None:
            shape = *bias.shape, len(self.session.log_scale)
            parts.append(bias.new_zeros(shape) if near is None else near)
        x = torch.cat(parts, -1).transpose(0, 1)  # (R, B, inputs)
        timeless = rating = self._on_scale(self.centre + bias.T + self.dense(x))
        if self.session is not None and near is not None:
            rating = timeless + self.star * (near * self.session.amplitude).sum(-1).T
        return Output(rating, timeless)

    def vectors(
        self, users: Tensor, movies: Tensor, genres: Tensor | None = None, typical: bool = False
    ) -> Vectors:
        """Means of the vectors and biases of N users and B movies; see `forward`."""
        return self.posterior(users, movies, genres, None, typical, variances=False)[0]

    def posterior(
        self,
        users: Tensor,
        movies: Tensor,
        genres: Tensor | None = None,
        own: Tensor | None = None,
        typical: bool = False,
        variances: bool = True,
    ) -> list[Vectors]:
        """Means and, if asked for, variances of the vectors and biases of N users and B movies.

        The arguments are those of `forward`.
        """
        share = self.genre_share[movies] if genres is None else self.shares(genres)  # (B, G)
        movies = torch.where(self.movie_counts[movies] > 0, movies, self.unknown)  # (B,)
        # Each of these is a list of means and, if asked for, variances.
        u, bias = _split(self.user(users, variances))
        v, movie_bias = _split(self.movie(movies, variances))
        if self.settings.history:
            u = _add(u, self.user_history(self.movie_seen, users, own, variances))
            v = _add(v, self.movie_history(self.user_seen, movies, own, variances))
        if self.settings.genres:
            u = _add(u, self.genre_seen.weighted_sum(self.genres_seen[users], variances))
            of_genres = self.genre.weighted_sum(share, variances)  # (B, R, D+1)
            if not typical:
                rare = share * (movies == self.unknown)[:, None]  # (B, G)
                of_genres[0] = of_genres[0] + torch.einsum("bk,krc->brc", rare, self.genre_rare)
            vectors, biases = _split(of_genres)
            v, movie_bias = _add(v, vectors), _add(movie_bias, biases)
        return [Vectors(*parts) for parts in zip(u, bias, v, movie_bias, strict=True)]

    def _on_scale(self, rating: Tensor) -> Tensor:
        """Ratings on the scale of the data."""
        if not self.settings.squash:
            return rating * self.star
        low, high = self.limits
        return low + (high - low) * rating.sigmoid()

    @contextmanager
    def cached_histories(self, predictions: int) -> Iterator[None]:
        """Sum the histories once for many predictions; no weight may change meanwhile."""
        if (
            not self.settings.history
            or predictions * CACHING_PAYS <= len(self.user_history.entries)
            or self.user_history.cached is not None  # a caller has summed them
        ):
            yield
            return
        try:
            self.user_history.cache_sums(self.movie_seen)
            self.movie_history.cache_sums(self.user_seen)
            yield
        finally:
            self.user_history.cached = self.movie_history.cached = None

    @torch.no_grad()
    def grid(self, users: Tensor, movies: Tensor, *, corrected: bool = True) -> Tensor:
        """Ratings of N users for each of B movies, (R, N, B): `forward` without times.

        They are corrected by `neighbourhood` unless `corrected` is false.

        Terms of a user alone, or of a movie alone, are computed once instead of for every pair,
        and products with the user's vector become part of the weights: (u * v) W = v (diag(u) W).
        """
        s = self.settings
        u, bias, v, movie_bias = self.vectors(users, movies)
        rating = self.centre[..., None] + bias.T[:, :, None] + movie_bias.T[:, None]  # (R, N, B)
        u, v = u.transpose(0, 1), v.transpose(0, 1)  # (R, N, D), (R, B, D)
        weights, *deeper = self.dense.weights
        of_user = u @ weights[:, : s.dim] + self.dense.biases[0]  # (R, N, H)
        room = self.replicas * max(weights.shape[2], *s.hidden, 1)
        for n in slices(len(users), max(1, GRID // (room * s.dim))):
            mixed = weights[:, None, s.dim : 2 * s.dim]  # (R, 1, D, H)
            if s.cross:
                rating[:, n] += u[:, n] @ v.transpose(1, 2)
                products = weights[:, None, 2 * s.dim : 3 * s.dim]
                mixed = mixed + u[:, n, :, None] * products  # (R, n, D, H)
            for b in slices(len(movies), max(1, GRID // (room * (n.stop - n.start)))):
                x = v[:, None, b] @ mixed + of_user[:, n, None]  # (R, n, b, H)
                part, x = rating[:, n, b], x.flatten(1, 2)
                for weight, bias in zip(deeper, self.dense.biases[1:], strict=True):
                    x = torch.baddbmm(bias, functional.silu(x, inplace=True), weight)
                part += x.view_as(part)
        rating = self._on_scale(rating)
        if corrected and self.neighbourhood is not None:
            rating += self.neighbourhood.grid(users, movies)
        return rating

    @staticmethod
    def shares(genres: Tensor) -> Tensor:
        """Weights of a movie's genres in its genre vector, (B, G): 1 / sqrt(number of genres)."""
        return genres / genres.sum(1, keepdim=True).clamp(min=1).sqrt()

    def loss(
        self, output: Output, ratings: Tensor, users: Tensor, movies: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Terms of the batch's loss fit + kl_weight * kl, (R,) each.

        fit = (r - rating)^2 / (2 noise^2) + log noise,  kl = mean_b KL(row of b) / count(row of b).
        Over an epoch, this counts the KL of each row once. `movies` are the true movies, also where
        the unknown movie was put in the place of a movie.
        """
        error = (((ratings - output.rating) / self.star) ** 2).mean(1)  # (R,)
        fit = 0.5 * error * (-2 * self.log_noise).exp() + self.log_noise  # (R,)
        if self.settings.embedding == "point":
            return fit, torch.zeros_like(fit)
        rare = self.movie.kl(slice(self.unknown, None)).sum(0)  # (R,)
        if self.settings.genres:
            rare = rare + self.genre.kl(slice(None)).sum(0) + self.genre_seen.kl(slice(None)).sum(0)
        kl = rare / self.user_counts.sum()
        for kind, index, counts in (
            ("user", users, self.user_counts),
            ("movie", movies, self.movie_counts),
        ):
            rows, times = index.unique(return_counts=True)  # (K,)
            weights = times / (counts[rows] * len(index))  # (K,)
            kl = kl + weights @ getattr(self, kind).kl(rows)  # (R,)
            if self.settings.history:
                # Rows in nobody's history affect no prediction.
                history = self.movie_history if kind == "user" else self.user_history
                named = history.named[rows]
                kl = kl + weights[named] @ getattr(self, f"{kind}_seen").kl(rows[named])
        return fit, kl

    def negative_log_likelihood(self, mse: float) -> Tensor:
        """Negative log likelihood per rating at this MSE, up to a constant, (R,)."""
        log_noise, mse = self.log_noise.detach(), mse / self.star**2
        return 0.5 * mse * (-2 * log_noise).exp() + log_noise

    @torch.no_grad()
    def place_unrated_users(self) -> None:
        """Give users without training ratings the mean vector of the others, and their spread.

        Zero, the prior's mean, would be far from everybody: vectors of other users contain those of
        the movies that they rated. Where such users come later, they are more like those who rated
        last, and most of their ratings are by those who rate much: they get the mean of the half of
        the users who rated last, weighted by the square roots of their numbers of ratings.
        """
        unrated = self.user_counts == 0
        rated = torch.nonzero(~unrated)[:, 0]
        if not unrated.any():
            return
        weights = torch.ones_like(self.user_counts)
        if self.session is not None and self.session.latest:
            last = self.session.times[self.user_starts[1:][rated] - 1]
            rated, weights = rated[last >= last.median()], self.user_counts.sqrt()
        some = rated[:: math.ceil(len(rated) / TYPICAL_USERS)]
        parts = self.posterior(some, some.new_zeros(1), variances=self.user.variational)
        mean, *variances = (torch.cat([part.u, part.bias[..., None]], -1) for part in parts)
        shares = (weights[some] / weights[some].sum())[:, None, None]  # (N, 1, 1)
        centre = (shares * mean).sum(0)  # (R, D+1)
        self.user.mean[unrated] = centre
        for variance in variances:
            spread = (shares * (variance + (mean - centre) ** 2)).sum(0)  # (R, D+1)
            self.user.log_std[unrated] = 0.5 * spread.log()

    @torch.no_grad()
    def remember(self, own: Tensor, ratings: Tensor, output: Output) -> None:
        """Store the residuals of these training ratings, which `session` uses from now on."""
        if self.session is not None:
            self.session.residuals[own] = ((ratings - output.timeless) / self.star).T

    def genre_posterior(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of every genre embedding, (G, R, D) each."""
        mean = self.genre.mean[..., :-1].detach()
        if not self.genre.variational:
            return mean, torch.zeros_like(mean)
        return mean, self.genre.log_std[..., :-1].detach().exp()


def _split(tables: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Vectors, and the biases in the last column."""
    return [table[..., :-1] for table in tables], [table[..., -1] for table in tables]


def _add(parts: list[Tensor], others: list[Tensor]) -> list[Tensor]:
    return [part + other for part, other in zip(parts, others, strict=True)]
