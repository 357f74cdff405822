"""What only a CUDA device can show; `tox -e gpu`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from by_name import Scorer, case, get_implementation, measure_all, on_device, run, sweep

from precision_lab.devices import CUDA
from precision_lab.exceptions import KernelError
from precision_lab.formats import get_format
from precision_lab.functions import get_function
from precision_lab.implementations import IMPLEMENTATIONS
from precision_lab.results import Failure
from precision_lab.scoring.patterns import Patterns
from precision_lab.scoring.tally import Tally
from precision_lab.study.conversions import conversions
from precision_lab.verifying.verify import verify

pytestmark = pytest.mark.gpu
SETS = [(f, name) for f in ("xielu", "xiprelu") for name in get_function(f).parameter_sets]
BOUNDS = {"bf16": 0.51, "fp16": 0.75, "fp32": 1.0}
SUBJECTS = [
    i
    for i in IMPLEMENTATIONS.values()
    if i.runs_on(CUDA) and not i.execution.compiled and i.function.sides is not None
]


def _scored(cls: type[Scorer], args: tuple, options: dict, x: object, ys: list, rest: tuple) -> list[Tally]:  # type: ignore[type-arg]
    scorer = cls(*args, **options)
    scorer.score(x, ys, *rest)  # type: ignore[arg-type]
    return scorer.finish()


@pytest.mark.parametrize("implementation", SUBJECTS, ids=lambda i: f"{i.function.name}-{i.label}")
def test_both_oracles_agree_on_every_statistic(implementation: object) -> None:
    """The same results of a GPU kernel, scored there and here: all 16- and 8-bit inputs, bit for bit."""
    from by_name import DeviceScorer

    subject = on_device(implementation, "cuda")  # type: ignore[arg-type]
    for fmt in subject.formats:
        if fmt.bits > 16:
            continue
        asked = case(subject, None, fmt, inputs="exhaustive")
        try:
            effective = asked.effective
        except KernelError as error:
            pytest.skip(str(error))
        inputs = asked.points
        assert inputs.bits is not None
        found = run(subject, inputs.bits, fmt, asked.asked, subject.measured_outputs())
        missing = [v for v in found.values() if isinstance(v, Failure)]
        if missing and missing[0].kind in ("missing_dependency", "unsupported_device"):
            pytest.skip(missing[0].message)
        good = {o: np.ascontiguousarray(v) for o, v in found.items() if not isinstance(v, Failure)}
        formats = [subject.output_format(fmt, o) for o in good]
        args = (inputs.cells, subject.function, tuple(good), effective, formats)
        patterns = inputs.bits.astype(np.uint64)
        rest = (inputs.cells.runs(patterns), Patterns.of(patterns))
        x = fmt.decode(inputs.bits).astype(np.float32)
        options = {"saturating": subject.saturating}
        here = _scored(Scorer, args, options, x, list(good.values()), rest)
        there = _scored(
            DeviceScorer, args, {**options, "device": torch.device("cuda")}, torch.from_numpy(x).cuda(),
            [torch.from_numpy(v).cuda() for v in good.values()], rest,
        )  # fmt: skip
        assert [t.digest() for t in here] == [t.digest() for t in there]


@pytest.mark.parametrize("fmt", ["bf16", "fp16"])
@pytest.mark.parametrize(("function", "params"), SETS, ids=["-".join(s) for s in SETS])
def test_stable_keeps_its_bound_for_every_16_bit_input(function: str, params: str, fmt: str) -> None:
    stable = on_device(get_implementation(function, "stable", "operator"), "cuda")
    values = get_function(function).parameter_sets[params]
    for m in measure_all(stable, stable.measured_outputs(), fmt, values):
        assert m.failure is None, m.failure
        assert m.max_ulp <= BOUNDS[fmt], (m.case, m.max_ulp, m.witness)
        assert (m.wrong_sign, m.nonfinite_mismatch, m.undecided) == (0, 0, 0), m.case


@pytest.mark.parametrize("function", ["xielu", "xiprelu"])
def test_stable_keeps_its_bound_for_all_fp32_inputs(function: str) -> None:
    stable = on_device(get_implementation(function, "stable", "operator"), "cuda")
    for m in sweep(stable, "fp32", stable.measured_outputs(), shards=1).measurements:
        assert m.failure is None and m.n_inputs == 2**32
        assert m.max_ulp <= 1.0, (m.case, m.max_ulp, m.witness)
        assert (m.wrong_sign, m.undecided) == (0, 0)


def test_stable_passes_as_a_stranger_with_every_property() -> None:
    for target in ("precision_lab.kernels:XIELU", "precision_lab.kernels:xielu"):
        verdict = verify(target, "xielu", fmts=("bf16",), max_ulp=0.51, isolate=False, device="cuda")
        assert verdict.passed, verdict.failures


def test_the_device_returns_what_was_predicted_for_its_target() -> None:
    """Every bit, but where an instruction decides that the manual leaves to the device."""
    import triton

    from precision_lab.devices import get_device
    from precision_lab.measuring.prediction_file import Predictions
    from precision_lab.numeric.nvrtc import compiler_version
    from precision_lab.study.predictions import check, file_for

    major, minor = torch.cuda.get_device_capability()
    path = file_for(
        Path(__file__).parents[1] / "reports" / "predictions", f"sm_{major}{minor}", triton.__version__
    )
    if path is None:
        pytest.skip(f"nothing is predicted for sm_{major}{minor}")
    predictions = Predictions.read(path)
    found = check(predictions, get_device("cuda"))
    for row in found:
        if row.comparison is not None and row.comparison.differing:
            print(row.key, row.comparison)
    unexplained = [str(row.key) for row in found if row.comparison and row.comparison.unexplained_count]
    here = {"triton": triton.__version__, "nvrtc": compiler_version()}
    made = {name: predictions.about.get(name, "") for name in here}
    if unexplained and made != here:
        pytest.skip(f"made with {made}, and this is {here}: nothing explains {unexplained}")
    assert unexplained == []
    assert sum(row.comparison is not None for row in found) > len(found) // 2


def test_more_than_2_to_the_31_elements() -> None:
    from precision_lab.kernels import xielu

    n = 2**31 + 4097
    if torch.cuda.mem_get_info()[0] < 6 * n:
        pytest.skip(f"needs {6 * n / 2**30:.0f} GiB of free device memory")
    x = torch.full((n,), -1.0, dtype=torch.bfloat16, device="cuda")
    x[-1] = 2.0
    y = xielu(x, **{k: torch.tensor(v, device="cuda") for k, v in
                    {"alpha_p": 0.8, "alpha_n": 0.8, "beta": 0.5}.items()})  # fmt: skip
    assert float(y[-1]) == 4.1875 and bool((y[:-1] == y[0]).all())


@pytest.mark.parametrize("fmt", ["bf16", "fp16"])
def test_packed_kernels_take_views_that_begin_at_odd_places(fmt: str) -> None:
    packed = on_device(get_implementation("xielu", "packed", "cuda"), "cuda")
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[fmt]
    base = torch.randn(1002, device="cuda").to(dtype)
    one = {k: torch.tensor(v, device="cuda", dtype=dtype) for k, v in
           {"alpha_p": 0.8, "alpha_n": 0.8, "beta": 0.5}.items()}  # fmt: skip
    found = []
    for x in (base[1:], base[1:].clone()):
        point = x.detach().requires_grad_()
        y = packed.kernel(point, **one)
        (dx,) = torch.autograd.grad(y, point, base[1:])
        found.append((y, dx))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


ILLEGAL = """
import torch, triton, triton.language as tl

