"""The truth for the tests of search: float64 loops and stable sorts, written without a look at the code under test."""

import numpy as np


def scores(queries, gallery, score):
    """float64 scores [q, g]; greater is nearer. queries [q, d] or [q, m, d]: the best of m."""
    if queries.ndim == 3:
        return np.max([scores(queries[:, i], gallery, score) for i in range(queries.shape[1])], axis=0)
    out, gallery = np.empty((len(queries), len(gallery))), gallery.astype(np.float64)
    for i, q in enumerate(queries.astype(np.float64)):
        if score == "euclidean":
            out[i] = -np.sqrt(np.sum((q - gallery) ** 2, axis=1))
        else:
            lengths = np.sqrt(np.sum(q * q)) * np.sqrt(np.sum(gallery * gallery, axis=1)) if score == "cosine" else 1.0
            out[i] = np.sum(q * gallery, axis=1) / np.where(lengths, lengths, 1.0)
    return out


def nearest(queries, gallery, k, score, exclude_self=False):
    """(ids, scores) of the k best; a stable sort, so equal scores stand in the order of their ids."""
    every = scores(queries, gallery, score)
    if exclude_self:
        np.fill_diagonal(every, -np.inf)
    ids = np.argsort(-every, axis=1, kind="stable")[:, :k]
    return ids, np.take_along_axis(every, ids, axis=1)


def ranks(queries, gallery, positives, score, ties):
    """Rank from 1 of the best positive, by looking at every row."""
    out = []
    for row, own in zip(scores(queries, gallery, score), positives, strict=True):
        own = [p for p in own if p >= 0]
        best = max(row[p] for p in own)
        first = min(p for p in own if row[p] == best)
        ahead = [j for j in range(len(row)) if row[j] > best]
        if ties == "lowest_id":
            ahead += [j for j in range(first) if row[j] == best]
        if ties == "pessimistic":
            ahead += [j for j in range(len(row)) if row[j] == best and j not in own]
        out.append(1 + len(ahead))
    return np.array(out)
