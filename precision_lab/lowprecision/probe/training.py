"""One training run of the probe: deterministic, watched, and resumable to the bit."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from precision_lab import __version__
from precision_lab.devices import CPU, Device
from precision_lab.lowprecision.probe import corpus
from precision_lab.lowprecision.probe.ageing import AGEINGS
from precision_lab.lowprecision.probe.checkpoint import Checkpoints, State
from precision_lab.lowprecision.probe.model import Model
from precision_lab.lowprecision.probe.run import Record, Run, TrainingConfig
from precision_lab.lowprecision.recipes.recipes import get_recipe
from precision_lab.lowprecision.recipes.scales import AmaxHistory

OnStep = Callable[[int], None]


class Trainer:
    """A model, its optimiser and how far they are."""

    def __init__(self, config: TrainingConfig, run: Run, device: Device = CPU) -> None:
        self.config, self.run, self.device = config, run, device
        self.model = Model(
            config.model, run.implementation, get_recipe(run.recipe), remedy=run.remedy, seed=run.seed
        ).to(device.torch)
        matrices = [p for p in self.model.parameters() if p.ndim == 2]
        others = [p for p in self.model.parameters() if p.ndim != 2]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": config.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            betas=(0.9, 0.95),
        )
        self.begin = config.warm_steps if run.ageing else 0
        self.end = self.begin + (config.aged_steps if run.ageing else config.steps)
        self.step = self.begin
        self.record = Record()
        if run.ageing:
            weights, optimiser = warmed(config, run.subject, run.seed, device)
            self.model.load_state_dict(weights)
            self.optimiser.load_state_dict(deepcopy(optimiser))

    def train(self, checkpoint: Path | None = None, on_step: OnStep | None = None) -> Record:
        """Trains to the end.

        Args:
            checkpoint: file that the run goes on from, if it holds a state of this very run, and is kept in
                every `checkpoint_every` steps. What cannot be read or written is warned of.
            on_step: told of each step that is done.
        """
        started = time.monotonic()
        kept = None if checkpoint is None else self._checkpoints(checkpoint)
        if kept is not None:
            kept.load(self._restore)
        losses = self.record.losses
        lowest = min((math.fsum(losses[i : i + 10]) / 10 for i in range(len(losses) - 9)), default=math.inf)
        while self.step < self.end and self.record.diverged_at is None:
            self._one_step()
            done = self.step - self.begin
            if len(losses) >= 10:
                mean = math.fsum(losses[-10:]) / 10
                lowest = min(lowest, mean)
                if mean > lowest + 1:
                    self.record.diverged_at = done
            if not math.isfinite(losses[-1]):
                self.record.diverged_at = done
            every = self.config.checkpoint_every
            if kept is not None and every and done % every == 0:
                kept.save(self._state())
            if on_step is not None:
                on_step(done)
        loss = self.evaluate()
        self.record.validation_loss = loss if math.isfinite(loss) else None
        total = hashlib.sha256()
        for name, weight in self.model.state_dict().items():
            total.update(name.encode() + weight.detach().cpu().contiguous().numpy().tobytes())
        self.record.weights = total.hexdigest()
        self.record.seconds = time.monotonic() - started
        return self.record

    def loss(self, step: int, *, held_out: bool = False) -> Tensor:
        """Mean over a batch, nats per byte."""
        config = self.config
        # All seeds are judged by the same text.
        seed = 0 if held_out else self.run.seed
        x, y = corpus.batch(seed, step, config.batch, config.model.context, held_out=held_out)
        logits = self.model(x.to(self.device.torch))
        return nn.functional.cross_entropy(logits.flatten(0, 1), y.to(self.device.torch).flatten())

    def evaluate(self) -> float:
        """The loss on held-out text; no history notices."""
        histories = [(o.states, deepcopy(o.states)) for o in self._operands()]
        with torch.no_grad():
            found = [float(self.loss(i, held_out=True)) for i in range(self.config.evaluation)]
        for states, before in histories:
            states.update(before)
        return math.fsum(found) / len(found)

    def _one_step(self) -> None:
        done = self.step - self.begin
        watch = done % self.config.watch_every == 0 or self.step == self.end - 1
        self._watch(watch)
        if self.run.ageing:
            self.model.age(AGEINGS[self.run.ageing], done)
        rate = self._learning_rate()
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.loss(self.step)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimiser.step()
        self.model.step()
        self.record.losses.append(float(loss.detach()))
        self.record.gradient_norms.append(float(norm))
        if watch:
            self._note(done)
        self.step += 1

    def _learning_rate(self) -> float:
        """Rises over a tenth of the steps, then falls as a cosine to a tenth."""
        config = self.config
        rise = max(self.end // 10, 1)
        if self.step < rise:
            return config.learning_rate * (self.step + 1) / rise
        share = (self.step - rise) / max(self.end - rise, 1)
        return config.learning_rate * (0.55 + 0.45 * math.cos(math.pi * share))

    def _operands(self) -> list[Any]:
        return [linear.operands for linear in self.model.linears().values()]

    def _watch(self, watch: bool) -> None:
        for operands in self._operands():
            operands.watch = watch
        for mlp in self.model.mlps():
            mlp.watch = watch

    def _note(self, done: int) -> None:
        record = self.record
        record.watched.append(done)
        for i, mlp in enumerate(self.model.mlps()):
            for name, value in mlp.act.effective_parameters().items():
                if name in mlp.act.raw:
                    record.alphas.setdefault(f"{i}.{name}", []).append(float(value.detach()))
            for name, found in zip(("input", "output"), mlp.kurtosis, strict=True):
                record.kurtosis.setdefault(f"{i}.{name}", []).append(found)
        for role in ("input", "weight", "gradient"):
            shares = [operands.clipped[role] for operands in self._operands() if role in operands.clipped]
            if shares:
                record.clipping.setdefault(role, []).append(max(shares))

    def _checkpoints(self, path: Path) -> Checkpoints:
        about = {
            "precision_lab": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "text": corpus.digest(),
            "config": asdict(self.config),
            "run": asdict(self.run),
            "device": self.device.model(),
        }
        return Checkpoints(path, about, self.device.torch)

    def _state(self) -> State:
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "histories": [
                {role: state and state.to_json() for role, state in o.states.items()}
                for o in self._operands()
            ],
            "generator": self.model.generator.get_state(),
            # Set by `Model.age` before a step: a run that ends here is still to be evaluated as old as it is.
            "ages": [(mlp.factors, mlp.act.grown) for mlp in self.model.mlps()],
            "record": asdict(self.record),
        }

    def _restore(self, found: State) -> None:
        """Goes on from a state; from where it was, should that raise."""
        before = deepcopy(self._state())
        try:
            self._set(found)
        except Exception:
            self._set(before)
            raise

    def _set(self, found: State) -> None:
        self.step = found["step"]
        self.model.load_state_dict(found["model"])
        self.optimiser.load_state_dict(found["optimiser"])
        for operands, states in zip(self._operands(), found["histories"], strict=True):
            for role, state in states.items():
                operands.states[role] = state and AmaxHistory.from_json(state)
        self.model.generator.set_state(found["generator"].cpu())
        for mlp, (factors, grown) in zip(self.model.mlps(), found["ages"], strict=True):
            mlp.factors.copy_(factors)
            mlp.act.grown = grown
        self.record = Record(**found["record"])


@lru_cache(maxsize=8)
def warmed(config: TrainingConfig, subject: str, seed: int, device: Device) -> tuple[Any, Any]:
    """Weights and optimiser of a model briefly trained in FP32; not to be changed."""
    trainer = Trainer(config, Run(subject, "fp32", seed), device)
    trainer.end = config.warm_steps + config.aged_steps  # the schedule that aged runs go on with
    while trainer.step < config.warm_steps:
        trainer._one_step()
    return deepcopy(trainer.model.state_dict()), deepcopy(trainer.optimiser.state_dict())


__all__ = ["OnStep", "Record", "Run", "Trainer", "TrainingConfig", "warmed"]
