"""Trains the probe's model with xIELU and captures ten batches: `python capture_training.py [STEPS]`."""

import sys

import precision_lab as pl
from precision_lab.lowprecision.probe.training import Run, Trainer, TrainingConfig

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 300
trainer = Trainer(TrainingConfig(steps=steps), Run("xielu/stable [operator]", "bf16", seed=0))
trainer.train()
with pl.capture(trainer.model, steps=10, tokens=None) as seen:
    for batch in range(10):
        trainer.loss(batch).backward()
print(seen.captured.save("run.npz"))
