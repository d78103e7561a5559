"""`xlsa17`: precomputed image features, class attributes and proposed splits, as array_record, without TensorFlow.

Files are read once; later runs read what TFDS prepared of them.
"""

import contextlib
import dataclasses
import fcntl
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from demjax.checks import UserError, choose
from demjax.data.class_set import ClassSet
from demjax.data.sources import xlsa17

ARCHIVE = "xlsa17.zip"
URL = f"http://datasets.d2.mpi-inf.mpg.de/xian/{ARCHIVE}"
ARCHIVE_SIZE = "about 879 MB"  # as its users report it; no published digest is known
NAMES = ("CUB", "AWA1", "AWA2", "SUN", "APY")
PHYSICAL_SPLITS = ("trainval", "test_seen", "test_unseen")


@dataclasses.dataclass(kw_only=True)
class Xlsa17Config(tfds.core.BuilderConfig):
    """Which set, with which features and descriptions.

    Attributes:
      dataset: CUB, AWA1, AWA2, SUN, APY, or the name of another set in files of the same form.
      features: `res101` reads res101.mat.
      semantics: a key of att_splits.mat (`att`, `original_att`) or, as `sent`, the file sent_splits.mat;
        `att+sent` joins both by class name.
      split: `auto`, or the version the file must be: `ps1`, `ps2`.
    """

    dataset: str
    features: str = "res101"
    semantics: str = "att"
    split: str = "auto"


class Builder(tfds.core.GeneratorBasedBuilder):
    """Rows hold features, label, image number and name; class table and folds stand in the metadata."""

    VERSION = tfds.core.Version("1.2.0")
    BUILDER_CONFIGS = [
        Xlsa17Config(name=name + suffix, dataset=name, split=split)
        for name in NAMES
        for suffix, split in (("", "auto"), ("_ps1", "ps1"), ("_ps2", "ps2"))
    ]

    def __init__(self, *, source: str | Path | None = None, **kwargs: Any):
        """`source` is a folder with the files; without it the TFDS manual folder, then the download."""
        self._source = source
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        vector = tfds.features.Tensor(shape=(None,), dtype=np.float32, encoding=tfds.features.Encoding.BYTES)
        number, text = tfds.features.Scalar(np.int64), tfds.features.Text()
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({"features": vector, "label": number, "id": number, "image": text}),
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        config = self.builder_config
        files = self._find_files(dl_manager)
        dataset = xlsa17.read(config.dataset, files)
        if config.split not in ("auto", dataset.version):
            raise UserError(
                f"{files.splits} is split version {dataset.version}, not {config.split}; demjax trains on the same "
                "images with either (no test image enters train or val): pass --config.data.split=auto"
            )
        self.info.metadata.update(
            classes=list(dataset.classes),
            semantics=dataset.semantics.tolist(),
            train=dataset.splits["train"].tolist(),
            val=dataset.splits["val"].tolist(),
            version=dataset.version,
            parts=dict(dataset.parts),
            sources=dict(dataset.sources),
            fingerprints=dataset.fingerprints,
        )
        return {name: self._generate_examples(dataset, name) for name in PHYSICAL_SPLITS}

    def _generate_examples(self, dataset: ClassSet, split: str) -> Iterator[tuple[int, dict]]:
        for i in dataset.splits[split]:
            name = dataset.images[i] if dataset.images else ""
            row = {"features": dataset.features[i], "label": int(dataset.labels[i]), "id": int(i), "image": name}
            yield int(i), row

    def _find_files(self, dl_manager: tfds.download.DownloadManager) -> xlsa17.Files:
        config = self.builder_config
        wanted = (config.dataset, config.features, config.semantics)
        roots = [Path(self._source)] if self._source else [Path(dl_manager._manual_dir or "")]
        if files := xlsa17.find(roots, *wanted):
            return files
        searched = ", ".join(str(f) for f in xlsa17.folders(roots, config.dataset))
        if self._source or config.dataset not in NAMES or config.features != "res101":
            raise UserError(
                f"{config.features}.mat of {config.dataset} is in none of these folders: {searched}; "
                f"point --config.data.dir at the folder that holds it ({ARCHIVE} itself has res101.mat only)"
            )
        try:
            archive = dl_manager.download_and_extract(URL)
        except Exception as error:
            raise UserError(
                f"{config.features}.mat of {config.dataset} is in none of these folders: {searched}; and {ARCHIVE} "
                f"({ARCHIVE_SIZE}; SHA-256 not published, so its split lists are checked against "
                f"{xlsa17.PROPOSED_SPLITS[config.dataset]}) could not be fetched from {URL} "
                f"({type(error).__name__}). Fetch it by hand, unpack it and pass --config.data.dir=FOLDER; "
                "to see demjax work without data: --config=configs/synthetic.py"
            ) from error
        files = xlsa17.find([Path(archive)], *wanted)
        if files is None:
            raise UserError(
                f"{URL} was fetched to {archive} but holds no res101.mat of {config.dataset}: is it the archive?"
            )
        if not xlsa17.is_proposed_split(xlsa17.read(config.dataset, files)):  # bytes from the net
            raise UserError(
                f"{files.splits} of the fetched {ARCHIVE} is not the published split of {config.dataset}: refused"
            )
        return files


