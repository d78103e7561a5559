"""2 processes x 4 devices and 4 x 2 give the numbers of one; checkpoints of one layout are read by every other."""

import json
import re

import jax
import numpy as np
import pytest

from demjax.mesh import data_mesh
from demjax.train.restore import restore_run
from tests.distributed import worker
from tests.distributed.launch import workers

EXACT = ("highest ids", "certified ids", "one gallery tile a device", "self", "ranks", "corrected", "occurrence")


@pytest.fixture(scope="module", autouse=True)
def small_blocks():
    """As in the processes: the digest of a file depends on its blocks."""
    with pytest.MonkeyPatch.context() as patch:
        worker.small_blocks(patch.setattr)
        yield


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The same in this process, on one device."""
    folder = tmp_path_factory.mktemp("alone")
    worker.write_set(folder / "set")
    for name in ("dem", "ds_sje", "streamed", "mapped"):
        worker.train(name, folder, jax.devices()[:1])
    np.savez(folder / "searches.npz", **worker.searches(data_mesh(jax.devices()[:1])))
    return folder


def check_searches(folder, alone):
    got, want = np.load(folder / "searches.npz"), np.load(alone / "searches.npz")
    assert set(got.files) == set(want.files)
    for name in want.files:
        if name in EXACT:
            np.testing.assert_array_equal(got[name], want[name], name)
        else:
            np.testing.assert_allclose(got[name], want[name], rtol=1e-6, err_msg=name)


def check_run(name, folder, alone):
    """Parameters to 2e-5, every metric, every line of metrics.jsonl."""
    same_params(name, folder, alone)
    reports = [json.loads((f / name / "report.json").read_text()) for f in (folder, alone)]
    assert reports[0]["metrics"].keys() == reports[1]["metrics"].keys()
    for metric, value in reports[1]["metrics"].items():
        assert reports[0]["metrics"][metric] == pytest.approx(value, rel=1e-4, abs=1e-6), metric
    lines = [
        [json.loads(x)["epoch"] for x in (f / name / "metrics.jsonl").read_text().splitlines()] for f in (folder, alone)
    ]
    assert lines[0] == lines[1] == [1, 2, 3]


def same_params(name, folder, alone):
    got, want = (restore_run(f / name).variables.params for f in (folder, alone))
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=2e-5, atol=2e-5), got, want)


def damage(step):
    """Half of every larger file of a checkpoint is gone."""
    for file in (step / "state").rglob("*"):
        if file.is_file() and file.stat().st_size > 500:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_two_processes_then_one_then_four(tmp_path, alone):
    worker.write_set(tmp_path / "set")
    ended = workers(2, tmp_path, "searches", "dem:1/", "ds_sje", "mapped", "streamed:2/3 chunk 1/")
    assert "process 0 of 2, 4 of 8 devices" in ended[0].out and "process 1 of 2, 4 of 8 devices" in ended[1].out
    assert "stopped by SIGTERM after epoch 1" in ended[0].out
    assert "stopped by a signal to another process after epoch 1" in ended[1].out and "loss" not in ended[1].out
    check_searches(tmp_path, alone)
    check_run("ds_sje", tmp_path, alone)
    check_run("mapped", tmp_path, alone)
    told = worker.train("dem:2/", tmp_path, jax.devices())  # 1 x 8 reads what 2 x 4 wrote
    assert any("resuming after epoch 1" in line for line in told)
    damage(tmp_path / "dem" / "checkpoints" / "2")
    ended = workers(4, tmp_path, "dem")  # and 4 x 2 what 1 x 8 wrote
    assert "checkpoint 2 is damaged" in ended[0].out and "resuming after epoch 1" in ended[0].out
    check_run("dem", tmp_path, alone)
    told = worker.train("streamed", tmp_path, jax.devices()[:1])
    assert any("resuming after epoch 2, chunk 1 of" in line for line in told)
    same_params("streamed", tmp_path, alone)


def test_a_process_reads_its_share_of_a_mapped_file_only(tmp_path):
    """Of 240 rows, checked, 162 of them trained on and the 78 others looked at in evaluation: 480 in all."""
    worker.write_set(tmp_path / "set")
    ended = workers(2, tmp_path, "shared_out")
    rows = [int(re.search(r"rows read from files: (\d+)", e.out)[1]) for e in ended]
    assert sum(rows) >= 480 and max(rows) < 0.6 * 480, rows


@pytest.mark.slow
def test_four_processes_and_the_other_tasks(tmp_path, alone):
    workers(4, tmp_path, "searches", "class_norm", "ridge", "description:2/")
    workers(2, tmp_path, "ds_sje")
    check_searches(tmp_path, alone)
    check_run("ds_sje", tmp_path, alone)
    for name in ("class_norm", "ridge"):
        worker.train(name, alone, jax.devices()[:1])
    check_run("class_norm", tmp_path, alone)
    reports = [json.loads((f / "ridge" / "report.json").read_text())["metrics"] for f in (tmp_path, alone)]
    assert reports[0] == pytest.approx(reports[1], rel=1e-5)
