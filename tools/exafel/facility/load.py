"""Finding facilities: ``profiles/<name>/facility.yaml`` under this folder, one above it, or where a variable says."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from exafel.config.base import read_yaml, validate
from exafel.errors import ConfigError
from exafel.facility.site import Site

PROFILES_VARIABLE = "EXAFEL_PROFILES"
FILE_NAME = "facility.yaml"


def profiles_folder() -> Path:
    """Folder of the facilities: $EXAFEL_PROFILES, or ``profiles`` in this folder or the nearest one above.

    Raises
    ------
    ConfigError
        There is none.
    """
    named = os.environ.get(PROFILES_VARIABLE)
    here = Path.cwd()
    candidates = [Path(named)] if named else [folder / "profiles" for folder in (here, *here.parents)]
    for folder in candidates:
        if any(folder.glob(f"*/{FILE_NAME}")):
            return folder
    raise ConfigError(
        "no facilities found", where=candidates[0], hint=f"run from a checkout, or set {PROFILES_VARIABLE}"
    )


def facility_names(folder: Path) -> list[str]:
    """Names of the facilities in a folder."""
    return sorted(path.parent.name for path in folder.glob(f"*/{FILE_NAME}"))


def load_site(facility: str | Path) -> Site:
    """Read a facility.

    Parameters
    ----------
    facility
        Its name, or the path of a ``facility.yaml``.

    Raises
    ------
    ConfigError
        There is no such facility, or its file has a fault; each with its key.
    """
    path = Path(facility)
    if path.suffix != ".yaml":
        folder = profiles_folder()
        path = folder / str(facility) / FILE_NAME
        if not path.is_file():
            names = facility_names(folder)
            near = difflib.get_close_matches(str(facility), names, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(names)}"
            raise ConfigError(f"no facility '{facility}'", where=folder, hint=hint)
    site = validate(Site, read_yaml(path), where=path)
    if site.facility != path.absolute().parent.name:
        raise ConfigError(f"'facility' is '{site.facility}', its folder '{path.absolute().parent.name}'", where=path)
    return site
