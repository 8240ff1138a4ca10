"""Implicit feedback: which movies a user rated, or which users rated a movie, as an embedding.

Letters: B batch, D embedding size, R replicas, N training ratings, K different rows of a batch,
E entries in their histories, X = R * D, or 2 * R * D if variances are summed with the means.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn import functional

from genre_embeddings.model.embedding import EmbeddingTable, take_rows

WHOLE_PAYS = 0.4
"""All histories are summed if those of a batch have more than this share of the entries: their
transposed lists are computed once, not for each batch. In the default world, a step without this
takes a tenth longer."""
Lists = tuple[Tensor, Tensor]
"""Lists of columns, laid end to end: where each one starts (rows,), and the columns (E,), int32."""


class SumPooling(torch.autograd.Function):
    """Sums of the columns that each row's list names, (rows, X).

    The backward pass sums by the transposed lists: a third of the time of `embedding_bag`'s own.
    """

    @staticmethod
    def forward(ctx: Any, dense: Tensor, lists: Lists, transposed: Lists | None) -> Tensor:
        """`dense` is (columns, X); the transposed lists are computed when needed if not given."""
        ctx.columns, ctx.lists, ctx.transposed = len(dense), lists, transposed
        starts, entries = lists
        return functional.embedding_bag(entries, dense, starts, mode="sum")

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Gradient of the dense matrix."""
        starts, rows = ctx.transposed or _transpose(ctx.lists, ctx.columns)
        return functional.embedding_bag(rows, grad.contiguous(), starts, mode="sum"), None, None


def _transpose(lists: Lists, columns: int) -> Lists:
    """The rows of each column: by SciPy on a CPU, where torch sorts and takes 8 times as long."""
    starts, entries = lists
    if not entries.is_cuda:
        found = _matrix(starts.numpy(), entries, columns).tocsc()
        return torch.from_numpy(found.indptr[:-1]), torch.from_numpy(found.indices)
    count = torch.diff(starts, append=starts.new_tensor([len(entries)]))
    rows = torch.arange(len(count), dtype=torch.int32, device=starts.device)
    rows = rows.repeat_interleave(count)[entries.argsort(stable=True)]  # (E,)
    return starts_of(entries.bincount(minlength=columns))[:-1].int(), rows


def _matrix(starts: np.ndarray, entries: Tensor, columns: int) -> csr_matrix:
    """Lists as a sparse matrix, without a copy of the entries."""
    ends = np.append(starts, len(entries)).astype(np.int32)
    ones = np.ones(len(entries), dtype=np.int8)
    return csr_matrix((ones, entries.numpy(), ends), shape=(len(starts), columns))


def starts_of(counts: Tensor) -> Tensor:
    """Where lists of these lengths start when they are laid end to end, and the end of all."""
    return functional.pad(counts.long().cumsum(0), (1, 0))


