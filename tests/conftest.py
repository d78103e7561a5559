"""Settings stricter than those of a run: they must stand before JAX starts and before demjax is imported."""

import os
import sys
import tempfile
from pathlib import Path

# Eight virtual devices in a loop on two cores deadlock in a rendezvous unless XLA gets threads enough.
os.environ.setdefault("NPROC", "32")
os.environ["TFDS_DATA_DIR"] = tempfile.mkdtemp(prefix="demjax-tests-")  # nothing goes to the home folder
os.environ.setdefault("MPLBACKEND", "Agg")

import jax  # noqa: E402

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

from jaxtyping import install_import_hook  # noqa: E402

# Shapes in annotations are checked here and only here.
install_import_hook("demjax", "beartype.beartype")

import pytest  # noqa: E402

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"
sys.path.insert(0, str(ROOT))  # configs/ is not part of the package


@pytest.fixture
def shared_data() -> Path:
    """Real data beside the checkout; not part of the project."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the real data in {SHARED}")
    return SHARED


@pytest.fixture(autouse=True)
def _no_stop_left_over():
    """A stop asked for in one test must not end the next."""
    from demjax.train.stop import stop

    stop.requested_by = None
    yield
    stop.requested_by = None
