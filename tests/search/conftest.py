"""Small tiles, so that small arrays have many; and the meshes every answer must agree on."""

import jax
import pytest

from demjax.mesh import data_mesh
from demjax.search import certificate, sweep, tiles


@pytest.fixture(params=[3, 8])
def any_mesh(request):
    """For results that must equal those of one device bit for bit."""
    return data_mesh(jax.devices()[: request.param])


@pytest.fixture
def mesh():
    """For results compared with an oracle."""
    return data_mesh(jax.devices())


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles of 16 queries x 128 rows, chunks of two tiles, nothing kept between them."""
    monkeypatch.setattr(tiles, "QUERY_ROWS", 16)
    monkeypatch.setattr(tiles, "GALLERY_ROWS", 128)
    monkeypatch.setattr(tiles, "CHUNK_BYTES", 2**13)
    monkeypatch.setattr(sweep, "RESIDENT_BYTES", 0)
    monkeypatch.setattr(certificate, "RESIDENT_BYTES", 0)
    monkeypatch.setattr(certificate, "QUERY_ROWS", 16)
    monkeypatch.setattr(certificate, "EXACT_ROWS", 32)
    monkeypatch.setattr(certificate, "EXACT_BYTES", 2**13)
