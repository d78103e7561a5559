"""Settings stricter than those of a run: they must stand before JAX starts and before demjax is imported."""

import contextlib
import functools
import importlib.util
import os
import tempfile
from pathlib import Path

from tests.waiting import HUNG

# Eight virtual devices in a loop on two cores deadlock in a rendezvous unless XLA gets threads enough.
os.environ.setdefault("NPROC", "32")
# Most of the time goes into compiling small programs once: LLVM does not optimise them here. `.ci/run` repeats what
# compares bits with the programs that users run.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")
# A device that waits 40 s for another ends the program, unless it is told otherwise: a busy machine needs longer.
if "collective_call_terminate" not in os.environ["XLA_FLAGS"]:
    os.environ["XLA_FLAGS"] += f" --xla_cpu_collective_call_terminate_timeout_seconds={HUNG:.0f}"
_PREPARED = tempfile.TemporaryDirectory(prefix="demjax-tests-")
os.environ["TFDS_DATA_DIR"] = _PREPARED.name  # nothing goes to the home folder
tempfile.tempdir = os.environ["TMPDIR"] = _PREPARED.name  # TFDS leaves an empty folder for every builder
os.environ.setdefault("MPLBACKEND", "Agg")
# Both processes of a run share what they compile: most tests build the same small programs.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{_PREPARED.name}/compiled")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")

import jax  # noqa: E402

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

import optax  # noqa: E402


def _promoting(make):
    """As `make`, but its update may mix types: optax multiplies rates with step numbers, which are integers."""

    @functools.wraps(make)
    def made(*args, **kwargs):
        whole = make(*args, **kwargs)

        def update(*args, **kwargs):
            with jax.numpy_dtype_promotion("standard"):
                return whole.update(*args, **kwargs)

        return whole._replace(update=update)

    return made


for _name in ("adam", "adamw", "sgd", "rmsprop"):
    setattr(optax, _name, _promoting(getattr(optax, _name)))

from jaxtyping import install_import_hook  # noqa: E402

# Shapes in annotations are checked here and only here.
install_import_hook("demjax", "beartype.beartype")

import pytest  # noqa: E402

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"


LONG = ("layouts_test.py", "chaos_test.py", "kill_test.py", "suite_test.py")  # files of minutes


def pytest_collection_modifyitems(items):
    """The longest files first: at the end of the suite no worker waits for the other."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@contextlib.contextmanager
def _refused(*named):
    from demjax.checks import UserError

    with pytest.raises(UserError) as caught:
        yield caught
    message = str(caught.value)
    assert "\n" not in message, "a user error is one line"
    for part in named:
        assert str(part) in message, f"{part!r} is not named in: {message}"


@pytest.fixture
def refused():
    """`with refused("res101.mat", "label 7"):` expects a UserError of one line that names all of these."""
    return _refused


@pytest.fixture
def shared_data() -> Path:
    """Real data beside the checkout; not part of the project."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the real data in {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def get_config():
    """get_config(name, arg) of configs/name.py; configs/ is not part of the package."""

    def get(name, arg=""):
        spec = importlib.util.spec_from_file_location(f"config_{name}", ROOT / "configs" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.get_config(arg)

    return get


@pytest.fixture(autouse=True)
def _no_stop_left_over():
    """A stop asked for in one test must not end the next."""
    from demjax.train.run_folder.stop import stop

    stop.requested_by = None
    yield
    stop.requested_by = None
