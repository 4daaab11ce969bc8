"""The two benchmark sets, read in place: Office-Caltech-10 SURF and music genres under noise (`mgr`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from paramcast.methods.cmda_ot.errors import FederationInputError

OFFICE_FILE = "office_caltech_surf.mat"
OFFICE_DOMAINS = ("amazon", "caltech", "dslr", "webcam")
MGR_FILES = ("mgr.npy", "mgr_crossval_index.json")
MGR_DOMAINS = ("noiseless", "buccaneer2", "destroyerengine", "f16", "factory2")
FOLDS = 5
_CONSTANT_COLUMN = 17


@dataclass(frozen=True)
class Problem:
    """Several labeled sources and one target.

    Attributes:
        target: Name of the target domain.
        fold: Number of the fold, 0 where there are none.
        sources: (n, D) float64 and (n,) int of each source.
        X: (N, D) float64, the target.
        y: (N,) int, for scoring only.
    """

    target: str
    fold: int
    sources: tuple[tuple[np.ndarray, np.ndarray], ...]
    X: np.ndarray
    y: np.ndarray

    def stacked(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return X, y and sample_domain in the form of an estimator; the target's labels are -1."""
        rows = [*self.sources, (self.X, np.full(len(self.X), -1))]
        numbers = [*range(1, len(self.sources) + 1), -1]
        X, y = (np.concatenate(each) for each in zip(*rows, strict=True))
        domain = np.concatenate([np.full(len(X), n) for n, (X, _) in zip(numbers, rows, strict=True)])
        return X, y, domain


def office(folder: Path) -> Iterator[Problem]:
    """Yield each domain as the target of the other three; features min-max scaled over all domains."""
    stored = loadmat(existing(folder, OFFICE_FILE))
    X, y = scaled(np.asarray(stored["D"], dtype=float)), stored["y"].ravel().astype(int)
    names = [str(np.asarray(name).item()) for name in stored["domain_names"].ravel()]
    starts = stored["domains"].ravel()
    domains = zip(names, starts[:-1], starts[1:], strict=True)
    parts = {name.lower(): (X[first:last], y[first:last]) for name, first, last in domains}
    return turned({name: parts[name] for name in OFFICE_DOMAINS})


def mgr(folder: Path, targets: tuple[str, ...] = MGR_DOMAINS[1:]) -> Iterator[Problem]:
    """Yield the published protocol's problems: transductive, four folds of five.

    Features are min-max scaled, and the constant column is dropped.
    """
    data = np.load(existing(folder, MGR_FILES[0]), allow_pickle=False)
    folds = json.loads(existing(folder, MGR_FILES[1]).read_text(encoding="utf-8"))
    X, y = scaled(np.delete(data[:, :-2], _CONSTANT_COLUMN, axis=1)), data[:, -2].astype(int)

    def part(domain: int, left_out: int) -> tuple[np.ndarray, np.ndarray]:
        of_domain = folds[f"Domain {domain + 1}"]
        rows = np.concatenate([of_domain[f"Fold {f}"] for f in range(1, FOLDS + 1) if f != left_out])
        return X[rows], y[rows]

    for target in targets:
        number = MGR_DOMAINS.index(target)
        others = [domain for domain in range(len(MGR_DOMAINS)) if domain != number]
        for fold in range(1, FOLDS + 1):
            yield Problem(target, fold, tuple(part(each, fold) for each in others), *part(number, fold))


def turned(domains: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Iterator[Problem]:
    """Yield each domain in turn as the target of all others."""
    for target, (X, y) in domains.items():
        sources = tuple(part for name, part in domains.items() if name != target)
        yield Problem(target, 0, sources, X, y)


def scaled(X: np.ndarray) -> np.ndarray:
    """Scale every column of X (N, D) to [0, 1]; a constant column becomes 0."""
    low, high = X.min(0), X.max(0)
    result: np.ndarray = (X - low) / np.where(high > low, high - low, 1)
    return result


def existing(folder: Path, name: str) -> Path:
    """Return the path of a file in a folder.

    Raises:
        FederationInputError: The file does not exist.
    """
    path = folder / name
    if not path.is_file():
        raise FederationInputError(f"{path} does not exist; give the folder that holds {name}")
    return path
