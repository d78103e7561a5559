"""Data sets by their settings: read from files, or once for many runs on files that stay as they are meanwhile."""

import json

from ml_collections import ConfigDict

from demjax import user_code
from demjax.checks import UserError, choose
from demjax.data import Dataset, load
from demjax.data.load import FOLDS
from demjax.train.config import flatten

MOST = 3  # the test view and the validation view of one set, and one more


def load_data(data: ConfigDict) -> Dataset:
    """The data set of `config.data`; of FILE.py:NAME what the function returns for the folder `data.dir`.

    Raises:
      UserError: what is wrong with the settings or the files.
    """
    if not user_code.is_reference(data.name):
        return load(**data.to_dict())
    make = user_code.load_object(data.name)
    fold, file = choose("data.fold", data.fold, FOLDS), user_code.file_of(data.name)
    with user_code.errors_of(file):
        dataset = make(data.dir)
        if not isinstance(dataset, Dataset):
            lacks = sorted(n for n in ("spec", "ids", "items", "splits", "fingerprints") if not hasattr(dataset, n))
            got = f"{type(dataset).__name__}, which lacks {', '.join(lacks)}"
            raise UserError(f"{file}: {data.name.rpartition(':')[2]} returns {got}: expected a demjax.data.Dataset")
        return dataset.validation_view(fold) if fold else dataset


class DataCache:
    """Data sets in memory for the time of a selection or a suite; a validation view is made from the set it views."""

    def __init__(self) -> None:
        self._sets: dict[str, Dataset] = {}

    def load(self, settings: ConfigDict) -> Dataset:
        """As `load_data`, once."""
        key, whole = _key(settings, settings.fold), _key(settings, "test")
        if key not in self._sets:
            if len(self._sets) == MOST:
                self._sets.pop(next(iter(self._sets)))
            fold = FOLDS.get(settings.fold, 0)
            if fold and whole in self._sets:
                self._sets[key] = self._sets[whole].validation_view(fold)
            else:
                self._sets[key] = load_data(settings)
        return self._sets[key]


def _key(settings: ConfigDict, fold: str) -> str:
    return json.dumps(flatten(settings) | {"fold": fold})
