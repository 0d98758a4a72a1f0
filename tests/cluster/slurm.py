"""A real Slurm on this machine, without root: munge, a controller and several nodes, each with a pretended GPU.

All of it lives in one folder and under one user. A controller and nodes are started in a second or two and ended by
their process numbers, also when a test fails, is interrupted or is killed (`PDEATHSIG`).
"""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "sinfo", "scancel", "scontrol")
SEARCHED = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
PR_SET_PDEATHSIG = 1

CONF = """\
ClusterName=test
SlurmctldHost=localhost
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
ReturnToService=2
SlurmdTimeout={patience}
KillWait=5
SchedulerParameters=sched_interval=2,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{nodes}
PartitionName=gpu Nodes=ALL Default=YES PriorityTier=1 MaxTime=INFINITE
PartitionName=urgent Nodes=ALL PriorityTier=10 MaxTime=60
"""


def missing() -> str:
    """Why no Slurm can be started here, as a clause; "" where one can."""
    absent = [name for name in PROGRAMS if not shutil.which(name, path=SEARCHED)]
    why = f"Slurm is not installed here (no {', '.join(absent)}): apt-get install slurm-wlm munge"
    return why if absent else ""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("localhost", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _dies_with_us() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass
class TestCluster:
    """Nodes by name, with the card that each pretends to have: `{"v1": "v100"}`.

    One that has not answered for `patience` seconds is taken for dead.
    """

    __test__ = False

    folder: Path
    nodes: dict[str, str]
    patience: int = 10
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environ(self) -> dict[str, str]:
        """What Slurm's commands need to find this one."""
        return {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def __enter__(self) -> TestCluster:
        try:
            self._write_configuration()
            self._start_munge()
            self._daemon("slurmctld", "slurmctld", "-D", "-c")
            for node in self.nodes:
                self.start_node(node)
            self.wait_until_idle()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """End what was started, jobs and all."""
        for daemon in self.daemons.values():
            with suppress(ProcessLookupError):
                os.killpg(daemon.pid, signal.SIGKILL)
        for daemon in self.daemons.values():
            daemon.wait(10)
        self.kill_jobs()
        self.daemons.clear()

    def kill_jobs(self, node: str = "") -> None:
        """Kill the processes of jobs, all or one node's: their daemons are gone or are about to be."""
        marks = (f"SLURM_CONF={self.folder}/".encode(), f"SLURMD_NODENAME={node}".encode())
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdecimal() and int(entry.name) != os.getpid():
                    environ = (entry / "environ").read_bytes()
                    if marks[0] in environ and marks[1] in environ:
                        os.kill(int(entry.name), signal.SIGKILL)

    def start_node(self, name: str) -> None:
        """Start a node's daemon."""
        self._daemon(name, "slurmd", "-D", "-N", name)

    def kill_node(self, name: str) -> None:
        """A node dies: its daemon and its jobs, at once."""
        daemon = self.daemons.pop(name)
        os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait(10)
        self.kill_jobs(name)

    def run(self, *words: str, check: bool = True) -> str:
        """The output of one of Slurm's commands."""
        done = subprocess.run(words, env=self.environ, capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 0 or not check, (words, done.stdout, done.stderr)
        return done.stdout

    def wait_until_idle(self, seconds: float = 20.0) -> None:
        """Until every node could take a job."""
        until = time.monotonic() + seconds
        states = ""
        while time.monotonic() < until:
            states = self.run("sinfo", "-h", "-N", "-p", "gpu", "-o", "%t", check=False)
            if states.split() == ["idle"] * len(self.nodes):
                return
            time.sleep(0.1)
        logs = "\n".join(f"{log.name}: {log.read_text()[-2000:]}" for log in sorted(self.folder.glob("*.log")))
        raise TimeoutError(f"the nodes are {states.split()}\n{logs}")

    def _daemon(self, name: str, *words: str) -> None:
        program = shutil.which(words[0], path=SEARCHED) or words[0]
        log = (self.folder / f"{name}.out").open("ab")
        # A daemon's session is its own, so a Ctrl-C reaches pytest alone, and what it started can be ended as a group.
        self.daemons[name] = subprocess.Popen(
            [program, *words[1:]],
            env=self.environ,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_dies_with_us,
        )
        log.close()

    def _write_configuration(self) -> None:
        for name in ("state", "run", "munge"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "run").chmod(0o755)
        ports = free_ports(len(self.nodes) + 1)
        lines, cards = [], []
        for (name, card), port in zip(self.nodes.items(), ports[1:], strict=True):
            (self.folder / "spool" / name).mkdir(parents=True)
            lines.append(
                f"NodeName={name} NodeHostname=localhost Port={port} CPUs=2 RealMemory=1000 "
                f"Gres=gpu:{card}:1 Feature={card}"
            )
            cards.append(f"NodeName={name} Name=gpu Type={card} File=/dev/{DEVICES[len(cards) % len(DEVICES)]}")
        user = pwd.getpwuid(os.getuid()).pw_name
        text = CONF.format(folder=self.folder, port=ports[0], user=user, nodes="\n".join(lines), patience=self.patience)
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "gres.conf").write_text("\n".join(cards) + "\n")

    def _start_munge(self) -> None:
        folder = self.folder / "munge"
        folder.chmod(0o700)
        (folder / "key").write_bytes(os.urandom(1024))
        (folder / "key").chmod(0o600)
        names = {"key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        paths = [f"--{option}={folder / name}" for option, name in names.items()]
        # A file system of a container may be owned by somebody else from the root on: munge then wants --force.
        self._daemon("munged", "munged", "--foreground", "--force", f"--socket={self.folder / 'run' / 'munge'}", *paths)
        until = time.monotonic() + 10
        while not (self.folder / "run" / "munge").exists() and time.monotonic() < until:
            time.sleep(0.02)


DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
"""Character devices that stand for a GPU: Slurm only wants one to exist."""