def positions_in(starts: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Where the entries of K rows are in lists laid end to end, (E,), and how many, (K,)."""
    first = starts[rows]
    count = starts[rows + 1] - first  # (K,)
    at = torch.arange(int(count.sum()), device=rows.device)  # (E,)
    at += (first - starts_of(count)[:-1]).repeat_interleave(count)
    return at, count


class History(nn.Module):
    """Which movies a user rated in training, or which users rated a movie: the latest `most`.

    pooled(i) = sum_{j in history(i)} y_j / sqrt(|history(i)|); an empty history gives zero.

    The prediction of a training rating leaves that rating out of the history: otherwise, the
    history would reveal that the rating exists. `own` is its position among the training ratings.
    """

    starts: Tensor  # (rows + 1,) the histories of all rows are lists laid end to end
    entries: Tensor  # (E,) the columns in them
    columns: Tensor  # (N,) column of each training rating
    kept: Tensor  # (N,) whether the training rating is among the latest `most` of its row
    named: Tensor  # (columns,) whether the column is in a history
    back_starts: Tensor | None  # the transposed lists, once needed: the rows of each column
    back_rows: Tensor | None

    def __init__(self, sizes: tuple[int, int], most: int) -> None:
        """Empty histories: `sizes` are the numbers of rows and of columns."""
        super().__init__()
        self.sizes, self.most = sizes, most
        self.cached: Tensor | None = None  # (rows, X) sums of all rows, while no weight changes
        self.matrix: csr_matrix | None = None  # the lists, once needed; not on a GPU
        for name in ("columns", "kept", "named", "back_starts", "back_rows"):
            self.register_buffer(name, None, persistent=False)
        self.register_buffer("starts", torch.zeros(sizes[0] + 1, dtype=torch.int64))
        self.register_buffer("entries", torch.empty(0, dtype=torch.int32))

    def index_ratings(self, rows: Tensor, columns: Tensor, times: Tensor) -> None:
        """Make the histories from the training ratings, (N,) each."""
        # numpy's lexsort needs a third of the memory of torch's sorts.
        order = torch.from_numpy(np.lexsort((-times.numpy(), rows.numpy())))
        starts = starts_of(rows.bincount(minlength=self.sizes[0]))
        rank = torch.arange(len(rows))
        rank -= starts[:-1].repeat_interleave(starts.diff())
        order = order[rank < self.most]
        self.columns = columns
        self.kept = torch.zeros(len(rows), dtype=torch.bool)
        self.kept[order] = True
        self.starts = starts_of(rows[order].bincount(minlength=self.sizes[0]))
        self.entries = columns[order].int()
        self.named = torch.bincount(self.entries, minlength=self.sizes[1]) > 0

    def check_lists(self) -> None:
        """Raise a ValueError for columns that do not exist: torch would read other memory."""
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
        which, back = rows.unique(return_inverse=True)  # (K,), (B,)
        total = int((self.starts[which + 1] - self.starts[which]).sum())
        columns: slice | Tensor = slice(None)
        transposed: Lists | None = None
        if total > WHOLE_PAYS * len(self.entries) and not table.sparse:
            starts, entries, back = self.starts[:-1].int(), self.entries, rows
            if torch.is_grad_enabled():
                if self.back_starts is None or self.back_rows is None:
                    lists = starts, entries
                    self.back_starts, self.back_rows = _transpose(lists, self.sizes[1])
                transposed = self.back_starts, self.back_rows
        else:
            starts, entries = self._lists_of(which)
            if table.sparse:
                columns, entries = entries.unique(return_inverse=True)
        dense = torch.cat([part.flatten(1) for part in table(columns, variances)], 1)
        return take_rows(SumPooling.apply(dense, (starts, entries.int()), transposed), back)

    def _lists_of(self, rows: Tensor) -> Lists:
        """The lists of K different rows: by SciPy on a CPU, where torch takes 10 times as long."""
        if not rows.is_cuda:
            if self.matrix is None:
                self.matrix = _matrix(self.starts[:-1].numpy(), self.entries, self.sizes[1])
            part = self.matrix[rows.numpy()]
            return torch.from_numpy(part.indptr[:-1]), torch.from_numpy(part.indices)
        at, count = positions_in(self.starts, rows)
        return starts_of(count)[:-1].int(), self.entries[at]

    @torch.no_grad()
    def cache_sums(self, table: EmbeddingTable) -> None:
        """Sum the histories of all rows once; valid as long as no weight changes."""
        self.cached = None
        rows = torch.arange(self.sizes[0], device=table.mean.device)
        self.cached = self._sums(table, table.variational, rows)

    def forward(
        self, table: EmbeddingTable, rows: Tensor, own: Tensor | None, variances: bool
    ) -> list[Tensor]:
        """Means of the pooled embeddings of `rows` and, if asked for, variances, (B, R, D) each."""
        whole = self._sums(table, variances, rows).unflatten(1, (-1, *table.mean.shape[1:]))
        sums = list(whole.unbind(1))  # (B, R, D) each
        count = self.starts[rows + 1] - self.starts[rows]  # (B,)
        if own is not None:
            left = self.kept[own] & (count > 0)  # (B,) the unknown movie has an empty history
            count = count - left.long()
            taken, left = table(self.columns[own], variances), left.to(whole.dtype)[:, None, None]
            sums = [part - left * one for part, one in zip(sums, taken, strict=True)]
        count = count.clamp(min=1).to(whole.dtype)[:, None, None]  # (B, 1, 1)
        mean, *variance = sums
        return [mean / count.sqrt(), *(part.clamp(min=0) / count for part in variance)]
