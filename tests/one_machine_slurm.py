"""A real Slurm on this machine for tests: munge, a controller and two nodes, as root, on loopback.

The configuration has to be ``/etc/slurm/slurm.conf``, since Snakemake's plugin drops ``SLURM_CONF``
from the environment of its steps; all other files are in one folder.
"""

import importlib.util
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

ETC = Path("/etc/slurm")
CONF, GRES = ETC / "slurm.conf", ETC / "gres.conf"
COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel")
PLUGIN = "snakemake_executor_plugin_slurm"
NODES, CPUS, MEMORY = 2, 2, 4000
# Slurm counts them: the machine need not have any GPU.
GPUS = ("/dev/null", "/dev/zero")
SECONDS = 60


def missing():
    """Return why no Slurm can be started here; empty if one can."""
    commands = [name for name in COMMANDS if not find(name)]
    if os.geteuid() != 0:
        return "needs root, to start Slurm"
    if commands:
        return f"needs {', '.join(commands)}: packages munge, slurmctld, slurmd and slurm-client"
    if importlib.util.find_spec(PLUGIN) is None:
        return "needs Snakemake's plugin for Slurm: make slurm"
    if CONF.exists():
        return f"{CONF} exists: this machine belongs to a cluster"
    return ""


def find(name):
    """Return the path of a command, also of a daemon."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def conf(folder):
    """Return the text of ``slurm.conf``."""
    host = socket.gethostname().split(".")[0]
    names = f"n[1-{NODES}]"
    return f"""\
ClusterName=tests
SlurmctldHost={host}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/controller
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdSpoolDir={folder}/%n
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdLogFile={folder}/slurmd.%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,bf_interval=5,sched_interval=5
# Without control groups: memory is polled, and a job over its request is killed.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
GresTypes=gpu
MinJobAge=3600
KillWait=2
ReturnToService=2
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs.txt
NodeName={names} NodeHostname={host} NodeAddr={host} Port=[6820-{6819 + NODES}] CPUs={CPUS} \
RealMemory={MEMORY} Gres=gpu:{len(GPUS)} State=UNKNOWN
PartitionName=main Nodes={names} Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """A running Slurm; use as a context manager.

    Parameters
    ----------
    folder : Path
        For its files; with a short path, because of the socket's.
    """

    def __init__(self, folder):
        self.folder = folder

    def __enter__(self):
        ETC.mkdir(exist_ok=True)
        for part in ("controller", *(f"n{i + 1}" for i in range(NODES))):
            (self.folder / part).mkdir()
        (self.folder / "munge.key").write_bytes(os.urandom(128))
        (self.folder / "munge.key").chmod(0o600)
        CONF.write_text(conf(self.folder))
        GRES.write_text(f"NodeName=n[1-{NODES}] Name=gpu File={','.join(GPUS)}\n")
        try:
            files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log"}
            options = [f"--{name}={self.folder}/munge.{end}" for name, end in files.items()]
            run(find("munged"), "--force", f"--seed-file={self.folder}/munge.seed", *options)
            run(find("slurmctld"))
            for i in range(NODES):
                run(find("slurmd"), "-N", f"n{i + 1}")
            wait(lambda: run("sinfo", "-h", "-N", "-o", "%t").split() == ["idle"] * NODES)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.jobs():
            run("scancel", *self.jobs())
            wait(lambda: not self.jobs())
        pids = [*self.folder.glob("slurmd.*.pid"), *self.folder.glob("slurmctld.pid")]
        for path in [*pids, self.folder / "munge.pid"]:
            if path.exists():
                end(int(path.read_text()))
        CONF.unlink(missing_ok=True)
        GRES.unlink(missing_ok=True)

    def jobs(self, name=""):
        """Return the ids of the jobs of a rule that wait or run; of all without a name."""
        try:
            lines = run("squeue", "-h", "-o", "%A %k").splitlines()
        except subprocess.CalledProcessError:  # no controller
            return []
        return [line.split()[0] for line in lines if f"rule_{name}" in line or not name]

    def ended(self):
        """Return {id: fields} of all ended jobs, as Slurm records them."""
        path = self.folder / "jobs.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        records = [
            dict(part.split("=", 1) for part in line.split() if "=" in part) for line in lines
        ]
        return {record["JobId"]: record for record in records}


def run(*command):
    """Run a command successfully and return what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS)
    return done.stdout


def wait(condition, seconds=SECONDS):
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long for Slurm"
        time.sleep(0.2)


def end(pid):
    """End a daemon and wait for its end."""
    try:
        os.kill(pid, 15)
        wait(lambda: not Path(f"/proc/{pid}").exists(), 20)
    except ProcessLookupError:
        return
    except AssertionError:
        os.kill(pid, 9)
