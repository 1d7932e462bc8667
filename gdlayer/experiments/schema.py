"""What the files of experiments must be, validated by pydantic; what does not fit is told in one line."""

import hashlib
import json
import math
import reprlib
from typing import Annotated, Any, NotRequired

from gdlayer.extras import extra

with extra("experiments"):
    from pydantic import ConfigDict, Field, JsonValue, TypeAdapter, ValidationError, with_config
    from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Percentage = Annotated[float, Field(ge=0, le=100)]
Rate = Annotated[float, Field(gt=0)]

CHOSEN = {"learning_rate": Rate, "batch_size": Positive, "schedule": str, "alpha": Fraction}
"""What every experiment's ``choices.toml`` has, besides its own choices: {name: type}."""
BUDGET = {"seeds": Annotated[int, Field(ge=0, le=100)], "steps": Positive, "evaluations": Positive, "precision": str}
"""What every profile has for every type of trials."""
VALIDATION = {"validation": Rate}
"""What a search has besides: how many of the training data are held out, or which fraction."""


@with_config(ConfigDict(extra="forbid"))
class Choice(TypedDict):
    """An entry of ``choices.toml``."""

    value: Any
    reason: str


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
    """What every record holds. Its other fields are numbers: what an experiment says besides."""

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


def parse_json(text: str) -> Any:
    """The content of a JSON file without what JSON does not have, or leaves open: NaN, infinities, a key twice.

    Raises
    ------
    ValueError
        One line.
    """
    try:
        return json.loads(
            text, object_pairs_hook=_object, parse_constant=finite, parse_float=finite, parse_int=_integer
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def finite(text: str) -> float:
    """The number; ValueError if it is none or too large for a float."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{reprlib.repr(text)} is not a finite number")
    return value


def checksum(content: Any) -> str:
    """SHA256 of parsed JSON, whatever its white space; ValueError or TypeError if JSON cannot hold it."""
    return hashlib.sha256(json.dumps(content, ensure_ascii=False, allow_nan=False).encode()).hexdigest()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{reprlib.repr(key)} twice")
        found[key] = value
    return found


def _integer(text: str) -> int:
    if len(text) > 19:
        raise ValueError(f"{reprlib.repr(text)} is too large")
    return int(text)


def _word(part: str | int) -> str:
    """A key as it is if it is a plain word, else quoted."""
    text = str(part)
    return text if text.replace("-", "_").isidentifier() or text.isdecimal() else reprlib.repr(text)
