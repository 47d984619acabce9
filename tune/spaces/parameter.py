"""The searched keys: what `[space]` states about each, checked against the configuration.

A key has a list of values or a range. With `when` it is searched only in trials where another searched key allows it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nmt.config import Config, find_setting, flatten
from nmt.errors import UserError
from nmt.settings import Setting, check_names

NOT_SEARCHABLE = {
    "data.name": "trials on different data cannot be compared",
    "data.mode": "a search runs in one mode",
    "data.image_size": "the data set is stored at one size",
    "data.eval_pairs": "it changes what is measured",
    "data.pairs": "it changes what is measured",
    "data.train_split": "without val there is nothing to compare by",
    "decode.unmatched": "accuracy counts every match",
    "train.epochs": "early stopping compares trials by epoch",
    "train.seed": "a lucky seed is not a better configuration",
    "train.micro_batch": "it changes the memory a trial takes, not its result",
    "train.loggers": "it changes where the metrics go, not the result",
}

RELATIONS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}


@dataclass(frozen=True)
class Condition:
    """Condition on the value of another searched key: {"loss.layer" = "> 0"}."""

    key: str
    relation: str
    value: Any

    def holds(self, value: Any) -> bool:
        """True if a value of the other key fulfils the condition."""
        return RELATIONS[self.relation](value, self.value)

    def __str__(self) -> str:
        return f"{self.key} {self.relation} {shown(self.value)}"


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One searched key: a list of `values`, or a range from `low` to `high`, both inclusive."""

    key: str
    type: type
    values: tuple[Any, ...] | None = None
    low: float | None = None
    high: float | None = None
    step: float | None = None
    log: bool = False
    when: tuple[Condition, ...] = ()
    """conditions that must all hold; else the key keeps its default in that trial"""

    def active(self, values: Mapping[str, Any]) -> bool:
        """True if the key is searched in a trial with these values of the other keys."""
        return all(condition.key in values and condition.holds(values[condition.key]) for condition in self.when)

    def contains(self, value: Any) -> bool:
        """True if the value is one of `values`, or lies in the range and on its steps."""
        if self.values is not None:
            return value in self.values
        assert self.low is not None and self.high is not None
        steps: float = (value - self.low) / self.step if self.step else 0.0
        return bool(self.low <= value <= self.high) and abs(steps - round(steps)) < 1e-9

    def choices(self) -> tuple[Any, ...] | None:
        """List every value that the parameter can take; None if they are not countable."""
        if self.values is not None:
            return self.values
        if self.step is None:
            return None
        assert self.low is not None and self.high is not None
        count = round((self.high - self.low) / self.step) + 1
        return tuple(self.snapped(self.low + i * self.step) for i in range(count))

    def snapped(self, value: Any) -> Any:
        """Remove the rounding error from a value of a stepped range: 0.3, not 0.1 + 2 * 0.1."""
        return self.type(round(value, 12)) if self.step is not None else value

    @property
    def ordered(self) -> tuple[Any, ...] | None:
        """The `values` sorted by size if they are numbers; None for names, truth values and ranges."""
        return tuple(sorted(self.values)) if self.values is not None and self.type in (int, float) else None

    def encode(self, value: Any) -> Any:
        """Encode a value as the study and TensorBoard hold it: a number, a truth value or a short string."""
        return json.dumps(list(value)) if self.type is tuple else value

    def decode(self, encoded: Any) -> Any:
        """Decode what `encode` returned."""
        return tuple(json.loads(encoded)) if self.type is tuple else self.type(encoded)

    def describe(self) -> str:
        """Describe the range for the report."""
        condition = f", when {' and '.join(map(str, self.when))}" if self.when else ""
        if self.values is not None:
            return ", ".join(shown(v) for v in self.values) + condition
        note = " (log)" if self.log else f" by {shown(self.step)}" if self.step not in (None, 1) else ""
        return f"{shown(self.low)} to {shown(self.high)}{note}{condition}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as in the TOML file."""
        when = {"when": {c.key: f"{c.relation} {json.dumps(c.value)}" for c in self.when}} if self.when else {}
        if self.values is not None:
            return {"values": [list(v) if self.type is tuple else v for v in self.values]} | when
        spec: dict[str, Any] = {"low": self.low, "high": self.high}
        if self.log:
            spec["log"] = True
        elif self.step is not None:
            spec["step"] = self.step
        return spec | when


def read_parameters(table: Mapping[str, Any], source: str) -> list[Parameter]:
    """Read the `[space]` table, whose keys are dotted or nested. Raises UserError."""
    found = []
    branches = {f.name for f in dataclasses.fields(Config)}
    for key, spec in table.items():
        nested = key in branches and isinstance(spec, dict)
        specs = {f"{key}.{name}": inner for name, inner in spec.items()} if nested else {key: spec}
        found += [_parameter(full, inner, f"{source}: [space]") for full, inner in specs.items()]
    return found


def _parameter(key: str, spec: Any, source: str) -> Parameter:
    known = find_setting(key, source=source)
    if key in NOT_SEARCHABLE:
        raise UserError(f"{source}: {key} cannot be searched: {NOT_SEARCHABLE[key]}; set it in [base]")
    if not isinstance(spec, dict):
        raise UserError(f"{source}: {key} needs {{ low = .., high = .. }} or {{ values = [..] }}, but got {spec!r}")
    where = f"{source} {key}"
    when = _conditions(spec.get("when", {}), where)
    if "values" in spec:
        check_names(spec, ("values", "when"), source=where)
        return dataclasses.replace(_choice(known, spec["values"], where), when=when)
    check_names(spec, ("low", "high", "step", "log", "values", "when"), source=where)
    if known.type not in (int, float) or known.choices:
        raise UserError(f"{where} is {known.allowed}: give values = [..]")
    return dataclasses.replace(_range(known, spec, where), when=when)


