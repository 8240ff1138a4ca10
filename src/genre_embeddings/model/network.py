"""A variational neural collaborative filter of users, movies and genres, R replicas at once.

References:
1) Variational matrix factorisation: Lim and Teh, "Variational Bayesian approach to movie rating
   prediction" (2007); the Bayesian factorisation machine: Rendle (2012).
2) Neural collaborative filtering: He et al. (2017), arXiv:1708.05031.
3) Implicit feedback (SVD++): Koren, "Factorization meets the neighborhood" (2008).
4) Time and sessions: Koren, "Collaborative filtering with temporal dynamics" (2009).
5) Local reparametrisation: Kingma, Salimans and Welling (2015), arXiv:1506.02557.
6) Replicas, averaged: Lakshminarayanan et al. (2017), arXiv:1612.01474.

Letters: B batch, U users, M movies, G genres, D embedding size, H hidden units, R replicas,
N training ratings, S time scales, W neighbours in time on either side.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from genre_embeddings.model.ratings import Ratings, Slices
from genre_embeddings.settings import ModelSettings

GRID = 1 << 20
"""Numbers that a layer holds at once where many users are asked for many movies."""
WHOLE_HISTORY = 2_000_000
"""Histories of up to this many entries are pooled for all rows at once, larger ones by batch."""
STARS = 4.5
"""Width of MovieLens's scale, 0.5 to 5: whatever scale the ratings have, its stars are learnt."""
WINDOW = 16
"""W, ratings looked at before and after in time."""
WORTH_HOLDING = 10
"""All histories are summed before predicting if they have fewer entries than this for each one."""
AT_ONCE = 65_536
"""Ratings, or rows whose histories are summed, at once where there may be millions."""
SCALES = (60.0, 600.0, 86_400.0)
"""First time scales, in seconds; learnt from there."""
APART = 1 << 39
"""Seconds (17,000 years) that lie between one user's ratings and the next one's."""
FAINT = -80.0
"""Least exponent of a weight in time, 1e-35: where `exp` underflows it takes ten times as long."""
NEVER = 1e12
"""Seconds to a rating that is not there: so far that its weight is 0, yet finite."""


class Output(NamedTuple):
    """Predictions of a batch.

    Attributes:
        rating: (R, B) predicted rating.
        timeless: (R, B) prediction without the term of time, with which `remember` compares.
    """

    rating: Tensor
    timeless: Tensor


class Loss(NamedTuple):
    """Terms of a batch's loss, (R,) each.

    Attributes:
        fit: mean negative log likelihood, up to a constant.
        kl: the batch's share of the divergence from the prior, per rating.
    """

    fit: Tensor
    kl: Tensor


def draw(mean: Tensor, std: Tensor, generator: Generator) -> Tensor:
    """One sample of N(mean, std^2)."""
    return mean + std * torch.randn(mean.shape, generator=generator, device=mean.device)


def root(variance: Tensor) -> Tensor:
    """Square root with a finite slope at zero."""
    return (variance + 1e-10).sqrt()


def gather(whole: Tensor, rows: Tensor) -> Tensor:
    """Rows of a tensor, (B, ...); on the way back a row's gradients are summed in a fixed order.

    Both ways do the same. On a CPU the second takes half the time or less, and on a GPU only the
    first keeps the order.
    """
    return whole[rows] if whole.is_cuda else whole.index_select(0, rows)


class Rows(torch.autograd.Function):
    """Rows of a parameter whose gradient is sparse: it names the rows, and no other is touched."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, rows: Tensor) -> Tensor:
        """The chosen rows, (B, ...)."""
        ctx.rows, ctx.shape = rows, whole.shape
        return whole.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Sparse gradient of the whole parameter."""
        return torch.sparse_coo_tensor(
            ctx.rows[None], grad, ctx.shape, check_invariants=False
        ), None


