"""Slurm's configuration files for a rehearsal, as text."""

from __future__ import annotations

import json
import platform

from exafel.facility.rehearsal.shape import Shape, VirtualNode
from exafel.facility.site import Partition

# An urgent QOS that every facility gets here: its jobs end those of any other.
URGENT = "rehearsal-urgent"
CLUSTER = "rehearsal"
# Time is short in a rehearsal: grace between SIGTERM and SIGKILL, and how soon a silent node is down.
_GRACE_S, _SILENT_NODE_S = 3, 10
_REQUEUE_AFTER_S = 5


def host() -> str:
    """Short name of this machine, which plays the login node."""
    return platform.node().split(".")[0]


def slurm_conf(shape: Shape) -> str:
    """Text of slurm.conf."""
    folder = shape.folder
    settings = {
        "ClusterName": CLUSTER,
        "SlurmctldHost": f"{host()}(127.0.0.1)",
        "SlurmctldPort": shape.port,
        "SlurmUser": "root",
        "SlurmdUser": "root",
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={shape.munge_socket},cred_expire={_REQUEUE_AFTER_S}",
        "StateSaveLocation": folder / "state",
        "SlurmdSpoolDir": folder / "spool" / "%n",
        "SlurmctldPidFile": folder / "run" / "slurmctld.pid",
        "SlurmdPidFile": folder / "run" / "slurmd.%n.pid",
        "SlurmctldLogFile": folder / "log" / "slurmctld.log",
        "SlurmdLogFile": folder / "log" / "slurmd.%n.log",
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "JobAcctGatherType": "jobacct_gather/linux",
        "JobAcctGatherFrequency": 5,
        "JobSubmitPlugins": "lua",
        "MpiDefault": "pmix",
        "SwitchType": "switch/none",
        "SlurmdParameters": "config_overrides",  # two cores may claim to be 128
        "ReturnToService": 2,
        "SlurmdTimeout": _SILENT_NODE_S,
        "InactiveLimit": 0,
        "KillWait": 2,
        "MinJobAge": 300,
        "TCPTimeout": 5,
        "MessageTimeout": 20,
        "SchedulerType": "sched/backfill",
        "SchedulerParameters": "bf_interval=2,sched_min_interval=50000,batch_sched_delay=0,nohold_on_prolog_fail",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_Core_Memory",
        "PriorityType": "priority/multifactor",
        "PriorityWeightQOS": 100000,
        "PreemptMode": "REQUEUE",
        "PreemptType": "preempt/qos",
        "GresTypes": "gpu",
        "AccountingStorageType": "accounting_storage/slurmdbd",
        "AccountingStorageHost": "127.0.0.1",
        "AccountingStoragePort": shape.port + 1,
        "AccountingStoragePass": shape.munge_socket,
        "AccountingStorageEnforce": "associations,limits,qos",
        "AccountingStorageTRES": "gres/gpu",
        "LaunchParameters": "use_interactive_step",
    }
    lines = [f"{key}={value}" for key, value in settings.items()]
    lines += [_node_line(shape, node) for node in shape.nodes]
    lines += [_partition_line(shape, item) for item in shape.scheduler.partitions]
    return "\n".join(lines) + "\n"


def _node_line(shape: Shape, node: VirtualNode) -> str:
    kind = shape.kind(node)
    cores = kind.cores or 1
    words = [f"NodeName={node.name} NodeHostname={node.name} NodeAddr=127.0.0.1 Port={node.port}"]
    words += [f"Sockets={kind.sockets} CoresPerSocket={cores // kind.sockets}"]
    words += [f"ThreadsPerCore={kind.threads_per_core} RealMemory={memory_mb(shape, node)} State=UNKNOWN"]
    if kind.reserved_cores:
        words.append(f"CoreSpecCount={kind.reserved_cores}")
    if kind.features:
        words.append(f"Feature={','.join(kind.features)}")
    if kind.gpus:
        words.append(f"Gres=gpu:{kind.gpu_type + ':' if kind.gpu_type else ''}{kind.gpus}")
    return " ".join(words)


def memory_mb(shape: Shape, node: VirtualNode) -> int:
    """Memory that a virtual node claims, MB."""
    return round((shape.kind(node).memory_gb or 1) * 1000)


def _partition_line(shape: Shape, item: Partition) -> str:
    names = ",".join(node.name for kind in item.nodes for node in shape.of_kind(kind))
    default = " Default=YES" if item.name == shape.scheduler.default_partition else ""
    sharing = "EXCLUSIVE" if item.exclusive else "NO"
    return (
        f"PartitionName={item.name} Nodes={names} MaxTime={round(60 * item.max_hours)} OverSubscribe={sharing}{default}"
    )