@triton.jit
def far(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK).to(tl.int64)
    tl.store(y_ptr + at + (1 << 40), tl.load(x_ptr + at))

def bad(x, alpha_p, alpha_n, beta):
    y = torch.empty_like(x)
    if x.dtype == torch.float16:
        far[(1,)](x, y, x.numel(), BLOCK=64)
        return y
    return torch.where(x > 0, alpha_p * x * x + beta * x,
                       alpha_n * torch.expm1(x.clamp(max=0)) - alpha_n * x + beta * x)
"""


def test_fast_math_is_compiled_as_fast_math() -> None:
    """Whatever was compiled of the same source before: subnormals are flushed, and kept without it."""
    from precision_lab.implementations.cuda import kernel

    x = torch.tensor([1e-40, -1e-40], device="cuda")
    one = {n: torch.tensor(v, device="cuda") for n, v in (("alpha_p", 0.8), ("alpha_n", 0.8), ("beta", 0.5))}
    usual, fast, again = (kernel("naive", f, x, **one).cpu() for f in (False, True, False))
    assert (usual != 0).all() and (fast == 0).all() and torch.equal(usual, again)


def test_isolation_survives_an_illegal_access(tmp_path: Path) -> None:
    (tmp_path / "illegal.py").write_text(ILLEGAL)
    verdict = verify(
        f"{tmp_path / 'illegal.py'}:bad", "xielu", fmts=("fp16", "bf16"), outputs=("forward",),
        params=get_function("xielu").parameter_sets["init"], properties=False, device="cuda",
    )  # fmt: skip
    by_format = {m.fmt: m for m in verdict.measurements}
    assert by_format["fp16"].failure is not None and by_format["fp16"].failure.kind == "crashed"
    assert by_format["bf16"].failure is None


def test_casts_to_fp8_round_correctly() -> None:
    for c in conversions(CUDA):
        if c.failure is None:
            assert c.misrounded == 0, (c.name, c.target, c.witness)
        else:
            assert c.failure.kind in ("missing_dependency", "unsupported_device"), c.failure


def _tensors() -> dict[str, torch.Tensor]:
    """What a recipe must carry: ordinary numbers, and each that has a rule of its own."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(256, 512, generator=generator)
    wide = normal * torch.exp2(torch.randint(-20, 10, (256, 1), generator=generator).float())
    found = {"normal": normal, "wide": wide, "zero": torch.zeros(256, 512), "subnormal": normal * 2.0**-130}
    for name, value in (("outlier", 3e4), ("inf", float("inf")), ("nan", float("nan"))):
        found[name] = normal.clone()
        found[name][3, 5] = value
    return {f"{name}-{dtype}": x.to(dtype) for name, x in found.items() for dtype in
            (torch.float32, torch.bfloat16)}  # fmt: skip


