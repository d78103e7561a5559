import errno
import gc
import json
import random
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from demjax.checks import UserError
from demjax.mesh import data_mesh, replicate
from demjax.tasks import Variables
from demjax.train.engine.state import TrainState
from demjax.train.run_folder.checkpoint import Checkpoints, NotSaved, check_same, leaf_digests

# A restore that Orbax gives up leaves tasks behind that complain when they are collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _collect_here():
    yield
    gc.collect()


def state_of(value, n_devices=1):
    params = {"w": jnp.full((40, 30), value, jnp.float32) + jnp.arange(30, dtype=jnp.float32)[None]}
    state = TrainState(
        Variables(params), (params, jnp.int32(3)), jnp.int32(int(value)), jnp.arange(2, dtype=jnp.uint32)
    )
    return replicate(state, data_mesh(jax.devices()[:n_devices]))


def assert_equal(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


@pytest.fixture
def folder(tmp_path):
    """Three good steps."""
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for step in (1, 2, 3):
        checkpoints.save(step, state_of(step), {"seconds": step / 2})
    checkpoints.close()
    return tmp_path / "checkpoints"


def restore(folder, like=None):
    said = []
    checkpoints = Checkpoints(folder)
    try:
        return checkpoints.restore(like or state_of(0), warn=said.append), said
    finally:
        checkpoints.close()


def data_files(step_folder):
    """Files whose bytes are parameters: the largest ones."""
    files = [f for f in step_folder.rglob("*") if f.is_file() and f.stat().st_size]
    return sorted(files, key=lambda f: -f.stat().st_size)


def flip(file, at):
    content = bytearray(file.read_bytes())
    content[at] ^= 0x10
    file.write_bytes(content)


def test_newest_step_comes_back(folder):
    restored, said = restore(folder)
    assert (restored.step, restored.meta, said) == (3, {"seconds": 1.5}, [])
    assert_equal(restored.state, state_of(3))


def test_nothing_saved_is_none(tmp_path):
    assert restore(tmp_path / "empty")[0] is None


@pytest.mark.parametrize("n_devices", [2, 8])
def test_restores_onto_other_devices(folder, n_devices):
    like = state_of(0, n_devices)
    restored, _ = restore(folder, like)
    assert_equal(restored.state, state_of(3))
    for leaf, wanted in zip(jax.tree.leaves(restored.state), jax.tree.leaves(like), strict=True):
        assert leaf.sharding == wanted.sharding and len(leaf.devices()) == n_devices


def test_any_flipped_byte_is_harmless(folder):
    """In whatever file of the newest step one byte turns, the state restored is one that was written, unchanged.

    One byte of every file: Orbax draws their names and half of them say nothing that is needed.
    """
    rng = random.Random(0)
    pristine = {f: f.read_bytes() for f in sorted((folder / "3").rglob("*")) if f.is_file()}
    needed = {folder / "3/meta/metadata", folder / "3/state/manifest.ocdbt", *(folder / "3/state/d").iterdir()}
    fell_back = set()
    for file in pristine:
        place = rng.randrange(len(pristine[file]))
        flip(file, place)
        restored, said = restore(folder)
        told = f"byte {place} of {file}"
        assert restored.step in (2, 3), told
        assert_equal(restored.state, state_of(restored.step))
        assert restored.meta == {"seconds": restored.step / 2}, told
        if restored.step == 2:
            fell_back.add(file)
            assert len(said) == 1 and "checkpoint 3 is damaged" in said[0] and "\n" not in said[0], told
        for path, content in pristine.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    assert len(needed) > 2 and needed <= fell_back, needed - fell_back


def test_wrong_parameters_are_caught_by_digest(folder):
    """The state of another step is whole for Orbax: without the digests it restores wrong numbers, silently."""
    shutil.rmtree(folder / "3" / "state")
    shutil.copytree(folder / "2" / "state", folder / "3" / "state")
    restored, said = restore(folder)
    assert restored.step == 2 and "checkpoint 3 is damaged (SHA-256 of" in said[0]
    assert_equal(restored.state, state_of(2))


def test_damaged_step_is_moved_not_deleted_and_can_be_written_again(folder):
    file = data_files(folder / "3")[0]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    checkpoints = Checkpoints(folder)
    restored = checkpoints.restore(state_of(0), warn=lambda line: None)
    assert restored.step == 2
    assert [p.name for p in (folder.parent / "damaged").iterdir()] == ["3-0"]
    checkpoints.save(3, state_of(3), {})
    checkpoints.close()
    assert restore(folder)[0].step == 3


def test_half_written_and_empty_newest_steps(folder):
    (folder / "4").mkdir()  # an empty folder counts as the latest step for Orbax
    (folder / "5.orbax-checkpoint-tmp").mkdir()
    restored, said = restore(folder)
    assert restored.step == 3 and "checkpoint 4 is damaged" in said[0]


def test_all_steps_damaged(folder):
    for step in (1, 2, 3):
        data_files(folder / str(step))[0].write_bytes(b"")
    with pytest.raises(UserError, match="none of the 3 checkpoints in .* verifies .step 3"):
        restore(folder)
    assert sorted(p.name for p in folder.iterdir() if p.is_dir()) == [
        "1",
        "2",
        "3",
    ]  # nothing is moved, nothing retrained


@pytest.mark.parametrize(
    "error", [MemoryError(), OSError(errno.EMFILE, "Too many open files"), OSError(errno.EIO, "I/O")]
)
def test_a_failing_machine_is_no_damage(folder, error, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(Checkpoints, "_verified_state", fail)
    with pytest.raises(type(error)):
        restore(folder)
    monkeypatch.undo()
    assert restore(folder)[0].step == 3 and not (folder.parent / "damaged").exists()


def test_an_evaluation_moves_nothing(folder):
    data_files(folder / "3")[0].write_bytes(b"")
    checkpoints = Checkpoints(folder)
    said = []
    try:
        restored = checkpoints.restore(state_of(0), warn=said.append, move=False)
    finally:
        checkpoints.close()
    assert restored.step == 2 and "left in its place" in said[0] and (folder / "3").is_dir()


def test_the_first_free_name_is_taken_for_damaged_steps(folder):
    (folder.parent / "damaged" / "3-0").mkdir(parents=True)
    (folder.parent / "damaged" / "3-2").mkdir()
    data_files(folder / "3")[0].write_bytes(b"")
    assert restore(folder)[0].step == 2 and (folder.parent / "damaged" / "3-1" / "state").exists()


def test_notes_are_verified_too(folder):
    notes = next(f for f in (folder / "3" / "meta").rglob("*") if f.is_file() and b"seconds" in f.read_bytes())
    content = json.loads(notes.read_text())
    content["meta"]["seconds"] = 99.0
    notes.write_text(json.dumps(content))
    assert restore(folder)[0].step == 2


def test_digest_sees_dtype_shape_and_every_bit():
    base = np.zeros((2, 3), np.float32)
    changed = base.copy()
    changed.view(np.uint32)[1, 2] = 1  # the smallest change there is
    variants = [base, changed, base.reshape(3, 2), base.astype(np.int32)]
    assert len({leaf_digests({"a": v})["['a']"] for v in variants}) == 4


def test_other_config_or_data_is_refused(tmp_path):
    with pytest.raises(UserError, match="config hash"):
        check_same({"config hash": "a"}, {"config hash": "b"}, tmp_path)


def test_failed_write_is_told_and_leaves_the_older_step(folder, monkeypatch):
    """A full disk, as the writing thread sees it."""
    from orbax.checkpoint._src.handlers import json_checkpoint_handler

    async def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    checkpoints = Checkpoints(folder)
    monkeypatch.setattr(json_checkpoint_handler.JsonCheckpointHandler, "async_save", full)
    with pytest.raises(NotSaved, match="No space left"):
        checkpoints.save(4, state_of(4), {})
        checkpoints.wait()
    monkeypatch.undo()
    checkpoints.close()
    assert restore(folder)[0].step == 3


def test_what_is_saved_is_copied_before_training_goes_on(tmp_path):
    """The memory of a state is written over by the next steps, while a thread still writes the file."""
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    step = jax.jit(lambda x: x + 1, donate_argnums=0)
    state = {"x": jnp.zeros(3_000_000), "own": np.zeros(3_000_000, np.float32)}
    for number in (1, 2, 3):
        checkpoints.save(number, state, {})
        state = {"x": step(state["x"]), "own": state["own"]}
        state["own"] += 1
    checkpoints.wait()
    checkpoints.close()
    found = Checkpoints(tmp_path / "checkpoints")
    restored = found.restore({"x": state["x"], "own": jnp.zeros(3_000_000)})
    assert restored.step == 3 and (np.asarray(restored.state["x"]) == 2).all()
    assert (np.asarray(restored.state["own"]) == 2).all()
    found.close()
