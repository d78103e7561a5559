"""launch/local.sh, with a stand-in for Python that does what a plan says: who ends, when, and who hears of it."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import HUNG, wait_until

SCRIPT = Path(__file__).parents[2] / "launch" / "local.sh"
SAVES = "trap 'echo saved $id; exit 0' TERM; echo TERM >> told-$id; touch up-$id; while :; do sleep 0.05; done"
DEAF = "trap '' TERM; touch up-$id; while :; do sleep 0.05; done"


@pytest.fixture
def run(tmp_path):
    """run(plans, *options) -> Popen; process i does plans[i], in bash. Whatever is left over is killed."""
    python = tmp_path / "python"
    python.write_text(
        "#!/usr/bin/env bash\n"
        'for a in "$@"; do case $a in --process_id=*) id=${a#*=};; esac; done\n'
        f'cd "{tmp_path}"; echo $$ > "pid-$id"; echo "$*" > "call-$id"; env > "env-$id"; . "./plan-$id"\n'
    )
    python.chmod(0o755)
    begun = []

    def begin(plans, *options, prefix=(), **popen):
        for i, plan in enumerate(plans):
            (tmp_path / f"plan-{i}").write_text(plan + "\n")
        env = {"PATH": "/usr/bin:/bin", "PYTHON": str(python), "TMPDIR": str(tmp_path)}
        argv = [*prefix, SCRIPT, f"--processes={len(plans)}", *options, "--", "--config=c d.py"]
        popen = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | popen
        # Tests that were started in the background have SIGINT ignored, and no shell can trap what it inherits so.
        before = signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            begun.append(subprocess.Popen(argv, env=env, **popen))
        finally:
            signal.signal(signal.SIGINT, before)
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
    for file in tmp_path.glob("pid-*"):  # before anything is read: they hold the other ends of the pipes
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(file.read_text()), signal.SIGKILL)
    for process in begun:
        process.communicate()


def wait_for(*files):
    wait_until(lambda: all(f.exists() for f in files), "the processes do not begin")


def none_left(folder):
    """There were processes, and all are gone."""
    begun = [int(file.read_text()) for file in folder.glob("pid-*")]
    for process in begun:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
    return bool(begun)


def test_every_process_knows_its_place(run, tmp_path):
    process = run(["echo zero"] + ["echo other"] * 2, "--devices=4", "--logs=" + str(tmp_path / "logs"))
    out, err = process.communicate()
    assert process.returncode == 0 and out == "zero\n", err
    assert (tmp_path / "logs/process-2.log").read_text() == "other\n" and "process-I.log" in err
    calls = [(tmp_path / f"call-{i}").read_text().split() for i in range(3)]
    assert [c[-1] for c in calls] == [f"--process_id={i}" for i in range(3)]
    assert len({c[-3] for c in calls}) == 1 and 20000 <= int(calls[0][-3].rpartition(":")[2]) < 32000
    env = (tmp_path / "env-1").read_text().splitlines()
    assert {"JAX_PLATFORMS=cpu", "JAX_NUM_CPU_DEVICES=4", "NPROC=32"} <= set(env)
    assert calls[0][:4] == ["-m", "demjax.main", "--config=c", "d.py"]


def test_without_devices_the_environment_is_left_alone(run, tmp_path):
    assert run(["exit 0"]).wait() == 0
    assert "JAX" not in (tmp_path / "env-0").read_text() and "NPROC" not in (tmp_path / "env-0").read_text()


def test_one_dies_and_the_others_are_ended(run, tmp_path):
    process = run([DEAF, "echo lost my way; exit 3", DEAF], "--grace=1")
    _, err = process.communicate(timeout=HUNG)
    assert process.returncode == 3 and none_left(tmp_path)
    assert "process 1 ended with status 3" in err and "the others get 1 s" in err and "lost my way" in err
    assert "2 still there after 1 s: killed" in err


def test_the_others_may_end_by_themselves(run, tmp_path):
    """Process 0 ends once the script has told of the end of process 1."""
    ends_second = 'until grep -q "process 1 ended" told; do sleep 0.05; done; exit 1'
    with (tmp_path / "told").open("w") as told:
        process = run([ends_second, "exit 4"], f"--grace={HUNG:.0f}", stderr=told)
        process.communicate(timeout=HUNG)
    err = (tmp_path / "told").read_text()
    assert process.returncode == 4 and "killed" not in err and "process 0 ended with status 1" in err


def test_the_echo_of_a_failure_is_not_the_failure(run):
    process = run(["exit 75", "sleep 0.4; echo why; exit 137", "exit 75"])
    _, err = process.communicate(timeout=HUNG)
    assert process.returncode == 137 and "why" in err
    assert run(["exit 75", "exit 75"]).wait(timeout=HUNG) == 75


def test_a_late_failure_counts(run):
    assert run(["exit 0", "sleep 0.3; exit 5"]).wait(timeout=HUNG) == 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_reach_every_process(run, tmp_path, number):
    process = run([SAVES] * 3, "--logs=" + str(tmp_path / "logs"))
    wait_for(*(tmp_path / f"up-{i}" for i in range(3)))
    process.send_signal(number)
    out, err = process.communicate(timeout=HUNG)
    assert process.returncode == 0 and none_left(tmp_path), err
    assert out == "saved 0\n" and (tmp_path / "logs/process-2.log").read_text() == "saved 2\n"


def test_a_second_signal_kills(run, tmp_path):
    process = run([DEAF, DEAF])
    wait_for(tmp_path / "up-0", tmp_path / "up-1")
    process.terminate()
    while "asked every process" not in process.stderr.readline():
        pass
    process.terminate()
    process.communicate(timeout=HUNG)
    assert process.returncode == 128 + signal.SIGKILL and none_left(tmp_path)


# As demjax does it: a handler of its own, also where the shell has had SIGINT ignored.
PYTHON = """
import os, signal, time
told = os.open("told-0", os.O_WRONLY | os.O_CREAT)
heard = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: heard.append(number))
os.close(os.open("up-0", os.O_CREAT))
while signal.SIGTERM not in heard: time.sleep(0.05)
os.write(told, " ".join(signal.Signals(number).name for number in heard).encode())
"""


@pytest.mark.skipif(not shutil.which("setsid"), reason="setsid gives the script a terminal of its own")
def test_ctrl_c_of_a_terminal_is_one_sigterm(run, tmp_path):
    """The terminal sends SIGINT to a whole process group: the processes must not be in it."""
    (tmp_path / "program.py").write_text(PYTHON)
    ours, theirs = os.openpty()
    terminal = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    plans = [f'exec "{sys.executable}" -S -E program.py', SAVES]
    process = run(plans, prefix=("setsid", "--ctty", "--wait"), **terminal)
    os.close(theirs)
    wait_for(tmp_path / "up-0", tmp_path / "up-1")
    os.write(ours, b"\x03")
    assert process.wait(timeout=HUNG) == 0
    os.close(ours)
    assert (tmp_path / "told-0").read_text() == "SIGTERM" and none_left(tmp_path)


@pytest.mark.parametrize(
    "argv, told",
    [
        (("--", "--config=c.py"), "--processes=N is missing"),
        (("--processes=0", "--", "x"), "expected a whole number of at least 1"),
        (("--processes=two", "--", "x"), "--processes=two"),
        (("--processes=2", "--devices=", "--", "x"), "--devices="),
        (("--processes=2", "--config=c.py"), "got '--config=c.py'"),
        (("--processes=2", "--"), "nothing after --"),
        (("--processes=2", "--", "--process_id=1"), "leave it out"),
    ],
)
def test_mistakes(argv, told):
    done = subprocess.run([SCRIPT, *argv], capture_output=True, text=True)
    assert done.returncode == 2 and told in done.stderr and "--help" in done.stderr