@pytest.mark.parametrize("columnwise", [False, True])
@pytest.mark.parametrize(
    "name", ["delayed", "current", "current-pow2", "block", "mxfp8", "nvfp4", "nvfp4-plain"]
)
def test_recipes_store_the_same_bytes_on_a_gpu(name: str, columnwise: bool) -> None:
    from precision_lab.lowprecision.recipes.recipes import get_recipe

    recipe = get_recipe(name)
    for what, x in _tensors().items():
        found = []
        for device in ("cpu", "cuda"):
            state, generator = recipe.state("input"), torch.Generator().manual_seed(1)
            q = recipe.quantize(
                x.to(device), "input", columnwise=columnwise, state=state, generator=generator
            )
            nan = (q.codes & 0x7F) == 0x7F
            found.append([t.cpu() for t in (q.codes.masked_fill(nan, 0x7F), q.decode, q.dequantize())])
        for mine, theirs in zip(*found, strict=True):
            assert torch.equal(mine.nan_to_num(nan=0.0), theirs.nan_to_num(nan=0.0)), what


def test_a_probes_run_is_the_same_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from precision_lab.devices import CUDA
    from precision_lab.lowprecision.probe.model import ModelConfig
    from precision_lab.lowprecision.probe.training import Run, Trainer, TrainingConfig

    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    config = TrainingConfig(steps=4, batch=2, evaluation=1, model=ModelConfig(32, 2, 2, 64, 32))
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        for recipe in ("bf16", "delayed", "nvfp4"):
            runs = [
                Trainer(config, Run("xielu/stable [operator]", recipe, 0), CUDA).train() for _ in range(2)
            ]
            assert runs[0].weights == runs[1].weights, recipe
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_capture_on_a_gpu_counts_as_on_the_cpu() -> None:
    import precision_lab as pl

    model = torch.nn.Sequential(torch.nn.SiLU())
    x = torch.randn(65, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    found = []
    for device in ("cpu", "cuda"):
        with pl.capture(model, tokens=None) as seen:
            model(x.to(device).requires_grad_()).float().sum().backward()
        found.append(seen.captured.layer("0").tensors["input"])
    np.testing.assert_array_equal(found[0].patterns, found[1].patterns)
    np.testing.assert_array_equal(found[0].channels, found[1].channels)


@pytest.mark.parametrize("role", ["input", "weight", "gradient"])
@pytest.mark.parametrize("name", ["delayed", "current", "current-pow2", "block", "block-fp32", "mxfp8"])
def test_recipes_are_transformer_engines(name: str, role: str) -> None:
    """The emulators against what they emulate, byte for byte; a NaN is a NaN."""
    from precision_lab.implementations import transformer_engine
    from precision_lab.lowprecision.recipes.recipes import get_recipe

    try:
        transformer_engine.library()
    except KernelError as error:
        pytest.skip(str(error))
    recipe = get_recipe(name)
    if torch.cuda.get_device_capability() < recipe.capability:
        pytest.skip(f"{name} needs compute capability {recipe.capability}")
    kind = {"delayed": "tensor", "mxfp8": "mxfp8"}.get(name, name.partition("-")[0])
    fmt = recipe.fmt(role).name  # type: ignore[arg-type]
    for what, x in _tensors().items():
        x = x.cuda()
        state = recipe.state(role)  # type: ignore[arg-type]
        if state is not None:
            state.scale.fill_(3.7)
        mine = recipe.quantize(x, role, state=state)  # type: ignore[arg-type]
        codes, decode = transformer_engine.quantize(
            x, get_format(fmt), kind, power_of_two=getattr(recipe, "power_of_two", False),
            square=role == "weight", scale=3.7,
        )  # fmt: skip
        nan = (mine.codes & 0x7F) > get_format(fmt).max_ordinal + (fmt == "e5m2")
        same = (mine.codes == codes) | (nan & ((codes & 0x7F) > get_format(fmt).max_ordinal))
        assert bool(same.all()), (what, int((~same).sum()), x[~same][:4])
        scales = mine.decode if mine.scale_codes is None else mine.scale_codes
        assert torch.equal(scales.reshape(decode.shape), decode), what
