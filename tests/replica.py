"""One of two processes that train a network together: python replica.py FOLDER RANK."""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gdlayer import GaussianDerivativeConv2d


def network() -> nn.Sequential:
    """A layer by each way of evaluation."""
    return nn.Sequential(
        GaussianDerivativeConv2d(1, 4, 5, bases=2, dtype=torch.float64),
        GaussianDerivativeConv2d(4, 4, 3, separated=True, algorithm="factorised", dtype=torch.float64),
        GaussianDerivativeConv2d(4, 2, 3, algorithm="mix_then_filter", trainable=["mu"], dtype=torch.float64),
    )


def train(model: nn.Module, batches: Tensor) -> None:
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for batch in batches:
        optimiser.zero_grad()
        model(batch).square().mean().backward()
        optimiser.step()


def main(folder: Path, rank: int) -> None:
    start = torch.load(folder / "start.pt", weights_only=True)
    model = network()
    model.load_state_dict(start["model"])
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    train(DistributedDataParallel(model), start["batches"].chunk(2, 1)[rank])
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    torch.save({"model": model.state_dict(), "gradients": gradients}, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
