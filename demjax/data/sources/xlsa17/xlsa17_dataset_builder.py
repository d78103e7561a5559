"""`xlsa17`: precomputed image features, class attributes and proposed splits, as array_record, without TensorFlow."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from demjax.checks import UserError
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

    def __init__(self, *, source: str | Path | None = None, **kwargs):
        """`source` is a folder with the files; without it the TFDS manual folder, then the download."""
        self._source = source
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        vector = tfds.features.Tensor(shape=(None,), dtype=np.float32, encoding=tfds.features.Encoding.BYTES)
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "features": vector,
                    "label": tfds.features.Scalar(np.int64),
                    "id": tfds.features.Scalar(np.int64),
                    "image": tfds.features.Text(),
                }
            ),
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
        return self._checked_download(Path(archive), wanted)

    def _checked_download(self, folder: Path, wanted: tuple[str, str, str]) -> xlsa17.Files:
        """Bytes from the net are used only if their split lists are the published ones."""
        files = xlsa17.find([folder], *wanted)
        if files is None:
            raise UserError(
                f"{URL} was fetched to {folder} but holds no {wanted[1]}.mat of {wanted[0]}: is it the archive?"
            )
        if not xlsa17.is_proposed_split(xlsa17.read(wanted[0], files)):
            raise UserError(
                f"{files.splits} of the fetched {ARCHIVE} is not the published split of {wanted[0]}: refused"
            )
        return files
