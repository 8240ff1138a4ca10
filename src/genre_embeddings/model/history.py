"""Implicit feedback: which movies a user rated, or which users rated a movie, as an embedding.

Letters: B batch, D embedding size, R replicas, N training ratings, X = R * D, or 2 * R * D if
variances are summed with the means.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from genre_embeddings.model.embedding import EmbeddingTable, safe_sqrt, sample_normal, take_rows

WHOLE_HISTORY = 2_000_000
"""Up to this many entries, a batch sums the histories of all rows; above, those of its own rows."""
CACHE_BATCH = 65_536
"""Rows whose histories are summed at once when the sums of all rows are cached."""


class SumPooling(torch.autograd.Function):
    """For each row, the sum of the columns that its list names.

    The backward pass sums by the transposed lists, so it is as fast as the forward pass.
    """

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
        back_starts, back_entries: the transposed lists, the rows of each column.
        columns: (N,) column of each training rating.
        kept: (N,) whether the training rating is among the latest `most` of its row.
        cached: (rows, X) sums of all rows, while no weight changes; None otherwise.
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
        self.cached: Tensor | None = None
        self.register_buffer("columns", columns, persistent=False)
        self.register_buffer("kept", torch.empty(0), persistent=False)
        order = self.index_ratings(rows, columns, times)
        rows, columns = rows[order], columns[order]
        back = torch.argsort(columns, stable=True)
        self.register_buffer("starts", _row_starts(rows, sizes[0]))
        self.register_buffer("entries", columns.int())
        self.register_buffer("back_starts", _row_starts(columns, sizes[1]))
        self.register_buffer("back_entries", rows[back].int())

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
        lists = ((self.starts, self.entries), (self.back_starts, self.back_entries))
        for (starts, entries), size in zip(lists, self.sizes[::-1], strict=True):
            ends = starts[0] == 0 and starts[-1] == len(entries)
            if not ends or (starts.diff() < 0).any() or ((entries < 0) | (entries >= size)).any():
                raise ValueError("a history names rows or columns that do not exist")

    def _sums(self, table: EmbeddingTable, variances: bool, rows: Tensor) -> Tensor:
        """Sums over the histories of rows: of means and, if asked, of variances, (B, X)."""
        if self.cached is not None:
            return take_rows(self.cached, rows)[:, : (1 + variances) * table.mean[0].numel()]
        dense = table.mean.flatten(1)  # (columns, R*D)
        if variances:
            dense = torch.cat([dense, table.variance.flatten(1)], 1)  # (columns, 2*R*D)
        if len(self.entries) <= WHOLE_HISTORY:
            lists = (self.starts, self.entries, self.back_starts, self.back_entries)
            return take_rows(SumPooling.apply(dense, *lists), rows)
        which, back = rows.unique(return_inverse=True)
        count = self.starts[which + 1] - self.starts[which]
        offsets = count.cumsum(0) - count
        picks = torch.arange(int(count.sum()), device=rows.device)
        picks += (self.starts[which] - offsets).repeat_interleave(count)
        picked = self.entries[picks]  # (entries of all these histories,) int32
        return functional.embedding_bag(picked, dense, offsets.int(), mode="sum")[back]

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
            mean = mean - left * take_rows(table.mean, column)
            if sample is not None:
                own_variance = (2 * take_rows(table.log_std, column)).exp()
                variance = (variance - left * own_variance).clamp(min=0)
        count = count.clamp(min=1).to(mean.dtype)[:, None, None]  # (B, 1, 1)
        pooled = mean / count.sqrt()
        if sample is None:
            return pooled
        return sample_normal(pooled, safe_sqrt(variance / count), sample)
