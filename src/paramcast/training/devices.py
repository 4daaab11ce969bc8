"""The data of devices: each device's examples, in the order in which the device meets them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils import _pytree as pytree

from paramcast.errors import InputError
from paramcast.protocol.limits import DEVICE_ID
from paramcast.training import examples


@dataclass(frozen=True, eq=False)
class DeviceData:
    """The N examples of one device, in the order in which the device meets them.

    Attributes:
        id: A letter or digit, then up to 127 letters, digits and `._:@+-`.
        inputs: The arguments of the module: a tuple (positional), a dictionary (keywords) or one array;
            arrays or tensors (N, ...), also nested.
        labels: Arrays (N, ...), also nested; the loss and the score compare the outputs with them.
        context: (N, F) or (N, T, F) floats: features that describe each example to the server. None: the
            model's describer computes them. If an example has T parts (frames, seconds), only the middle part
            is sent.
        group: The person or site that the device belongs to. Folds never separate a group. None: the device
            is a group by itself.
        domain: The true domain, for the oracle: (R,) floats, or a name. None: unknown.

    Raises:
        InputError: The id is malformed, the numbers of examples differ, or the context is malformed.
    """

    id: str
    inputs: Any
    labels: Any
    context: Any = None
    group: str | None = None
    domain: Any = None
    _checked: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not DEVICE_ID.fullmatch(self.id):
            raise InputError(
                f"{self.id!r} is no device id: it begins with a letter or digit and has at most 128 letters, "
                "digits and ._:@+-"
            )
        put = object.__setattr__
        put(self, "inputs", examples.as_tensors(self.inputs, f"device {self.id}: inputs"))
        put(self, "labels", examples.as_tensors(self.labels, f"device {self.id}: labels"))
        counts = {"inputs": examples.count(self.inputs), "labels": examples.count(self.labels)}
        if self.context is not None:
            context = np.asarray(self.context.numpy() if isinstance(self.context, Tensor) else self.context)
            if context.ndim not in (2, 3) or not np.isfinite(context).all():
                raise InputError(f"device {self.id}: context must be finite, of shape (N, F) or (N, T, F)")
            put(self, "context", context.astype(np.float32))
            counts["context"] = len(context)
        if len(set(counts.values())) != 1:
            told = ", ".join(f"{name} {n}" for name, n in counts.items())
            raise InputError(f"device {self.id}: the numbers of examples differ ({told})")
        if isinstance(self.domain, Tensor):
            put(self, "domain", self.domain.numpy())

    def __len__(self) -> int:
        return examples.count(self.inputs)

    @property
    def group_name(self) -> str:
        """The group, or the device's own id where it has none."""
        return self.id if self.group is None else str(self.group)

    @classmethod
    def from_table(
        cls,
        table: Any,
        *,
        inputs: Sequence[str],
        label: str | Sequence[str],
        device: str,
        group: str | None = None,
    ) -> list[DeviceData]:
        """Make one device for each value of a column of a table.

        Args:
            table: A data frame, or a mapping from column names to arrays (N,).
            inputs: Columns of numbers; together they are one input (N, F) float32.
            label: A column, or several.
            device: The column that names the device.
            group: The column that names the group, if there is one.

        Returns:
            The devices, in the order in which they first occur; rows keep their order.

        Raises:
            InputError: A column is missing or holds no numbers.
        """
        used = [*inputs, *([label] if isinstance(label, str) else label), device, *([group] if group else [])]
        known = list(getattr(table, "columns", table))
        if missing := [name for name in used if name not in known]:
            raise InputError(f"the table has no column {missing[0]!r}; it has: {', '.join(map(str, known))}")
        columns = {name: np.asarray(table[name]) for name in used}
        try:
            values = np.stack([columns[name].astype(np.float32) for name in inputs], 1)
        except ValueError as error:
            raise InputError(f"the input columns must hold numbers: {error}") from error
        wanted = columns[label] if isinstance(label, str) else np.stack([columns[name] for name in label], 1)
        if wanted.dtype.kind not in "biuf":
            _, wanted = np.unique(wanted, return_inverse=True)
        owners = columns[device].astype(str)
        made = []
        for owner in dict.fromkeys(owners.tolist()):
            rows = np.flatnonzero(owners == owner)
            of = str(columns[group][rows[0]]) if group else None
            made.append(cls(owner, (values[rows],), wanted[rows], group=of))
        return made

    @classmethod
    def from_dataset(
        cls,
        dataset: Any,
        device: Callable[[Any], str],
        example: Callable[[Any], tuple[Any, Any]] | None = None,
    ) -> list[DeviceData]:
        """Make devices of a torch Dataset.

        Args:
            dataset: Anything with a length and items.
            device: Names the device of an item.
            example: Returns (inputs, label) of an item. None: an item begins with these two.

        Returns:
            The devices, in the order in which they first occur; items keep their order.

        Raises:
            InputError: The dataset is empty.
        """
        found: dict[str, list[tuple[Any, Any]]] = {}
        for place in range(len(dataset)):
            item = dataset[place]
            found.setdefault(str(device(item)), []).append(tuple(example(item) if example else item[:2]))
        if not found:
            raise InputError("the dataset is empty")
        return [
            cls(name, *(_stacked(parts) for parts in zip(*rows, strict=True))) for name, rows in found.items()
        ]