def _conditions(spec: Any, where: str) -> tuple[Condition, ...]:
    """Read `when = { "loss.layer" = "> 0" }`: a relation and a value; a value alone means "="."""
    if not isinstance(spec, dict):
        raise UserError(f'{where}: when must be a table, {{ "loss.layer" = "> 0" }}, but got {spec!r}')
    found = []
    for key, wanted in flatten(spec, source=f"{where} when").items():
        known = find_setting(key, source=f"{where} when")
        match = re.fullmatch(r"\s*(>=|<=|!=|>|<|=)\s*(.+?)\s*", wanted) if isinstance(wanted, str) else None
        relation, value = match.groups() if match else ("=", wanted)
        if match:
            with contextlib.suppress(json.JSONDecodeError):
                value = json.loads(value)
        value = known.check(value, source=f"{where} when")
        if relation not in ("=", "!=") and known.type not in (int, float):
            raise UserError(f"{where} when: {key} is {known.allowed}, which {relation} does not compare; use = or !=")
        found.append(Condition(key, relation, value))
    return tuple(found)


def trained(parameter: Parameter, parameters: Sequence[Parameter], matching: str) -> bool:
    """True if the key costs a training. Every value of the other keys is tried at inference, in every trial.

    Sinkhorn iterations and epsilon act in training where the matching loss goes through a Sinkhorn plan. That is the
    case in every trial, or where `when` asks for it in a space that searches loss.matching.
    """
    if not parameter.key.startswith("decode."):
        return True
    if parameter.key == "decode.assignment":
        return False
    if any(p.key == "loss.matching" for p in parameters):
        return any(condition.key == "loss.matching" for condition in parameter.when)
    return matching != "infonce"


def check_swept(parameter: Parameter, source: str) -> None:
    """Check that a key tried at inference has a list of values and no condition. Raises UserError."""
    where = f"{source}: [space] {parameter.key}"
    if parameter.values is None:
        raise UserError(f"{where} is read at inference, where every value is tried: give values = [..]")
    if parameter.when:
        raise UserError(
            f"{where} when: a decode key is tried in every trial at no cost; leave the condition out (only "
            f'{{ "loss.matching" = "sinkhorn" }} makes it a training parameter)'
        )


def check_conditions(parameters: Sequence[Parameter], source: str) -> None:
    """Check that conditions read keys searched in every trial, and that they can hold. Raises UserError."""
    by_key = {p.key: p for p in parameters}
    for parameter in parameters:
        where = f"{source}: [space] {parameter.key} when"
        for condition in parameter.when:
            other = by_key.get(condition.key)
            if other is None or condition.key == parameter.key or condition.key.startswith("decode."):
                raise UserError(
                    f"{where}: {condition.key} is not a training parameter of this space; search it, or set "
                    f"{parameter.key} in [base]"
                )
            if other.when:
                raise UserError(
                    f"{where}: {condition.key} is itself searched in some trials only; name its condition instead"
                )
            if not any(condition.holds(v) for v in other.choices() or (other.low, other.high)):
                raise UserError(f"{where}: {condition} never holds for {condition.key}, which is {other.describe()}")


def _choice(known: Setting, values: Any, where: str) -> Parameter:
    if not isinstance(values, list) or len(values) < 2:
        raise UserError(f"{where}: values must list at least two, but got {values!r}; one value belongs in [base]")
    checked = tuple(known.check(v, source=where) for v in values)
    if len(set(checked)) != len(checked):
        raise UserError(f"{where}: the same value twice in {values!r}")
    return Parameter(key=known.key, type=known.type, values=checked)


def _range(known: Setting, spec: Mapping[str, Any], where: str) -> Parameter:
    missing = [side for side in ("low", "high") if side not in spec]
    if missing:
        raise UserError(f"{where}: {missing[0]} is missing; a range is {{ low = .., high = .. }}")
    low, high = (known.check(spec[side], source=f"{where} {side}") for side in ("low", "high"))
    log = spec.get("log", False)
    if not isinstance(log, bool):
        raise UserError(f"{where}: log must be true or false, but got {log!r}")
    if low >= high:
        raise UserError(f"{where}: low must be below high, but got low = {low!r}, high = {high!r}")
    if log and low <= 0:
        raise UserError(f"{where}: a log range must begin above 0, but got low = {low!r}")
    step = _step(known, spec, low, high, log, where)
    return Parameter(key=known.key, type=known.type, low=low, high=high, step=step, log=log)


def _step(known: Setting, spec: Mapping[str, Any], low: float, high: float, log: bool, where: str) -> float | None:
    if "step" not in spec:
        return 1 if known.type is int else None
    step = spec["step"]
    if isinstance(step, bool) or not isinstance(step, int | float) or step <= 0 or known.type(step) != step:
        raise UserError(f"{where}: step must be a positive {known.type.__name__}, but got {step!r}")
    if log:
        raise UserError(f"{where}: a log range has no step; leave one of the two out")
    steps = (high - low) / step
    if abs(steps - round(steps)) > 1e-9:
        below = low + int(steps) * step
        raise UserError(f"{where}: steps of {step!r} from {low!r} do not meet high = {high!r}; nearest: {below:g}")
    return step


def shown(value: Any) -> str:
    if isinstance(value, tuple):
        return str(list(value))
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
