# What all rules share: the configuration, checked, and where results lie.

import json
import os
import sysconfig
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

from exafel.config.base import validate as validate_model
from exafel.config.workflow import WorkflowConfig
from exafel.errors import ExafelError
from exafel.steps.base import require_paths
from exafel.steps.chain import chain_of, config_path, found_cells, trial_folder, write_config


def checked_config():
    """Check the configuration by the models, whose messages name the nearest key, and find what it asks for."""
    try:
        model = validate_model(WorkflowConfig, config, where=" ".join(map(str, workflow.configfiles)) or None)
        links = {link.step: link for link in chain_of(model)}
        if model.images:
            require_paths(tuple(Path(item) for item in model.images), "images")
    except ExafelError as error:
        raise WorkflowError(str(error)) from None
    try:
        validate(model.model_dump(mode="json"), workflow.source_path("../config/schema.json"), set_default=False)
    except WorkflowError:
        raise WorkflowError("the exafel installed is not of this checkout's version: pip install . again") from None
    return model, links


def section(step):
    """Return a step's parameters as text: a change of it, and of nothing else, makes Snakemake run the step again."""
    return json.dumps(getattr(CONFIG, step).model_dump(mode="json"), sort_keys=True)


def results_of(step):
    """Return the manifests of the steps that a step reads."""
    return [f"<results>/{name}/manifest.json" for name in LINKS[step].after] if step in LINKS else []


def inputs(step):
    """Return what a step reads: images, or folders of results."""
    return [str(path) for path in LINKS[step].inputs] if step in LINKS else []


def images_of(step):
    """Return what a step that reads images waits for: results of other steps, and images that were given."""
    return [*results_of(step), *CONFIG.images] if step in LINKS else []


def named_files(step):
    """Return the other files that a step's section names: structures, references."""
    return [str(path) for path in LINKS[step].files] if step in LINKS else []


def options(name, step):
    """Return what a step reads as options of its command."""
    return [word for path in inputs(step) for word in (name, path)]


def generation_blocks():
    """Return the generations that blocks of a reconstruction end at; the last block ends when the halves say so."""
    model = CONFIG.spi_reconstruct
    return list(range(model.block, model.max_generations, model.block)) if model else []


def block_before(last):
    """Return what a block begins from: the block before it; of the reconstruction's end (None), the last block."""
    earlier = [block for block in BLOCKS if last is None or block < last]
    return [f"<results>/spi_reconstruct/blocks/{earlier[-1]}.done"] if earlier else []


def spi_images():
    """Return the shots of single particles as options of a command."""
    return options("--images", "spi_hits")


def spi_options():
    """Return what a reconstruction reads as options of its command."""
    return [*spi_images(), "--hits", inputs("spi_reconstruct")[-1]] if "spi_reconstruct" in LINKS else []


def role_options(step, *names):
    """Return what a step reads, one option after the other, as options of its command."""
    return [word for name, path in zip(names, inputs(step), strict=True) for word in (name, path)]


CONFIG, LINKS = checked_config()
SPI_OUT = str(trial_folder(CONFIG) / "spi_reconstruct")
CONFIG_FILE = str(config_path(CONFIG))
# `exafel` is the one installed beside this Snakemake, whether or not that environment is activated.
os.environ.update(PATH=os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)]))
# A facility's profile sets the resource `mpi` of every rule: `exafel launch`, which finds the facility here.
os.environ.setdefault("EXAFEL_PROFILES", str(Path(workflow.basedir).parent / "profiles"))


pathvars:
    results=str(trial_folder(CONFIG)),
    logs=str(trial_folder(CONFIG) / "logs"),
    benchmarks=str(trial_folder(CONFIG) / "benchmarks"),


onstart:
    # One file for all steps, not an input of their rules: each rule follows its own section by `params`.
    write_config(CONFIG)
