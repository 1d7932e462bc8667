"""The layer in training loops that others wrote, on the CPU, with what users add to them; a missing one is skipped."""

import copy
import logging
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset

from gdlayer import GaussianDerivativeConv2d, parameter_groups

pytestmark = pytest.mark.filterwarnings("ignore")  # the packages' own

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


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def check_same(y: Tensor, expected: Tensor) -> None:
    assert expected.isfinite().all()
    assert torch.equal(y, expected)


def check_state(trained: nn.Module) -> None:
    """The network computes what its state dict says."""
    fresh = Network()
    fresh.load_state_dict(trained.state_dict())
    check_same(output(fresh), output(trained))


@pytest.fixture
def pytorch() -> Any:
    """Lightning's package of that name."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    return pytest.importorskip("lightning.pytorch")


@pytest.fixture
def skorch() -> Any:
    return pytest.importorskip("skorch")


def classifier_of(pytorch: Any) -> Any:
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
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    return pytorch.Trainer(accelerator="cpu", **quiet, **options)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_lightning_loads_and_resumes_checkpoints(pytorch, precision, tmp_path):
    """With parameter_groups, a scheduler, clipped and accumulated gradients."""
    classifier = classifier_of(pytorch)
    options = {"precision": precision, "gradient_clip_val": 0.5, "accumulate_grad_batches": 2}
    model, trainer = classifier(order=2), trainer_of(pytorch, max_steps=2, **options)
    trainer.fit(model, batches())
    path = tmp_path / "model.ckpt"
    trainer.save_checkpoint(path)
    check_same(output(classifier.load_from_checkpoint(path)), output(model))
    resumed = trainer_of(pytorch, max_steps=4, **options)
    resumed.fit(classifier(order=2), batches(), ckpt_path=path)
    assert resumed.global_step == 4


@pytest.mark.parametrize(
    ("average", "options"),
    [
        ("StochasticWeightAveraging", {"swa_lrs": 1e-2, "swa_epoch_start": 1}),
        ("EMAWeightAveraging", {"decay": 0.9}),  # with buffers
    ],
)
def test_lightning_averages_weights(pytorch, average, options):
    model = classifier_of(pytorch)()
    callback = getattr(pytorch.callbacks, average)(**options)
    trainer_of(pytorch, max_epochs=3, callbacks=[callback]).fit(model, batches())
    check_state(model.network)


def test_lightning_trains_a_compiled_module(pytorch):
    """Without code generation."""
    model = classifier_of(pytorch)()
    trainer_of(pytorch, max_steps=2).fit(torch.compile(model, backend="aot_eager"), batches())
    check_state(model.network)


def test_lightning_counts_parameters(pytorch):
    model = classifier_of(pytorch)()
    counts = pytorch.utilities.model_summary.ModelSummary(model, max_depth=2).param_nums
    assert counts == [count(model), *map(count, model.network)]


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


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "bases": np.array([1, 2, 4]),
        "order": np.arange(1, 4),
        "separated": np.array([False, True]),
        "sampling": np.array(["point", "integrated", "discrete"]),
    }.items(),
)
def test_options_are_searched_over_arrays(skorch, name, values):
    """By sklearn's GridSearchCV."""
    model_selection = pytest.importorskip("sklearn.model_selection")
    search = model_selection.GridSearchCV(skorch_net(skorch), {f"module__{name}": values}, cv=2, error_score="raise")
    search.fit(IMAGES.numpy(), LABELS.numpy())
    held = getattr(search.best_estimator_.module_[0], name)
    assert held == search.best_params_[f"module__{name}"]
    assert type(held) in (bool, int, str)


@pytest.mark.parametrize("copied", ["deepcopy", "save_params", "safetensors"])
def test_skorch_copies_what_it_trained(skorch, copied, tmp_path):
    """With learning rates by name, a scheduler, clipped gradients and a frozen theta."""
    callbacks = [
        skorch.callbacks.LRScheduler("StepLR", step_size=1),
        skorch.callbacks.GradientNormClipping(1.0),
        skorch.callbacks.Freezer("*theta"),
    ]
    groups = [("*raw_sigma", {"lr": 1e-2, "weight_decay": 0.0}), ("*mu", {"lr": 1e-2, "weight_decay": 0.0})]
    net = skorch_net(skorch, module__bases=np.int64(4), optimizer__param_groups=groups, callbacks=callbacks)
    x, y = IMAGES.numpy(), LABELS.numpy()
    net.fit(x, y)
    assert net.module_[0].trainable == ("sigma", "mu")
    expected = torch.from_numpy(net.predict_proba(x))
    if copied == "deepcopy":
        twin = copy.deepcopy(net)
    else:
        where = {"f_params": str(tmp_path / "params"), "use_safetensors": copied == "safetensors"}
        net.save_params(**where)
        twin = pytest.importorskip("sklearn.base").clone(net).initialize()
        twin.load_params(**where)
    check_same(torch.from_numpy(twin.predict_proba(x)), expected)


def test_accelerate_saves_loads_and_offloads(tmp_path):
    """With parameter_groups, a scheduler, accumulated and clipped gradients in bf16."""
    accelerate = pytest.importorskip("accelerate")
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
    accelerator.save_state(tmp_path)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    accelerator.load_state(tmp_path)
    check_same(output(model), expected)
    accelerator.save_model(model, tmp_path)
    twin = Network()
    accelerate.load_checkpoint_in_model(twin, tmp_path)
    trained = accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    expected = output(trained)
    check_same(output(twin), expected)
    accelerate.cpu_offload(twin, execution_device=torch.device("cpu"), offload_buffers=True)
    check_same(output(twin), expected)


def test_torchinfo_counts_parameters():
    torchinfo = pytest.importorskip("torchinfo")
    network = Network(trainable=("sigma",))
    found = torchinfo.summary(network, input_data=IMAGES, verbose=0)
    trains = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    counts = found.total_params, found.trainable_params
    assert counts == (count(network), trains)
