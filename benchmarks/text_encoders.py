"""Captions per second of every text encoder, training and encoding, against the same modules in PyTorch, in one run.

    python benchmarks/text_encoders.py                 CPU, about ten minutes
    python benchmarks/text_encoders.py --device gpu

Training is DS-SJE as published: 40 classes a step, an image feature of 1,024 numbers and a caption of each, the
symmetric hinge, RMSprop. demjax runs the compiled epoch of the engine, draws included. PyTorch runs eagerly on batches
that are drawn beforehand; its first layer looks its weights up, as ours does, or multiplies one-hot vectors, as the
public port does; the LSTM is torch.nn.LSTM. Encoding is the forward pass of 1,024 captions, from numbers to vectors.
"""

import importlib
from typing import Any

import measure
import numpy as np

N_FEATURES, BATCH, N_ENCODED, RATE = 1024, 40, 1024, 7e-4
NAMES = (
    "char_cnn_rnn", "char_cnn_rnn_long", "char_cnn_gru", "char_cnn", "char_cnn_large", "char_lstm",
    "word_cnn_rnn", "word_cnn", "word_lstm", "bow",
)  # fmt: skip


class Demjax:
    def __init__(self, name: str, device: str):
        import jax
        import optax
        from flax import nnx

        from demjax.data import load
        from demjax.data.batches import classes
        from demjax.mesh import data_mesh, replicate
        from demjax.models import TextEncoder
        from demjax.tasks.zsl.ds_sje import ds_sje
        from demjax.train.engine.epoch import Draw, Plan, compile_epoch
        from demjax.train.engine.placement import place_rows
        from demjax.train.engine.state import init_state

        self._jax = jax
        planted = dict(n_classes=52, n_unseen=2, n_attributes=312, n_features=N_FEATURES, images_per_class=20)
        data = load("planted", planted=planted, descriptions="generated")
        task = ds_sje(data.spec, encoder=name)
        optimizer = optax.rmsprop(RATE, decay=0.99, eps_in_sqrt=False)
        mesh, rows = data_mesh(jax.devices(device)[:1]), classes(data)
        plan = Plan(rows.n_rows, BATCH, draw=Draw.of(rows.group))
        self.steps, constants = plan.steps, dict(task.constants(data))
        self._state = replicate(init_state(task, optimizer, 0), mesh)
        self._data = place_rows(rows, task.fields, mesh), replicate(constants, mesh)
        self._epoch = compile_epoch(task, optimizer, mesh, plan)
        self.inputs = np.asarray(constants["inputs"])[:N_ENCODED]
        self.n_in = 70 if name.startswith("char") else 312
        graph, params = nnx.split(TextEncoder(name, self.n_in, N_FEATURES, rngs=nnx.Rngs(0)))
        highest = jax.default_matmul_precision("highest")  # as demjax.encode has it
        encode = jax.jit(highest(lambda p, x: nnx.merge(graph, p)(x)))
        put = jax.device_put(self.inputs, jax.devices(device)[0])
        self._encode = lambda: encode(params, put)

    def train(self) -> None:
        self._state, losses = self._epoch(self._state, *self._data)
        self._jax.block_until_ready(losses)

    def encode(self) -> None:
        self._jax.block_until_ready(self._encode())