def _stacked(rows: Sequence[Any]) -> Any:
    """Stack examples of one nested structure along a new first axis."""
    leaves = [pytree.tree_flatten(row) for row in rows]
    stacked = [
        np.stack([np.asarray(leaf) for leaf in parts])
        for parts in zip(*(each[0] for each in leaves), strict=True)
    ]
    return pytree.tree_unflatten(stacked, leaves[0][1])


def check_devices(devices: Sequence[DeviceData], least: int, what: str) -> None:
    """Check that devices can be used together.

    Args:
        devices: Devices of one model.
        least: The smallest number of examples that each device must have.
        what: The name of the set, for error messages.

    Raises:
        InputError: There are no devices, two devices share an id, a device has too few examples, only some
            have a context or a domain, or their inputs have unlike structures.
    """
    if not devices:
        raise InputError(f"no {what} devices were given")
    if wrong := [type(device).__name__ for device in devices if not isinstance(device, DeviceData)]:
        raise InputError(f"{what} devices must be DeviceData, not {wrong[0]}")
    ids = [device.id for device in devices]
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise InputError(f"two {what} devices are called {twice!r}; give each device its own id")
    if few := [device for device in devices if len(device) < least]:
        raise InputError(
            f"{what} device {few[0].id!r} has {len(few[0])} examples; at least {least} are needed"
        )
    for name in ("context", "domain"):
        kinds = {getattr(device, name) is None for device in devices}
        if len(kinds) > 1:
            raise InputError(
                f"some {what} devices have a {name} and others have none; give it to all or to none"
            )
    structures = {pytree.tree_structure(device.inputs) for device in devices}
    if len(structures) > 1:
        raise InputError(f"{what} devices have inputs of different structure")


def folds_of(devices: Sequence[DeviceData], most: int, seed: int) -> list[list[DeviceData]]:
    """Divide devices into folds; a group stays together.

    Args:
        devices: Devices of at least two groups.
        most: The number of folds; fewer where there are fewer groups.
        seed: Draws which groups share a fold.

    Raises:
        InputError: All devices belong to one group.
    """
    groups = sorted({device.group_name for device in devices})
    if len(groups) < 2:
        raise InputError("all training devices belong to one group; at least two groups are needed")
    drawn = np.array_split(np.random.default_rng(seed).permutation(groups), min(most, len(groups)))
    return [[device for device in devices if device.group_name in set(fold)] for fold in drawn]


def domains_of(devices: Sequence[DeviceData]) -> dict[str, np.ndarray] | None:
    """Return the true domain of each device as (R,) float32, or None where it is unknown.

    Names become one-hot vectors over the sorted names; numbers stay as they are.
    """
    if any(device.domain is None for device in devices):
        return None
    if all(isinstance(device.domain, str | int) for device in devices):
        names = sorted({str(device.domain) for device in devices})
        return {d.id: np.eye(len(names), dtype=np.float32)[names.index(str(d.domain))] for d in devices}
    return {device.id: np.asarray(device.domain, np.float32).reshape(-1) for device in devices}


def domain_names(devices: Sequence[DeviceData]) -> tuple[str, ...]:
    """Return the sorted names of the true domains; () where domains are arrays or unknown."""
    if all(isinstance(device.domain, str | int) for device in devices):
        return tuple(sorted({str(device.domain) for device in devices}))
    return ()


Inputs = tuple[Any, ...] | Mapping[str, Any] | Tensor
