"""What is to be run: trials, and the profiles that list them. Needs no torch."""

import tomllib
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from gdlayer.datasets import fashion_mnist

PROFILES = ("smoke", "quick", "paper")
LAYERS = (
    "free-form",
    "rfnn",
    "dau",
    "ours",
    "ours-few",
    "ours-separated",
    "free-form-same-support",
    "n-jet",
)
"""Layer types of Table 1: the paper's six columns, then the two controls."""


@dataclass(frozen=True)
class Trial:
    """One training run.

    Raises
    ------
    ValueError
        If a field is not one of the allowed values.
    """

    experiment: str
    layer: str
    n_train: int
    seed: int
    profile: str
    dataset: str

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("experiment", self.experiment, ("table1",)),
            ("layer", self.layer, LAYERS),
            ("profile", self.profile, PROFILES),
            ("data set", self.dataset, (fashion_mnist.FULL, fashion_mnist.SAMPLE)),
        ):
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}, allowed are {', '.join(allowed)}")
        size = fashion_mnist.TRAIN_SIZE[self.dataset]
        if not 1 <= self.n_train <= size:
            raise ValueError(f"n_train is {self.n_train}, allowed are 1 to {size} ({self.dataset})")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, allowed are integers from 0 on")

    @property
    def id(self) -> str:
        return f"{self.layer}-n{self.n_train}-s{self.seed}"

    def record_path(self, results: Path) -> Path:
        return results / self.profile / self.experiment / self.dataset / f"{self.id}.json"

    def command(self, results: Path | str) -> list[str]:
        """The plain command that makes the record, after the interpreter's name."""
        return [
            *("-m", "gdlayer.experiments", "run", self.experiment),
            *("--layer", self.layer, "--n-train", str(self.n_train), "--seed", str(self.seed)),
            *("--profile", self.profile, "--dataset", self.dataset, "--results", str(results)),
        ]


@cache
def load_profile(name: str) -> dict[str, Any]:
    if name not in PROFILES:
        raise ValueError(f"profile is {name!r}, allowed are {', '.join(PROFILES)}")
    return tomllib.loads(files("gdlayer.experiments").joinpath("profiles", f"{name}.toml").read_text(encoding="utf-8"))


@cache
def load_choices(experiment: str) -> dict[str, dict[str, Any]]:
    """The open choices of an experiment: {name: {"value": ..., "reason": ...}}."""
    return tomllib.loads(files("gdlayer.experiments").joinpath("choices.toml").read_text(encoding="utf-8"))[experiment]


def hyperparameters(trial: Trial) -> dict[str, Any]:
    """Everything that decides a trial's outcome besides the trial itself: the choices and the profile's budget."""
    settings = load_profile(trial.profile)[trial.experiment]
    choices = {name: choice["value"] for name, choice in load_choices(trial.experiment).items()}
    choices["learning_rate"] = choices["learning_rate"][trial.layer]
    budget = {name: settings[name] for name in ("evaluations", "precision")}
    return choices | budget | {"steps": _for_size(settings["steps"], trial.n_train)}


def plan(profile: str, experiment: str, dataset: str) -> list[Trial]:
    """All trials of an experiment that the data set is large enough for, the shortest columns first."""
    settings = load_profile(profile)[experiment]
    return [
        Trial(experiment, layer, n, seed, profile, dataset)
        for n in settings["n_train"]
        if n <= fashion_mnist.TRAIN_SIZE[dataset]
        for seed in range(_for_size(settings["seeds"], n))
        for layer in LAYERS
    ]


def choose_dataset(profile: str, on_fallback: Any = None) -> str:
    """The data set that a profile runs on: what it demands, or what can be had.

    Raises
    ------
    gdlayer.datasets.DataError
        If a file is wrong, or the profile demands real data that cannot be had.
    """
    demand = load_profile(profile)["data"]
    if demand == "sample":
        return fashion_mnist.SAMPLE
    if demand == "real or sample":
        return fashion_mnist.resolve(on_fallback)
    for file in fashion_mnist.FILES:
        fashion_mnist.find(file)
    return fashion_mnist.FULL


def describe(trial: Trial) -> dict[str, Any]:
    return asdict(trial)


def _for_size(setting: int | dict[str, int], n_train: int) -> int:
    """A profile's number: one for all sizes, or a table by n_train."""
    if isinstance(setting, int):
        return setting
    if str(n_train) not in setting:
        raise ValueError(f"n_train is {n_train}, the profile sets budgets for {', '.join(setting)}")
    return setting[str(n_train)]
