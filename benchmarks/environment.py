"""The packed environment: seconds to pack, deploy, and pack again after a change; imports from it and a slow folder.

    python benchmarks/environment.py --latency-ms 0.3 1 3

The slow folder is the same tree, where every call that looks up a path waits first, as for a file system's metadata
server that others ask as well (slow_folder.c, preloaded; needs cc).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import exafel.facility.deploy as deploying
from exafel.facility.environments import TarballEnvironment
from exafel.facility.pack import pack

IMPORTS = "import exafel.steps.stills, exafel.steps.stage2, exafel.steps.merge, exafel.steps.spi_reconstruct"


def imports(root: Path, *, slow: Path | None = None, ms: float = 0.0, library: Path | None = None) -> tuple[float, int]:
    """Median wall seconds of three imports by the environment's own Python, and calls that looked up a path in it."""
    environment = dict(os.environ)
    if library is not None:
        environment |= {"LD_PRELOAD": str(library), "SLOW_FOLDER": str(slow), "SLOW_MS": str(ms)}
    seconds, calls = [], 0
    for _ in range(3):
        start = time.perf_counter()
        command = [str(root / "bin/exafel-env"), "python3", "-c", IMPORTS]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - start)
        calls = max([int(n) for n in re.findall(r"slow_folder: (\d+) calls", done.stderr)], default=0)
    return statistics.median(seconds), calls


def main() -> None:
    """Pack, deploy, change, import; print each with its seconds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--latency-ms", type=float, nargs="+", default=[0.3, 1.0, 3.0], help="waits a path")
    given = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="exafel-environment-"))
    try:
        packed, _ = pack(scratch / "archives")
        for layer in packed.layers:
            print(f"{layer.name}: {layer.files} files, {layer.size_mb} MB, {layer.packed_mb} MB, {layer.seconds} s")
        start = time.perf_counter()
        pack(scratch / "archives")
        print(f"nothing changed: {time.perf_counter() - start:.2f} s")
        source = Path(deploying.__file__)
        text, times = source.read_bytes(), source.stat()
        try:
            source.write_bytes(text + b"# changed\n")
            start = time.perf_counter()
            changed, fresh = pack(scratch / "archives")
            print(f"one line changed: {time.perf_counter() - start:.2f} s, {fresh}, {changed.code.packed_mb} MB")
        finally:
            source.write_bytes(text)
            os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
        kind = TarballEnvironment(node_local=(str(scratch / "node"),))
        for layer_only in ("all", "code"):
            done = deploying.deploy(changed if layer_only == "all" else packed, scratch / "archives", kind)
            print(f"deploy, {layer_only}: {sum(done.seconds.values()):.2f} s {done.seconds}")
        root = Path(done.path)
        library = scratch / "slow_folder.so"
        code = Path(__file__).with_name("slow_folder.c")
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, code, "-ldl"], check=True)
        local, _ = imports(root)
        print(f"imports, node-local: {local:.2f} s")
        for ms in [0.0, *given.latency_ms]:
            slow, calls = imports(root, slow=root.parent, ms=ms, library=library)
            print(f"imports, {ms:g} ms a path: {slow:.2f} s, {calls} paths, {slow / local:.1f} times as long")
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
