"""Runs under DIALS' own Python for `benchmarks/stills.py`: times its threshold and its spot finding.

A request as JSON on stdin, an answer as JSON on the last line of stdout.
"""

import json
import statistics
import sys
import time

import numpy as np
from dials.algorithms.image.threshold import DispersionThreshold
from dials.array_family import flex
from dials.command_line.find_spots import phil_scope
from dxtbx.model.experiment_list import ExperimentListFactory
from libtbx.phil import parse


def median_cpu_s(work, repeats):
    """Median CPU seconds of a piece of work."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds)


def threshold_seconds(pixels, config, repeats):
    """CPU seconds of the dispersion threshold over all panels."""
    panels = []
    for number in range(len(pixels.files) // 2):
        frame = flex.double(pixels[f"frame{number}"].astype(np.float64))
        mask = flex.bool(pixels[f"mask{number}"])
        gain = flex.double(frame.accessor(), config["gain"])
        panels.append((frame, mask, gain, flex.bool(frame.accessor(), False)))

    def work():
        for frame, mask, gain, result in panels:
            DispersionThreshold(
                frame.all(),
                tuple(config["kernel_size"]),
                config["sigma_background"],
                config["sigma_strong"],
                config["global_threshold"],
                config["min_local"],
            )(frame, mask, gain, result)

    return median_cpu_s(work, repeats)


def spot_seconds(request, config):
    """CPU seconds from the pixels to the table of spots, and the spots; the image is read and cached first."""
    names = ("sigma_background", "sigma_strong", "global_threshold", "gain")
    lines = [f"spotfinder.threshold.dispersion.{name}={config[name]}" for name in names]
    lines += [
        "spotfinder.threshold.algorithm=dispersion",
        "spotfinder.threshold.dispersion.kernel_size={},{}".format(*config["kernel_size"]),
        f"spotfinder.filter.min_spot_size={config['min_spot_size']}",
        "spotfinder.mp.nproc=1",
    ]
    params = phil_scope.fetch(parse("\n".join(lines))).extract()
    experiments = ExperimentListFactory.from_filenames([request["image"]])[request["index"] : request["index"] + 1]
    experiments[0].imageset.get_raw_data(0)
    spots = flex.reflection_table.from_observations(experiments, params)
    found = [[spots["panel"][row], *spots["xyzobs.px.value"][row][:2]] for row in range(len(spots))]
    seconds = median_cpu_s(lambda: flex.reflection_table.from_observations(experiments, params), request["repeats"])
    return seconds, found


request = json.load(sys.stdin)
seconds, found = spot_seconds(request, request["config"])
answer = {
    "threshold": threshold_seconds(np.load(request["pixels"]), request["config"], request["repeats"]),
    "spots": seconds,
    "found": found,
}
print(json.dumps(answer))
