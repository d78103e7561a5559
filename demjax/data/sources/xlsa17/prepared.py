"""The set as TFDS keeps it: files are read once, later runs read what was prepared of them."""

import contextlib
import fcntl
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from demjax.checks import UserError
from demjax.data.class_set import ClassSet
from demjax.data.sources.xlsa17.locate import find


def read_prepared(name: str, folder: Path | None, features: str, semantics: str, split: str) -> ClassSet:
    """The set from TFDS's folder, where it is written first if these very files have not been before.

    Args:
      name: one of CUB, AWA1, AWA2, SUN, APY, or any name.
      folder: with the files; None: TFDS's manual folder, then the download.
      features: `vgg19` reads vgg19.mat.
      semantics: names of class tables, `att` or `att+sent`.
      split: `auto`, or the version the split file must be.

    Raises:
      UserError: files that are missing or wrong; a prepared set that is damaged or cannot be written.
      OSError: the disk is full, or files cannot be read.
    """
    import tensorflow_datasets as tfds  # half a second: only when it is needed

    from demjax.data.sources.xlsa17.xlsa17_dataset_builder import Xlsa17Config

    if folder and not folder.is_dir():
        raise UserError(f"--config.data.dir={folder} is not a folder: expected the one that holds {features}.mat")
    manual = Path(tfds.core.constants.DATA_DIR).expanduser() / "downloads" / "manual"
    files = find([folder] if folder else [manual, manual / "xlsa17"], name, features, semantics)
    # The digest in the name: files that change are prepared anew, never mixed with what was made before.
    tag = f"{name}-{features}-{semantics}" + ("" if split == "auto" else f"-{split}")
    config = Xlsa17Config(
        name=f"{tag}-{files.digest()}" if files else tag,
        dataset=name,
        features=features,
        semantics=semantics,
        split=split,
    )
    source = files.features.parent if files else folder
    try:
        return _prepare_and_read(name, config, source, manual)
    except (UserError, OSError):
        raise
    except Exception as error:  # array_record, JSON and protobuf each raise their own on damaged bytes
        place = Path(tfds.core.constants.DATA_DIR).expanduser() / "xlsa17" / config.name
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"the prepared set in {place} cannot be written or read ({type(error).__name__}: {reason}): "
            "delete it and run again"
        ) from error


def _prepare_and_read(name: str, config: Any, source: str | Path | None, manual: Path) -> ClassSet:
    import tensorflow_datasets as tfds

    from demjax.data.sources.xlsa17.xlsa17_dataset_builder import Builder

    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.FATAL)  # TFDS warns of every config that is not in its list
    try:
        place = Path(tfds.core.constants.DATA_DIR).expanduser() / "xlsa17" / config.name / str(Builder.VERSION)
        with _alone(place), contextlib.redirect_stdout(io.StringIO()):  # "Downloading ..." even where nothing is
            builder = Builder(config=config, source=source)  # looks whether the set is there
            settings = tfds.download.DownloadConfig(manual_dir=manual)
            builder.download_and_prepare(file_format="array_record", download_config=settings)
    finally:
        logging.set_verbosity(verbosity)
    return _rows_of(name, builder)


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[None]:
    """One process prepares a set, others wait: TFDS renames a folder at the end, which only one can do."""
    if place.exists():
        yield
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / f".{place.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _rows_of(name: str, builder: Any) -> ClassSet:
    """Puts the rows of all splits back in the order of their image numbers; verifies their fingerprints."""
    meta, rows, roles = builder.info.metadata, [], {}
    for split in ("trainval", "test_seen", "test_unseen"):
        source = builder.as_data_source(split)
        rows += source.__getitems__(range(len(source)))
        roles[split] = len(source)
    ids = np.array([row["id"] for row in rows])
    order = np.argsort(ids)
    bounds = np.cumsum([0, *roles.values()])
    splits = {role: np.sort(ids[a:b]) for role, a, b in zip(roles, bounds[:-1], bounds[1:], strict=True)}
    dataset = ClassSet(
        name=name,
        features=np.stack([rows[i]["features"] for i in order]),
        labels=np.array([rows[i]["label"] for i in order]),
        classes=tuple(meta["classes"]),
        semantics=np.array(meta["semantics"], np.float32),
        splits=splits | {k: np.array(meta[k], np.int64) for k in ("train", "val")},
        version=meta["version"],
        sources=meta["sources"],
        parts=meta["parts"],
        images=tuple(rows[i]["image"].decode() for i in order) if rows[0]["image"] else (),
    )
    if dataset.fingerprints != meta["fingerprints"]:
        raise UserError(f"{builder.data_path} does not hold what was written there (damaged?): delete it and run again")
    return dataset
