"""A suite: the rows of a comparison, run or resumed one after the other on the same footing."""

import dataclasses
import importlib.util
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from demjax.checks import UserError, choose, in_range, listed
from demjax.train.evaluate import correction_for
from demjax.train.loop import train_and_evaluate
from demjax.train.population import train_population
from demjax.train.run import build, keeping_datasets
from demjax.train.select import answered, select


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
      name: of the row and of its folder.
      config: file and argument, "cub_baseline.py:eszsl", beside the folder of the suite.
      changes: settings by flat key.
      selected: how the setting was found, for the reader; "here" runs the config's grid on validation classes first.
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
class Suite:
    """The rows, and what is said above them.

    Attributes:
      columns: (metric, heading), percent; () for those of zero-shot learning (suite_table.py).
      calibrated: whether every row is also evaluated with calibrated stacking, which trains a twin on validation
        classes, and with an inductive hub correction of its score.
    """

    title: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    columns: tuple[tuple[str, str], ...] = ()
    calibrated: bool = True


class Outcome(NamedTuple):
    """By the name of the row: its reports, one for every seed; or why it failed."""

    reports: dict[str, list[dict[str, Any]]]
    failed: dict[str, str]


def load_python(file: Path) -> Any:
    """A Python file as a module.

    Raises:
      UserError: there is no such file.
    """
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    if file.suffix != ".py":
        raise UserError(f"{file}: expected a Python file")
    spec = importlib.util.spec_from_file_location(f"demjax_{file.stem}", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
    outcome = Outcome({}, {})
    with keeping_datasets():
        configs = {row.name: config_of(row, folder, changes) for row in wanted}
        for row in wanted:  # mistakes before the first hour
            try:
                build(configs[row.name])
            except UserError as mistake:
                raise UserError(f"row {row.name}: {mistake}") from None
        for number, row in enumerate(wanted, start=1):
            say(f"row {number}/{len(wanted)}: {row.name}")
            try:
                outcome.reports[row.name] = run_row(
                    row, configs[row.name], workdir / row.name, seeds, say, suite.calibrated
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
    row: Row, config: ConfigDict, workdir: Path, seeds: int, say, calibrated: bool = True
) -> list[dict[str, Any]]:
    """One row: selection if it is to be selected here, then all seeds, or the closed form."""
    if row.selected == "here":
        winner = _selected(config, workdir / "selection", say)
        config.update_from_flattened_dict(winner["setting"])
        config.train.epochs = winner["epochs"]
    config.select.grid = ()
    config.train.keep_checkpoints = 1  # of dozens of rows and their twins; enough to resume
    task = build(config).task
    if calibrated:
        config.evaluate.calibrate = "gzsl" in task.protocols
        config.evaluate.correction = correction_for(task.score)
    if task.solve:
        return [train_and_evaluate(config, workdir / "runs", say=say)]
    config.population.seeds = seeds
    return train_population(config, workdir / "runs", say=say)


def _selected(config: ConfigDict, folder: Path, say) -> dict[str, Any]:
    """The winner of the grid, found once."""
    winner = answered(config, folder)
    if winner is None:
        return select(config, folder, say=say)["winner"]
    say(f"selected before: {winner['setting']}, {winner['epochs']} epochs")
    return winner
