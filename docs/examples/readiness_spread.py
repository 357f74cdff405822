"""How far readiness's numbers lie apart between models of other seeds: `python readiness_spread.py`.

Trains the probe's model from three seeds, captures ten batches of each, and prints for each activation and
recipe the mean and the relative standard deviation of the deciding numbers of the worst layer.
"""

import statistics
import sys

import precision_lab as pl
from precision_lab.lowprecision.probe.training import Run, Trainer, TrainingConfig
from precision_lab.lowprecision.readiness.risk import from_capture, numbers

SEEDS = range(3)
RECIPES = ("delayed", "block", "mxfp8", "nvfp4", "nvfp4-plain")
subjects = sys.argv[1:] or ["xielu/stable [operator]", "swiglu/torch"]
spreads: dict[str, list[float]] = {"forward": [], "gradient": []}
for subject in subjects:
    found: dict[str, list[tuple[float, float]]] = {}
    for seed in SEEDS:
        trainer = Trainer(TrainingConfig(steps=100), Run(subject, "bf16", seed=seed))
        trainer.train()
        with pl.capture(trainer.model, steps=10, tokens=None, products=False) as seen:
            for batch in range(10):
                trainer.loss(batch).backward()
        layers, _ = from_capture(seen.captured, seed=seed)
        for recipe in RECIPES:
            each = [numbers(layer, recipe, seed=seed) for layer in layers]
            found.setdefault(recipe, []).append(
                (max(n.forward_noise for n in each), max(n.gradient_noise for n in each))
            )
    for recipe, values in found.items():
        words = []
        for name, figures in zip(spreads, zip(*values, strict=True), strict=True):
            spreads[name].append(statistics.stdev(figures) / statistics.mean(figures))
            words.append(f"{name} {statistics.mean(figures):.2%} ± {spreads[name][-1]:.1%}")
        print(f"{subject:26s} {recipe:12s} {', '.join(words)}", flush=True)
for name, all_of in spreads.items():
    rms = statistics.fmean(s * s for s in all_of) ** 0.5
    print(f"{name}: relative standard deviation {rms:.1%} (root mean square), {max(all_of):.1%} at most")
