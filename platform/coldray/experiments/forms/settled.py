"""The forms that a study is settled on before it searches: fixed values of its space, decided once and recorded.

What :meth:`~coldray.models.base.Recommender.settle` decides becomes a fixed value of the space: every trial, the
test and the bundle then take the same form, whatever the size of their fit, and each configuration names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import ray
from pydantic import ValidationError

from coldray.core.errors import CatalogTooLargeError, ConfigError
from coldray.core.memory import fit_bytes
from coldray.data.dataset import Dataset, LabelAttribute
from coldray.experiments.search.memory import largest_parameters
from coldray.experiments.space import StudyConfig, is_range, listed_values
from coldray.models.forms import Form, StudyOutlook


@dataclass(frozen=True)
class Settled:
    """What was decided for a study."""

    values: Mapping[str, Any] = field(default_factory=dict)
    """Parameters that are fixed by it, by name."""
    forms: tuple[Form, ...] = ()
    """Every form of the model, with the reason."""

    def of(self, config: StudyConfig) -> StudyConfig:
        """Return the study with these values in its space.

        Raises
        ------
        ConfigError
            If a value of the space does not go with them.
        """
        added = {name: value for name, value in self.values.items() if config.space.get(name) != value}
        if not added:
            return config
        space = {**config.space, **added}
        for name, value in listed_values(config.space):
            if name not in added:
                _check_goes_with(config, self, name, value)
        return StudyConfig.model_validate({**dict(config), "space": space})

    def plain(self) -> dict[str, Any]:
        """Return it as plain values, for the record."""
        return {"values": dict(self.values), "forms": [asdict(form) for form in self.forms]}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild it from :meth:`plain`."""
        return cls(dict(values["values"]), tuple(Form(**form) for form in values["forms"]))


def _settle(config: StudyConfig, dataset: Dataset, *, memory: int | None = None) -> Settled:
    """Decide in which form a study fits its model, from the memory of its largest fit: the bundle's, on all items.

    What the space fixes or searches is left as it is, but for ``auto`` among its values.

    Parameters
    ----------
    memory
        Bytes that a fit may take; by default :func:`fit_memory`.
    """
    kind = config.kind
    largest = largest_parameters(config, dataset.n_users, dataset.n_items)
    if largest is None:  # no configuration of the largest values is valid: the trials will say which are
        return Settled()
    outlook = _outlook_of(config, dataset, fit_memory() if memory is None else memory)
    given = kind.config_type.model_validate(largest)
    named, forms = kind.settle(given, outlook)
    before, after = given.model_dump(), named.model_dump()
    decided = [name for name in after if after[name] != before[name] or name in {form.parameter for form in forms}]
    values = {name: after[name] for name in decided if not is_range(config.space.get(name))}
    for name in decided:
        spec: Any = config.space.get(name)
        if is_range(spec) and "choice" in spec:
            settled = [kind.settle(given.model_copy(update={name: value}), outlook) for value in spec["choice"]]
            chosen = list(dict.fromkeys(getattr(one, name) for one, _ in settled))
            values[name] = {"choice": chosen} if len(chosen) > 1 else chosen[0]
            forms = tuple(dict.fromkeys(form for _, of_value in settled for form in of_value))
    return Settled(values, forms)


def settled_study(config: StudyConfig, dataset: Dataset, known: Settled | None = None) -> tuple[StudyConfig, Settled]:
    """Return a study with its forms named, as `known` from before or decided now.

    Raises
    ------
    CatalogTooLargeError
        If the forms were decided before, and the largest fit in them does not fit in memory now.
    """
    decided = known or _settle(config, dataset)
    named = decided.of(config)
    if known is not None and known.forms:
        check_fits(named, dataset, before="The study was begun with " + "; ".join(form.words for form in known.forms))
    return named, decided


def check_fits(config: StudyConfig, dataset: Dataset, *, before: str = "") -> None:
    """Refuse a settled study no configuration of which fits in memory on all items.

    Parameters
    ----------
    before
        Said before the reason.

    Raises
    ------
    CatalogTooLargeError
        If none does.
    """
    fixed = {name: spec for name, spec in config.space.items() if not is_range(spec)}
    try:
        one = config.configured(fixed)
    except (ValidationError, ConfigError):  # they do not go with the defaults of what is searched
        return
    try:
        one.check_size(dataset.n_users, dataset.n_items)
    except CatalogTooLargeError as error:
        raise CatalogTooLargeError(f"{before}. {error}" if before else str(error)) from error


def _outlook_of(config: StudyConfig, dataset: Dataset, memory: int) -> StudyOutlook:
    """Return what is known before a study of its largest fit and of how many there are."""
    named = config.features.attributes or dataset.default_attributes
    read = [one for name, one in dataset.attributes.items() if named == "all" or name in named]
    matrices = [one.matrix for one in read if isinstance(one, LabelAttribute)]
    return StudyOutlook(
        n_users=dataset.n_users,
        n_items=dataset.n_items,
        memory=memory,
        trials=config.n_trials,
        splits=config.splits.n_splits * len(config.splits.seeds),
        distinct={name: _distinct_values(config, name) for name in config.kind.config_type.model_fields},
        labels=sum(matrix.nnz for matrix in matrices),
        label_kinds=sum(matrix.shape[1] for matrix in matrices),
        options=config.fit,
    )


def _distinct_values(config: StudyConfig, name: str) -> int:
    """Return how many different values a parameter takes within the trials of a study, at most."""
    spec: Any = config.space.get(name)
    if not is_range(spec):
        return 1
    ((kind, values),) = spec.items()
    if kind == "choice":
        return min(len(values), config.n_trials)
    return min(int(values[1]) - int(values[0]) + 1 if kind == "int_uniform" else config.n_trials, config.n_trials)


def fit_memory() -> int:
    """Return the bytes that a fit may take, here or on the node of a cluster that has most."""
    here = fit_bytes()
    if not ray.is_initialized():
        return here
    own = ray.get_runtime_context().get_node_id()
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    others = [node["Resources"].get("memory", 0.0) for node in nodes if node["Alive"] and node["NodeID"] != own]
    return max([here, *(fit_bytes(int(free)) for free in others)])


def _check_goes_with(config: StudyConfig, settled: Settled, name: str, value: Any) -> None:
    """Refuse a value that is valid in the study as it is written, and not in the form that it has to take."""
    kind = config.kind.config_type
    fixed = {name: spec for name, spec in settled.values.items() if not is_range(spec)}
    try:
        kind.model_validate({name: value})
        kind.model_validate({**fixed, name: value})
    except ConfigError as error:
        told = " ".join(form.told for form in settled.forms)
        raise ConfigError(
            f"space.{name}: {value!r} does not go with the form of the largest fit. {told} {error}"
        ) from error