def read_prepared(name: str, folder: Path | None, *, features: str, semantics: str, split: str, **_: Any) -> ClassSet:
    """The set from TFDS's folder, where it is written first if these very files have not been before.

    `name`, `features`, `semantics` and `split` are those of Xlsa17Config. Without a folder the files are looked for in
    TFDS's manual folder, then downloaded.

    Raises:
      UserError: files that are missing or wrong; a prepared set that is damaged or cannot be written.
      OSError: the disk is full, or files cannot be read.
    """
    choose("data.split", split, dict.fromkeys(("auto", "ps1", "ps2")))
    if folder and not folder.is_dir():
        raise UserError(f"--config.data.dir={folder} is not a folder: expected the one that holds {features}.mat")
    prepared = Path(tfds.core.constants.DATA_DIR).expanduser()
    manual = prepared / "downloads" / "manual"
    files = xlsa17.find([folder] if folder else [manual, manual / "xlsa17"], name, features, semantics)
    # The digest in the name: files that change are prepared anew, never mixed with what was made before.
    tag = f"{name}-{features}-{semantics}" + ("" if split == "auto" else f"-{split}")
    tag = f"{tag}-{files.digest()}" if files else tag
    config = Xlsa17Config(name=tag, dataset=name, features=features, semantics=semantics, split=split)
    place = prepared / "xlsa17" / tag
    try:
        builder = _prepare(config, files.features.parent if files else folder, manual, place / str(Builder.VERSION))
        return _rows_of(name, builder)
    except (UserError, OSError):
        raise
    except Exception as error:  # array_record, JSON and protobuf each raise their own on damaged bytes
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"the prepared set in {place} cannot be written or read ({type(error).__name__}: {reason}): "
            "delete it and run again"
        ) from error


def _prepare(config: Xlsa17Config, source: Path | None, manual: Path, place: Path) -> Builder:
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.FATAL)  # TFDS warns of every config that is not in its list
    try:
        with _alone(place), contextlib.redirect_stdout(io.StringIO()):  # "Downloading ..." even where nothing is
            builder = Builder(config=config, source=source)  # looks whether the set is there
            settings = tfds.download.DownloadConfig(manual_dir=manual)
            builder.download_and_prepare(file_format="array_record", download_config=settings)
    finally:
        logging.set_verbosity(verbosity)
    return builder


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


def _rows_of(name: str, builder: Builder) -> ClassSet:
    """Puts the rows of all splits back in the order of their image numbers; verifies their fingerprints."""
    meta = builder.info.metadata
    sources = {split: builder.as_data_source(split) for split in PHYSICAL_SPLITS}
    of_split = {split: source.__getitems__(range(len(source))) for split, source in sources.items()}
    splits = {split: np.sort([row["id"] for row in rows]) for split, rows in of_split.items()}
    rows = sorted((row for rows in of_split.values() for row in rows), key=lambda row: row["id"])
    dataset = ClassSet(
        name=name,
        features=np.stack([row["features"] for row in rows]),
        labels=np.array([row["label"] for row in rows]),
        classes=tuple(meta["classes"]),
        semantics=np.array(meta["semantics"], np.float32),
        splits=splits | {k: np.array(meta[k], np.int64) for k in ("train", "val")},
        version=meta["version"],
        sources=meta["sources"],
        parts=meta["parts"],
        images=tuple(row["image"].decode() for row in rows) if rows[0]["image"] else (),
    )
    if dataset.fingerprints != meta["fingerprints"]:
        raise UserError(f"{builder.data_path} does not hold what was written there (damaged?): delete it and run again")
    return dataset
