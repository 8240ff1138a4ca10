"""Several processes train one network: each of them has some of its replicas.

Data-parallel processes would compute parts of each batch, and exchange all gradients in each step.
Replicas share no weights but the scales of the session, so these processes exchange the gradients
of at most three numbers in a step, and predictions and a checkpoint after each epoch.
"""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities import move_data_to_device
from torch import Tensor, distributed

from genre_embeddings.model.network import Network


def is_first_process() -> bool:
    """Whether this process writes the files: the only one, or the first of several."""
    return not distributed.is_initialized() or distributed.get_rank() == 0


class ReplicaParallel(DDPStrategy):
    """Lightning's processes, without the exchange of weights and gradients."""

    def configure_ddp(self) -> None:
        """Leave the network as it is, where DDP would copy the first process's weights."""

    def save_checkpoint(self, checkpoint: Any, filepath: Any, storage_options: Any = None) -> None:
        """Write one file for all processes, so that they resume from the same epoch."""
        states: list[Any] | None = [None] * self.world_size if self.is_global_zero else None
        distributed.gather_object(move_data_to_device(checkpoint, torch.device("cpu")), states)
        super().save_checkpoint({"processes": states}, filepath, storage_options)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> Any:
        """Read what this process saved."""
        return super().load_checkpoint(checkpoint_path, weights_only)["processes"][self.global_rank]


def _replicated(network: Network) -> dict[str, tuple[Tensor, int]]:
    """The tensors of which each replica has its own part, and the dimension that counts these."""
    state = network.state_dict(keep_vars=True)
    return {name: (state[name], dim) for name, dim in network.replica_dims().items()}


def keep_replicas(network: Network, rank: int, processes: int) -> None:
    """Reduce the network of process `rank` to its share of the replicas, in place."""
    first, end = (network.replicas * number // processes for number in (rank, rank + 1))
    for tensor, dim in _replicated(network).values():
        tensor.data = tensor.data.narrow(dim, first, end - first).clone()
    network.replicas = end - first


def gather_replicas(network: Network, rank: int, processes: int) -> None:
    """Give the network of the first process the replicas of all, in place."""
    tensors = _replicated(network)
    parts: list[Any] | None = None if rank else [None] * processes
    distributed.gather_object({name: own.data for name, (own, _) in tensors.items()}, parts)
    if parts:
        for name, (own, dim) in tensors.items():
            own.data = torch.cat([part[name] for part in parts], dim)
        network.replicas = len(network.log_noise)
