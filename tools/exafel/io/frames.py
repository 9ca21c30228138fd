"""Opening image files: one frame source from files, folders, or both."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate, groupby
from pathlib import Path

from exafel.arrays import AnyArray, BoolArray
from exafel.errors import InputError
from exafel.io.cbf import CBF_SUFFIXES, CbfSource
from exafel.io.experiment import ImageRef
from exafel.io.geometry import Beam, Detector
from exafel.io.nxmx import NXmxSource
from exafel.io.source import FrameSource

NEXUS_SUFFIXES = (".nxs", ".h5", ".hdf5", ".hdf", ".nx5", ".cxi")
KNOWN_SUFFIXES = (*CBF_SUFFIXES, *NEXUS_SUFFIXES)


class ConcatenatedSource:
    """Frames of several sources, one after the other."""

    def __init__(self, sources: Sequence[FrameSource]) -> None:
        self.sources = tuple(sources)
        self._ends = list(accumulate(len(source) for source in sources))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def detector(self, index: int) -> Detector:
        """Return the detector of frame `index`."""
        source, local = self._locate(index)
        return source.detector(local)

    def beam(self, index: int) -> Beam:
        """Return the beam of frame `index`."""
        source, local = self._locate(index)
        return source.beam(local)

    def frame(self, index: int) -> list[AnyArray]:
        """Read the pixels of frame `index`: one array of shape (slow, fast) a panel."""
        source, local = self._locate(index)
        return source.frame(local)

    def mask(self, index: int) -> list[BoolArray] | None:
        """Return the file's own mask, one array a panel; None where it has none."""
        source, local = self._locate(index)
        return source.mask(local)

    def image(self, index: int) -> ImageRef:
        """Return the file, and the number in it, of frame `index`."""
        source, local = self._locate(index)
        return source.image(local)

    def _locate(self, index: int) -> tuple[FrameSource, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        which = bisect_right(self._ends, index)
        return self.sources[which], index - (self._ends[which - 1] if which else 0)


def open_frames(paths: Sequence[Path]) -> FrameSource:
    """Open image files and folders as one source.

    Frames follow in the order of `paths`; those of a folder by file name. HDF5 files are opened for their headers;
    of CBF files nothing is read yet, so that thousands cost nothing.

    Parameters
    ----------
    paths
        Files, and folders of which every file of a known kind is taken.

    Raises
    ------
    InputError
        A path is missing, is of no known kind, or is damaged; a folder holds no images; nothing was given.
    """
    files = [file for path in paths for file in _expand(path)]
    if not files:
        raise InputError("no image files were given")
    sources: list[FrameSource] = []
    for opener, group in groupby(files, key=_opener):
        sources.extend(opener(list(group)))
    return sources[0] if len(sources) == 1 else ConcatenatedSource(sources)


def _expand(path: Path) -> list[Path]:
    if not path.exists():
        raise InputError("no such file or folder", where=path)
    if not path.is_dir():
        if _kind(path) is None:
            raise InputError("not an image file of a known kind", where=path, hint=f"known are {_known()}")
        return [path]
    found = sorted(item for item in path.iterdir() if _kind(item) is not None and item.is_file())
    names = {item.name for item in found}
    images = [item for item in found if not _is_part(item.name, names)]
    if not images:
        raise InputError("no images in the folder", where=path, hint=f"known are {_known()}")
    return images


def _is_part(name: str, names: set[str]) -> bool:
    """Whether a file only holds data that a master file beside it links to, as Dectris' detectors write them."""
    match = re.fullmatch(r"(.+)_data_\d+\.h5", name)
    return match is not None and any(f"{match[1]}{ending}" in names for ending in ("_master.h5", ".nxs", ".h5"))


def _known() -> str:
    return " ".join(KNOWN_SUFFIXES)


def _open_cbf(files: list[Path]) -> list[FrameSource]:
    return [CbfSource(files)]


def _open_nexus(files: list[Path]) -> list[FrameSource]:
    return [NXmxSource(file) for file in files]


Opener = Callable[[list[Path]], list[FrameSource]]


def _kind(path: Path) -> Opener | None:
    name = path.name.lower()
    if name.startswith("."):
        return None
    if name.endswith(CBF_SUFFIXES):
        return _open_cbf
    return _open_nexus if name.endswith(NEXUS_SUFFIXES) else None


def _opener(path: Path) -> Opener:
    kind = _kind(path)
    assert kind is not None
    return kind