class Table(nn.Module):
    """Embeddings with a posterior N(mean, std^2) for each entry and a prior for each column.

    KL(row) = sum_c log(prior_c / std_c) + (std_c^2 + mean_c^2) / (2 prior_c^2) - 1/2.
    Where there is a bias it is one column more, the last: C = D + 1 columns, else C = D.
    """

    def __init__(
        self,
        rows: int,
        dim: int,
        replicas: int,
        variational: bool,
        generator: Generator,
        bias: float | None = None,
    ) -> None:
        """Draw the first means; `bias` is the prior of the bias column, None for no such column."""
        super().__init__()
        columns = dim if bias is None else dim + 1
        mean = torch.randn(rows, replicas, columns, generator=generator) * 0.1
        std, prior = torch.full_like(mean, 0.03), torch.full((replicas, columns), 0.3)
        if bias is not None:
            mean[..., -1] *= 0.1
            std[..., -1], prior[:, -1] = 0.1, bias
        self.variational, self.sparse = variational, False
        self.mean = nn.Parameter(mean)  # (rows, R, C)
        if variational:
            self.log_std = nn.Parameter(std.log())  # (rows, R, C)
            self.log_prior = nn.Parameter(prior.log())  # (R, C)

    @property
    def variance(self) -> Tensor:
        """Posterior variances, (rows, R, C)."""
        return (2 * self.log_std).exp()

    def forward(self, rows: Tensor, generator: Generator | None) -> Tensor:
        """Rows of the table, (B, R, C), sampled if there is a generator."""
        mean = self._rows(self.mean, rows)  # (B, R, C)
        if generator is None or not self.variational:
            return mean
        return draw(mean, self._rows(self.log_std, rows).exp(), generator)

    def _rows(self, whole: Tensor, rows: Tensor | slice) -> Tensor:
        """Rows of a parameter, (B, R, C); with a sparse gradient where `sparse` is set."""
        if isinstance(rows, slice) and self.sparse:
            rows = torch.arange(len(whole), device=whole.device)[rows]
        if isinstance(rows, slice):
            return whole[rows]
        if self.sparse and torch.is_grad_enabled():
            return Rows.apply(whole, rows)
        return gather(whole, rows)

    def mix(self, weights: Tensor, generator: Generator | None) -> Tensor:
        """Weighted sums of all rows, (B, R, C), sampled at the sum; weights (B, rows)."""
        mean = torch.einsum("bk,krc->brc", weights, self.mean)  # (B, R, C)
        if generator is None or not self.variational:
            return mean
        variance = torch.einsum("bk,krc->brc", weights**2, self.variance)
        return draw(mean, root(variance), generator)

    def kl(self, rows: Tensor | slice) -> Tensor:
        """Divergence of rows from the prior, (B, R); zero for point embeddings."""
        mean = self._rows(self.mean, rows)  # (B, R, C)
        if not self.variational:
            return mean.new_zeros(mean.shape[:2])
        log_std = self._rows(self.log_std, rows)
        ratio = ((2 * log_std).exp() + mean**2) * (-2 * self.log_prior).exp()  # (B, R, C)
        return (self.log_prior - log_std + 0.5 * ratio - 0.5).sum(-1)


