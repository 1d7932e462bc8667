"""One of two processes that train a network together: python replica.py FOLDER RANK replicated|sharded."""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from gdlayer import GaussianDerivativeConv2d, deploy, window_penalty
from gdlayer.related import DAUConv2d, NJetConv2d, RFNNConv2d, SemiStructuredConv2d


def network() -> nn.Sequential:
    """A layer by each way of evaluation."""
    return nn.Sequential(
        GaussianDerivativeConv2d(1, 4, 5, bases=2, dtype=torch.float64),
        GaussianDerivativeConv2d(4, 4, 3, separated=True, algorithm="factorised", dtype=torch.float64),
        GaussianDerivativeConv2d(4, 2, 3, trainable=["mu"], dtype=torch.float64),
    )


def relatives() -> nn.Sequential:
    """Layers whose filters are only read."""
    return nn.Sequential(
        DAUConv2d(1, 2, 3, units=(2, 1), dtype=torch.float64),
        NJetConv2d(1, 2, order=1, dtype=torch.float64),
        RFNNConv2d(1, 2, 3, sigma=1.0, dtype=torch.float64),
        SemiStructuredConv2d(1, 2, 3, dtype=torch.float64),
    )


def readings(model: nn.Sequential, others: nn.Sequential, batch: Tensor) -> dict[str, Any]:
    """What is asked of layers outside of a training step."""
    layers: list[Any] = list(model)
    relatives: list[Any] = list(others)
    geometry = [parameter for layer in layers for parameter in (layer.raw_sigma, layer.mu) if parameter.requires_grad]
    penalty = window_penalty(model)
    return {
        "penalty": penalty.detach(),
        "gradients of the penalty": [whole(grad) for grad in torch.autograd.grad(penalty, geometry)],
        "filters": [layer.filters().detach() for layer in (*layers, *relatives)],
        "kernels": [layer.kernels().detach() for layer in layers],
        "deployed": nn.Sequential(*map(deploy, model))(batch).detach(),
        "deployed relatives": [deploy(layer)(batch).detach() for layer in relatives],
    }


def train(model: nn.Module, batches: Tensor) -> None:
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for batch in batches:
        optimiser.zero_grad()
        model(batch).square().mean().backward()
        optimiser.step()


def shard(model: nn.Sequential) -> None:
    from torch.distributed.fsdp import fully_shard  # not in every torch

    mesh = init_device_mesh("cpu", (2,))
    numbers = {parameter for parameter in model.parameters() if parameter.dim() == 0}  # these cannot be sharded
    for module in (*model, model):
        fully_shard(module, mesh=mesh, ignored_params=numbers)


def whole(tensor: Any) -> Any:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def main(folder: Path, rank: int, how: str) -> None:
    start = torch.load(folder / "start.pt", weights_only=True)
    model = network()
    model.load_state_dict(start["model"])
    others = relatives()
    others.load_state_dict(start["others"])
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    if how == "sharded":
        shard(model)
        shard(others)
        try:
            deploy(model)
        except ValueError as error:
            assert str(error).startswith("model must have whole parameters, got a FSDPSequential that is sharded")  # noqa: PT017
        else:
            raise AssertionError("a sharded model cannot be copied")
    train(model if how == "sharded" else DistributedDataParallel(model), start["batches"].chunk(2, 1)[rank])
    results = {
        "model": get_model_state_dict(model, options=StateDictOptions(full_state_dict=True)),
        "gradients": {name: whole(parameter.grad) for name, parameter in model.named_parameters()},
        "sigma": [whole(layer.sigma) for layer in model],
        **readings(model, others, start["batches"][0]),
    }
    torch.save(results, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
