"""Encodes sentences with a trained run: vectors of captions and classes, for DEM or any other program.

    python -m demjax.encode --workdir=runs/sje --out=sje.npz                        the captions of the run itself
    python -m demjax.encode --workdir=runs/sje --captions=mine.csv --out=mine.npz   others, of any classes

The .npz file holds, all readable without pickle,

    caption_vectors [n, d]   in the order of the captions
    caption_class [n]        rows of `classes`
    caption_image [n]        names, "" where a caption belongs to no image
    classes [c]              names; those of the run's data set as it writes them
    class_vectors [c, d]     the mean over the captions of a class: what --config.data.semantics=sje.npz reads
    trained_on               the classes whose images the encoder has seen
    provenance               JSON: config and data of the run, and the file of the captions
"""

import argparse
import itertools
import json
import os
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from demjax.checks import UserError, listed
from demjax.cli.exit import exit_status
from demjax.data.fingerprints import digest
from demjax.data.text import caption_files
from demjax.progress import ProgressLine, duration

if TYPE_CHECKING:
    from demjax.train.restore import RestoredRun


AT_ONCE = 8192  # captions read at least: as characters 200 numbers each


class Described(NamedTuple):
    """The class, the image ("" for none) and the sentence of each caption."""

    classes: list[str]
    images: list[str]
    sentences: list[str]


def main(argv: Sequence[str]) -> None:
    """Reads, encodes, writes; one line at the end."""
    args = _arguments().parse_args(argv)
    out = Path(args.out).expanduser()
    if out.suffix != ".npz":
        raise UserError(f"--out={out}: expected a name that ends in .npz")
    if out.is_dir():
        raise UserError(f"--out={out} is a folder: expected the name of a file")
    if out.exists() and not args.overwrite:
        raise UserError(f"{out} is there already: choose another --out, or add --overwrite")
    if not out.parent.is_dir():
        raise UserError(f"--out={out}: there is no folder {out.parent}")
    lines = list(caption_files.lines(Path(args.captions).expanduser())) if args.captions else None
    import jax  # not for --help

    from demjax.train.restore import restore_run

    begun = time.perf_counter()
    moved = {"dir": args.data_dir, "descriptions": args.descriptions, "word_vectors": args.word_vectors}
    restored = restore_run(args.workdir, data=lines is None, **moved)
    task = restored.task
    if "text" not in task.embed or task.columns("text") != ("sentences",):
        raise UserError(f"{args.workdir} holds a run of task {task.name}, which reads no sentences alone")
    captions = _of_run(restored) if lines is None else _named(lines, restored.spec.classes)
    if unknown := task.unread(captions.sentences):
        print(unknown)
    with jax.default_matmul_precision("highest"):
        classes = _write(out, captions, restored, args)
    took = time.perf_counter() - begun
    print(f"{out}: {len(captions.sentences):,} captions of {classes} classes in {duration(took)}")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m demjax.encode", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", required=True, help="of a run of configs/cub_sje.py or cub_text.py")
    parser.add_argument("--captions", help="folder of .txt, or a .csv, .json or .jsonl file; default: those of the run")
    parser.add_argument("--out", required=True, help="the .npz file to write")
    parser.add_argument("--data_dir", default="", help="where the data of the run lie now, if they have moved")
    parser.add_argument("--descriptions", default="", help="where the captions it was trained on lie now")
    parser.add_argument("--word_vectors", default="", help="where its word vectors lie now")
    parser.add_argument("--overwrite", action="store_true", help="replace the file of --out")
    return parser


def _of_run(restored: "RestoredRun") -> Described:
    data: Any = restored.dataset
    names = [data.images[i] if i >= 0 and data.images else "" for i in data.descriptions.image]
    return Described([data.classes[c] for c in data.descriptions.label], names, list(data.descriptions.sentences))


