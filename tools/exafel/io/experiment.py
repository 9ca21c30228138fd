"""Experiments: what one lattice of one shot was measured with; the content of a DIALS ``.expt`` file."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from exafel.io.crystal import Crystal
from exafel.io.geometry import Beam, Detector


@dataclass(frozen=True)
class ImageRef:
    """Where a shot's image is.

    Parameters
    ----------
    path
        The image file.
    index
        Number of the image in a file that holds many; None for a file of one image.
    """

    path: Path
    index: int | None = None

    @property
    def label(self) -> str:
        """Short text for messages: file name, and the number of the image where there are many."""
        return self.path.name if self.index is None else f"{self.path.name}[{self.index}]"


@dataclass(frozen=True, eq=False)
class Experiment:
    """One lattice of one shot (or, without a crystal, one shot)."""

    identifier: str
    beam: Beam
    detector: Detector
    image: ImageRef
    crystal: Crystal | None = None
    profile: dict[str, object] | None = None
    scaling: dict[str, object] | None = None


@dataclass(eq=False)
class ExperimentList:
    """Experiments in the order that the ``id`` column of a reflection table counts them."""

    experiments: list[Experiment] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.experiments)

    def __getitem__(self, index: int) -> Experiment:
        return self.experiments[index]

    def __iter__(self) -> Iterator[Experiment]:
        return iter(self.experiments)

    def append(self, experiment: Experiment) -> None:
        """Add one experiment at the end."""
        self.experiments.append(experiment)


def experiment_identifier(image: ImageRef, lattice: int) -> str:
    """Return the identifier of lattice number `lattice` of an image: the same in every run and on every rank.

    It is a UUID made of the names of the file and of the two folders that it lies in, the image's number and the
    lattice's. Runs whose files have the same names lie in folders of their own, and a tree of data that is moved as a
    whole keeps its identifiers.
    """
    place = "/".join(Path(os.path.abspath(image.path)).parts[-3:])  # noqa: PTH100 - resolve() would ask the disk
    text = f"{place}\0{-1 if image.index is None else image.index}\0{lattice}"
    return str(uuid.UUID(bytes=hashlib.sha256(text.encode()).digest()[:16], version=5))
