"""launch/seeds.sh, with a stand-in for Python that records what it is asked."""

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "launch" / "seeds.sh"


@pytest.fixture
def stand_in(tmp_path):
    """A `python` that notes its arguments and finishes every run but those of the seeds in `stops`."""

    def make(stops=""):
        file = tmp_path / "python"
        file.write_text(
            "#!/usr/bin/env bash\n"
            f'echo "$*" >> "{tmp_path}/calls"\n'
            'for a in "$@"; do case $a in --workdir=*) folder=${a#*=};; --config.seed=*) seed=${a#*=};; esac; done\n'
            f'if [ -n "${{folder:-}}" ] && [ "$seed" != "{stops}" ]; then mkdir -p "$folder"; '
            'touch "$folder/report.json"; fi\n'
        )
        file.chmod(0o755)
        return file

    return make


def call(python, *argv):
    return subprocess.run(
        ["bash", SCRIPT, *argv], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "PYTHON": str(python)}
    )


def test_every_seed_then_the_table(stand_in, tmp_path):
    done = call(stand_in(), "2", f"{tmp_path}/run", "--config=c.py")
    calls = (tmp_path / "calls").read_text().splitlines()
    assert done.returncode == 0, done.stderr
    assert [c.split(" --config.seed")[0] for c in calls[:2]] == ["-m demjax.main --config=c.py"] * 2
    assert calls[2] == f"-m demjax.tables {tmp_path}/run-0 {tmp_path}/run-1"


def test_a_seed_that_was_asked_to_stop_ends_the_series(stand_in, tmp_path):
    done = call(stand_in(stops="1"), "3", f"{tmp_path}/run", "--config=c.py")
    assert done.returncode == 1 and "run-1 is not finished; the same command resumes" in done.stderr
    assert len((tmp_path / "calls").read_text().splitlines()) == 2


def test_dry_run_runs_nothing(stand_in, tmp_path):
    done = call(stand_in(), "--dry-run", "2", f"{tmp_path}/run", "--config=c.py")
    assert done.returncode == 0 and done.stdout.count("demjax.main") == 2 and "demjax.tables" in done.stdout
    assert not (tmp_path / "calls").exists()


@pytest.mark.parametrize("argv", [("0", "run", "--config=c.py"), ("two", "run", "x"), ("2", "run")])
def test_mistakes(stand_in, argv):
    done = call(stand_in(), *argv)
    assert done.returncode == 2 and "expected a number of seeds" in done.stderr
