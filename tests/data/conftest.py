"""A toy set in the xlsa17 layout, written as either version of a MATLAB file."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy import io

NAMES = ("antelope", "grizzly+bear", "killer+whale", "beaver", "dalmatian", "persian+cat")
SEEN, UNSEEN, VAL = (0, 1, 3, 4), (2, 5), (4,)  # 0-based classes


class Toy:
    """30 images, image i of class i % 6; the fifth image of each seen class is test_seen. Values as MATLAB has them."""

    def __init__(self, version: str = "ps1"):
        rng = np.random.default_rng(7)
        role = {"trainval": [], "test_seen": [], "test_unseen": [], "train": [], "val": []}
        for i in range(30):
            c, in_test = i % 6, i // 6 == 4
            if c in UNSEEN:
                role["test_unseen"].append(i + 1)
                continue
            role["test_seen" if in_test else "trainval"].append(i + 1)
            if version == "ps1" or not in_test:
                role["val" if c in VAL else "train"].append(i + 1)
        self.images = {
            "features": rng.standard_normal((4, 30)),
            "labels": (np.arange(30) % 6 + 1.0)[:, None],
        }
        attributes = rng.uniform(0, 9, (3, 6))
        self.table = {
            "att": attributes / np.linalg.norm(attributes, axis=0),
            "original_att": attributes,
            "allclasses_names": np.array(NAMES, object)[:, None],
            **{f"{k}_loc": np.array(v, np.uint16)[:, None] for k, v in role.items()},
        }

    def write(self, folder: Path, save=None, features: str = "res101", semantics: str = "att") -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (save or write_v5)(folder / f"{features}.mat", self.images)
        (save or write_v5)(folder / f"{semantics}_splits.mat", self.table)
        return folder


def write_v5(path: Path, variables: dict) -> None:
    io.savemat(path, variables, do_compression=True)


def write_v73(path: Path, variables: dict) -> None:
    """As MATLAB does: 512 bytes of text, axes reversed, cells as references to columns of 16-bit characters."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for key, value in variables.items():
            if value.dtype != object:
                file[key] = value.T
                continue
            cells = np.empty(value.shape, h5py.ref_dtype)
            for at, text in np.ndenumerate(value):
                codes = np.frombuffer(text.encode("utf-16-le"), np.uint16)[:, None]
                cells[at] = file.create_dataset(f"#refs#/{key}{'_'.join(map(str, at))}", data=codes).ref
            file.create_dataset(key, data=cells.T, dtype=h5py.ref_dtype)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512))


@pytest.fixture
def toy() -> Toy:
    return Toy()


@pytest.fixture(scope="session")
def new_toy():
    """The class: `new_toy("ps2")` makes a toy whose train and val hold no test image."""
    return Toy


@pytest.fixture(params=["v5", "v7.3"])
def save(request):
    """Either version of a MATLAB file."""
    return {"v5": write_v5, "v7.3": write_v73}[request.param]


@pytest.fixture
def save_v73():
    return write_v73


@pytest.fixture(scope="session")
def writers():
    return [write_v5, write_v73]


@pytest.fixture
def data_dir(tmp_path, monkeypatch) -> Path:
    """TFDS's default folder, empty, for this test only."""
    import tensorflow_datasets as tfds

    folder = tmp_path / "tfds"
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(folder))
    return folder
