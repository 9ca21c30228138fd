"""Opening files and folders as one source."""

from __future__ import annotations

import numpy as np
import pytest

from exafel.errors import FrameError, InputError
from exafel.io.cbf import CbfSource
from exafel.io.frames import ConcatenatedSource, open_frames
from exafel.io.geometry import Beam
from exafel.io.nxmx_writer import NXmxWriter
from exafel.io.source import FrameSource
from exafel.io.synthetic import SyntheticSource


@pytest.fixture
def folder(models, tmp_path):
    detector = models.tilted_detector(1)
    for name, count in (("b.h5", 2), ("a.nxs", 3)):
        with NXmxWriter(tmp_path / name, detector) as writer:
            for number in range(count):
                writer.append(models.random_frame(detector, 10 * count + number), Beam(1.0 + number))
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".c.h5.part").write_bytes(b"half written")
    return tmp_path


def test_a_folder_is_read_in_the_order_of_its_names(models, folder):
    source = open_frames([folder])
    assert isinstance(source, FrameSource)
    assert len(source) == 5
    labels = [source.image(number).label for number in range(5)]
    assert labels == ["a.nxs[0]", "a.nxs[1]", "a.nxs[2]", "b.h5[0]", "b.h5[1]"]
    np.testing.assert_array_equal(source.frame(4)[0], models.random_frame(source.detector(4), 21)[0])
    assert source.beam(2).wavelength_angstrom == 3.0
    assert source.mask(3) is None


def test_files_are_read_in_the_order_given(folder):
    source = open_frames([folder / "b.h5", folder / "a.nxs"])
    assert source.image(0).path.name == "b.h5"
    assert source.image(2).path.name == "a.nxs"


def test_nothing_of_thousands_of_cbf_files_is_read_at_the_start(tmp_path):
    for number in range(3000):
        (tmp_path / f"x_{number:05d}.cbf.gz").touch()
    source = open_frames([tmp_path])
    assert isinstance(source, CbfSource)
    assert len(source) == 3000
    assert source.image(2999).path.name == "x_02999.cbf.gz"
    with pytest.raises(FrameError):
        source.frame(7)


def test_parts_of_dectris_data_sets_are_not_opened_on_their_own(folder):
    (folder / "a_data_000001.h5").write_bytes(b"pixels that a.nxs links to")
    assert len(open_frames([folder])) == 5
    (folder / "z_data_000001.h5").write_bytes(b"of no master file")
    with pytest.raises(InputError, match="z_data_000001"):
        open_frames([folder])


def test_what_cannot_be_opened_is_named(tmp_path, folder):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match=r"empty: no images in the folder \(known are .*\.cbf\.bz2"):
        open_frames([empty])
    with pytest.raises(InputError, match=r"notes\.txt: not an image file of a known kind \(known are"):
        open_frames([folder / "notes.txt"])
    with pytest.raises(InputError, match="no such file or folder"):
        open_frames([tmp_path / "gone"])
    with pytest.raises(InputError, match="no image files were given"):
        open_frames([])


def test_a_source_in_memory(models):
    detector = models.tilted_detector(2)
    frames = [models.random_frame(detector, 0), None, models.random_frame(detector, 2)]
    masks = [np.ones(panel.shape, bool) for panel in detector.panels]
    source = SyntheticSource(detector, [Beam(1.0), Beam(1.1), Beam(1.2)], frames, masks=masks)
    assert isinstance(source, FrameSource)
    assert source.beam(2).wavelength_angstrom == 1.2
    data = source.frame(0)
    data[0][:] = 0
    np.testing.assert_array_equal(source.frame(0)[0], frames[0][0])
    with pytest.raises(FrameError, match=r"synthetic\[1\]"):
        source.frame(1)
    both = ConcatenatedSource([source, source])
    assert len(both) == 6
    assert both.image(5).index == 2
    with pytest.raises(IndexError):
        both.frame(6)
    with pytest.raises(ValueError, match="2 beams for 3 frames"):
        SyntheticSource(detector, [Beam(1.0)] * 2, frames)
    with pytest.raises(ValueError, match="shapes"):
        SyntheticSource(detector, Beam(1.0), [frames[0][:1]])