def gres_conf(shape: Shape) -> str:
    """Text of gres.conf: GPUs are devices that do nothing, but are counted and given out as real ones."""
    lines = []
    for node in shape.nodes:
        kind = shape.kind(node)
        if kind.gpus:
            type_of = f" Type={kind.gpu_type}" if kind.gpu_type else ""
            lines.append(f"NodeName={node.name} Name=gpu{type_of} File={shape.folder}/dev/gpu[0-{kind.gpus - 1}]")
    return "\n".join(lines) + "\n"


def slurmdbd_conf(shape: Shape) -> str:
    """Text of slurmdbd.conf."""
    settings = {
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={shape.munge_socket}",
        "DbdHost": host(),
        "DbdAddr": "127.0.0.1",
        "DbdPort": shape.port + 1,
        "SlurmUser": "root",
        "LogFile": shape.folder / "log" / "slurmdbd.log",
        "PidFile": shape.folder / "run" / "slurmdbd.pid",
        "StorageType": "accounting_storage/mysql",
        "StorageHost": "127.0.0.1",
        "StoragePort": shape.port + 2,
        "StorageUser": "slurm",
        "StoragePass": "slurm",
        "StorageLoc": "slurm_acct_db",
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def submit_lua(shape: Shape) -> str:
    """What the site does with a job at submission: find its partition by constraint, refuse what it does not allow."""
    routes = {
        feature: partition.name
        for partition in reversed(shape.scheduler.partitions)
        for kind in partition.nodes
        for feature in shape.site.nodes[kind].features
    }
    bins = {
        partition.name: [(item.max_nodes, round(60 * item.max_hours)) for item in partition.bins]
        for partition in shape.scheduler.partitions
    }
    lines = [
        "routes = {" + ", ".join(f"[{json.dumps(key)}] = {json.dumps(name)}" for key, name in routes.items()) + "}"
    ]
    lines += [f"default = {json.dumps(shape.scheduler.default_partition)}", "bins = {"]
    for name, limits in bins.items():
        rows = ", ".join(f"{{{nodes}, {minutes}}}" for nodes, minutes in limits)
        lines.append(f"  [{json.dumps(name)}] = {{{rows}}},")
    return "\n".join([*lines, "}", _LUA])


_LUA = """
function slurm_job_submit(job, partitions, uid)
  if job.partition == nil and job.features ~= nil and routes[job.features] ~= nil then
    job.partition = routes[job.features]
  end
  local limits = bins[job.partition or default] or {}
  for _, limit in ipairs(limits) do
    if job.min_nodes == slurm.NO_VAL or job.min_nodes <= limit[1] then
      if job.time_limit ~= slurm.NO_VAL and job.time_limit > limit[2] then
        slurm.log_user("so many nodes may have at most " .. limit[2] .. " minutes here")
        return slurm.ERROR
      end
      break
    end
  end
  return slurm.SUCCESS
end

function slurm_job_modify(job, record, partitions, uid)
  return slurm.SUCCESS
end

return slurm.SUCCESS
"""


def accounting_commands(shape: Shape) -> tuple[list[str], list[str]]:
    """Commands of sacctmgr that make the facility's QOS and accounts, for one process after another.

    A sacctmgr that has asked for the list of QOS does not see those that it adds itself.
    """
    scheduler = shape.scheduler
    qos = [f"add cluster {CLUSTER}", f"add qos {URGENT} Priority=1000 PreemptMode=requeue"]
    for name, item in scheduler.qos.items():
        words = [f"Priority={item.priority}", "PreemptMode=requeue", f"GraceTime={min(item.grace_s, _GRACE_S)}"]
        words += [f"MaxWall={round(60 * item.max_hours)}"] if item.max_hours else []
        words += [f"MaxSubmitJobsPerUser={item.max_submitted}"] if item.max_submitted else []
        words += [f"MaxTRESPerJob=node={item.max_nodes}"] if item.max_nodes else []
        # Slurm has a QOS `normal` of its own: it is changed, the others are added.
        qos.append(
            f"modify qos normal set {' '.join(words)}" if name == "normal" else f"add qos {name} {' '.join(words)}"
        )
    preempts = {name: item.preempts for name, item in scheduler.qos.items() if item.preempts}
    preempts[URGENT] = tuple(scheduler.qos)
    rest = [f"modify qos {name} set Preempt={','.join(others)}" for name, others in preempts.items()]
    usable = ",".join([*scheduler.qos, URGENT])
    for account in dict.fromkeys(item.account or "default" for item in scheduler.classes.values()):
        rest.append(f"add account {account} Description=rehearsal Organization=rehearsal")
        rest.append(f"add user root account={account} qos={usable} defaultqos={next(iter(scheduler.qos))}")
    return qos, rest