def torch_encoder(name: str, n_in: int, look_up: bool) -> Any:
    """The module `name` of demjax.models.text in PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    from demjax.models import ENCODERS, LENGTHS

    reads, layers, then = ENCODERS[name]

    class First(nn.Module):
        """A convolution over one-hot symbols."""

        def __init__(self, n_out: int, width: int):
            super().__init__()
            self.conv, self.width = nn.Conv1d(n_in, n_out, width), width
            self.tables = nn.ParameterList([nn.Parameter(torch.randn(n_in + 1, n_out) * 0.05) for _ in range(width)])

        def forward(self, ids: Any) -> Any:
            if not look_up:
                return self.conv(F.one_hot(ids, n_in + 1)[..., 1:].float().transpose(1, 2))
            length = ids.shape[1] - self.width + 1
            parts = [F.embedding(ids[:, k : k + length], t, padding_idx=0) for k, t in enumerate(self.tables)]
            return (sum(parts) + self.conv.bias).transpose(1, 2)

    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            width, length, convolutions = n_in, LENGTHS[reads], []
            for layer in layers:
                first = not convolutions
                convolutions.append(
                    (First if first else lambda o, k, w=width: nn.Conv1d(w, o, k))(layer.n_out, layer.width)
                )
                width, length = layer.n_out, (length - layer.width + 1 - layer.pool) // layer.stride + 1
            self.convolutions = nn.ModuleList(convolutions)
            if then == "rnn":
                self.inputs, self.hidden = nn.Linear(width, width), nn.Linear(width, width)
            elif then == "gru":
                self.inputs, self.gates = nn.Linear(width, 3 * width), nn.Linear(width, 2 * width)
                self.candidate = nn.Linear(width, width)
            elif then == "lstm":
                self.lstm, width = nn.LSTM(n_in, 512, batch_first=True), 512
            elif then == "sum":
                self.words = nn.EmbeddingBag(n_in + 1, N_FEATURES, mode="sum", padding_idx=0)
                self.bias = nn.Parameter(torch.zeros(N_FEATURES))
                return
            else:
                width *= length
            self.middle = nn.Linear(width, 1024) if then == "two_linear" else nn.Identity()
            self.visual = nn.Linear(1024 if then == "two_linear" else width, N_FEATURES)

        def forward(self, ids: Any) -> Any:
            if then == "sum":
                return self.words(ids) + self.bias
            if then == "lstm":
                states, _ = self.lstm(F.one_hot(ids, n_in + 1)[..., 1:].float())
                real = (ids > 0).float()
                return self.visual((states * real[..., None]).sum(1) / real.sum(1, keepdim=True))
            h = ids
            for convolution, layer in zip(self.convolutions, layers, strict=True):
                h = F.relu(convolution(h))
                h = F.max_pool1d(h, layer.pool, layer.stride) if layer.pool > 1 else h
            h = self._recur(h.transpose(1, 2)) if then in ("rnn", "gru") else h.flatten(1)
            return self.visual(self.middle(h))

        def _recur(self, x: Any) -> Any:
            projected = self.inputs(x)
            n = projected.shape[2] // (3 if then == "gru" else 1)
            h = torch.tanh(projected[:, 0, 2 * n :]) if then == "gru" else F.relu(projected[:, 0])
            total = h
            for t in range(1, x.shape[1]):
                now = projected[:, t]
                if then == "rnn":
                    h = F.relu(now + self.hidden(h))
                else:
                    z, r = torch.sigmoid(now[:, : 2 * n] + self.gates(h)).chunk(2, dim=1)
                    h = z * torch.tanh(now[:, 2 * n :] + self.candidate(r * h)) + (1 - z) * h
                total = total + h
            return total / x.shape[1]

    return Module()


class Torch:
    def __init__(self, name: str, n_in: int, inputs: np.ndarray, steps: int, device: str, look_up: bool):
        import torch

        self._torch, self._steps = torch, steps
        self._device = torch.device("cuda" if device == "gpu" else "cpu")
        self._model = torch_encoder(name, n_in, look_up).to(self._device)
        self._inputs = torch.tensor(inputs.astype(np.int64), device=self._device)
        self._images = torch.rand(len(inputs), N_FEATURES, device=self._device)
        self._optimizer = torch.optim.RMSprop(self._model.parameters(), lr=RATE)
        self._batches = [torch.randperm(len(inputs), device=self._device)[:BATCH] for _ in range(steps)]

    def train(self) -> None:
        torch = self._torch
        for batch in self._batches:
            self._optimizer.zero_grad(set_to_none=True)
            scores = self._images[batch] @ self._model(self._inputs[batch]).T
            own = scores.diagonal()
            apart = 1 - torch.eye(len(scores), device=self._device)
            over = (1 + scores - own[:, None]).clamp(min=0) + (1 + scores - own[None]).clamp(min=0)
            ((over * apart).sum() / len(scores) ** 2).backward()
            self._optimizer.step()
        self._wait()

    def encode(self) -> None:
        with self._torch.no_grad():
            self._model(self._inputs)
        self._wait()

    def _wait(self) -> None:
        if self._device.type == "cuda":
            self._torch.cuda.synchronize()


def main(given: Any) -> None:
    import jax

    torch = importlib.import_module("torch") if measure.has("torch") else None
    print(measure.machine(jax, np, torch))
    everything: dict[str, dict[str, list[float]]] = {}
    for name in given.encoders.split(","):
        ours = Demjax(name, given.device)
        args = (name, ours.n_in, ours.inputs, ours.steps, given.device)
        peers = {"torch": Torch(*args, look_up=True)} if torch else {}
        if torch and name not in ("bow", "word_lstm", "char_lstm"):
            peers["torch, one-hot"] = Torch(*args, look_up=False)
        for what, n in (("train", ours.steps * BATCH), ("encode", len(ours.inputs))):
            contestants = {"demjax": getattr(ours, what)} | {k: getattr(p, what) for k, p in peers.items()}
            seconds = measure.timed(contestants, given.rounds)
            rate = n / measure.statistics.median(seconds["demjax"])
            print(f"{name}, {what}: {n:,} captions, demjax {rate:,.0f} a second")
            measure.table(seconds, "demjax")
            everything[f"{name} {what}"] = seconds
    measure.write(given.json, everything)


if __name__ == "__main__":
    main(measure.options(__doc__, device="cpu", encoders=",".join(NAMES)))
