"""The layer in training loops that others wrote: ``python workflow/hosts.py [NAME ...] [--csv FILE]``.

Lightning, skorch and accelerate train a small network on the CPU for a few steps, with what users add to such loops. A
loop whose package is missing is skipped aloud. Nothing is downloaded.
"""

import copy
import importlib
import logging
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from guests import check, count, main
from torch import Tensor, nn
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset

from gdlayer import GaussianDerivativeConv2d, parameter_groups

IMAGES, LABELS = torch.randn(12, 1, 12, 12, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3


class Network(nn.Sequential):
    """Both forms of the layer; ``options`` are those of the first."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            GaussianDerivativeConv2d(1, 8, **{"kernel_size": 7, "stride": 2, **options}),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            GaussianDerivativeConv2d(8, 8, 5, separated=True, sampling="integrated"),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 3),
        )


def batches() -> DataLoader[Any]:
    return DataLoader(TensorDataset(IMAGES, LABELS), batch_size=4)


def optimiser_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameter_groups(model, geometry={"lr": 1e-2}), lr=1e-3)


@torch.no_grad()
def output(model: nn.Module) -> Tensor:
    return model.eval()(IMAGES)


def check_equal(y: Tensor, expected: Tensor, where: str) -> None:
    check(bool(expected.isfinite().all()), "the output is not finite after training")
    check(torch.equal(y, expected), f"{where}, the output is another")


def check_state(trained: nn.Module) -> None:
    """The network computes what its state dict says."""
    fresh = Network()
    fresh.load_state_dict(trained.state_dict())
    check_equal(output(fresh), output(trained), "loaded from its state dict")


def classifier_of(pytorch: Any) -> Any:
    """A LightningModule; ``pytorch`` is lightning's."""

    class Classifier(pytorch.LightningModule):
        def __init__(self, order: int = 3) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.network = Network(order=order)

        def forward(self, x: Tensor) -> Tensor:
            return self.network(x)

        def training_step(self, batch: list[Tensor], index: int) -> Tensor:
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            optimiser = optimiser_of(self)
            return [optimiser], [StepLR(optimiser, 1)]

    return Classifier


def trainer_of(pytorch: Any, **options: Any) -> Any:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    return pytorch.Trainer(accelerator="cpu", **quiet, **options)


def lightning_checkpoints(pytorch: Any) -> None:
    """parameter_groups, a scheduler and clipped gradients in 32-true and bf16-mixed; checkpoints load and resume"""
    classifier = classifier_of(pytorch)
    for precision in ("32-true", "bf16-mixed"):
        options = {"precision": precision, "gradient_clip_val": 0.5, "accumulate_grad_batches": 2}
        model, trainer = classifier(order=2), trainer_of(pytorch, max_steps=2, **options)
        trainer.fit(model, batches())
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.ckpt"
            trainer.save_checkpoint(path)
            check_equal(output(classifier.load_from_checkpoint(path)), output(model), "loaded from a checkpoint")
            resumed = trainer_of(pytorch, max_steps=4, **options)
            resumed.fit(classifier(order=2), batches(), ckpt_path=path)
            check(resumed.global_step == 4, f"resumed, it stops at step {resumed.global_step}")


def lightning_averages(pytorch: Any) -> None:
    """StochasticWeightAveraging, and EMAWeightAveraging with buffers"""
    for average in (
        pytorch.callbacks.StochasticWeightAveraging(1e-2, swa_epoch_start=1),
        pytorch.callbacks.EMAWeightAveraging(decay=0.9),
    ):
        model = classifier_of(pytorch)()
        trainer_of(pytorch, max_epochs=3, callbacks=[average]).fit(model, batches())
        check_state(model.network)


def lightning_compiled(pytorch: Any) -> None:
    """a module from torch.compile, without code generation"""
    model = classifier_of(pytorch)()
    trainer_of(pytorch, max_steps=2).fit(torch.compile(model, backend="aot_eager"), batches())
    check_state(model.network)


def lightning_summary(pytorch: Any) -> None:
    """the counts of ModelSummary"""
    model = classifier_of(pytorch)()
    counts = pytorch.utilities.model_summary.ModelSummary(model, max_depth=2).param_nums
    check(counts == [count(model), *map(count, model.network)], f"the counts are {counts}")


def skorch_net(skorch: Any, **options: Any) -> Any:
    return skorch.NeuralNetClassifier(
        Network,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        max_epochs=2,
        batch_size=4,
        train_split=None,
        verbose=0,
        **options,
    )


def skorch_search(skorch: Any) -> None:
    """sklearn's GridSearchCV over NumPy arrays of bases, order, separated and sampling"""
    model_selection = importlib.import_module("sklearn.model_selection")
    for name, values in {
        "bases": np.array([1, 2, 4]),
        "order": np.arange(1, 4),
        "separated": np.array([False, True]),
        "sampling": np.array(["point", "integrated", "discrete"]),
    }.items():
        grid = {f"module__{name}": values}
        search = model_selection.GridSearchCV(skorch_net(skorch), grid, cv=2, error_score="raise")
        search.fit(IMAGES.numpy(), LABELS.numpy())
        best, held = search.best_params_[f"module__{name}"], getattr(search.best_estimator_.module_[0], name)
        check(held == best and type(held) in (bool, int, str), f"the best {name} is {best!r}, the layer has {held!r}")


def skorch_copies(skorch: Any) -> None:
    """learning rates by name, a scheduler, clipped gradients, a frozen theta; clone, deepcopy, save_params"""
    clone = importlib.import_module("sklearn.base").clone
    callbacks = [
        skorch.callbacks.LRScheduler("StepLR", step_size=1),
        skorch.callbacks.GradientNormClipping(1.0),
        skorch.callbacks.Freezer("*theta"),
    ]
    groups = [("*raw_sigma", {"lr": 1e-2, "weight_decay": 0.0}), ("*mu", {"lr": 1e-2, "weight_decay": 0.0})]
    net = skorch_net(skorch, module__bases=np.int64(4), optimizer__param_groups=groups, callbacks=callbacks)
    x, y = IMAGES.numpy(), LABELS.numpy()
    net.fit(x, y)
    check(net.module_[0].trainable == ("sigma", "mu"), f"what trains is {net.module_[0].trainable}")
    expected = torch.from_numpy(net.predict_proba(x))
    copies = {"copied": copy.deepcopy(net)}
    with tempfile.TemporaryDirectory() as folder:
        for name, safe in (("saved", False), ("saved as safetensors", True)):
            path = str(Path(folder) / name)
            net.save_params(f_params=path, use_safetensors=safe)
            copies[name] = clone(net).initialize()
            copies[name].load_params(f_params=path, use_safetensors=safe)
    for name, twin in copies.items():
        check_equal(torch.from_numpy(twin.predict_proba(x)), expected, name)


def accelerate_loop(accelerate: Any) -> None:
    """parameter_groups, a scheduler, accumulated and clipped gradients in bf16; save_state, save_model, cpu_offload"""
    accelerator = accelerate.Accelerator(cpu=True, mixed_precision="bf16", gradient_accumulation_steps=2)
    network = Network()
    optimiser = optimiser_of(network)
    parts = accelerator.prepare(network, optimiser, batches(), StepLR(optimiser, 1))
    model, optimiser, loader, scheduler = parts
    for x, y in loader:
        with accelerator.accumulate(model):
            accelerator.backward(nn.functional.cross_entropy(model(x), y))
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            scheduler.step()
            optimiser.zero_grad()
    expected = output(model)
    with tempfile.TemporaryDirectory() as folder:
        accelerator.save_state(folder)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1)
        accelerator.load_state(folder)
        check_equal(output(model), expected, "after load_state")
        accelerator.save_model(model, folder)
        twin = Network()
        accelerate.load_checkpoint_in_model(twin, folder)
    trained = accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    expected = output(trained)
    check_equal(output(twin), expected, "after save_model")
    accelerate.cpu_offload(twin, execution_device=torch.device("cpu"), offload_buffers=True)
    check_equal(output(twin), expected, "offloaded")


