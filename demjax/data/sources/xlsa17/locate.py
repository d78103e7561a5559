"""Where the files of a set of the xlsa17 benchmarks lie, and which of them hold what was asked for."""

import dataclasses
import hashlib
from collections.abc import Iterable
from pathlib import Path

from demjax.checks import UserError
from demjax.data.sources.matfile import mat_keys

CLASS_NAMES, VAL_CLASSES = "allclasses.txt", "valclasses1.txt"  # read where the .mat file lacks them


@dataclasses.dataclass(frozen=True)
class Files:
    """The files of a data set.

    Attributes:
      features: holds features and labels.
      tables: {name as asked for: file and key} of the class tables, joined by name; the first has the image lists.
    """

    features: Path
    tables: dict[str, tuple[Path, str]]

    @property
    def splits(self) -> Path:
        """The file with the image lists."""
        return next(iter(self.tables.values()))[0]

    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 over the bytes of all files, and of the class lists beside them."""
        sha = hashlib.sha256("+".join(key for _, key in self.tables.values()).encode())
        lists = (self.splits.parent / name for name in (CLASS_NAMES, VAL_CLASSES))
        tables = (path for path, _ in self.tables.values())
        for path in (self.features, *tables, *(p for p in lists if p.is_file())):
            with path.open("rb") as file:
                while chunk := file.read(1 << 22):
                    sha.update(chunk)
        return sha.hexdigest()[:16]


def folders(roots: Iterable[Path], name: str) -> list[Path]:
    """Where the files of set `name` may lie below each root, in the order they are tried."""
    below = ("", name, f"xlsa17/data/{name}", f"data/{name}")
    return [Path(root).expanduser() / sub for root in roots for sub in below]


def find(roots: Iterable[Path], name: str, features: str, semantics: str) -> Files | None:
    """The first folder with `<features>.mat`; None if there is none.

    `semantics` is a key of att_splits.mat (`att`, `original_att`, `wv`), else a file: `sent` is the key
    `att` of sent_splits.mat. `att+sent` are both; the first has the image lists.

    Raises:
      UserError: the features are there but the class table is not.
    """
    for folder in folders(roots, name):
        if (folder / f"{features}.mat").is_file():
            names = semantics.split("+")
            if len(set(names)) < len(names):
                raise UserError(f"semantics {semantics!r} name a source twice: expected each once, as in att+sent")
            tables = {name: _class_table(folder, features, name) for name in names}
            return Files(folder / f"{features}.mat", tables)
    return None


def _class_table(folder: Path, features: str, semantics: str) -> tuple[Path, str]:
    """File and key of one class table."""
    default, named = folder / "att_splits.mat", folder / f"{semantics}_splits.mat"
    if default.is_file() and _has_key(default, semantics):
        return default, semantics
    if named.is_file():
        return named, "att"
    known = [p.name.removesuffix("_splits.mat") for p in sorted(folder.glob("*_splits.mat"))]
    if not known:
        raise UserError(f"there is no *_splits.mat in {folder}: expected {named.name} beside {features}.mat")
    raise UserError(
        f"semantics {semantics!r} are neither a key of {default} nor the file {named.name} beside it; "
        f"split files there: {', '.join(known)}"
    )


def _has_key(path: Path, key: str) -> bool:
    try:
        return key in mat_keys(path)
    except Exception:  # damaged: read_mat will say so, with the reason
        return True
