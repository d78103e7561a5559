"""Sets by class lists: joined by name, larger than memory, twenty thousand classes."""

import dataclasses

import numpy as np
import pytest

from demjax.checks import UserError
from demjax.data import load
from demjax.data.batches import class_sums
from demjax.data.text.captions import Caption, arrange
from demjax.protocols import default_options
from demjax.tasks import Variables
from demjax.tasks.zsl.linear import ridge
from demjax.train import embedder
from demjax.train.evaluate import Options, evaluate


def settings(**changes):
    return default_options() | changes


NAMES = [f"n{i:05d}" for i in range(12)]


def write(folder, *, n_classes=12, per_class=10, d=6, a=4, lists=None, seed=0):
    """Prototypes are linear in the class table; image i is of class i % n_classes."""
    rng = np.random.default_rng(seed)
    names = [f"n{i:05d}" for i in range(n_classes)]
    table = rng.standard_normal((n_classes, a)).astype(np.float32)
    labels = np.arange(n_classes * per_class) % n_classes
    prototypes = table @ rng.standard_normal((a, d))
    features = prototypes[labels] + 0.5 * rng.standard_normal((len(labels), d))
    np.save(folder / "features.npy", features.astype(np.float32))
    np.save(folder / "labels.npy", labels)
    np.save(folder / "wv.npy", table)
    (folder / "classes.txt").write_text("\n".join(names) + "\n")
    (folder / "lists").mkdir()
    for name, ids in (lists or {"train": range(8), "2hops": (11, 9), "all": (8, 9, 10, 11)}).items():
        (folder / "lists" / f"{name}.txt").write_text("".join(names[i] + "\n" for i in ids))
    return features.astype(np.float32), labels, table


def test_the_lists_choose_classes_and_images(tmp_path):
    features, labels, table = write(tmp_path)
    data = load("MINE", dir=str(tmp_path), semantics="wv", split="train/2hops")
    assert data.classes == (*NAMES[:8], "n00009", "n00011") and data.version == "train/2hops"
    assert [data.classes[c] for c in data.unseen] == ["n00009", "n00011"]
    for image in data.splits["test_unseen"][[0, 5, -1]]:
        original = NAMES.index(data.classes[data.labels[image]])
        rows = np.flatnonzero((features == data.features[image]).all(axis=1))
        assert len(rows) == 1 and labels[rows[0]] == original
    np.testing.assert_array_equal(data.semantics, table[[*range(8), 9, 11]])
    assert len(data.splits["trainval"]) == 72 and len(data.splits["test_seen"]) == 8
    view = load("MINE", dir=str(tmp_path), semantics="wv", split="train/all", fold="val")
    assert set(view.classes) <= set(NAMES[:8])


@pytest.mark.parametrize("split", ["train/all", "train/2hops"])
def test_features_stay_a_map(tmp_path, split):
    write(tmp_path)
    data = load("MINE", dir=str(tmp_path), semantics="wv", split=split)
    assert isinstance(data.features, np.memmap)
    assert len(np.concatenate([data.splits[role] for role in ("trainval", "test_seen", "test_unseen")])) == (
        120 if split == "train/all" else 100
    )


def test_several_sources(tmp_path):
    _, _, table = write(tmp_path)
    np.save(tmp_path / "att.npy", table[:, :3] * 2)
    data = load("MINE", dir=str(tmp_path), semantics="wv+att", split="train/2hops")
    assert data.parts == {"wv": 4, "att": 3} and data.sources["semantics"] == "wv.npy+att.npy"
    np.testing.assert_array_equal(data.class_vectors_by_source()["att"], 2 * table[[*range(8), 9, 11], :3])


@pytest.mark.parametrize("name", ["train", "2hops"])
def test_an_empty_list(tmp_path, name):
    write(tmp_path)
    (tmp_path / "lists" / f"{name}.txt").write_text("\n")
    with pytest.raises(UserError, match=f"{name}.txt is empty: expected one class name a line"):
        load("MINE", dir=str(tmp_path), semantics="wv", split="train/2hops")


@pytest.mark.parametrize("correction", ["", "nicdm"])
def test_evaluation_block_by_block_equals_evaluation_at_once(tmp_path, monkeypatch, correction):
    write(tmp_path)
    data = load("MINE", dir=str(tmp_path), semantics="wv", split="train/2hops")
    task = ridge(data.spec, l2=1.0)
    options = Options(query_batch=4096, correction=correction, settings=settings(hits=(1, 2)))
    whole = evaluate(task, task.solve(data), data, options)
    monkeypatch.setattr(embedder, "KEPT_BYTES", 0)
    blocks = evaluate(task, task.solve(data), data, options._replace(query_batch=7))
    assert blocks.metrics == pytest.approx(whole.metrics, rel=1e-6, nan_ok=True)
    assert blocks.details["zsl"]["n1"] == whole.details["zsl"]["n1"]


