"""Packed CBF sections are decoded as CBFlib (pycbf, which comes with DIALS) encodes them; imgCIF geometry with it."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest

from exafel.errors import FrameError
from exafel.io.cbf import CbfSource
from exafel.io.cbf_file import binary_sections

pytestmark = pytest.mark.dials

ENCODE = """
import json, sys
import numpy as np
import pycbf

request = json.load(sys.stdin)
kinds = {
    "packed": pycbf.CBF_PACKED,
    "packed_v2": pycbf.CBF_PACKED_V2,
    "flat": pycbf.CBF_PACKED | pycbf.CBF_FLAT_IMAGE,
    "uncorrelated": pycbf.CBF_PACKED | pycbf.CBF_UNCORRELATED_SECTIONS,
    "byte_offset": pycbf.CBF_BYTE_OFFSET,
    "none": pycbf.CBF_NONE,
}
for name, kind in kinds.items():
    data = np.load(request["data"]).astype("<i4")
    slow, mid, fast = data.shape
    handle = pycbf.cbf_handle_struct()
    handle.new_datablock(b"image")
    handle.new_category(b"array_data")
    handle.new_column(b"data")
    handle.set_integerarray_wdims_fs(
        kind, 1, data.tobytes(), 4, 1, data.size, b"little_endian", fast, mid, slow, 0
    )
    handle.write_widefile(
        f"{request['folder']}/{name}.cbf".encode(), pycbf.CBF, pycbf.MIME_HEADERS | pycbf.MSG_DIGEST, 0
    )
"""


@pytest.mark.parametrize("shape", [(3, 7, 11), (1, 40, 33), (2, 1, 50), (4, 5, 2)])
@pytest.mark.parametrize("spread", [0, 3, 300, 2**20])
def test_every_kind_of_section(tmp_path, dials, shape, spread):
    python = shutil.which("dxtbx.python")
    assert python is not None
    data = np.random.default_rng(7).integers(-spread, spread + 1, shape).astype(np.int32)
    np.save(tmp_path / "data.npy", data)
    request = json.dumps({"data": str(tmp_path / "data.npy"), "folder": str(tmp_path)})
    subprocess.run([python, "-c", ENCODE], input=request, text=True, check=True, capture_output=True)
    files = sorted(tmp_path.glob("*.cbf"))
    assert len(files) == 6
    for file in files:
        (section,) = binary_sections(file.read_bytes())
        np.testing.assert_array_equal(section.array(), data, err_msg=file.stem)


@pytest.mark.data
def test_a_multi_panel_file_with_its_parts_damaged(shared_data, tmp_path):
    content = (shared_data / "cspad_thermolysin" / "idx-20130301060858401.cbf").read_bytes()
    changes = {
        "no_axes.cbf": ("_axis.id", "_oxis.id"),
        "no_wavelength.cbf": ("_diffrn_radiation_wavelength.wavelength", "_diffrn_radiation_wavelength.length"),
        "circle.cbf": ("AXIS_D0_Z translation detector . ", "AXIS_D0_Z translation detector AXIS_D0_X "),
        "no_parent.cbf": ("FS_D0Q0 rotation detector AXIS_D0_R", "FS_D0Q0 rotation detector AXIS_D9_R"),
        "text_for_number.cbf": ("-130.106632672914", "-130.1o6632672914"),
    }
    broken = {name: content.replace(old.encode(), new.encode()) for name, (old, new) in changes.items()}
    broken["cut_in_last_array.cbf"] = content[: int(0.9 * len(content))]
    for name, damaged in broken.items():
        assert damaged != content
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(FrameError, match=name) as caught:
            CbfSource([tmp_path / name]).frame(0)
        assert "\n" not in str(caught.value)
