"""Full imgCIF of one array: axes that depend on each other, by hand and against dxtbx."""

from __future__ import annotations

from pathlib import Path
from string import Template

import fabio.compression
import numpy as np
import pytest

from exafel.io.cbf import CbfSource

HEADER = Template("""\
###CBF: VERSION 1.5
data_x
_diffrn.id DS1
_diffrn_radiation.diffrn_id DS1
_diffrn_radiation.wavelength_id W1
_diffrn_radiation.probe x-ray
_diffrn_radiation_wavelength.id W1
_diffrn_radiation_wavelength.wavelength 1.1
_diffrn_radiation_wavelength.wt 1.0
_diffrn_detector.diffrn_id DS1
_diffrn_detector.id D1
_diffrn_detector.type 'PILATUS'
_diffrn_detector.number_of_axes 1
loop_
_diffrn_detector_axis.detector_id
_diffrn_detector_axis.axis_id
 D1 DET_Z
 D1 DET_Y
loop_
_diffrn_detector_element.id
_diffrn_detector_element.detector_id
 E1 D1
loop_
_diffrn_data_frame.id
_diffrn_data_frame.detector_element_id
_diffrn_data_frame.array_id
_diffrn_data_frame.binary_id
 F1 E1 A1 1
loop_
_axis.id
_axis.type
_axis.equipment
_axis.depends_on
_axis.vector[1]
_axis.vector[2]
_axis.vector[3]
_axis.offset[1]
_axis.offset[2]
_axis.offset[3]
 GON_OMEGA rotation goniometer . 1 0 0 . . .
 SOURCE general source . 0 0 1 . . .
 GRAVITY general gravity . 0 -1 0 . . .
 DET_Z translation detector . 0 0 -1 0 0 0
 DET_Y rotation detector DET_Z 0 1 0 0 0 0
 EL_X translation detector DET_Y 1 0 0 -10 20 0
 EL_Y translation detector EL_X 0 -1 0 0 0 0
_diffrn_measurement.diffrn_id DS1
_diffrn_measurement.id G1
_diffrn_measurement.number_of_axes 1
_diffrn_measurement.method rotation
loop_
_diffrn_measurement_axis.measurement_id
_diffrn_measurement_axis.axis_id
 G1 GON_OMEGA
loop_
_diffrn_scan.id
_diffrn_scan.frame_id_start
_diffrn_scan.frame_id_end
_diffrn_scan.frames
 S1 F1 F1 1
loop_
_diffrn_scan_axis.scan_id
_diffrn_scan_axis.axis_id
_diffrn_scan_axis.angle_start
_diffrn_scan_axis.angle_range
_diffrn_scan_axis.angle_increment
_diffrn_scan_axis.displacement_start
_diffrn_scan_axis.displacement_range
_diffrn_scan_axis.displacement_increment
 S1 GON_OMEGA 0 0.1 0.1 0 0 0
 S1 DET_Z 0 0 0 100 0 0
 S1 DET_Y $TURN 0 0 0 0 0
loop_
_diffrn_scan_frame.frame_id
_diffrn_scan_frame.frame_number
_diffrn_scan_frame.integration_time
_diffrn_scan_frame.scan_id
_diffrn_scan_frame.date
 F1 1 0.1 S1 2013-03-01T06:08:58
loop_
_diffrn_scan_frame_axis.frame_id
_diffrn_scan_frame_axis.axis_id
_diffrn_scan_frame_axis.angle
_diffrn_scan_frame_axis.displacement
 F1 GON_OMEGA 0 0
 F1 DET_Z 0 100
 F1 DET_Y $TURN 0
loop_
_array_structure_list.array_id
_array_structure_list.index
_array_structure_list.dimension
_array_structure_list.precedence
_array_structure_list.direction
_array_structure_list.axis_set_id
 A1 1 4 1 increasing EL_X
 A1 2 3 2 increasing EL_Y
loop_
_array_structure_list_axis.axis_set_id
_array_structure_list_axis.axis_id
_array_structure_list_axis.displacement
_array_structure_list_axis.displacement_increment
 EL_X EL_X $FAST 0.172
 EL_Y EL_Y $SLOW 0.172
loop_
_array_intensities.array_id
_array_intensities.binary_id
_array_intensities.linearity
_array_intensities.gain
_array_intensities.gain_esd
_array_intensities.overload
_array_intensities.undefined_value
 A1 1 linear 1.0 . 1000 -1
loop_
_array_structure.id
_array_structure.encoding_type
_array_structure.compression_type
_array_structure.byte_order
 A1 "signed 32-bit integer" byte_offset little_endian
loop_
_array_data.array_id
_array_data.binary_id
_array_data.data
 A1 1
;
--CIF-BINARY-FORMAT-SECTION--
Content-Type: application/octet-stream;
     conversions="x-CBF_BYTE_OFFSET"
Content-Transfer-Encoding: BINARY
X-Binary-Size: $SIZE
X-Binary-ID: 1
X-Binary-Element-Type: "signed 32-bit integer"
X-Binary-Element-Byte-Order: LITTLE_ENDIAN
X-Binary-Number-of-Elements: 12
X-Binary-Size-Fastest-Dimension: 4
X-Binary-Size-Second-Dimension: 3
X-Binary-Size-Padding: 0

""")

