"""Snakemake executor plugin: rules run inside pilot jobs, so that one job of the scheduler serves many rules.

It knows Snakemake and Parsl, and nothing of what the rules compute.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase

from snakemake_executor_plugin_parsl.executor import Executor

__all__ = ["Executor", "ExecutorSettings", "common_settings"]


@dataclass
class ExecutorSettings(ExecutorSettingsBase):  # type: ignore[misc] # Snakemake's interface has no types
    """Options of the plugin; on the command line with ``--parsl-`` before their names."""

    pilots: Optional[Path] = field(  # noqa: UP045 - Snakemake reads the type at run time, and knows this form alone
        default=None,
        metadata={"help": "YAML file with the shapes of the pilots.", "required": True, "env_var": False},
    )

    def __post_init__(self) -> None:
        """Read the path from where Snakemake was started: later it works elsewhere, by --directory."""
        if self.pilots is not None:
            self.pilots = Path(self.pilots).absolute()


common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    pass_default_storage_provider_args=True,
    pass_default_resources_args=True,
    pass_envvar_declarations_to_cmd=True,
    auto_deploy_default_storage_provider=False,
    init_seconds_before_status_checks=0,
)
