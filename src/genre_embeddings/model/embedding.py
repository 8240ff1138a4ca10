"""Embedding tables with a Gaussian posterior, and the tensor operations that they need.

Letters: B batch, D embedding size, R replicas, C columns of a table.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor, nn


def sample_normal(mean: Tensor, variance: Tensor, generator: Generator) -> Tensor:
    """One sample of N(mean, variance)."""
    std = (variance + 1e-10).sqrt()  # its gradient is finite where the variance is zero
    return torch.addcmul(
        mean, std, torch.randn(mean.shape, generator=generator, device=mean.device)
    )


def take_rows(whole: Tensor, rows: Tensor | slice) -> Tensor:
    """Rows of a tensor, (B, ...); the backward pass sums gradients in a fixed order.

    On a CPU, `index_select` takes at most half the time of indexing; on a GPU, only indexing keeps
    the order of the sum.
    """
    if whole.is_cuda or isinstance(rows, slice):
        return whole[rows]
    return whole.index_select(0, rows)


class SparseRows(torch.autograd.Function):
    """Rows of a parameter, with a sparse gradient: the optimiser then updates these rows only."""

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


class EmbeddingTable(nn.Module):
    """Embeddings with a posterior N(mean, std^2) for each entry and a prior for each column.

    KL(row) = sum_c log(prior_c / std_c) + (std_c^2 + mean_c^2) / (2 prior_c^2) - 1/2.

    A table with a bias keeps it in an additional last column: C = D + 1 columns, else C = D. Point
    embeddings (not `variational`) have means only, and no KL. `sparse` gradients are faster for
    large tables.
    """

    def __init__(
        self,
        rows: int,
        dim: int,
        replicas: int,
        variational: bool,
        generator: Generator | None,
        bias: float | None = None,
    ) -> None:
        """Draw the initial means; `bias` is the prior of the bias column, None for no bias."""
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

    def forward(self, rows: Tensor | slice, variances: bool) -> list[Tensor]:
        """Means of rows and, if asked for, their variances, (B, R, C) each."""
        mean = self.take("mean", rows)
        return [mean, (2 * self.take("log_std", rows)).exp()] if variances else [mean]

    def take(self, name: str, rows: Tensor | slice) -> Tensor:
        """Rows of a parameter, (B, R, C); with a sparse gradient if `sparse` is set."""
        whole = getattr(self, name)
        if not self.sparse or not torch.is_grad_enabled():
            return take_rows(whole, rows)
        if isinstance(rows, slice):
            rows = torch.arange(len(whole), device=whole.device)[rows]
        return SparseRows.apply(whole, rows)

    def weighted_sum(self, weights: Tensor, variances: bool) -> list[Tensor]:
        """Means and variances of weighted sums of all rows, as `forward`; weights (B, rows)."""
        mean = torch.einsum("bk,krc->brc", weights, self.mean)  # (B, R, C)
        if not variances:
            return [mean]
        return [mean, torch.einsum("bk,krc->brc", weights**2, (2 * self.log_std).exp())]

    def kl(self, rows: Tensor | slice) -> Tensor:
        """KL divergence of rows from the prior, (B, R); zero for point embeddings."""
        mean = self.take("mean", rows)  # (B, R, C)
        if not self.variational:
            return mean.new_zeros(mean.shape[:2])
        log_std = self.take("log_std", rows)
        ratio = ((2 * log_std).exp() + mean**2) * (-2 * self.log_prior).exp()  # (B, R, C)
        return (self.log_prior - log_std + 0.5 * ratio - 0.5).sum(-1)
