"""Frames from CBF files: Dectris miniCBF and full imgCIF, of one panel or many, packed by bzip2 or gzip or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gemmi

from exafel.arrays import AnyArray, BoolArray
from exafel.errors import FrameError, InputError
from exafel.io.cbf_file import DamagedSectionError, binary_sections, parse_header, read_all, read_header
from exafel.io.experiment import ImageRef
from exafel.io.geometry import Beam, Detector
from exafel.io.imgcif import imgcif_geometry
from exafel.io.minicbf import minicbf_geometry

CBF_SUFFIXES = (".cbf", ".cbf.bz2", ".cbf.gz")


@dataclass(frozen=True)
class Window:
    """Where a panel's pixels are: the array by its name, the layer, and the ranges along slow and fast."""

    array_id: str
    layer: int
    slow: slice
    fast: slice


@dataclass(frozen=True, eq=False)
class CbfHeader:
    """Geometry of one file, and where each panel's pixels are in its arrays."""

    detector: Detector
    beam: Beam
    windows: tuple[Window, ...] | None
    array_ids: tuple[str, ...] = ()


class CbfSource:
    """Frames of CBF files, one frame a file.

    A header is read when its frame is first asked for, so thousands of files cost nothing at the start. Frames with
    the same geometry share one detector object.

    Parameters
    ----------
    paths
        The files, in the order of the frames.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        self._headers: dict[int, CbfHeader] = {}
        self._detectors: dict[bytes, Detector] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def detector(self, index: int) -> Detector:
        """Return the detector of frame `index`."""
        return self._header(index).detector

    def beam(self, index: int) -> Beam:
        """Return the beam of frame `index`."""
        return self._header(index).beam

    def mask(self, index: int) -> list[BoolArray] | None:
        """Return None: a CBF holds no mask beside its trusted range."""
        self._path(index)
        return None

    def image(self, index: int) -> ImageRef:
        """Return the file of frame `index`."""
        return ImageRef(self._path(index))

    def frame(self, index: int) -> list[AnyArray]:
        """Read the pixels of frame `index`: one array of shape (slow, fast) a panel.

        Raises
        ------
        FrameError
            The file is missing, cut short or damaged.
        """
        path = self._path(index)
        try:
            content = read_all(path)
            header = self._header(index, content)
            arrays = [section.array() for section in binary_sections(content)]
            return _cut(arrays, header)
        except (DamagedSectionError, IndexError) as error:
            raise FrameError(str(error), where=path) from error
        except FrameError:
            raise
        except InputError as error:
            raise FrameError(error.what, where=path) from error

    def _path(self, index: int) -> Path:
        if not 0 <= index < len(self.paths):
            raise IndexError(f"frame {index} of {len(self.paths)}")
        return self.paths[index]

    def _header(self, index: int, content: bytes | None = None) -> CbfHeader:
        if index not in self._headers:
            path = self._path(index)
            try:
                block = read_header(path) if content is None else parse_header(content, path)
                header = _geometry(block, path)
            except FrameError:
                raise
            except InputError as error:
                raise FrameError(error.what, where=path, hint=error.hint) from error
            shared = self._detectors.setdefault(header.detector.fingerprint(), header.detector)
            self._headers[index] = CbfHeader(shared, header.beam, header.windows, header.array_ids)
        return self._headers[index]


def _geometry(block: gemmi.cif.Block, path: Path) -> CbfHeader:
    try:
        if block.find_value("_array_data.header_contents") is not None:
            return CbfHeader(*minicbf_geometry(block), windows=None)
        detector, beam, places, arrays = imgcif_geometry(block)
        windows = tuple(Window(name, layer, slow, fast) for name, layer, slow, fast in places)
        return CbfHeader(detector, beam, windows, arrays)
    except (ValueError, KeyError, IndexError, RuntimeError, ArithmeticError) as error:
        text = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"damaged header: {text}", where=path) from error


def _cut(arrays: list[AnyArray], header: CbfHeader) -> list[AnyArray]:
    panels = header.detector.panels
    if header.windows is None:
        frames = [arrays[0][0]] if arrays else []
    else:
        if len(arrays) < len(header.array_ids):
            raise DamagedSectionError(f"{len(arrays)} of {len(header.array_ids)} arrays of pixels are there")
        stacks = dict(zip(header.array_ids, arrays, strict=False))
        frames = [stacks[item.array_id][item.layer, item.slow, item.fast] for item in header.windows]
    if [frame.shape for frame in frames] != [panel.shape for panel in panels]:
        raise DamagedSectionError("the arrays of pixels do not have the shapes that the header says")
    return frames
