"""A stills folder is read as its manifest has it: what is gone or was changed since is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from exafel.config.merge import InputConfig
from exafel.config.stills import StillsConfig
from exafel.errors import InputError
from exafel.io.manifest import Manifest, describe_container, write_manifest
from exafel.merging.inputs import find_pairs


def make(folder: Path) -> None:
    containers = []
    for kind in ("expt", "refl"):
        path = folder / f"rank-00000.{kind}"
        path.write_bytes(b"content")
        containers.append(describe_container(path, kind, folder=folder, rank=0, rows=1))
    config = StillsConfig().model_dump(mode="json")
    manifest = Manifest(
        step="stills", engine_version="1", software_version="1", fingerprint="x", config=config, containers=containers
    )
    write_manifest(folder, manifest)


@pytest.mark.parametrize(
    ("change", "message"), [(None, "container missing"), (b"cut", "3 bytes where the manifest has 7")]
)
def test_a_container_that_is_gone_or_changed_is_named(tmp_path: Path, change: bytes | None, message: str) -> None:
    make(tmp_path)
    assert len(find_pairs([tmp_path], InputConfig())) == 1
    path = tmp_path / "rank-00000.refl"
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change)
    with pytest.raises(InputError, match=rf"rank-00000\.refl: .*{message}"):
        find_pairs([tmp_path], InputConfig())
