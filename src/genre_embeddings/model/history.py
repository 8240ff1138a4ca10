"""Implicit feedback: which movies a user rated, or which users rated a movie, as an embedding.

Letters: B batch, D embedding size, R replicas, N training ratings, K different rows of a batch,
E entries in their histories, X = R * D, or 2 * R * D if variances are summed with the means.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from genre_embeddings.model.embedding import EmbeddingTable, safe_sqrt, sample_normal, take_rows

CACHE_BATCH = 65_536
"""Rows whose histories are summed at once when the sums of all rows are cached."""


class SumPooling(torch.autograd.Function):
    """Sums of the columns that each row's list names, (K, X).

    The backward pass sums by the transposed lists: a third of the time of `embedding_bag`'s own.
    """

    @staticmethod
    def forward(ctx: Any, dense: Tensor, starts: Tensor, entries: Tensor) -> Tensor:
        """`dense` (columns, X); `entries` (E,) int32, lists laid end to end from `starts` (K,)."""
        ctx.columns, ctx.starts, ctx.entries = len(dense), starts, entries
        return functional.embedding_bag(entries, dense, starts, mode="sum")

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Gradient of the dense matrix."""
        count = torch.diff(ctx.starts, append=ctx.starts.new_tensor([len(ctx.entries)]))
        rows = torch.arange(len(count), dtype=torch.int32, device=grad.device)
        rows = rows.repeat_interleave(count)[ctx.entries.argsort(stable=True)]  # (E,)
        starts = _row_starts(ctx.entries, ctx.columns)[:-1].int()
        return functional.embedding_bag(rows, grad.contiguous(), starts, mode="sum"), None, None


def _row_starts(index: Tensor, size: int) -> Tensor:
    """Where the entries of each row start in a sorted list of rows, (size + 1,)."""
    return functional.pad(torch.bincount(index, minlength=size).cumsum(0), (1, 0))


class History(nn.Module):
    """Which movies a user rated in training, or which users rated a movie: the latest `most`.

    pooled(i) = sum_{j in history(i)} y_j / sqrt(|history(i)|); an empty history gives zero.

    The prediction of a training rating leaves that rating out of the history: otherwise, the
    history would reveal that the rating exists. `own` is its position among the training ratings.

    Attributes:
        starts, entries: the columns in the history of each row, as lists laid end to end.
        columns: (N,) column of each training rating.
        kept: (N,) whether the training rating is among the latest `most` of its row.
        cached: (rows, X) sums of all rows, while no weight changes; None otherwise.
    """

    starts: Tensor
    entries: Tensor
    columns: Tensor
    kept: Tensor

    def __init__(
        self, rows: Tensor, columns: Tensor, times: Tensor, sizes: tuple[int, int], most: int
    ) -> None:
        super().__init__()
        self.sizes, self.most = sizes, most
        self.cached: Tensor | None = None
        self.register_buffer("columns", columns, persistent=False)
        self.register_buffer("kept", torch.empty(0), persistent=False)
        order = self.index_ratings(rows, columns, times)
        self.register_buffer("starts", _row_starts(rows[order], sizes[0]))
        self.register_buffer("entries", columns[order].int())

    def index_ratings(self, rows: Tensor, columns: Tensor, times: Tensor) -> Tensor:
        """Set `columns` and `kept`; returns the positions kept, by row, then latest first."""
        # numpy's lexsort needs a third of the memory of torch's sorts.
        order = torch.from_numpy(np.lexsort((-times.numpy(), rows.numpy())))
        starts = _row_starts(rows, self.sizes[0])
        rank = torch.arange(len(rows))
        rank -= starts[:-1].repeat_interleave(starts.diff())
        order = order[rank < self.most]
        self.columns = columns
        self.kept = torch.zeros(len(rows), dtype=torch.bool)
        self.kept[order] = True
        return order

    def check_lists(self) -> None:
        """Check that all rows and columns named exist; torch would read other memory otherwise.

        Raises:
            ValueError: one does not exist.
        """
        ends = self.starts[0] == 0 and self.starts[-1] == len(self.entries)
        inside = (self.entries >= 0) & (self.entries < self.sizes[1])
        if not ends or (self.starts.diff() < 0).any() or not inside.all():
            raise ValueError("a history names rows or columns that do not exist")

    def entries_of(self, shares: Tensor) -> float:
        """Expected E if each row is in the batch with this probability, (rows,)."""
        return float(shares @ self.starts.diff().to(shares.dtype))

    def _sums(self, table: EmbeddingTable, variances: bool, rows: Tensor) -> Tensor:
        """Sums over the histories of rows: of means and, if asked, of variances, (B, X)."""
        if self.cached is not None:
            return take_rows(self.cached, rows)[:, : (1 + variances) * table.mean[0].numel()]
        rows, back = rows.unique(return_inverse=True)  # (K,), (B,)
        count = self.starts[rows + 1] - self.starts[rows]  # (K,)
        starts = count.cumsum(0) - count  # (K,) where each row's entries start among E entries
        entries = torch.arange(int(count.sum()), device=rows.device)  # (E,)
        entries += (self.starts[rows] - starts).repeat_interleave(count)
        entries = self.entries[entries]  # (E,) columns
        columns: slice | Tensor = slice(None)
        if table.sparse:
            columns, entries = entries.unique(return_inverse=True)
        parts = [table.take("mean", columns)]
        if variances:
            parts.append((2 * table.take("log_std", columns)).exp())
        dense = torch.cat([part.flatten(1) for part in parts], 1)  # (columns, X)
        return take_rows(SumPooling.apply(dense, starts.int(), entries.int()), back)

    @torch.no_grad()
    def cache_sums(self, table: EmbeddingTable) -> None:
        """Sum the histories of all rows once; valid as long as no weight changes."""
        self.cached = None
        rows = torch.arange(self.sizes[0], device=table.mean.device)
        parts = [self._sums(table, table.variational, part) for part in rows.split(CACHE_BATCH)]
        self.cached = torch.cat(parts)

    def forward(
        self, table: EmbeddingTable, rows: Tensor, own: Tensor | None, generator: Generator | None
    ) -> Tensor:
        """Pooled embeddings of the histories of `rows`, (B, R, D)."""
        sample = generator if table.variational else None
        sums = self._sums(table, sample is not None, rows)
        sums = sums.unflatten(1, (-1, *table.mean.shape[1:]))
        mean, variance = sums[:, 0], sums[:, -1]  # (B, R, D); the variance is used in sampling only
        count = self.starts[rows + 1] - self.starts[rows]  # (B,)
        if own is not None:
            left = self.kept[own] & (count > 0)  # (B,) the unknown movie has an empty history
            count = count - left.long()
            column, left = self.columns[own], left.to(mean.dtype)[:, None, None]
            mean = mean - left * table.take("mean", column)
            if sample is not None:
                own_variance = (2 * table.take("log_std", column)).exp()
                variance = (variance - left * own_variance).clamp(min=0)
        count = count.clamp(min=1).to(mean.dtype)[:, None, None]  # (B, 1, 1)
        pooled = mean / count.sqrt()
        if sample is None:
            return pooled
        return sample_normal(pooled, safe_sqrt(variance / count), sample)
