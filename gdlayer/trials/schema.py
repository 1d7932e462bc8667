"""What the files of experiments must be, validated by pydantic; what does not fit is told in one line.

Imported when the first file is read: the names of experiments, and the help of their commands, do without pydantic.
"""

import reprlib
from typing import Annotated, Any, NotRequired

from gdlayer._plumbing.extras import extra

with extra("experiments"):
    from pydantic import ConfigDict, Field, JsonValue, TypeAdapter, ValidationError, with_config
    from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Percentage = Annotated[float, Field(ge=0, le=100)]
Rate = Annotated[float, Field(gt=0)]

Free = JsonValue
"""A choice to which its experiment gives no type: whatever a record can hold."""

CHOSEN = {"learning_rate": Rate, "batch_size": Positive, "schedule": str, "alpha": Fraction}
"""What every experiment's ``choices.toml`` has, besides its own choices: {name: type}."""
BUDGET = {"seeds": Annotated[int, Field(ge=0, le=100)], "steps": Positive, "evaluations": Positive, "precision": str}
"""What every profile has for every type of trials."""
OPTIONAL = {"validation": Rate, "n_test": Positive}
"""What a profile can say besides: of a search how many of the training data are held out, or which fraction; of a small
budget how many of the test data are enough, the first of them."""


@with_config(ConfigDict(extra="forbid"))
class Choice(TypedDict):
    """An entry of ``choices.toml``; unless told, a setting of the trials, which goes into their records."""

    value: Any
    reason: str
    setting: NotRequired[bool]


@with_config(ConfigDict(extra="forbid"))
class Rules(TypedDict):
    """What a profile says of all experiments."""

    data: str
    order: NotRequired[list[dict[str, Any]]]


class Hyperparameters(TypedDict):
    """Those that every trial has, of more."""

    steps: Positive
    precision: str


class Point(TypedDict):
    """Of a learning curve; where the network was measured, its metrics too."""

    step: Positive
    epoch: Annotated[float, Field(ge=0)]
    train_loss: float | None
    train_accuracy: Fraction


class Data(TypedDict):
    name: str
    label: NotRequired[str]
    source: str
    sha256: str


class Git(TypedDict):
    commit: str | None
    dirty: bool | None


class Versions(TypedDict):
    gdlayer: str
    python: str
    torch: str
    numpy: str


class Machine(TypedDict):
    device: str
    name: str
    cores: Count | None
    threads: Positive
    system: str


class Record(TypedDict):
    """What a record holds. Its other fields are numbers: what an experiment says besides."""

    trial: dict[str, Any]
    hyperparameters: Hyperparameters
    metrics: Annotated[dict[str, Fraction], Field(min_length=1)]
    curve: list[Point]
    parameters: Count
    started: str
    seconds: Annotated[float, Field(ge=0, le=1e9)]
    peak_memory_bytes: Count
    data: Data
    git: Git
    versions: Versions
    machine: Machine
    weights_sha256: NotRequired[str]
    correct: NotRequired[dict[str, str]]
    """By metric, which of the pictures are right (:func:`gdlayer.trials.record.packed`)."""


REQUIRED = tuple(name for name in Record.__annotations__ if name in Record.__required_keys__)
"""What every record holds."""
_RECORD, _DETAILS = TypeAdapter(Record), TypeAdapter(dict[str, float])


def check_record(record: Any) -> None:
    """Raises ValueError if a parsed JSON file is not what :class:`Record` says."""
    check(_RECORD, record)
    check(_DETAILS, {name: value for name, value in record.items() if name not in Record.__annotations__})


def check(kind: Any, value: Any, *place: str) -> None:
    """Checks a value against a type, or a TypeAdapter; ints are floats, nothing else is converted.

    Raises
    ------
    ValueError
        "PLACE must be ..., got VALUE", of the first that does not fit; ``place`` is where the value stands.
    """
    adapter = kind if isinstance(kind, TypeAdapter) else TypeAdapter(kind)
    try:
        adapter.validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        name = ".".join(_word(part) for part in (*place, *first["loc"])) or "it"
        if first["type"] in ("missing", "extra_forbidden"):
            raise ValueError(f"{'no' if first['type'] == 'missing' else 'unknown'} {name}") from None
        told = first["msg"].replace("Input should be", "must be")
        raise ValueError(f"{name} {told}, got {reprlib.repr(first['input'])}") from None


def check_entries(kind: Any, setting: Any, *place: str) -> None:
    """:func:`check` of a setting: of each entry where it is a table."""
    if isinstance(setting, dict):
        for key, entry in setting.items():
            check_entries(kind, entry, *place, key)
    else:
        check(kind, setting, *place)


def _word(part: str | int) -> str:
    """A key as it is if it is a plain word, else quoted."""
    text = str(part)
    return text if text.replace("-", "_").isidentifier() or text.isdecimal() else reprlib.repr(text)