class Pool(torch.autograd.Function):
    """Sums of the columns that each row names; by the transposed list the way back is as fast."""

    @staticmethod
    def forward(ctx: Any, dense: Tensor, *lists: Tensor) -> Tensor:
        """Sums, (rows, X), of dense (columns, X); lists: starts, entries, and both transposed."""
        starts, entries, *ctx.transposed = lists
        return functional.embedding_bag(entries, dense, starts[:-1].int(), mode="sum")

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradient of the dense matrix."""
        starts, entries = ctx.transposed
        back = functional.embedding_bag(entries, grad.contiguous(), starts[:-1].int(), mode="sum")
        return back, None, None, None, None


def _offsets(index: Tensor, size: int) -> Tensor:
    """Where the entries of each row begin in a sorted list of rows, (size + 1,)."""
    return functional.pad(torch.bincount(index, minlength=size).cumsum(0), (1, 0))


class History(nn.Module):
    """Which movies a user rated in training, or which users rated a movie: the latest `most`.

    pooled(i) = sum_{j in history(i)} y_j / sqrt(|history(i)|); an empty history gives zero.
    A training rating (`own`, its position) is left out of its own history: that it is there must
    not say that it exists.
    """

    starts: Tensor
    entries: Tensor
    back_starts: Tensor
    back_entries: Tensor
    columns: Tensor
    kept: Tensor

    def __init__(
        self, rows: Tensor, columns: Tensor, times: Tensor, sizes: tuple[int, int], most: int
    ) -> None:
        super().__init__()
        self.sizes, self.most = sizes, most
        self.held: Tensor | None = None  # (rows, X) sums of all rows, while no weight changes
        self.register_buffer("columns", columns, persistent=False)  # (N,)
        self.register_buffer("kept", torch.empty(0), persistent=False)  # (N,) within `most`
        order = self.follow(rows, columns, times)
        rows, columns = rows[order], columns[order]
        back = torch.argsort(columns, stable=True)
        self.register_buffer("starts", _offsets(rows, sizes[0]))
        self.register_buffer("entries", columns.int())
        self.register_buffer("back_starts", _offsets(columns, sizes[1]))
        self.register_buffer("back_entries", rows[back].int())

    def follow(self, rows: Tensor, columns: Tensor, times: Tensor) -> Tensor:
        """Learn the positions of the training ratings; returns those kept, by row and latest."""
        # Sorted by row, then latest, then position; numpy takes a third of torch's memory for it.
        order = torch.from_numpy(np.lexsort((-times.numpy(), rows.numpy())))
        starts = _offsets(rows, self.sizes[0])
        rank = torch.arange(len(rows))
        rank -= starts[:-1].repeat_interleave(starts.diff())
        order = order[rank < self.most]
        self.columns = columns
        self.kept = torch.zeros(len(rows), dtype=torch.bool)
        self.kept[order] = True
        return order

    def require_sound(self) -> None:
        """Refuse lists of rows or columns that do not exist, which torch would read all the same.

        Raises:
            ValueError: there are such.
        """
        lists = ((self.starts, self.entries), (self.back_starts, self.back_entries))
        for (starts, entries), size in zip(lists, self.sizes[::-1], strict=True):
            ends = starts[0] == 0 and starts[-1] == len(entries)
            if not ends or (starts.diff() < 0).any() or ((entries < 0) | (entries >= size)).any():
                raise ValueError("a history names what is not there")

    def _sums(self, table: Table, spread: bool, rows: Tensor) -> Tensor:
        """Sums over the histories of rows: of means and, if `spread`, of variances, (B, X)."""
        if self.held is not None:
            return gather(self.held, rows)[:, : (1 + spread) * table.mean[0].numel()]
        dense = table.mean.flatten(1)  # (columns, R*D)
        if spread:
            dense = torch.cat([dense, table.variance.flatten(1)], 1)  # (columns, 2*R*D)
        if len(self.entries) <= WHOLE_HISTORY:
            lists = (self.starts, self.entries, self.back_starts, self.back_entries)
            return gather(Pool.apply(dense, *lists), rows)
        which, back = rows.unique(return_inverse=True)
        count = self.starts[which + 1] - self.starts[which]
        offsets = count.cumsum(0) - count
        picks = torch.arange(int(count.sum()), device=rows.device)
        picks += (self.starts[which] - offsets).repeat_interleave(count)
        picked = self.entries[picks]  # (entries of all histories) int32
        return functional.embedding_bag(picked, dense, offsets.int(), mode="sum")[back]

    @torch.no_grad()
    def hold(self, table: Table) -> None:
        """Sum all histories once, for as long as no weight changes."""
        self.held = None
        rows = torch.arange(self.sizes[0], device=table.mean.device)
        parts = [self._sums(table, table.variational, part) for part in rows.split(AT_ONCE)]
        self.held = torch.cat(parts)

    def forward(
        self, table: Table, rows: Tensor, own: Tensor | None, generator: Generator | None
    ) -> Tensor:
        """Pooled embeddings of the histories of `rows`, (B, R, D)."""
        sample = generator if table.variational else None
        sums = self._sums(table, sample is not None, rows)
        sums = sums.unflatten(1, (-1, *table.mean.shape[1:]))
        mean, variance = sums[:, 0], sums[:, -1]  # (B, R, D); the second means nothing unsampled
        count = self.starts[rows + 1] - self.starts[rows]  # (B,)
        if own is not None:
            left = self.kept[own] & (count > 0)  # (B,) the unknown movie has no history to leave
            count = count - left.long()
            column, left = self.columns[own], left.to(mean.dtype)[:, None, None]
            mean = mean - left * gather(table.mean, column)
            if sample is not None:
                own_variance = (2 * gather(table.log_std, column)).exp()
                variance = (variance - left * own_variance).clamp(min=0)
        count = count.clamp(min=1).to(mean.dtype)[:, None, None]  # (B, 1, 1)
        pooled = mean / count.sqrt()
        return pooled if sample is None else draw(pooled, root(variance / count), sample)


class Session(nn.Module):
    """How far the user's ratings near in time were above or below what was expected.

    f_s(u, t) = sum_j k_s(t - t_j) e_j / (sum_j k_s(t - t_j) + lambda_s),
    k_s(d) = exp(-|d| / scale_s),  e_j = r_j - timeless_j,

    over the 2W training ratings j of user u that come nearest before and after t. A training
    rating never sees itself: `own` is left out. A time far from all of the user's training
    ratings, and a user without any, give zero.
    """

    moments: Tensor
    times: Tensor
    residuals: Tensor

    def __init__(self, users: Tensor, times: Tensor, replicas: int) -> None:
        super().__init__()
        shape = (replicas, len(SCALES))
        self.log_scale = nn.Parameter(torch.tensor(SCALES).log().repeat(replicas, 1))  # (R, S)
        self.log_lambda = nn.Parameter(torch.full(shape, math.log(2.0)))  # (R, S)
        self.amplitude = nn.Parameter(torch.full(shape, 0.9 / len(SCALES)))  # (R, S)
        self.register_buffer("times", times)  # (N,) seconds
        self.register_buffer("residuals", torch.zeros(len(users), replicas))  # (N, R)
        self.register_buffer("moments", torch.empty(0), persistent=False)  # (N,) ascending
        self.follow(users)

    def follow(self, users: Tensor) -> None:
        """Learn whose the training ratings are, (N,)."""
        self.moments = self.moment(users, self.times)

    def require_sound(self, counts: Tensor) -> None:
        """Refuse times that are not those of `counts` (U,) ratings by user, then time.

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
        """User and time in one number: those of two users are at least APART from each other."""
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
        distance = distance.float().masked_fill(~inside, NEVER)[:, None, None]  # (B, 1, 1, 2W)
        rate = (-self.log_scale).exp()[:, :, None]  # (R, S, 1)
        kernel = (distance * -rate).clamp_(min=FAINT).exp_()  # (B, R, S, 2W)
        residual = gather(self.residuals, at.flatten()).unflatten(0, at.shape)  # (B, 2W, R)
        residual = residual.transpose(1, 2)[:, :, None]  # (B, R, 1, 2W)
        return (kernel * residual).sum(-1) / (kernel.sum(-1) + self.log_lambda.exp())


