"""One door to every data set: planted, or files in the xlsa17 layout through their TFDS builder."""

import contextlib
import dataclasses
import fcntl
import io
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from demjax.checks import UserError, choose
from demjax.data import caption_files, captions, classlists, synthetic, xlsa17
from demjax.data.dataset import Dataset
from demjax.data.learned import split_sources, with_learned

GENERATED = "generated"
FOLDS = {"test": 0, "val": 1, "val2": 2, "val3": 3}


def load(
    name: str,
    *,
    dir: str = "",
    features: str = "res101",
    semantics: str = "att",
    split: str = "auto",
    fold: str = "test",
    descriptions: str = "",
    planted: Mapping[str, Any] | None = None,
) -> Dataset:
    """Loads a set by name.

    Args:
      name: `planted`, one of CUB, AWA1, AWA2, SUN, APY, or any name for your own files.
      dir: folder with the files; empty means the TFDS manual folder, then the download.
      features: `vgg19` reads vgg19.mat.
      semantics: `att`, `original_att` ... (keys of att_splits.mat) or `sent` (sent_splits.mat); `att+sent`: both; a
        file .npz of `python -m demjax.encode`: vectors of the classes learned from captions.
      split: `auto`, or the version the split file must be (`ps1`, `ps2`); TRAIN/TEST with class lists (classlists.py).
      fold: `test` as published, or `val`: a view in which no test image exists; `val2`, `val3`: with other classes.
      descriptions: a file or folder of captions (caption_files.py), or `generated` (from the class table); "" for none.
      planted: settings of `synthetic.plant`.

    Raises:
      UserError: with what is wrong in which file, and what to do.
    """
    number = choose("data.fold", fold, FOLDS)
    folder = Path(dir).expanduser()
    semantics, learned = split_sources(semantics)
    if name == "planted":
        dataset = synthetic.plant(**(planted or {}))
    elif dir and classlists.is_here(folder):
        dataset = classlists.read(name, folder, semantics or "att", split)
    else:
        choose("data.split", split, dict.fromkeys(("auto", "ps1", "ps2")))
        dataset = _from_files(name, dir, features, semantics or "att", split)
    if learned:
        dataset = with_learned(dataset, learned, keep_table=bool(semantics))
    if descriptions and descriptions != GENERATED:
        dataset = _described(dataset, Path(descriptions).expanduser())
    if number:
        dataset = dataset.validation_view(fold=number)
    return _generated(dataset) if descriptions == GENERATED else dataset  # of the view: it knows no other class


def _described(dataset: Dataset, path: Path) -> Dataset:
    names = caption_files.Names(dataset.classes, dataset.images, dataset.labels.tolist())
    return _with_captions(dataset, caption_files.read(path, names), path.name)


def _generated(dataset: Dataset) -> Dataset:
    table = dataset.table()
    return _with_captions(dataset, captions.generate(table - min(0.0, float(table.min()))), GENERATED)


def _with_captions(dataset: Dataset, found: list[captions.Caption], source: str) -> Dataset:
    sources = dict(dataset.sources) | {"descriptions": source}
    return dataclasses.replace(dataset, descriptions=captions.arrange(found, dataset.classes), sources=sources)


def _from_files(name: str, dir: str, features: str, semantics: str, split: str) -> Dataset:
    import tensorflow_datasets as tfds  # half a second: only when it is needed

    from demjax.data.datasets.xlsa17.xlsa17_dataset_builder import Xlsa17Config

    if dir and not Path(dir).expanduser().is_dir():
        raise UserError(f"--config.data.dir={dir} is not a folder: expected the one that holds {features}.mat")
    manual = Path(tfds.core.constants.DATA_DIR).expanduser() / "downloads" / "manual"
    files = xlsa17.find([Path(dir)] if dir else [manual, manual / "xlsa17"], name, features, semantics)
    # The digest in the name: files that change are prepared anew, never mixed with what was made before.
    tag = f"{name}-{features}-{semantics}" + ("" if split == "auto" else f"-{split}")
    config = Xlsa17Config(
        name=f"{tag}-{files.digest()}" if files else tag,
        dataset=name,
        features=features,
        semantics=semantics,
        split=split,
    )
    source = files.features.parent if files else (dir or None)
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


def _prepare_and_read(name: str, config: Any, source: str | Path | None, manual: Path) -> Dataset:
    import tensorflow_datasets as tfds

    from demjax.data.datasets.xlsa17.xlsa17_dataset_builder import Builder

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
    return _read_prepared(name, builder)


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


def _read_prepared(name: str, builder: Any) -> Dataset:
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
    dataset = Dataset(
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
