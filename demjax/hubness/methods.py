"""All corrections by name: what they compute, on which score, and what the bank makes of a result.

A correction is inductive if everything in it comes from the query itself, the gallery, and a bank of seen training (or
held-out validation) images. It is transductive as soon as the bank holds the test queries: then each answer depends on
the other test images, and its row in a table stands apart and says so.
"""

from dataclasses import dataclass

PER_ITEM = "one bias per item from the bank: inductive with training images, transductive with the test queries"
BOTH = (
    "the query's side knows that query and the gallery only; the item's side is the bank's: inductive or transductive"
)


@dataclass(frozen=True)
class Method:
    """What a user must know to choose a correction."""

    name: str  # the published one
    scores: tuple[str, ...]  # `cosine`, `euclidean`, `dot`: of searches it corrects; the published one first
    equation: str  # what it computes of s (cosine or inner product) or d (distance); greater is nearer
    bank: str  # what the bank is for, and when a result is transductive


COSINE, DISTANCE = ("cosine",), ("euclidean",)
COSINE_OR_DOT = ("cosine", "dot")  # a bias per query and per item: right for any scores on one scale
CORRECTIONS = {
    "csls": Method("CSLS", COSINE_OR_DOT, "2 s - r(x) - r(y), r the mean of the 10 largest", BOTH),
    "nnn": Method("NNN", COSINE_OR_DOT, "s - alpha r(y), r the mean of the 128 largest of the bank", PER_ITEM),
    "isf": Method("inverted softmax", COSINE, "beta s - logsumexp over the bank of beta s", PER_ITEM),
    "dynamic_isf": Method(
        "QB-Norm",
        COSINE,
        "isf where the nearest item is some bank query's nearest, else s",
        PER_ITEM + "; so is the set of activated items",
    ),
    "gc": Method("global correction", COSINE, "s - rank of x among the bank for item y", PER_ITEM),
    "local_scaling": Method("local scaling", DISTANCE, "-d^2 / (r(x) r(y)), r the 5th distance", BOTH),
    "nicdm": Method("NICDM", DISTANCE, "-d / sqrt(mu(x) mu(y)), mu the mean of the 5 smallest", BOTH),
    "mp_gaussian": Method("mutual proximity, Gaussian", DISTANCE, "log P_x(D > d) + log P_y(D > d)", BOTH),
    "mp_empirical": Method(
        "mutual proximity, empirical",
        DISTANCE,
        "share of the bank farther than d from both x and y",
        "both sides look at the bank: inductive with training images, transductive with the test queries",
    ),
    "dsl": Method("DisSim-Local", DISTANCE, "-d^2 + |x - c(x)|^2 + |y - c(y)|^2, c of the 5 nearest", BOTH),
}
