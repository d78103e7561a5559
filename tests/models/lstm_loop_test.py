"""Gradients written by hand: against the automatic ones of plain loops, on one device and on several."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from demjax.mesh import data_mesh
from demjax.models.convolution import alike, bag
from demjax.models.lstm_loop import CELLS, run_lstm

LENGTHS = (2, 3, 0, 1, 2, 1, 3, 2)  # of 5 places: no sentence reaches the end, one has no symbol
N_PLACES, N_UNITS, N_SYMBOLS = 5, 3, 5


def sentences():
    rng = np.random.default_rng(0)
    real = np.arange(N_PLACES)[:, None] < np.asarray(LENGTHS)[None]
    ids = np.where(real, rng.integers(1, N_SYMBOLS + 1, real.shape), 0)
    return jnp.asarray(ids), jnp.asarray(real)


def by_loops(cell, reverse, rows, kernel, real):
    """h and its sum over the symbols, one sentence and one symbol at a time."""
    lasts, totals = [], []
    for sentence, length in enumerate(LENGTHS):
        h = c = total = jnp.zeros(N_UNITS)
        for t in range(length)[:: -1 if reverse else 1]:
            i, f, o, g = jnp.split(rows[t, sentence] + h @ kernel, 4)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * CELLS[cell](g)
            h = jax.nn.sigmoid(o) * CELLS[cell](c)
            total = total + h
        lasts.append(h)
        totals.append(total)
    return jnp.stack(lasts), jnp.stack(totals)


def loss(outcome):
    """Both ways out matter, and every unit differently."""
    last, total = outcome
    weight = jnp.arange(1.0, last.size + 1).reshape(last.shape)
    return (weight * last**2).sum() + (jnp.sin(weight) * total).sum()


@pytest.mark.parametrize(("cell", "reverse"), (("tanh", False), ("relu", True)))
@pytest.mark.parametrize("look_up", (False, True))
def test_the_gradient_of_the_loop(cell, reverse, look_up):
    ids, real = sentences()
    rng = np.random.default_rng(1)
    shape = (N_SYMBOLS + 1,) if look_up else real.shape
    rows, kernel = (jnp.asarray(rng.standard_normal(s + (4 * N_UNITS,)), jnp.float32) for s in (shape, (N_UNITS,)))

    def ours(rows, kernel):
        return run_lstm(cell, reverse, rows, kernel, ids if look_up else None, real)

    def plain(rows, kernel):
        return by_loops(cell, reverse, rows[ids] if look_up else rows, kernel, real)

    for got, want in zip(ours(rows, kernel), plain(rows, kernel), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    got, want = (jax.jit(jax.grad(lambda *a, f=f: loss(f(*a)), argnums=(0, 1)))(rows, kernel) for f in (ours, plain))
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-5)


def test_members_of_a_population_with_sentences_of_their_own():
    """vmapped: the loop takes as many steps as the longest of all members, and changes nothing for the others."""
    ids, real = sentences()
    short = real & (jnp.arange(N_PLACES)[:, None] < 1)
    rng = np.random.default_rng(4)
    tables, kernels = (
        jnp.asarray(rng.standard_normal((2, n, 4 * N_UNITS)), jnp.float32) for n in (N_SYMBOLS + 1, N_UNITS)
    )

    def gradient(table, kernel, real):
        return jax.grad(lambda *a: loss(run_lstm("tanh", False, *a, ids, real)), argnums=(0, 1))(table, kernel)

    both = jax.jit(jax.vmap(gradient))(tables, kernels, jnp.stack([real, short]))
    for i, own in enumerate((real, short)):
        want = gradient(tables[i], kernels[i], own)
        for g, w in zip(both, want, strict=True):
            np.testing.assert_allclose(g[i], w, rtol=1e-4, atol=1e-5)


def test_the_gradient_of_a_bag():
    ids, _ = sentences()
    table = jnp.asarray(np.random.default_rng(2).standard_normal((N_SYMBOLS + 1, 4)), jnp.float32)
    np.testing.assert_allclose(bag(table, ids), table[ids].sum(axis=1), rtol=1e-5, atol=1e-6)
    got, want = (
        jax.grad(lambda t, f=f: (f(t) ** 2).sum())(table) for f in (lambda t: bag(t, ids), lambda t: t[ids].sum(axis=1))
    )
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_devices_with_sentences_of_their_own_add_up_to_the_same_gradient():
    """Each device takes as many steps as its own longest sentence."""
    ids, real = sentences()
    rng = np.random.default_rng(3)
    table, kernel = (
        jnp.asarray(rng.standard_normal(s), jnp.float32) for s in ((N_SYMBOLS + 1, 4 * N_UNITS), (N_UNITS, 4 * N_UNITS))
    )

    def total(table, kernel, ids, real):
        last, summed = run_lstm("tanh", False, *alike(real, table, kernel), ids, real)
        words = bag(*alike(ids, table), ids.T)
        return (last**2).sum() + jnp.sin(summed).sum() + (words**2).sum()

    mesh, apart = data_mesh(jax.devices()[:8]), PartitionSpec(None, "data")
    spread = jax.shard_map(
        lambda *a: jax.lax.psum(total(*a), "data"),
        mesh=mesh, in_specs=(PartitionSpec(), PartitionSpec(), apart, apart), out_specs=PartitionSpec(),
    )  # fmt: skip
    put = [jax.device_put(a, jax.NamedSharding(mesh, s)) for a, s in ((ids, apart), (real, apart))]
    for_all = [jax.device_put(a, jax.NamedSharding(mesh, PartitionSpec())) for a in (table, kernel)]
    got = jax.jit(jax.grad(spread, argnums=(0, 1)))(*for_all, *put)
    want = jax.grad(total, argnums=(0, 1))(table, kernel, ids, real)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-5)