class Dense(nn.Module):
    """R dense networks of the same shape in one: x (R, B, inputs) -> (R, B)."""

    def __init__(
        self, inputs: int, hidden: tuple[int, ...], replicas: int, generator: Generator
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
    timeless = c + bias(u) + bias(m) + bias(g) + <u, m> + <u, g> + NN([u, m, g, u*m, u*g, f])
    rating = timeless + sum_s a_s f_s(user, time)

    in stars of a scale 4.5 wide; a scale of another width is stretched to it on the way in and out.

    Row M of the movie table is the unknown movie: it has no history, so that its genres alone
    speak for it. `own` is a training rating's position in the order by user, then time.
    """

    genre_share: Tensor
    genres_seen: Tensor
    user_counts: Tensor
    movie_counts: Tensor

    def __init__(
        self,
        settings: ModelSettings,
        replicas: int,
        train: Ratings,
        membership: Tensor,
        users: int,
        limits: tuple[float, float],
        generator: Generator,
    ) -> None:
        """Build an untrained network.

        Args:
            settings: section `model`, with `time` and `genres` as the data allow them.
            replicas: R.
            train: training ratings, by user, then time.
            membership: (M, G) which genres a movie has, 0 or 1.
            users: U.
            limits: lowest and highest rating of the scale.
            generator: draws the first weights.
        """
        super().__init__()
        self.settings, self.replicas, self.limits = settings, replicas, limits
        self.star = (limits[1] - limits[0]) / STARS  # in rating units
        self.users, (self.unknown, genres) = users, membership.shape
        dim, movies = settings.dim, self.unknown
        variational = settings.embedding == "variational"

        def table(rows: int, bias: float | None = None) -> Table:
            return Table(rows, dim, replicas, variational, generator, bias)

        self.user, self.movie = table(users, 0.3), table(movies + 1, 0.3)
        if settings.genres:
            self.genre, self.genre_seen = table(genres, 0.1), table(genres)
        if settings.history:
            self.movie_seen, self.user_seen = table(movies + 1), table(users)
            size, most = (users, movies + 1), settings.history
            self.user_history = History(train.user, train.movie, train.time, size, most)
            self.movie_history = History(train.movie, train.user, train.time, size[::-1], most)
        self.session = Session(train.user, train.time, replicas) if settings.time else None
        self.dense = Dense(self._inputs(settings), settings.hidden, replicas, generator)
        centre = float(train.rating.double().mean()) if train.count else limits[0]
        if settings.squash:
            low, high = limits
            share = min(max((centre - low) / (high - low), 0.01), 0.99)
            centre = math.log(share / (1 - share))
        else:
            centre /= self.star
        self.centre = nn.Parameter(torch.full((replicas, 1), centre))  # (R, 1)
        self.log_noise = nn.Parameter(torch.zeros(replicas))  # (R,)

        weights = torch.cat([self.shares(membership), torch.zeros(1, genres)])  # (M+1, G)
        seen = torch.zeros(users, genres)  # (U, G)
        for user, movie in zip(train.user.split(AT_ONCE), train.movie.split(AT_ONCE), strict=True):
            seen.index_add_(0, user, weights[movie])
        counts = torch.bincount(train.user, minlength=users)  # (U,)
        self.register_buffer("genre_share", weights)
        self.register_buffer("genres_seen", seen / counts.clamp(min=1)[:, None].sqrt())
        self.register_buffer("user_counts", counts.float())
        self.register_buffer(
            "movie_counts", torch.bincount(train.movie, minlength=movies + 1).float()
        )
        with torch.no_grad():  # Who has no ratings stays at the prior's mean.
            self.user.mean[counts == 0] = 0

    @classmethod
    def from_state(
        cls,
        settings: ModelSettings,
        replicas: int,
        limits: tuple[float, float],
        state: dict[str, Tensor],
    ) -> Network:
        """A network with the weights and buffers of a state, which may come from anybody.

        Nothing large is made before the state is known to hold it in the same size.

        Raises:
            KeyError, OverflowError, RuntimeError, TypeError, ValueError: the state does not fit.
        """
        (users,), (rows, genres) = state["user_counts"].shape, state["genre_share"].shape
        if not users or rows < 2:
            raise ValueError(f"{users} users and {rows - 1} movies: both need one")
        for name, shape in cls._large(settings, replicas, users, rows, genres).items():
            if state[name].shape != shape:
                raise ValueError(f"{name} is {tuple(state[name].shape)}, not {shape}")
        membership = (state["genre_share"][:-1] > 0).float()
        nothing = torch.empty(0, dtype=torch.int64)
        train = Ratings(nothing, nothing, nothing.float(), nothing)
        generator = torch.Generator().manual_seed(0)
        network = cls(settings, replicas, train, membership, users, limits, generator)
        for name, own in network.state_dict(keep_vars=True).items():
            module, _, leaf = name.rpartition(".")
            if leaf in ("entries", "back_entries", "times", "residuals"):
                # As long as there are training ratings, of which a new network was given none.
                own = own.new_empty(len(state[name]), *own.shape[1:])
                setattr(network.get_submodule(module), leaf, own)
            if state[name].dtype != own.dtype or not state[name].isfinite().all():
                raise ValueError(f"{name} holds what is not {own.dtype}, or not finite")
        network.load_state_dict(state, assign=True)
        if settings.history:
            network.user_history.require_sound()
            network.movie_history.require_sound()
        if network.session is not None:
            counts = network.user_counts.long()
            network.session.require_sound(counts)
            network.session.follow(torch.arange(users).repeat_interleave(counts))
        return network

    @staticmethod
    def _large(
        settings: ModelSettings, replicas: int, users: int, rows: int, genres: int
    ) -> dict[str, tuple[int, ...]]:
        """Shapes of what grows with the settings or with users, movies and genres."""
        dim = settings.dim
        tables = {"user": (users, dim + 1), "movie": (rows, dim + 1)}
        if settings.genres:
            tables |= {"genre": (genres, dim + 1), "genre_seen": (genres, dim)}
        if settings.history:
            tables |= {"movie_seen": (rows, dim), "user_seen": (users, dim)}
        shapes: dict[str, tuple[int, ...]] = {"genres_seen": (users, genres)}
        for name, (count, columns) in tables.items():
            for part in ("mean", "log_std")[: 1 + (settings.embedding == "variational")]:
                shapes[f"{name}.{part}"] = (count, replicas, columns)
        sizes = (Network._inputs(settings), *settings.hidden, 1)
        for layer, (a, b) in enumerate(pairwise(sizes)):
            shapes[f"dense.weights.{layer}"] = (replicas, a, b)
        return shapes

    @staticmethod
    def _inputs(settings: ModelSettings) -> int:
        """Numbers that the dense network is given for a rating."""
        pieces = 2 + settings.genres + settings.cross * (1 + settings.genres)
        return pieces * settings.dim + (len(SCALES) if settings.time else 0)

    def follow(self, train: Ratings) -> None:
        """Know the training ratings by position again, which `own` needs in a loaded network."""
        if self.settings.history:
            self.user_history.follow(train.user, train.movie, train.time)
            self.movie_history.follow(train.movie, train.user, train.time)

    def forward(
        self,
        users: Tensor,
        movies: Tensor,
        times: Tensor | None = None,
        genres: Tensor | None = None,
        own: Tensor | None = None,
        generator: Generator | None = None,
    ) -> Output:
        """Predict a batch.

        Args:
            users: (B,).
            movies: (B,); `unknown`, or a movie without training ratings, is known by genres alone.
            times: (B,) seconds, or None where the time is not known.
            genres: (B, G) genres to use in place of the movies' own, 0 or 1.
            own: (B,) positions among the training ratings, for training ratings only.
            generator: samples the embeddings; without it, their means are used.
        """
        s = self.settings
        if s.genres:
            share = self.genre_share[movies] if genres is None else self.shares(genres)  # (B, G)
        movies = torch.where(self.movie_counts[movies] > 0, movies, self.unknown)  # (B,)
        u, m = self.user(users, generator), self.movie(movies, generator)  # (B, R, D+1)
        bias, u, m = u[..., -1] + m[..., -1], u[..., :-1], m[..., :-1]  # (B, R), (B, R, D)
        if s.history:
            u = u + self.user_history(self.movie_seen, users, own, generator)  # (B, R, D)
            m = m + self.movie_history(self.user_seen, movies, own, generator)  # (B, R, D)
        parts = [u, m]
        if s.genres:
            g = self.genre.mix(share, generator)  # (B, R, D+1)
            u = u + self.genre_seen.mix(self.genres_seen[users], generator)  # (B, R, D)
            bias, parts = bias + g[..., -1], [u, m, g[..., :-1]]
        if s.cross:
            products = [u * part for part in parts[1:]]  # (B, R, D) each
            bias = bias + torch.stack([product.sum(-1) for product in products]).sum(0)  # (B, R)
            parts += products
        near = None
        if self.session is not None:
            if times is None:
                near = bias.new_zeros(*bias.shape, len(SCALES))
            else:
                near = self.session(users, times, own)  # (B, R, S)
            parts.append(near)
        x = torch.cat(parts, -1).transpose(0, 1)  # (R, B, inputs)
        timeless = self.centre + bias.T + self.dense(x)  # (R, B)
        if s.squash:
            low, high = self.limits
            timeless = low + (high - low) * timeless.sigmoid()
        else:
            timeless = timeless * self.star
        if near is None or self.session is None:
            return Output(timeless, timeless)
        shift = self.star * (near * self.session.amplitude).sum(-1).T  # (R, B)
        return Output(timeless + shift, timeless)

    @contextmanager
    def holding(self, ratings: int) -> Iterator[None]:
        """Sum the histories once for so many predictions, within which no weight may change."""
        pairs: list[tuple[History, Table]] = []
        if self.settings.history and ratings * WORTH_HOLDING > len(self.user_history.entries):
            pairs = [
                (self.user_history, self.movie_seen),
                (self.movie_history, self.user_seen),
            ]
        try:
            for history, table in pairs:
                history.hold(table)
            yield
        finally:
            for history, _ in pairs:
                history.held = None

    @torch.no_grad()
    def grid(self, users: Tensor, movies: Tensor) -> Tensor:
        """Ratings of N users for each of B movies, (R, N, B), as `forward` has them without times.

        What a user or a movie brings alone is worked out once, not for every pair, and products
        with the user's vector are taken into the weights: (u * m) W = m (diag(u) W).
        """
        s = self.settings
        share = self.genre_share[movies]  # (B, G)
        movies = torch.where(self.movie_counts[movies] > 0, movies, self.unknown)
        u, m = self.user(users, None), self.movie(movies, None)  # (N, R, D+1), (B, R, D+1)
        rating = self.centre[..., None] + u[..., -1].T[:, :, None] + m[..., -1].T[:, None]
        u, m = u[..., :-1], m[..., :-1]
        if s.history:
            u = u + self.user_history(self.movie_seen, users, None, None)
            m = m + self.movie_history(self.user_seen, movies, None, None)
        if s.genres:
            g = self.genre.mix(share, None)  # (B, R, D+1)
            u = u + self.genre_seen.mix(self.genres_seen[users], None)
            rating, m = rating + g[..., -1].T[:, None], torch.cat([m, g[..., :-1]], -1)
        u, m = u.transpose(0, 1), m.transpose(0, 1)  # (R, N, D), (R, B, P) where P is D or 2D
        end = s.dim + m.shape[2]
        weights, *deeper = self.dense.weights
        of_user = u @ weights[:, : s.dim] + self.dense.biases[0]  # (R, N, H)
        room = self.replicas * max(weights.shape[2], *s.hidden, 1)
        for n in Slices(len(users), max(1, GRID // (room * m.shape[2]))):
            mixed = weights[:, None, s.dim : end]  # (R, 1, P, H)
            if s.cross:
                factors = u[:, n].repeat(1, 1, m.shape[2] // s.dim)  # (R, n, P)
                rating[:, n] += factors @ m.transpose(1, 2)
                products = weights[:, None, end : end + m.shape[2]]
                mixed = mixed + factors[..., None] * products  # (R, n, P, H)
            for b in Slices(len(movies), max(1, GRID // (room * (n.stop - n.start)))):
                x = m[:, None, b] @ mixed + of_user[:, n, None]  # (R, n, b, H)
                part, x = rating[:, n, b], x.flatten(1, 2)
                for weight, bias in zip(deeper, self.dense.biases[1:], strict=True):
                    x = torch.baddbmm(bias, functional.silu(x, inplace=True), weight)
                part += x.view_as(part)
        if s.squash:
            low, high = self.limits
            rating = low + (high - low) * rating.sigmoid()
        else:
            rating *= self.star
        return rating

    @staticmethod
    def shares(genres: Tensor) -> Tensor:
        """Weights of genres in a movie's genre vector, (B, G): 1 / sqrt(how many it has)."""
        return genres / genres.sum(1, keepdim=True).clamp(min=1).sqrt()

    def loss(self, output: Output, ratings: Tensor, users: Tensor, movies: Tensor) -> Loss:
        """Terms of the batch's loss, fit + kl_weight * kl; over an epoch, kl counts each row once.

        fit = (r - rating)^2 / (2 noise^2) + log noise,  kl = mean_b KL(row of b) / count(row of b).
        `movies` are the true ones, also where the network was shown the unknown movie.
        """
        error = (((ratings - output.rating) / self.star) ** 2).mean(1)  # (R,)
        fit = 0.5 * error * (-2 * self.log_noise).exp() + self.log_noise  # (R,)
        if self.settings.embedding == "point":
            return Loss(fit, torch.zeros_like(fit))
        rare = self.movie.kl(slice(self.unknown, None)).sum(0)  # (R,)
        if self.settings.genres:
            rare = rare + self.genre.kl(slice(None)).sum(0) + self.genre_seen.kl(slice(None)).sum(0)
        kl = rare / self.user_counts.sum()
        by_user, by_movie = [self.user], [self.movie]
        if self.settings.history:
            by_user, by_movie = [self.user, self.user_seen], [self.movie, self.movie_seen]
        for tables, index, counts in (
            (by_user, users, self.user_counts),
            (by_movie, movies, self.movie_counts),
        ):
            rows, times = index.unique(return_counts=True)  # (K,)
            weights = times / (counts[rows] * len(index))  # (K,)
            kl = kl + sum(weights @ table.kl(rows) for table in tables)  # (R,)
        return Loss(fit, kl)

    def negative_log_likelihood(self, mse: float) -> float:
        """Mean negative log likelihood per rating at this MSE, up to a constant."""
        log_noise, mse = self.log_noise.detach(), mse / self.star**2
        return float((0.5 * mse * (-2 * log_noise).exp() + log_noise).mean())

    @torch.no_grad()
    def remember(self, own: Tensor, ratings: Tensor, output: Output) -> None:
        """Keep what the timeless part leaves of these training ratings, for neighbours in time."""
        if self.session is not None:
            self.session.residuals[own] = ((ratings - output.timeless) / self.star).T

    @staticmethod
    def kind_of(name: str) -> str:
        """Whether a parameter is of an embedding, of a prior or of the dense network."""
        if name.endswith((".mean", ".log_std")):
            return "embedding"
        return "prior" if name.endswith(("log_prior", "log_noise")) else "network"

    def genre_posterior(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of every genre embedding, (G, R, D) each."""
        mean = self.genre.mean[..., :-1].detach()
        if not self.genre.variational:
            return mean, torch.zeros_like(mean)
        return mean, self.genre.log_std[..., :-1].detach().exp()

    @torch.no_grad()
    def predict(
        self,
        users: Tensor,
        movies: Tensor,
        times: Tensor | None = None,
        genres: Tensor | None = None,
        own: Tensor | None = None,
        samples: int = 0,
        generator: Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Mean over replicas, kept on the scale, and standard deviation of ratings, (B,) each.

        deviation^2 = noise^2 + spread of the replicas + spread of the posterior, the last from
        `samples` draws of each replica.
        """
        rating = self(users, movies, times, genres, own).rating  # (R, B)
        noise = self.star**2 * (2 * self.log_noise).exp().mean()
        variance = noise + rating.var(0, correction=0)  # (B,)
        for _ in range(samples if self.settings.embedding == "variational" else 0):
            sampled = self(users, movies, times, genres, own, generator).rating  # (R, B)
            variance = variance + (sampled - rating).square().mean(0) / samples
        return rating.mean(0).clamp(*self.limits), variance.sqrt()