@pytest.mark.parametrize("ties", ["lowest_id", "pessimistic"])
def test_hits_equal_a_full_sort(tmp_path, ties):
    write(tmp_path)
    data = load("MINE", dir=str(tmp_path), semantics="wv", split="train/all")
    task = ridge(data.spec, l2=1.0)
    params = task.solve(data)
    params = Variables({"weights": params.params["weights"].at[:, 3:].set(0)})  # and some ties
    found = evaluate(task, params, data, Options(query_batch=7, settings=settings(hits=(1, 2, 3), ties=ties))).metrics
    gallery = data.semantics.astype(np.float64) @ np.asarray(params.params["weights"], np.float64)
    for name, candidates in (("zsl", data.unseen), ("gzsl", np.arange(12))):
        hits = {1: [], 2: [], 3: []}
        for image in data.splits["test_unseen"]:
            distance = np.linalg.norm(data.features[image] - gallery[candidates], axis=1)
            own = distance[list(candidates).index(data.labels[image])]
            for k in hits:
                hits[k].append((distance < own - 1e-6).sum() + 1 <= k)
        for k in hits:
            assert found[f"{name}/hit@{k}"] == pytest.approx(np.mean(hits[k]))
            per_class = [np.mean(np.array(hits[k])[data.labels[data.splits["test_unseen"]] == c]) for c in data.unseen]
            assert found[f"{name}/hit@{k}_per_class"] == pytest.approx(np.mean(per_class))
    assert found["zsl/hit@1_per_class"] == pytest.approx(found["zsl/top1"])


def test_twenty_thousand_classes(tmp_path):
    """The size of ImageNet-21K's full list, on a planted set."""
    n, seen = 20_842, 1000
    write(tmp_path, n_classes=n, per_class=2, d=12, a=6, lists={"1k": range(seen), "all": range(seen, n)})
    data = load("MINE", dir=str(tmp_path), semantics="wv", split="1k/all")
    assert len(data.unseen) == n - seen
    task = ridge(data.spec, l2=1e-3)
    params = task.solve(data)
    ks = (1, 5, 10, 20)
    found = evaluate(task, params, data, Options(settings=settings(hits=ks))).metrics
    gallery = data.semantics @ np.asarray(params.params["weights"])
    some = data.splits["test_unseen"][::100]
    distance = np.linalg.norm(data.features[some][:, None] - gallery[None], axis=2)
    ahead = distance < distance[np.arange(len(some)), data.labels[some]][:, None]
    for name, candidates in (("zsl", data.unseen), ("gzsl", np.arange(n))):
        place = 1 + ahead[:, candidates].sum(axis=1)
        for k in ks:  # of 397 images, of all 39,684: within four standard deviations
            assert found[f"{name}/hit@{k}"] == pytest.approx(np.mean(place <= k), abs=0.1)
    assert 0.02 < found["zsl/hit@1"] < found["zsl/hit@5"] < found["zsl/hit@20"] < 1


@pytest.mark.parametrize(
    ("spoil", "split", "told"),
    [
        (None, "auto", "expected TRAIN/TEST, two of the lists in"),
        (None, "train/3hops", "2hops, all, train"),
        (lambda f: (f / "lists" / "all.txt").write_text("n00003\nn00009\n"), "train/all", "share 1 classes: n00003"),
        (lambda f: (f / "lists" / "all.txt").write_text("n00009\nemu\n"), "train/all", "in no class table: emu"),
        (lambda f: (f / "lists" / "all.txt").write_text("n00009\nn00009\n"), "train/all", "stand twice: n00009"),
        (lambda f: (f / "labels.npy").unlink(), "train/all", "labels.npy: no such file"),
        (lambda f: np.save(f / "labels.npy", np.zeros(120)), "train/all", "labels.npy: float64 (120,): expected 120"),
        (lambda f: np.save(f / "labels.npy", np.full(120, 12)), "train/all", "expected 0 to 11"),
        (lambda f: np.save(f / "labels.npy", np.array([None] * 120)), "train/all", "not an array of numbers"),
        (lambda f: np.save(f / "wv.npy", np.zeros((3, 2), np.float32)), "train/all", "for each of the 12 classes"),
        (lambda f: (f / "classes.txt").unlink(), "train/all", "classes.txt: no such file"),
    ],
)
def test_bad_folders(tmp_path, refused, spoil, split, told):
    write(tmp_path)
    if spoil:
        spoil(tmp_path)
    with refused(told):
        load("MINE", dir=str(tmp_path), semantics="wv", split=split)