def _named(lines: Sequence[caption_files.Line], classes: Sequence[str]) -> Described:
    """Classes of the data set under its names, others as they are written; says how many are which."""
    find = caption_files.class_finder(classes)
    known = {caption_files.plain(name) for name in classes}
    names: dict[str, str] = {}
    for where, of_class, _, _ in lines:
        if of_class not in names:
            is_known = of_class in classes or caption_files.plain(of_class) in known
            names[of_class] = classes[find(where, of_class)] if is_known else of_class
    others = sorted(name for name in names.values() if name not in classes)
    if others:
        print(f"{len(others)} of {len(set(names.values()))} classes are none of the run's data set: {listed(others)}")
    return Described([names[c] for _, c, _, _ in lines], [i for _, _, i, _ in lines], [s for _, _, _, s in lines])


def _write(out: Path, captions: Described, restored: "RestoredRun", args: argparse.Namespace) -> int:
    """Streams the vectors of the captions into the file; then those of the classes. Whole or absent."""
    partial = out.with_name(f"{out.name}.{os.getpid()}.part")
    try:
        with zipfile.ZipFile(partial, "w") as file:
            n_classes = _fill(file, captions, restored, args)
        with partial.open("rb+") as written:
            os.fsync(written.fileno())
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return n_classes


def _fill(file: zipfile.ZipFile, captions: Described, restored: "RestoredRun", args: argparse.Namespace) -> int:
    classes = sorted(set(captions.classes))
    row = {name: i for i, name in enumerate(classes)}
    label = np.array([row[name] for name in captions.classes], np.int32)
    spec = restored.spec
    total = np.zeros((len(classes), spec.n_features))
    with file.open("caption_vectors.npy", "w", force_zip64=True) as array:
        head = {"descr": "<f4", "fortran_order": False, "shape": (len(label), total.shape[1])}
        np.lib.format.write_array_header_1_0(array, head)
        for start, block in _encoded(restored, captions.sentences):
            np.add.at(total, label[start : start + len(block)], block)
            array.write(np.ascontiguousarray(block, "<f4").tobytes())
    _put(file, "caption_class", label)
    _put(file, "caption_image", np.array(captions.images))
    _put(file, "classes", np.array(classes))
    vectors = (total / np.bincount(label)[:, None]).astype(np.float32)
    _put(file, "class_vectors", vectors)
    _tell_same(vectors, classes)
    _put(file, "trained_on", np.array([spec.classes[c] for c in spec.seen]))
    _put(file, "provenance", np.array(json.dumps(_provenance(captions, restored, args))))
    return len(classes)


def _tell_same(vectors: np.ndarray, classes: list[str]) -> None:
    """Warns of classes whose vectors are equal: most likely no word of theirs is known to the encoder."""
    _, which, often = np.unique(vectors, axis=0, return_inverse=True, return_counts=True)
    same = [classes[i] for i in np.flatnonzero(often[which.ravel()] > 1)]
    if same:
        print(
            f"WARNING: {len(same)} classes share their vector with another, their words may be unknown: {listed(same)}"
        )


def _encoded(restored: "RestoredRun", sentences: list[str]) -> Iterator[tuple[int, np.ndarray]]:
    from demjax.train.embedder import embed_sentences

    progress, done = ProgressLine("encoding"), 0
    n_parts = max(1, len(sentences) // AT_ONCE)  # none so small that it would be compiled for itself
    bounds = [len(sentences) * i // n_parts for i in range(n_parts + 1)]
    for start, end in itertools.pairwise(bounds):
        for block in embed_sentences(restored.task, restored.variables, sentences[start:end]):
            yield done, block
            done += len(block)
            progress(done, len(sentences))


def _put(file: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    with file.open(f"{name}.npy", "w", force_zip64=True) as entry:
        np.lib.format.write_array(entry, array, allow_pickle=False)


def _provenance(captions: Described, restored: "RestoredRun", args: argparse.Namespace) -> dict[str, Any]:
    source = Path(args.captions).name if args.captions else restored.dataset.sources["descriptions"]
    text = "\n".join("\t".join(line) for line in zip(*captions, strict=True))
    described = {"file": source, "digest": digest(np.frombuffer(text.encode(), np.uint8))}
    of_run = {"encoder": restored.config.task.encoder, "task": restored.task.name, "captions": described}
    return restored.provenance() | of_run


def run() -> None:
    """The command line: exit status 0, or 1 and one line for a mistake."""
    sys.exit(exit_status(lambda: main(sys.argv[1:]), resumes=False))