def torchinfo_summary(torchinfo: Any) -> None:
    """the counts of summary"""
    network = Network(trainable=("sigma",))
    found = torchinfo.summary(network, input_data=IMAGES, verbose=0)
    trains = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    counts = found.total_params, found.trainable_params
    check(counts == (count(network), trains), f"the counts are {counts}")


class Passed(NamedTuple):
    """What was tried."""

    tried: str

    def row(self) -> dict[str, str]:
        return {"tried": self.tried}

    def __str__(self) -> str:
        return self.tried


class Host(NamedTuple):
    """A training loop, and what is tried in it: a function of the imported package, which says so in its docstring."""

    package: str
    run: Callable[[Any], None]

    def visit(self, package: Any) -> Passed:
        self.run(package)
        return Passed(str(self.run.__doc__))


HOSTS = {
    "Lightning checkpoints": Host("lightning.pytorch", lightning_checkpoints),
    "Lightning averages": Host("lightning.pytorch", lightning_averages),
    "Lightning compiled": Host("lightning.pytorch", lightning_compiled),
    "Lightning summary": Host("lightning.pytorch", lightning_summary),
    "skorch search": Host("skorch", skorch_search),
    "skorch copies": Host("skorch", skorch_copies),
    "accelerate": Host("accelerate", accelerate_loop),
    "torchinfo": Host("torchinfo", torchinfo_summary),
}

if __name__ == "__main__":
    sys.exit(main(__doc__, "loop", HOSTS))