def test_a_validation_view_stays_a_map(tmp_path):
    """It names no test image, and is the view of the same set in memory."""
    write(tmp_path, per_class=12)
    data = load("MINE", dir=str(tmp_path), semantics="wv", split="train/2hops")
    about = [Caption(int(data.labels[i]), int(i), f"image {i}") for i in range(len(data.labels))]
    data = dataclasses.replace(data, descriptions=arrange(about, data.classes))
    view, plain = data.validation_view(), dataclasses.replace(data, features=np.array(data.features)).validation_view()
    assert view.is_mapped and not plain.is_mapped and view.classes == plain.classes and view.version == plain.version
    for role in ("trainval", "test_seen", "test_unseen"):
        ids, theirs = view.splits[role], plain.splits[role]
        np.testing.assert_array_equal(view.features[ids], plain.features[theirs])
        np.testing.assert_array_equal(view.labels[ids], plain.labels[theirs])
        assert not np.isin(ids, [*data.splits["test_seen"], *data.splits["test_unseen"]]).any()
    assert view.descriptions.sentences == plain.descriptions.sentences
    named = [view.descriptions.sentences[i] for i in range(len(view.descriptions.sentences))]
    assert named == [f"image {i}" for i in view.descriptions.image]
    options, tasks = Options(query_batch=7, correction="nicdm"), (ridge(view.spec, l2=1.0), ridge(plain.spec, l2=1.0))
    found = [evaluate(t, t.solve(d), d, options).metrics for t, d in zip(tasks, (view, plain), strict=True)]
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_a_bad_row_is_found_before_the_first_step(tmp_path):
    features, _, _ = write(tmp_path)
    features[17, 2] = np.nan
    np.save(tmp_path / "features.npy", features)
    data = load("MINE", dir=str(tmp_path), semantics="wv", split="train/2hops")
    with pytest.raises(UserError, match="features.npy: row 17"):
        _ = data.fingerprints


def test_class_sums_of_a_map_are_those_of_the_same_set_in_memory(tmp_path):
    write(tmp_path)
    data = load("MINE", dir=str(tmp_path), semantics="wv", split="train/2hops")
    in_memory = dataclasses.replace(data, features=np.array(data.features))
    mapped, plain = class_sums(data).columns, class_sums(in_memory).columns
    for name, rows in plain.items():
        assert mapped[name].shape == rows.shape and mapped[name].dtype == rows.dtype
        np.testing.assert_array_equal(np.asarray(mapped[name]), rows)
        np.testing.assert_array_equal(mapped[name][np.array([8, 2])], rows[[8, 2]])


class Counted(np.ndarray):
    """Counts the elements that pass through NumPy's functions; more than `most` do not go through Python's."""

    elements, most = 0, 2000

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        plain = [np.asarray(x) if isinstance(x, Counted) else x for x in inputs]
        Counted.elements += max(np.size(x) for x in plain)
        return counted(getattr(ufunc, method)(*plain, **kwargs))

    def __array_function__(self, function, types, args, kwargs):
        Counted.elements += max((x.size for x in args if isinstance(x, np.ndarray)), default=0)
        return counted(super().__array_function__(function, types, args, kwargs))

    def __iter__(self):
        assert self.size <= self.most, "images are looked at one by one"
        return super().__iter__()

    def tolist(self):
        return list(iter(self))


def counted(found):
    return found.view(Counted) if isinstance(found, np.ndarray) else found


def test_no_class_needs_a_pass_over_all_images(tmp_path, monkeypatch):
    """Once each class had one, and image numbers went into hash tables: a million images took minutes to load."""
    n, seen, each = Counted.most, 1900, 20
    write(tmp_path, n_classes=n, per_class=each, d=2, a=2, lists={"1k": range(seen), "all": range(seen, n)})
    read = np.load
    monkeypatch.setattr(
        np, "load", lambda file, **how: counted(read(file, **how)) if file.name == "labels.npy" else read(file, **how)
    )
    data = load("MINE", dir=str(tmp_path), semantics="wv", split="1k/all")
    view = data.validation_view()
    assert len(data.splits["trainval"]) == seen * (each - 2) and len(view.classes) == seen
    assert isinstance(data.labels, Counted)
    assert n * each < Counted.elements < 100 * n * each, "passes over all images"
