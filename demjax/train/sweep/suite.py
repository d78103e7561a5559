"""A suite: the rows of a comparison, run or resumed one after the other on the same footing."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from demjax.checks import UserError, choose, in_range, listed
from demjax.protocols import Column
from demjax.train.data_cache import DataCache
from demjax.train.evaluate import AUTO, can_be_tuned
from demjax.train.experiment import build
from demjax.train.fit import train_and_evaluate
from demjax.train.sweep.population import train_population
from demjax.train.sweep.select import finished, select
from demjax.user_code import load_python


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
      name: of the row and of its folder.
      config: file and argument, "cub_baseline.py:eszsl", beside the folder of the suite.
      changes: settings by flat key.
      selected: how the setting was chosen, for the reader; "here" runs the config's grid on validation classes first.
      published: {metric: percent}, numbers of a paper on the same data.
      note: of the row, for the reader.
      on_request: runs only where --only names it, as it needs a file that --set names.
    """

    name: str
    config: str
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    selected: str = "here"
    published: Mapping[str, float] = dataclasses.field(default_factory=dict)
    note: str = ""
    on_request: bool = False


@dataclasses.dataclass(frozen=True)
class Order:
    """An order that is expected of two rows: `better` above `worse` in a metric.

    Attributes:
      better, worse: names of rows.
      metric: that is compared.
      claim: what the literature says, for the reader.
      unit: "%" or "", as of a column.
    """

    better: str
    worse: str
    metric: str
    claim: str
    unit: str = "%"


@dataclasses.dataclass(frozen=True)
class Suite:
    """The rows, and what is said above and below them.

    Attributes:
      title: of the table.
      rows: in the order of the table.
      notes: below it.
      columns: of the table; () for those of the protocols of the first row.
      calibrated: whether every row is also evaluated with the options that its twin finds on validation classes, and
        with an inductive hub correction of its score.
      orders: that are expected of the rows; the table says which hold.
      pictures: {file name: (figure, {row: its reports}) -> whether there is anything to draw}.
    """

    title: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    calibrated: bool = True
    orders: tuple[Order, ...] = ()
    pictures: Mapping[str, Callable[[Any, Mapping[str, Any]], bool]] = dataclasses.field(default_factory=dict)


class Outcome(NamedTuple):
    """By the name of the row: its reports, one for every seed; or why it failed."""

    reports: dict[str, list[dict[str, Any]]]
    failed: dict[str, str]


def config_of(row: Row, folder: Path, changes: Mapping[str, Any]) -> ConfigDict:
    """The config of a row; `changes` are those of the whole suite, and come first.

    Raises:
      UserError: a file, an argument or a key that does not exist.
    """
    name, _, argument = row.config.partition(":")
    config = load_python(folder / name).get_config(argument)
    for key, value in {**changes, **row.changes}.items():
        try:
            config.update_from_flattened_dict({key: value})
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"row {row.name}: {key}={value!r} does not fit ({error})") from None
    return config


def run_suite(
    suite: Suite,
    folder: Path,
    workdir: Path,
    *,
    changes: Mapping[str, Any],
    seeds: int,
    only: Iterable[str] = (),
    say: Callable[[str], None] = print,
    each: Callable[[Outcome], Any] = lambda outcome: None,
) -> Outcome:
    """Runs every row, or resumes it; a row that fails does not take the others along.

    Args:
      each: called with what there is after every row.

    Raises:
      UserError: a row whose config, data or settings do not fit; an unknown name in `only`; no row, no seed.
    """
    in_range("--seeds", seeds, 1)
    wanted = _wanted(suite, only)
    outcome, cache = Outcome({}, {}), DataCache()
    configs = {row.name: config_of(row, folder, changes) for row in wanted}
    for row in wanted:  # mistakes before the first hour
        try:
            build(configs[row.name], cache=cache)
        except UserError as mistake:
            raise UserError(f"row {row.name}: {mistake}") from None
    for number, row in enumerate(wanted, start=1):
        say(f"row {number}/{len(wanted)}: {row.name}")
        try:
            outcome.reports[row.name] = run_row(
                row, configs[row.name], workdir / row.name, seeds, say, suite.calibrated, cache
            )
        except UserError as mistake:
            say(f"row {row.name} failed: {mistake}")
            outcome.failed[row.name] = str(mistake)
        each(outcome)
    return outcome


def _wanted(suite: Suite, only: Iterable[str]) -> list[Row]:
    names = [row.name for row in suite.rows]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"the suite {suite.title!r} names rows twice: {listed(doubled)}; a row has a folder of its own")
    for name in only:
        choose("--only", name, dict.fromkeys(names))
    wanted = [row for row in suite.rows if (row.name in only if only else not row.on_request)]
    if not wanted:
        raise UserError(f"the suite {suite.title!r} has no rows")
    return wanted


def run_row(
    row: Row,
    config: ConfigDict,
    workdir: Path,
    seeds: int,
    say,
    calibrated: bool = True,
    cache: DataCache | None = None,
) -> list[dict[str, Any]]:
    """One row: selection if it is to be selected here, then all seeds, or the closed form."""
    if row.selected == "here":
        selection = _selected(config, workdir / "selection", say, cache)
        config.update_from_flattened_dict(selection["winner"]["setting"])
        config.train.epochs = selection["winner"]["epochs"]
        config.select.objective = selection["objective"]
    config.select.grid = ()
    config.train.keep_checkpoints = 1  # of dozens of rows and their twins; enough to resume
    task = build(config, cache=cache).task
    if calibrated:
        config.evaluate.calibrate, config.evaluate.correction = can_be_tuned(task), AUTO
    if task.solve:
        return [train_and_evaluate(config, workdir / "runs", say=say, cache=cache)]
    config.population.seeds = seeds
    return train_population(config, workdir / "runs", say=say, cache=cache)


def _selected(config: ConfigDict, folder: Path, say, cache: DataCache | None) -> dict[str, Any]:
    """The selection of a grid, made once."""
    selection = finished(config, folder)
    if selection is None:
        return select(config, folder, say=say, cache=cache)
    winner = selection["winner"]
    say(f"selected before: {winner['setting']}, {winner['epochs']} epochs")
    return selection
