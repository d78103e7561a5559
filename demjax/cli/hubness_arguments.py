"""The arguments of `demjax hubness`."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from demjax.hubness.methods import CORRECTIONS

EXAMPLES = """
examples:
  python -m demjax.hubness --queries images.npy --gallery classes.npy --k 1 --score cosine
  python -m demjax.hubness --queries vectors.npy                     a set against itself; nothing finds itself
  python -m demjax.hubness --queries test.npy --gallery classes.npy --correct csls --bank train.npy

The files hold float32 rows, as numpy.save writes them. They are mapped, not loaded: they may be larger than
memory. All devices of this machine, or of all processes, share the
search. The result is a table, one line of JSON, and in the folder
--out hubness.json and, where matplotlib is installed, hubness.png.

what is measured, over the gallery items, from N_k, the number of queries that have an item among their k nearest:
  k_skewness            > 0: hubs. Undefined if all N_k are equal
  k_skewness_truncnorm  of the truncated normal with the mean and deviation of N_k
  robinhood             share of the k q slots to be moved until all items have equally many
  gini, atkinson        inequality of N_k, 0 to 1
  antihub_occurrence    share of items that nobody finds
  hub_occurrence        share of the slots that hubs take (N_k at least twice the mean)
  groupie_ratio         share of the slots that the largest hub takes

corrections (--correct):
"""


def read(argv: Sequence[str], add_more: Callable = lambda parser: None) -> argparse.Namespace:
    """The flags; a gallery or bank that is the file of the queries counts as such; `add_more` adds further flags."""
    listed = "\n".join(f"  {name:<14} {' or '.join(m.scores):<14} {m.equation}" for name, m in CORRECTIONS.items())
    parser = argparse.ArgumentParser(
        prog="python -m demjax.hubness",
        description="Measure hubness, and what a correction does to it, without training anything.",
        epilog=EXAMPLES + listed,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--queries", required=True, metavar="Q.npy", help="float32 [q, d]")
    parser.add_argument("--gallery", metavar="G.npy", help="float32 [g, d]; without it the queries search each other")
    parser.add_argument("--k", type=int, default=10, help="neighbours of each query (default 10)")
    parser.add_argument(
        "--score", default=None, help="euclidean, cosine or dot (default euclidean, or the correction's)"
    )
    parser.add_argument("--precision", default="highest", help="highest or certified (equal to float64, proved)")
    parser.add_argument("--correct", metavar="NAME", help="measure also after a correction, listed below")
    parser.add_argument(
        "--bank",
        metavar="B.npy",
        help="reference queries of the correction (seen training images: inductive); "
        "without it the queries themselves, which is transductive",
    )
    parser.add_argument("--correct-k", type=int, help="neighbours the correction looks at (default: as published)")
    parser.add_argument("--alpha", type=float, default=0.75, help="weight of nnn (default 0.75)")
    parser.add_argument("--beta", type=float, default=20.0, help="inverse temperature of isf (default 20)")
    parser.add_argument(
        "--names", metavar="FILE", help="names of the gallery items, one per line, for table and picture"
    )
    parser.add_argument(
        "--out", default="hubness", metavar="FOLDER", help="for hubness.json and .png (default hubness)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the results of an earlier run in FOLDER")
    add_more(parser)
    args = parser.parse_args(argv)
    args.gallery = _another(args.gallery, args.queries, "--gallery", "a set against itself: nothing finds itself")
    args.bank = _another(args.bank, args.queries, "--bank", "that is transductive")
    return args


def _another(file: str | None, queries: str, flag: str, meaning: str) -> str | None:
    """`file`, or None where it is the file of the queries."""
    if file is None or not (os.path.exists(file) and os.path.exists(queries) and os.path.samefile(file, queries)):
        return file
    print(f"{flag} is the file of the queries, {meaning}", file=sys.stderr)
    return None


def precision_of(args: argparse.Namespace, corrected: bool) -> str:
    """Corrected scores are not proved."""
    return "highest" if corrected else args.precision


def label_of(args: argparse.Namespace) -> str:
    """How the corrected search is called: transductive without a bank of other images."""
    return f"{args.correct} ({'on the bank' if args.bank else 'transductive'})"
