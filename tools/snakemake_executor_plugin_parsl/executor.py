"""The executor: each job of Snakemake is a task of Parsl in a pilot of the shape that the rule asks for."""

from __future__ import annotations

import shlex
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake.benchmark import BenchmarkRecord, write_benchmark_records
from snakemake.shell import shell
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface
from snakemake_interface_executor_plugins.settings import SharedFSUsage

from snakemake_executor_plugin_parsl.shapes import Pilot, read_pilots
from snakemake_executor_plugin_parsl.task import Outcome, run_command

if TYPE_CHECKING:
    from parsl.dataflow.dflow import DataFlowKernel

PILOT_RESOURCE = "pilot"
_SECONDS_BETWEEN_LOOKS = 0.2
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_TAIL_LINES = 20


class Executor(RemoteExecutor):  # type: ignore[misc] # Snakemake's interface has no types
    """Runs jobs in pilots.

    A job that is a plain shell command is run as that: no second Snakemake is started for it. A job that needs more of
    Snakemake (scripts, conda, containers, groups) is run by one, as other executors do for every job.
    """

    _kernel: DataFlowKernel | None = None  # here, since the thread that watches jobs starts before __post_init__ runs

    def __post_init__(self) -> None:
        """Read the pilots' shapes."""
        path = self.workflow.executor_settings.pilots
        try:
            self._pilots = {pilot.label: pilot for pilot in read_pilots(path)}
        except ValueError as error:
            raise WorkflowError(str(error)) from error
        folder = (Path(self.workflow.persistence.path) / "parsl").absolute()
        self._folder = folder
        self._said: dict[tuple[str, str], str] = {}
        self.next_seconds_between_status_checks = _SECONDS_BETWEEN_LOOKS  # futures are here: nobody else is asked

    def run_job(self, job: JobExecutorInterface) -> None:
        """Give a job to the pilots."""
        pilot = self._pilot_of(job)
        words, folder = self._command(job)
        limit_s = 60.0 * job.resources.get("runtime") if job.resources.get("runtime") else None
        output = self._folder / "jobs" / f"{job.jobid}-{job.attempt}.log"
        variables = {**self.envvars(), **{name: str(job.threads) for name in _THREAD_VARIABLES}}
        future = self._app(pilot)(words, folder, variables, str(output), limit_s)
        info = SubmittedJobInfo(job=job, external_jobid=str(job.jobid), aux={"future": future, "output": output})
        self.report_job_submission(info)

    def _app(self, pilot: Pilot) -> Callable[..., Future[Outcome]]:
        """Return the Parsl app of a pilot; Parsl starts with the first job: a run with nothing to do has none."""
        try:
            from parsl import python_app
            from parsl.dataflow.dflow import DataFlowKernel

            from snakemake_executor_plugin_parsl.pilots import parsl_config
        except ImportError as error:
            raise WorkflowError("the executor 'parsl' needs Parsl: pip install 'exafel[parsl]'") from error
        if self._kernel is None:
            self._kernel = DataFlowKernel(parsl_config(tuple(self._pilots.values()), self._folder))
        app: Callable[..., Future[Outcome]] = python_app(
            run_command, data_flow_kernel=self._kernel, executors=[pilot.label]
        )
        return app

    def _pilot_of(self, job: JobExecutorInterface) -> Pilot:
        label = job.resources.get(PILOT_RESOURCE) or next(iter(self._pilots))
        if label not in self._pilots:
            raise WorkflowError(f"{job}: no pilot '{label}', but {', '.join(self._pilots)}")
        pilot = self._pilots[label]
        if job.resources.get("nodes", 1) > pilot.nodes:
            raise WorkflowError(f"{job}: {job.resources.get('nodes')} nodes, but a pilot '{label}' has {pilot.nodes}")
        return pilot

    def _command(self, job: JobExecutorInterface) -> tuple[list[str], str]:
        """Return what runs a job, and the folder to run it in."""
        if not self._is_plain(job):
            return ["bash", "-c", self.format_job_exec(job)], self.workflow.workdir_init
        self.workflow.async_run(job.prepare())
        program = job.resources.get("shell_exec") or shell.get_executable() or "bash"
        prefix = shell._get_process_prefix(program)  # noqa: SLF001 - what shell.prefix() of a Snakefile has set
        return [program, "-c", f"{prefix}{job.shellcmd}"], str(Path.cwd())

    def _is_plain(self, job: JobExecutorInterface) -> bool:
        """Whether a job's command is all that there is to it."""
        shared = {SharedFSUsage.INPUT_OUTPUT, SharedFSUsage.PERSISTENCE}
        if job.is_group() or not shared <= set(self.workflow.storage_settings.shared_fs_usage):
            return False
        rule = job.rule
        needs_more = (
            self.workflow.deployment_settings.deployment_method,
            job.is_shadow,
            (job.benchmark_repeats or 1) > 1,
            self.workflow.workflow_settings.cache is not None and rule.cache,
            any(item.is_storage for item in (*job.input, *job.output)),
        )
        return bool(job.is_shell) and not any(needs_more)

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Report the jobs that have ended; yield the others."""
        self._check_interchanges()
        self._say_pilots()
        for info in active_jobs:
            future: Future[Outcome] = info.aux["future"]
            if not future.done():
                yield info
                continue
            error = future.exception()
            if error is not None:
                self.report_job_error(info, msg=f"its pilots were lost or could not start: {error} ")
            elif future.result().returncode != 0:
                outcome = future.result()
                tail = _tail(info.aux["output"])
                self.report_job_error(info, msg=f"exit code {outcome.returncode} on {outcome.host}. {tail}")
            else:
                self._finish(info, future.result())

    def _executors(self) -> dict[str, Any]:
        """Parsl's executors of pilots, by label; none before the first job."""
        if self._kernel is None:
            return {}
        return {label: executor for label, executor in self._kernel.executors.items() if label in self._pilots}

    def _check_interchanges(self) -> None:
        """Without Parsl's interchange no pilot is heard of again: end, instead of waiting for ever."""
        for label, executor in self._executors().items():
            process = getattr(executor, "interchange_proc", None)
            if process is not None and process.poll() is not None:
                raise WorkflowError(f"the interchange of the pilots '{label}' has ended from outside; run this again")

    def _say_pilots(self) -> None:
        """Say what has become of each pilot in Slurm's queue: a rule may wait there for hours."""
        for label, executor in self._executors().items():
            if not self._pilots[label].slurm:
                continue
            for block, status in dict(executor.status_facade).items():
                state = status.state.name.lower()
                if self._said.get((label, block)) == state:
                    continue
                self._said[label, block] = state
                job = executor.blocks_to_job_id.get(block)
                reason = (status.message or "").strip().partition("\n")[0]
                if state == "pending" and job:
                    reason = f"squeue --job {job} says why"
                name = f"pilot '{label}'" + (f", job {job}" if job else "")
                self.logger.info(f"The {name}: {state}" + (f": {reason}" if reason else ""))

    def _finish(self, info: SubmittedJobInfo, outcome: Outcome) -> None:
        job = info.job
        info.aux["output"].unlink(missing_ok=True)
        if self._is_plain(job) and job.benchmark:
            record = BenchmarkRecord(
                job.jobid,
                job.rule.name,
                job.wildcards,
                job.params,
                outcome.wall_s,
                max_rss=outcome.max_rss_mb,
                cpu_usage=100 * outcome.cpu_s,
                cpu_time=outcome.cpu_s,
                resources=job.resources,
                threads=job.threads,
                input=job.input,
            )
            record.data_collected = True
            write_benchmark_records([record], str(job.benchmark), self.workflow.output_settings.benchmark_extended)
        self.report_job_success(info)

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """End the pilots, and with them every job."""
        if active_jobs:
            self.logger.info(f"Ending the pilots of {len(active_jobs)} jobs: {shlex.join(self._pilots)}")
        self._close()

    def shutdown(self) -> None:
        """End the pilots; nothing of theirs stays in the queue."""
        super().shutdown()
        self._close()

    def _close(self) -> None:
        if self._kernel is not None:
            self._kernel.cleanup()
            self._kernel = None


def _tail(path: Path) -> str:
    """Return the last lines of what a job said, where it said anything."""
    text: list[Any] = path.read_text(errors="replace").splitlines() if path.is_file() else []
    return "It said:\n" + "\n".join(text[-_TAIL_LINES:]) + "\n" if text else ""
