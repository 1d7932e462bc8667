"""One of two processes that train a network together: python replica.py FOLDER RANK replicated|sharded."""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from gdlayer import GaussianDerivativeConv2d


def network() -> nn.Sequential:
    """A layer by each way of evaluation."""
    return nn.Sequential(
        GaussianDerivativeConv2d(1, 4, 5, bases=2, dtype=torch.float64),
        GaussianDerivativeConv2d(4, 4, 3, separated=True, algorithm="factorised", dtype=torch.float64),
        GaussianDerivativeConv2d(4, 2, 3, trainable=["mu"], dtype=torch.float64),
    )


def train(model: nn.Module, batches: Tensor) -> None:
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for batch in batches:
        optimiser.zero_grad()
        model(batch).square().mean().backward()
        optimiser.step()


def shard(model: nn.Sequential) -> None:
    from torch.distributed.fsdp import fully_shard  # not in every torch

    mesh = init_device_mesh("cpu", (2,))
    for module in (*model, model):
        fully_shard(module, mesh=mesh)


def whole(tensor: Any) -> Any:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def main(folder: Path, rank: int, how: str) -> None:
    start = torch.load(folder / "start.pt", weights_only=True)
    model = network()
    model.load_state_dict(start["model"])
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    if how == "sharded":
        shard(model)
    train(model if how == "sharded" else DistributedDataParallel(model), start["batches"].chunk(2, 1)[rank])
    results = {
        "model": get_model_state_dict(model, options=StateDictOptions(full_state_dict=True)),
        "gradients": {name: whole(parameter.grad) for name, parameter in model.named_parameters()},
        "sigma": [whole(layer.sigma) for layer in model],
    }
    torch.save(results, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
