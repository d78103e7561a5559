"""Where rows are: every row once a pass, the same batches however they are placed, and files that vanish."""

import copy
import json
import signal

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import PartitionSpec

from demjax.checks import UserError
from demjax.data import Indexed, Rows
from demjax.mesh import DATA_AXIS, data_mesh
from demjax.train.config import default_config
from demjax.train.engine import placement as placement_module
from demjax.train.engine.feed import Feed
from demjax.train.engine.placement import Placement, choose_placement, column_specs, place_rows, take, take_shared
from demjax.train.fit import train_and_evaluate
from demjax.train.restore import restore_run
from demjax.train.run_folder.stop import Preempted, stop

N_CLASSES, PER_CLASS, WIDTH = 12, 20, 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A mapped set, sorted by class as such files are."""
    place, rng = tmp_path_factory.mktemp("mapped"), np.random.default_rng(0)
    table = rng.random((N_CLASSES, 4)).astype(np.float32)
    labels = np.repeat(np.arange(N_CLASSES), PER_CLASS)
    features = table[labels] @ rng.normal(size=(4, WIDTH)) + 0.1 * rng.normal(size=(len(labels), WIDTH))
    np.save(place / "features.npy", features.astype(np.float32))
    np.save(place / "labels.npy", labels)
    np.save(place / "att.npy", table)
    names = [f"class{i}" for i in range(N_CLASSES)]
    (place / "classes.txt").write_text("\n".join(names))
    (place / "lists").mkdir()
    (place / "lists" / "train.txt").write_text("\n".join(names[:9]))
    (place / "lists" / "test.txt").write_text("\n".join(names[9:]))
    return place


def config_of(folder, **changes):
    config = default_config("dem")
    config.update_from_flattened_dict(
        {
            "data.name": "mapped", "data.dir": str(folder), "data.split": "train/test", "task.hidden": 8,
            "train.batching": "examples", "train.batch_size": 10, "train.epochs": 3, "train.passes_per_epoch": 1,
            "train.placement": "streamed", "train.chunk_rows": 40, "optimizer.name": "sgd", "log.tensorboard": False,
            "optimizer.learning_rate": 1e-3,
        }
        | changes
    )  # fmt: skip
    return config


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(placement_module, "LEAST_BLOCKS", 1)
    monkeypatch.setattr(placement_module, "BLOCK_BYTES", 8 * 36)  # 8 rows of 6 features, label, weight and scatter


def params(workdir):
    return restore_run(workdir).variables.params


def same(got, want, tolerance=0.0):
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=tolerance, atol=tolerance), got, want)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 90), st.integers(1, 9), st.integers(1, 5))
def test_a_pass_has_every_row_once_and_passes_differ(n, block, chunk_blocks):
    placement = Placement("streamed", n, 4, 4 * n, chunk_blocks, block)
    key = jax.random.key(0)
    passes = [
        np.concatenate([placement.rows_of(key, number * placement.chunks + c) for c in range(placement.chunks)])
        for number in (0, 1)
    ]
    for ids in passes:
        real = (ids < n).reshape(placement.chunks, -1).sum(axis=1)
        assert real.min() > 0 and np.ptp(real) < 2 * block, "chunks are of nearly equal size"
        assert sorted(ids[ids < n]) == list(range(n)) and (ids <= n).all()
        assert len(ids) == placement.chunks * placement.call_rows
    if n > 30 * block:
        assert (passes[0] != passes[1]).any()


def test_a_small_chunk_has_small_blocks(monkeypatch):
    monkeypatch.setattr(placement_module, "LEAST_BLOCKS", 16)
    monkeypatch.setattr(placement_module, "BLOCK_BYTES", 2**21)
    rows = Rows({"features": np.zeros((1001, 2), np.float32), "weight": np.zeros(1001)}, streams=True)
    placement = choose_placement("streamed", rows, ("features",), data_mesh(jax.devices()[:1]), 100)
    assert (placement.block_rows, placement.chunk_blocks, placement.chunks) == (7, 15, 10)


def test_chunks_are_made_of_blocks_from_everywhere():
    """The file is sorted by class: neighbouring blocks only would be batches of one class."""
    ids = Placement("streamed", 10_000, 4, 40_000, 10, 50).rows_of(jax.random.key(1), 0)
    assert len(ids) == 500 and ids.max() - ids.min() > 5_000
    assert (np.diff(ids.reshape(10, 50), axis=1) == 1).all()


@pytest.mark.parametrize("n_devices", (1, 3))
def test_rows_that_are_shared_out_train_the_same_model(folder, tmp_path, n_devices):
    for kind in ("replicated", "sharded"):
        config = config_of(folder, **{"train.placement": kind})
        train_and_evaluate(config, tmp_path / kind, devices=jax.devices()[:n_devices], say=lambda line: None)
    same(params(tmp_path / "sharded"), params(tmp_path / "replicated"), 1e-6)


def test_a_stream_resumes_in_the_middle_of_a_pass_and_on_other_devices(folder, tmp_path):
    config, lines = config_of(folder), []
    train_and_evaluate(config, tmp_path / "whole", devices=jax.devices()[:1], say=lines.append)
    assert any("streamed: 5 chunks of 40 rows" in line and "5 random blocks of 8" in line for line in lines)

    def stopping(line):
        if line.startswith("epoch 2/3 chunk 2/5"):
            stop.requested_by = signal.SIGTERM

    with pytest.raises(Preempted, match="after epoch 2, chunk 2 of 5"):
        train_and_evaluate(config, tmp_path / "parts", devices=jax.devices()[:1], say=stopping)
    stop.requested_by = None
    train_and_evaluate(config, tmp_path / "parts", devices=jax.devices()[:1], say=lines.append)
    assert any("resuming after epoch 2, chunk 2 of 5" in line for line in lines)
    same(params(tmp_path / "parts"), params(tmp_path / "whole"))
    lines = [json.loads(x) for x in (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()]
    assert [(x["epoch"], x["call"]) for x in lines] == [((i + 4) // 5, i) for i in range(1, 16)]
    train_and_evaluate(config, tmp_path / "eight", devices=jax.devices(), say=lines.append)
    same(params(tmp_path / "eight"), params(tmp_path / "whole"), 2e-5)


def test_a_chunk_is_read_where_it_should_be(folder):
    """The rows on the devices, against the file."""
    features = np.load(folder / "features.npy")
    ids = np.arange(7, 100)
    weight = np.append(np.ones(93, np.float32), np.float32(0.0))
    rows = Rows({"features": Indexed(features, ids), "weight": weight}, streams=True)
    placement, mesh = Placement("streamed", 93, 4, 372, 2, 10), data_mesh(jax.devices()[:3])
    with Feed(placement, rows, ("features", "weight"), mesh, jax.random.key_data(jax.random.key(5))) as feed:
        for call in (0, 1, 2, 7, 4):  # in order, and from anywhere
            got, at = feed(call), placement.rows_of(jax.random.key(5), call)
            want = np.where((at < 93)[:, None], features[ids[np.minimum(at, 92)]], 0)
            np.testing.assert_array_equal(np.asarray(got["features"])[: len(at)], want)
            assert np.asarray(got["weight"])[: len(at)].tolist() == (at < 93).astype(float).tolist()
            assert not np.asarray(got["features"])[len(at) :].any()
            assert np.asarray(got["row"])[: len(at)].tolist() == at.tolist()


@pytest.mark.parametrize(
    ("memory", "n_devices", "kind"),
    [
        (4000, 1, "replicated"),
        (1700, 1, "replicated"),
        (1600, 1, "streamed"),
        (1700, 2, "sharded"),
        (700, 2, "streamed"),
    ],
)
def test_auto_goes_by_size(monkeypatch, memory, n_devices, kind):
    """1,000 bytes of rows."""
    monkeypatch.setattr(placement_module, "device_bytes", lambda: memory)
    features, label = np.zeros((101, 2), np.float32), np.zeros(101, np.int16)
    rows = Rows({"features": features, "weight": np.zeros(101), "label": label}, streams=True)
    mesh = data_mesh(jax.devices()[:n_devices])
    assert choose_placement("auto", rows, ("features", "label"), mesh, 0).kind == kind


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"train.batching": "class_sums"}, "expected examples"),
        ({"train.passes_per_epoch": 2}, "expected 1"),
        ({"train.placement": "striemed"}, "did you mean 'streamed'"),
        ({"population.seeds": 2}, "train plain runs"),
    ],
)
def test_what_cannot_be_streamed(folder, tmp_path, refused, changes, told):
    from demjax.train.sweep.population import train_population

    config = config_of(folder, **changes)
    with refused(told):
        (train_population if config.population.seeds else train_and_evaluate)(config, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_batch_of_empty_rows_only_changes_nothing(folder, tmp_path):
    """Batches of one row, chunks of unequal size: steps without any row."""
    config = config_of(folder, **{"train.batch_size": 1, "train.epochs": 1, "task.l2": 0.0})
    report = train_and_evaluate(config, tmp_path / "run", devices=jax.devices()[:1], say=lambda line: None)
    assert np.isfinite([x for x in report["metrics"].values() if x is not None]).all()


@pytest.mark.parametrize("first", ("streamed", "resident"))
def test_auto_goes_on_as_the_run_began(folder, tmp_path, monkeypatch, first):
    """On a machine of another size, or with the placement given by hand."""
    config = config_of(folder, **{"train.placement": "auto", "train.epochs": 4})
    memory = {"streamed": 300, "resident": 10**9}
    monkeypatch.setattr(placement_module, "device_bytes", lambda: memory[first])
    lines = []

    def stopping(line):
        lines.append(line)
        if line.startswith("epoch 2/4"):
            stop.requested_by = signal.SIGTERM

    with pytest.raises(Preempted):
        train_and_evaluate(config, tmp_path / "run", devices=jax.devices()[:1], say=stopping)
    stop.requested_by = None
    other = next(size for kind, size in memory.items() if kind != first)
    monkeypatch.setattr(placement_module, "device_bytes", lambda: other)
    train_and_evaluate(config, tmp_path / "run", devices=jax.devices()[:1], say=lines.append)
    assert any("resuming after epoch 2" in line for line in lines)
    by_hand = config_of(
        folder, **{"train.placement": "sharded" if first == "streamed" else "streamed", "train.epochs": 4}
    )
    with pytest.raises(UserError, match="add --config.train.placement=streamed where it has chunks"):
        train_and_evaluate(by_hand, tmp_path / "run", devices=jax.devices()[:1], say=lines.append)


def test_a_twin_goes_on_as_it_began(folder, tmp_path, monkeypatch):
    """The rows of the run are streamed, those of its smaller twin are not: each follows its own folder."""
    monkeypatch.setattr(placement_module, "device_bytes", lambda: 8000)
    config = config_of(folder, **{"train.placement": "auto", "train.epochs": 1, "evaluate.calibrate": True})
    first = train_and_evaluate(config, tmp_path / "run", devices=jax.devices()[:1], say=lambda line: None)
    streamed = [json.loads((tmp_path / "run" / p / "placement.json").read_text()) for p in ("", "validation")]
    assert streamed == [{"streamed": True}, {"streamed": False}]
    (tmp_path / "run" / "validation" / "report.json").unlink()
    again = train_and_evaluate(config, tmp_path / "run", devices=jax.devices()[:1], say=lambda line: None)
    assert again["metrics"] == first["metrics"]


@pytest.mark.parametrize("harm", ("gone", "cut short"))
def test_a_file_that_vanishes_in_the_middle(folder, tmp_path, harm):
    """What was saved stays, and the error names the file."""
    import shutil

    own = tmp_path / "data"
    shutil.copytree(folder, own)
    config, file = config_of(own, **{"train.checkpoint_every": 1, "train.epochs": 9}), own / "features.npy"
    before = copy.deepcopy(file.read_bytes())

    def harming(line):
        if line.startswith("epoch 2/9 chunk 3/5"):
            file.unlink() if harm == "gone" else file.write_bytes(before[:5000])

    with pytest.raises(OSError, match="No such file|was cut short") as caught:
        train_and_evaluate(config, tmp_path / "run", devices=jax.devices()[:1], say=harming)
    assert caught.value.filename == str(file)
    file.write_bytes(before)
    lines = []
    train_and_evaluate(config, tmp_path / "run", devices=jax.devices()[:1], say=lines.append)
    assert any("resuming after epoch 1, chunk 5 of 5" in line for line in lines)


# --- columns that repeat the rows of a source ---------------------------------------------------------------


def repeated(n_rows, seed=0):
    """Rows that are captions of 7 images: the features of the images stand once."""
    rng = np.random.default_rng(seed)
    source, ids = rng.normal(size=(30, 4)).astype(np.float32), rng.integers(0, 7, n_rows) * 3
    columns = {
        "features": Indexed(source, ids),
        "label": np.append(rng.integers(0, 5, n_rows), 0).astype(np.int32),
        "weight": np.append(np.ones(n_rows, np.float32), np.float32(0)),
    }
    return Rows(columns), np.concatenate([source[ids], np.zeros((1, 4), np.float32)])


@pytest.mark.parametrize("n_devices", (1, 3, 8))
@pytest.mark.parametrize("shared", (False, True))
def test_a_source_is_placed_once_and_gathered_from(n_devices, shared):
    rows, whole = repeated(50)
    fields, mesh = ("features", "label"), data_mesh(jax.devices()[:n_devices])
    placed = place_rows(rows, fields, mesh, shared=shared)
    n_unique = len(set(np.asarray(rows.columns["features"])[:-1, 0].tolist()))
    held = placed["features"].source.addressable_shards[0].data.shape[0]
    assert held == (-(-(n_unique + 1) // n_devices) if shared else n_unique + 1)
    batch = np.array([0, 49, 50, 3, 3, 17, 50, 50][: 8 // n_devices * n_devices] * n_devices, np.int32)
    split, everywhere = PartitionSpec(DATA_AXIS), PartitionSpec()
    specs = column_specs(rows, fields) if shared else everywhere
    fetch = jax.shard_map(
        take_shared if shared else take,
        mesh=mesh,
        in_specs=(specs, everywhere if shared else split),
        out_specs=split,
    )
    got = jax.jit(fetch)(placed, batch)
    np.testing.assert_array_equal(got["features"], whole[batch])
    np.testing.assert_array_equal(got["label"], rows.columns["label"][batch])
    np.testing.assert_array_equal(got["row"], batch)


def test_bytes_are_those_that_are_placed():
    rows, whole = repeated(1000)
    mesh = data_mesh(jax.devices()[:1])
    once = choose_placement("auto", rows, ("features",), mesh, 0)
    assert once.total_bytes < 7 * 16 + 16 + 4 * 1001 + 1 and once.row_bytes == 16
    plain = Rows({"features": whole, "weight": rows.columns["weight"]})
    assert choose_placement("auto", plain, ("features",), mesh, 0).total_bytes == 16_000


def test_a_stream_reads_the_rows_of_a_source(monkeypatch):
    monkeypatch.setattr(placement_module, "BLOCK_BYTES", 100)
    rows, whole = repeated(100)
    mesh = data_mesh(jax.devices()[:2])
    placement = choose_placement("streamed", rows._replace(streams=True), ("features",), mesh, 30)
    key = jax.random.key(1)
    with Feed(placement, rows, ("features",), mesh, jax.random.key_data(key)) as feed:
        got, at = np.asarray(feed(2)["features"]), placement.rows_of(key, 2)
        np.testing.assert_array_equal(got[: len(at)], whole[at])


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (np.zeros((9, 2), np.float32), "column 'features' has 9 rows: expected 10 and an empty one"),
        (np.zeros((11, 2)), "column 'features' is float64: expected at most 32 bits"),
    ],
)
def test_columns_that_do_not_fit(column, message):
    rows = Rows({"features": column, "weight": np.zeros(11, np.float32)})
    with pytest.raises(UserError, match=message):
        choose_placement("auto", rows, ("features",), data_mesh(jax.devices()[:1]), 0)


def test_chunks_and_epochs_draw_from_different_keys():
    """Were they the same, the order of blocks and the order of rows would be one draw used twice."""
    key = jax.random.key(5)
    of_epochs = {tuple(np.asarray(jax.random.key_data(jax.random.fold_in(key, n)))) for n in range(64)}
    seen = []
    placement = Placement("streamed", 100, 4, 400, 2, 10)
    with pytest.MonkeyPatch.context() as patch:
        permutation = jax.random.permutation
        patch.setattr(jax.random, "permutation", lambda k, n: seen.append(k) or permutation(k, n))
        for call in range(4 * placement.chunks):
            placement.rows_of(key, call)
    assert len(seen) == 4 * placement.chunks
    assert not of_epochs & {tuple(np.asarray(jax.random.key_data(k))) for k in seen}
