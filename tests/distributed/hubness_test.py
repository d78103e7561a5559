"""`python -m demjax.hubness` in two processes: the numbers of one, told and written once."""

import json
import subprocess
import sys

import numpy as np

from tests.distributed.launch import DEVICES, ROOT, finish, free_port, start


def test_the_numbers_of_one(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32))
    command = ["-m", "demjax.hubness", "--queries", str(tmp_path / "x.npy"), "--k", "3"]
    command += ["--correct", "csls", "--score", "cosine"]
    alone = subprocess.run([sys.executable, *command, "--out", tmp_path / "one"], cwd=ROOT, capture_output=True)
    assert alone.returncode == 0, alone.stderr
    address = (f"--coordinator_address=127.0.0.1:{free_port()}", "--num_processes=2")
    both = [(*command, "--out", tmp_path / "two", *address, f"--process_id={i}") for i in (0, 1)]
    ended = finish([start(argv, DEVICES // 2) for argv in both])
    assert [e.status for e in ended] == [0, 0], ended
    assert "k_skewness" in ended[0].out and not ended[1].out
    assert "process 1 of 2, 4 of 8 devices" in ended[1].err
    one, two = (json.loads((tmp_path / name / "hubness.json").read_text()) for name in ("one", "two"))
    assert one == two
