"""Autotuned Triton kernels: which configuration is taken is chosen from outside, and nothing is timed."""

from __future__ import annotations

import sys
from typing import Any, ClassVar


class _State:
    """Of this process."""

    index = 0
    met: ClassVar[dict[str, tuple[str, ...]]] = {}
    functions: ClassVar[dict[str, list[Any]]] = {}


def choose(index: int) -> None:
    """From now on autotuned kernels take the configuration of that number, or their last."""
    _State.index = index


def configurations() -> dict[str, tuple[str, ...]]:
    """Of each autotuned kernel that was launched, those there are to choose from, in words and in order."""
    return dict(_State.met)


def take_over() -> None:
    """Puts the choice in the place of Triton's benchmarks."""
    import triton.testing
    from triton.runtime.autotuner import Autotuner

    prune, run = Autotuner.prune_configs, Autotuner.run

    def chosen(self: Any, kwargs: dict[str, Any]) -> list[Any]:
        found = list(prune(self, kwargs))
        _meet(self.base_fn, found)
        return [found[min(_State.index, len(found) - 1)]]

    def run_chosen(self: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(self, "_chosen_index", None) != _State.index:
            self._chosen_index = _State.index
            self.cache.clear()
        return run(self, *args, **kwargs)

    def untimed(self: Any, *args: Any, config: Any, **meta: Any) -> list[float]:
        return [1.0, 1.0, 1.0]

    Autotuner.prune_configs, Autotuner.run, Autotuner._bench = chosen, run_chosen, untimed
    for name in ("do_bench", "do_bench_cudagraph"):
        if hasattr(triton.testing, name):
            setattr(triton.testing, name, answered)


def take_over_inductor() -> None:
    """The same for kernels of `torch.compile`, once it has been imported."""
    module = sys.modules.get("torch._inductor.runtime.triton_heuristics")
    if module is None or hasattr(module.CachingAutotuner, "_kept"):
        return
    tuner = module.CachingAutotuner
    run = tuner.run

    def chosen(launchers: list[Any]) -> Any:
        return launchers[min(_State.index, len(launchers) - 1)]

    def untimed(self: Any, *args: Any, **kwargs: Any) -> dict[Any, float]:
        self._kept = list(self.launchers)
        _meet(self.fn, [launcher.config for launcher in self._kept])
        return {launcher: float(launcher is not chosen(self._kept)) for launcher in self._kept}

    def run_chosen(self: Any, *args: Any, **kwargs: Any) -> Any:
        # A launcher that it would keep for later calls is the one of the first choice, or none of Triton's.
        self._cached_launcher, self._cache_eligible = None, False
        if self._kept:
            self.launchers = [chosen(self._kept)]
        return run(self, *args, **kwargs)

    def untuned(self: Any, launcher: Any, *args: Any, **kwargs: Any) -> Any:
        return launcher

    tuner._kept, tuner.coordinate_descent_tuning = (), untuned
    tuner.benchmark_all_configs, tuner.run = untimed, run_chosen


def answered(
    fn: Any,
    *_: Any,
    quantiles: Any = None,
    return_mode: str = "mean",
    **__: Any,
) -> Any:
    """What `triton.testing.do_bench` gives, of a function that is called once: always one millisecond."""
    fn()
    if quantiles is not None:
        return [1.0] * len(quantiles) if len(quantiles) > 1 else 1.0
    return [1.0] if return_mode == "all" else 1.0


def _meet(function: Any, found: list[Any]) -> None:
    name = function.__name__
    namesakes = _State.functions.setdefault(name, [])
    if not any(known is function for known in namesakes):
        namesakes.append(function)
    number = next(k for k, known in enumerate(namesakes, 1) if known is function)
    if number > 1:
        name = f"{name} ({number})"
    words = tuple(_words(config) for config in found)
    # Pruning may leave fewer for some arguments.
    if len(words) >= len(_State.met.get(name, ())):
        _State.met[name] = words


def _words(config: Any) -> str:
    """A configuration as Triton prints it, without what it leaves open."""
    return ", ".join(part for part in str(config).split(", ") if not part.endswith(": None"))