DATA = np.arange(12, dtype=np.int32).reshape(3, 4)


def write_imgcif(path: Path, displacement: tuple[float, float] = (0.0, 0.0), *, turn_deg: float = 0.0) -> Path:
    body = bytes(fabio.compression.compByteOffset(DATA))
    header = HEADER.substitute(FAST=displacement[0], SLOW=displacement[1], SIZE=len(body), TURN=turn_deg)
    content = header.replace("\n", "\r\n").encode() + b"\x0c\x1a\x04\xd5" + body
    path.write_bytes(content + b"\r\n--CIF-BINARY-FORMAT-SECTION----\r\n;\r\n")
    return path


def test_axes_by_hand(tmp_path):
    source = CbfSource([write_imgcif(tmp_path / "a_0001.cbf", (1.0, 3.0), turn_deg=30.0)])
    panel = source.detector(0)[0]
    c, s = np.cos(np.radians(30)), np.sin(np.radians(30))
    # the arm turns about y after 100 mm along -z; on it the first corner is at (-10 + 1, 20 - 3, 0)
    np.testing.assert_allclose(panel.origin_mm, [-9 * c, 17, 9 * s - 100], atol=1e-12)
    np.testing.assert_allclose(panel.fast_axis, [c, 0, -s], atol=1e-15)
    np.testing.assert_allclose(panel.slow_axis, [0, -1, 0], atol=1e-15)
    assert panel.pixel_size_mm == (0.172, 0.172)
    assert panel.trusted_range == (0.0, 999.0)
    assert not panel.parallax
    assert source.beam(0).wavelength_angstrom == 1.1
    np.testing.assert_array_equal(source.frame(0)[0], DATA)


@pytest.mark.dials
def test_axes_as_dxtbx_reads_them(tmp_path, ask_dxtbx):
    displacements = [(0.0, 0.0), (0.086, 0.086), (1.0, 3.0)]
    files = [
        write_imgcif(tmp_path / f"{name}_0001.cbf", displacement, turn_deg=turn)
        for name, displacement, turn in zip("abc", displacements, (0.0, 0.0, 30.0), strict=True)
    ]
    theirs = ask_dxtbx(images={str(file): [0] for file in files})
    for file in files:
        (panel,) = theirs[str(file)]["frames"][0]["panels"]
        ours = CbfSource([file]).detector(0)[0]
        np.testing.assert_allclose(ours.origin_mm, panel["origin"], rtol=0, atol=1e-9)
        np.testing.assert_allclose(ours.fast_axis, panel["fast"], rtol=0, atol=1e-9)
        np.testing.assert_allclose(ours.slow_axis, panel["slow"], rtol=0, atol=1e-9)
        np.testing.assert_allclose(ours.pixel_to_lab(np.array(panel["grid"])), panel["lab"], rtol=0, atol=1e-6)
