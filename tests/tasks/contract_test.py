"""What the engine asks of every task: built from shapes, begun under jit, embedded without the data."""

import dataclasses
import inspect

import jax
import numpy as np
import pytest

from demjax.checks import UserError
from demjax.data import load
from demjax.search import Score
from demjax.tasks import TASKS, Task, Variables, settings_of
from tests.tasks.planted import batch_of, rows_of, start

DATA = load(
    "planted",
    planted=dict(n_classes=8, n_unseen=2, n_attributes=6, n_features=5, images_per_class=6),
    descriptions="generated",
)
SMALL = {"ds_sje": dict(width=0.02), "dem_text": dict(embedding=3, units=3, hidden=4), "class_norm": dict(hidden=8)}


def spec_of(data):
    """What a run keeps of a data set: as read from its folder."""
    spec = data.spec
    return type(spec).from_json(spec.to_json()) if hasattr(spec, "to_json") else spec


def build(name):
    return TASKS[name](spec_of(DATA), **SMALL.get(name, {}))


def variables_of(task):
    return task.solve(DATA) if task.solve else start(task, DATA)


@pytest.mark.parametrize("name", TASKS)
def test_building_a_task_reads_and_solves_nothing(name, monkeypatch):
    import demjax.data.lazy_rows
    from demjax.tasks.zsl import inputs, linear, sentences, sse

    def refuse(*args, **kwargs):
        raise AssertionError("a factory reads shapes and checks settings")

    spec = spec_of(DATA)
    for solver in ("solve", "pinv", "inv", "lstsq", "svd", "eigh", "eigvalsh", "eig", "qr"):
        monkeypatch.setattr(np.linalg, solver, refuse)
    for module in (demjax.data.lazy_rows, inputs, linear, sse):
        monkeypatch.setattr(module, "read_rows", refuse)
    monkeypatch.setattr(sentences, "read_word_vectors", refuse)
    task = TASKS[name](spec, **SMALL.get(name, {}))
    assert isinstance(task, Task) and isinstance(task.score, Score) and task.name == name
    if name == "ds_sje":
        TASKS[name](spec, encoder="word2vec", word_vectors="no such file")


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_solved_or_begins_under_jit(name):
    task = build(name)
    assert task.protocols and task.summary
    if task.solve:
        assert task.init is None and task.loss is None
        variables = task.solve(DATA)
        kept = {key: np.shape(value) for key, value in task.statistics(DATA).items()}
        assert isinstance(variables, Variables) and {k: np.shape(v) for k, v in variables.state.items()} == kept
        return
    assert task.init is not None and task.loss is not None
    assert jax.tree.leaves(jax.eval_shape(task.init, jax.random.key(0)).params)


@pytest.mark.parametrize("name", [name for name in TASKS if build(name).loss])
def test_a_loss_reads_its_fields_and_constants_and_returns_the_state(name):
    task = build(name)
    assert set(task.sweepable) <= set(task.constants(DATA))
    assert all(np.shape(task.constants(DATA)[number]) == () for number in task.sweepable)
    for batching in task.batchings:
        variables, batch = start(task, DATA), batch_of(task, DATA, None, batching)
        assert set(task.fields) <= set(rows_of(task, DATA, batching))
        run = jax.vmap(lambda b, v=variables: task.loss(v, b, jax.random.key(0), "data"), axis_name="data")
        total, count, sums, state = jax.jit(run)(jax.tree.map(lambda x: x[None], batch))
        assert np.isfinite(total).all() and (count > 0).all() and isinstance(sums, dict)
        assert jax.tree.map(np.shape, state) == jax.tree.map(lambda x: (1, *x.shape), dict(variables.state))


@pytest.mark.parametrize("name", TASKS)
def test_a_task_built_again_embeds_without_the_data(name):
    variables, again = variables_of(build(name)), build(name)
    for side, function in again.embed.items():
        ids = DATA.ids(side, "test_unseen" if side == "image" else "unseen")[:3]
        items = DATA.items(side, ids, again.columns(side))
        items = {k: again.tokens[k](v) if k in again.tokens else v for k, v in items.items()}
        run = function if side == "class" else jax.jit(function)
        embedded = np.asarray(run(variables, items))
        shape = (len(ids), again.score.vectors) if side == "image" and again.score.vectors > 1 else (len(ids),)
        assert embedded.shape[:-1] == shape and np.isfinite(embedded).all()
    assert "class" in again.embed or "text" in again.embed


def test_settings_are_keyword_arguments_and_names_are_proposed():
    assert settings_of("ridge")["l2"] == 1.0
    with pytest.raises(UserError, match="task.name is 'dsje'"):
        settings_of("dsje")


@pytest.mark.parametrize("name", TASKS)
def test_whole_numbers_are_whole(name):
    unchecked = inspect.unwrap(TASKS[name])  # as users call it, without the types that pytest checks
    for setting, default in settings_of(name).items():
        if isinstance(default, int) and not isinstance(default, bool):
            for bad in (3.5, True, "3", -1):
                with pytest.raises(UserError, match=f"task.{setting} is .* expected a whole number"):
                    unchecked(DATA.spec, **{setting: bad})


def test_tasks_that_read_sentences_need_captions():
    bare = dataclasses.replace(DATA, descriptions=None)
    for name in ("dem_text", "ds_sje"):
        with pytest.raises(UserError, match=f"task {name} reads sentences: set data.descriptions"):
            TASKS[name](bare.spec)
