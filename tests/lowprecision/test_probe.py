"""The probe's folder, its resumption, and the comparison of prediction and training."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from report_page import unfolded
from typer.testing import CliRunner

torch = pytest.importorskip("torch")

from precision_lab.cli.main import app
from precision_lab.exceptions import DamagedFileError
from precision_lab.functions import FUNCTIONS
from precision_lab.lowprecision.probe import prediction
from precision_lab.lowprecision.probe.model import ModelConfig
from precision_lab.lowprecision.probe.prediction import Cell
from precision_lab.lowprecision.probe.presets import TABLE_4, get_preset
from precision_lab.lowprecision.probe.probe import ProbeConfig, digest, load, predict, probe, read_config
from precision_lab.lowprecision.probe.training import Run, TrainingConfig
from precision_lab.report import write_lowprecision
from precision_lab.report.sections import paper
from precision_lab.study import lowprecision
from precision_lab.study.lowprecision import probe_json

CONFIG = """
[model]
width = 16
layers = 2
heads = 2
hidden = 32
context = 16

[training]
steps = 3
warm_steps = 2
aged_steps = 3
batch = 2
evaluation = 1
watch_every = 2
checkpoint_every = 2

[runs]
subjects = ["relu2/torch", "swiglu/torch"]
recipes = ["bf16"]
seeds = 2

[ablations]
subjects = ["relu2/torch", "xielu_cubic/expm1"]
seeds = 2

[aged]
subjects = ["relu2/torch"]
recipes = ["bf16", "current", "mxfp8"]
ageings = ["none", "extreme"]
seeds = 1

[remedies]
subjects = ["relu2/torch"]
recipes = ["current"]
ageings = ["extreme"]
remedies = ["smooth"]
seeds = 1

[formulations]
subjects = ["xielu/expm1"]
seeds = 1
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("probe")
    (folder / "probe.toml").write_text(CONFIG)
    result = CliRunner().invoke(
        app, ["probe", "--out", str(folder / "out"), "--config", str(folder / "probe.toml"), "--workers", "1"]
    )
    assert result.exit_code == 0, result.output
    assert "rank correlation of predicted risk and held-out loss gap" in " ".join(result.output.split())
    return folder


def test_everything_asked_for_is_there_once(done: Path) -> None:
    found = load(done / "out")
    # 2 subjects × (fp32, bf16) × 2 seeds; one more variant; 2 ageings × 4; the remedy and its fp32; two of a
    # formulation.
    assert len(found["runs"]) == 8 + 4 + 8 + 2 + 2
    assert len(found["predictions"]) == 2
    assert {path.suffix for path in (done / "out").rglob("*.*")} == {".json"}  # no checkpoint is left
    risks = {p["run"]["ageing"]: p["risk"] for p in found["predictions"]}
    assert risks["extreme"]["current"] > risks["none"]["current"] > risks["none"]["bf16"]


def test_a_probe_goes_on_where_it_was_and_ends_the_same(done: Path) -> None:
    folder, config = done / "out", read_config(done / "probe.toml")
    before = digest(load(folder))
    for path in sorted((folder / "run").glob("*.json"))[::3]:
        path.unlink()
    next((folder / "predict").glob("*.json")).unlink()
    # Of a process that was killed between writing its result and deleting these.
    finished = next((folder / "run").glob("*.json"))
    for suffix in (".checkpoint", ".checkpoint.previous", ".checkpoint.partial"):
        finished.with_suffix(suffix).write_bytes(b"")
    assert digest(load(folder)) != before
    assert digest(probe(folder, config, workers=1, resume=True)) == before
    assert not list(folder.rglob("*.checkpoint*"))


def test_a_probe_ends_with_the_first_run_that_fails(done: Path, tmp_path: Path) -> None:
    """Nothing is trained whose result could not be kept either."""
    (tmp_path / "run").write_text("not a folder")
    with pytest.raises(OSError, match="run"):
        probe(tmp_path, read_config(done / "probe.toml"), workers=1)
    assert not (tmp_path / "predict").exists()


def test_the_preset_trains_every_activation_of_table_4_seed_by_seed() -> None:
    config = get_preset("table-4")
    runs = config.every_run()
    assert {(r.recipe, r.ageing, r.remedy) for r in runs} == {
        ("fp32", "", "none")
    } and not config.predictions()
    assert len(TABLE_4) == 13 and config.runs.seeds >= 5
    for k in range(config.runs.seeds):
        seed = runs[13 * k : 13 * (k + 1)]
        assert [r.subject for r in seed] == list(TABLE_4) and {r.seed for r in seed} == {k}
    assert config.training.steps > ProbeConfig().training.steps and config.training.checkpoint_every
    # What is trained follows the paper: both α but where they are fixed; β in one alone.
    trained = {
        s.split("/")[0]: {p.name for p in FUNCTIONS[s.split("/")[0]].parameters if p.raw and p.trainable}
        for s in TABLE_4
    }
    both = {"alpha_p", "alpha_n"}
    assert trained == {
        "xielu": both, "xiprelu": both, "swiglu": set(), "xielu_cubic": both, "xielu_neg_xsilu": both,
        "xielu_trainable_beta": {*both, "beta"}, "xiprelu_fixed_alpha": set(), "xsilu": {"alpha"},
        "relu2": set(), "xielu_fixed_alpha": set(), "xielu_neg_silu": {"alpha_p"},
        "xielu_neg_zero": {"alpha_p"}, "silu": set(),
    }  # fmt: skip


def test_whatever_is_done_of_the_preset_compares_all_and_it_goes_on_from_there(tmp_path: Path) -> None:
    whole = get_preset("table-4")
    tiny = TrainingConfig(steps=2, batch=1, evaluation=1, checkpoint_every=1,
                          model=ModelConfig(width=8, layers=1, heads=1, hidden=8, context=8))  # fmt: skip
    config = dataclasses.replace(whole, training=tiny, runs=dataclasses.replace(whole.runs, seeds=2))

    class Killed(Exception):
        pass

    def kill(done: int, total: int, run: Run) -> None:
        assert total == 26
        if done == 14:
            raise Killed

    with pytest.raises(Killed):
        probe(tmp_path, config, workers=1, on_run=kill)
    kept = load(tmp_path)
    # Begun in order; one that was under way when the first error came is finished.
    assert {(r["run"]["subject"], r["run"]["seed"]) for r in kept["runs"]} >= {(s, 0) for s in TABLE_4}
    assert 14 <= len(kept["runs"]) < 26
    order = paper.orders([{**r["run"], **r["record"]} for r in kept["runs"]])[1]["Table 4"]
    assert order is not None and len(order.names) == 13 and order.seeds == 1 and math.isnan(order.low)
    done: list[int] = []
    found = probe(
        tmp_path, config, workers=1, resume=True, on_run=lambda n, total, run: done.append(run.seed)
    )
    assert len(found["runs"]) == 26 and done == [1] * (26 - len(kept["runs"]))
    order = paper.orders([{**r["run"], **r["record"]} for r in found["runs"]])[1]["Table 4"]
    assert order is not None and order.seeds == 2 and order.low <= order.tau <= order.high
    text = lowprecision_markdown(found, tmp_path)
    assert "Predicted, then trained" not in text  # nothing was aged
    assert "13 runs of seed 0" in text
    assert "13 activations: Kendall's τ-b" in text and "by 2 seeds" in text and "nan" not in text


def lowprecision_markdown(found: dict, folder: Path) -> str:
    data = {"readiness": [], "maps": [], "blocks": [], "probe": probe_json(folder)}
    write_lowprecision(data, folder / "report", "A title")
    return "".join(path.read_text() for path in sorted((folder / "report").rglob("*.md")))


def test_a_probe_is_reported_alone(done: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["readiness", "--probe", str(done / "out"), "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    text = (tmp_path / "readiness.md").read_text()
    assert text.startswith("# The training probe of out") and "## Trained: losses" in text
    assert "## Verdicts" not in text and "May" not in text


def test_a_preset_and_a_configuration_are_not_given_together(tmp_path: Path) -> None:
    asked = ["probe", "--out", str(tmp_path / "out"), "--preset", "table-4"]
    both = CliRunner().invoke(app, [*asked, "--config", str(tmp_path / "p.toml")])
    assert both.exit_code == 2 and "--preset 'table-4' and --config" in " ".join(both.output.split())
    other = CliRunner().invoke(app, [*asked[:-1], "tabel-4"])
    assert other.exit_code == 2 and "unknown preset 'tabel-4'; did you mean table-4?" in other.output
    assert not (tmp_path / "out").exists()


def test_a_folder_is_neither_overwritten_nor_mixed(done: Path, tmp_path: Path) -> None:
    config = read_config(done / "probe.toml")
    with pytest.raises(ValueError, match="--resume goes on"):
        probe(done / "out", config)
    other = dataclasses.replace(config, training=dataclasses.replace(config.training, steps=4))
    with pytest.raises(ValueError, match="another config"):
        probe(done / "out", other, resume=True)
    with pytest.raises(ValueError, match="holds no probe"):
        load(tmp_path)
    run = tmp_path / "run" / "a.json"
    run.parent.mkdir()
    shutil.copy(done / "out" / "manifest.json", tmp_path)
    run.write_text("{")
    with pytest.raises(DamagedFileError, match=r"a\.json"):
        load(tmp_path)


def test_the_report_says_what_was_measured(done: Path, tmp_path: Path) -> None:
    data = {"readiness": [], "maps": [], "blocks": [], "probe": probe_json(done / "out")}
    written = write_lowprecision(data, tmp_path, "A title")
    text = "".join(path.read_text() for path in written.values() if path.suffix == ".md")
    for heading in ("Trained: losses", "Predicted, then trained", "Aged: which recipe survives",
                    "Formulations, aged", "Remedies, tried", "Watched while training"):  # fmt: skip
        assert f"# {heading}\n" in text
    loss = data["probe"]["losses"]["swiglu/torch / bf16"]
    assert f"{loss['mean']:.4f} ± {loss['half']:.4f}" in text
    assert "](../figures/prediction.svg)" in text
    assert b"<svg" in (tmp_path / "figures" / "prediction.svg").read_bytes()
    page = unfolded(written["html"].read_text())
    assert (
        "<title>Predicted risk and measured loss</title>" in page
        and "risk, predicted before training" in page
    )
    for line in text.splitlines():
        assert "None" not in line and "nan" not in line, line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[modell]\nwidth = 1", r"\[modell\]"),
        ("[model]\nwidth = 1.5", r"width=1\.5"),
        ("[model]\nheads = 7", "heads=7"),
        ("[training]\nstep = 1", "step=1"),
        ("[training]\nsteps = 0", "steps=0"),
        ("[runs]\nsubjects = 'xielu'", "subjects='xielu'"),
        ("[runs]\nsubjects = ['xielu']", "subject='xielu'"),
        ("[aged]\nageings = ['old']", "old"),
        ("[aged]\nrecipes = ['fp7']", "fp7"),
        ("steps = 3", "steps"),
        ("[", "no TOML"),
        ("[model]\nvocabulary = 10", "vocabulary=10"),
        ("[model]\ncontext = 10000000", "context=10000000"),
        ("[training]\nweight_decay = nan", "weight_decay=nan"),
        ("[runs]\nseeds = -3", "seeds=-3"),
        ("[training]\nbatch = 3\n[model]\ncontext = 10", "batch=3, context=10: nvfp4"),
    ],
)
def test_a_wrong_configuration_is_named(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        read_config(path)


def test_nesting_without_end_is_no_toml(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text("a = " + "[" * 100_000)
    with pytest.raises(ValueError, match=r"p\.toml' is no TOML file"):
        read_config(tmp_path / "p.toml")


def test_distances_and_gaps_are_of_the_same_runs() -> None:
    found = {
        "runs": [
            run("fp32", 0, [3.0, 2.0], 2.0), run("bf16", 0, [3.0, 7.0], 6.0, 2),  # finite losses to the end
            run("fp32", 1, [3.0, 9.0], 9.0, 2), run("bf16", 1, [3.0, 2.0], 2.0),  # FP32 itself diverged
        ],
        "predictions": [],
    }  # fmt: skip
    assert prediction.gaps_to_fp32(found)["a/b", "bf16", "none", "none"] == {0: math.inf}
    assert prediction.distances_to_fp32(found)["a/b", "bf16", "none", "none"] == {0: math.inf}


DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_shows_the_defaults(tmp_path: Path) -> None:
    shown = (DOCS / "low-precision.md").read_text().split("```toml\n")[1].split("```")[0]
    (tmp_path / "shown.toml").write_text(shown)
    assert read_config(tmp_path / "shown.toml") == ProbeConfig()
    assert read_config(DOCS / "examples" / "probe_gpu.toml").training.model.width == 512


def test_variants_are_compared_with_the_first_by_seed() -> None:
    def whole(subject: str, seed: int, loss: float, diverged: int | None = None):
        made = run("bf16", seed, [loss], loss, diverged, ageing="")
        return {**made, "run": {**made["run"], "subject": subject}}

    found = {
        "runs": [whole("b/a", 0, 2.0), whole("b/a", 1, 3.0), whole("v/a", 0, 2.5), whole("v/a", 1, 3.7),
                 whole("w/a", 0, 1.0), whole("w/a", 1, 9.0, 3)],
        "predictions": [],
        "manifest": {"config": {"ablations": {"subjects": ["b/a", "v/a", "w/a"], "recipes": ["bf16"]}}},
    }  # fmt: skip
    by = prediction.summary(found)["ablations"]["bf16"]
    assert by["v/a"]["mean"] == pytest.approx(0.6)
    assert by["v/a"]["half"] == pytest.approx(12.706204736 * 0.1, rel=1e-6)
    assert (by["w/a"]["mean"], by["w/a"]["n"]) == (-1.0, 1)  # its other run diverged


def test_a_folder_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"schema": 1}')
    with pytest.raises(ValueError, match="schema=1"):
        load(tmp_path)
    (tmp_path / "manifest.json").write_text('{"schema": ')
    with pytest.raises(DamagedFileError, match=r"manifest\.json"):
        load(tmp_path)


@pytest.fixture
def copied(done: Path, tmp_path: Path) -> Path:
    shutil.copytree(done / "out", tmp_path / "out")
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("folder", "change", "words"),
    [
        ("run", lambda d: d.pop("record"), "record"),
        ("run", lambda d: d["run"].update(seed="0"), "seed='0': expected int"),
        ("run", lambda d: d["run"].pop("remedy"), "remedy"),
        ("run", lambda d: d["record"].update(losses=[1.0, "low", 2.0]), "losses="),
        ("run", lambda d: d["record"]["losses"].append(1.0), "4 losses, 3 gradient norms"),
        ("run", lambda d: d["record"].update(diverged_at=-1.5), "diverged_at="),
        ("run", lambda d: d["record"].update(watched=None), "watched="),
        ("run", lambda d: d["record"].update(kurtosis={"0.input": [1.0] * 99}), "99 values of"),
        ("run", lambda d: d["record"].update(surprise=1), "surprise"),
        ("predict", lambda d: d["risk"].update(bf16="nan"), "bf16='nan': expected a number"),
        ("predict", lambda d: d.update(risk=[]), "is not a mapping|object is not"),
        ("predict", lambda d: d.pop("run"), "run"),
        (".", lambda d: d.pop("config"), "config"),
        (".", lambda d: d["config"].pop("ablations"), "ablations"),
        (".", lambda d: d["config"]["runs"].update(subjects=[3]), r"subjects=\[3\]"),
        (".", lambda d: d["config"]["training"].update(model=7), "7|int"),
    ],
)  # fmt: skip
def test_what_no_probe_writes_is_named(folder: str, change, words: str, copied: Path) -> None:
    path = sorted((copied / folder).glob("*.json"))[0]
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(DamagedFileError, match=rf"{path.name}' is damaged \(.*({words})"):
        load(copied)
    path.write_text("[" * 100_000)
    with pytest.raises(DamagedFileError, match=rf"{path.name}' is damaged \("):
        load(copied)


def test_the_default_asks_for_every_activation_and_recipe_of_the_report() -> None:
    runs = ProbeConfig().every_run()
    assert len(runs) == len(set(runs)) == len({run.key for run in runs})
    functions = {r.subject.split("/")[0] for r in runs}
    assert {"xielu", "xiprelu", "relu2", "swiglu", "gelu"} <= functions
    assert {f for f in FUNCTIONS if f.endswith("_fixed_alpha") or f.startswith("xielu_")} <= functions
    cells = {(r.subject, r.recipe, r.ageing) for r in runs if r.ageing and r.remedy == "none"}
    assert len(cells) >= 24
    # Each has its FP32 run, with the same seed, ageing and remedy.
    alike = {(r.subject, r.seed, r.ageing, r.remedy) for r in runs}
    assert {(r.subject, r.seed, r.ageing, r.remedy) for r in runs if r.recipe == "fp32"} == alike


def cell(risk: float, gap: float) -> Cell:
    return Cell("s/f", "r", "none", risk, gap, 0.0, abs(gap), 1)


def test_a_digest_is_of_runs_and_predictions_and_not_of_times() -> None:
    found = {
        "runs": [{"run": {"seed": 0}, "record": {"losses": [2.0], "seconds": 1.0}}],
        "predictions": [{"run": {"seed": 0}, "risk": {"bf16": 0.1}}],
    }
    before = digest(found)
    found["runs"][0]["record"]["seconds"] = 2.0
    assert digest(found) == before
    found["predictions"][0]["risk"]["bf16"] = 0.2
    assert digest(found) != before
    found["predictions"][0]["risk"]["bf16"] = 0.1
    found["runs"][0]["record"]["losses"] = [2.5]
    assert digest(found) != before


def test_the_largest_gradient_of_a_run_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the steps that have one; None where the run diverged at the first."""
    grid = {"subjects": [], "recipes": []}
    runs = [
        {
            "run": {"subject": "a/b", "recipe": r, "seed": 0, "ageing": "", "remedy": "none"},
            "record": {"losses": [1.0], "gradient_norms": norms, "validation_loss": 1.0, "diverged_at": None},
        }
        for r, norms in (("fp32", [0.5, 3.0, None]), ("bf16", [None]))
    ]
    found = {"manifest": {"config": {"ablations": grid}}, "runs": runs, "predictions": []}
    monkeypatch.setattr(lowprecision, "load", lambda _: found)
    assert [r["largest_gradient_norm"] for r in probe_json(Path())["runs"]] == [3.0, None]


def test_a_prediction_is_of_the_model_at_the_end_of_its_ageing() -> None:
    """In a model that grows over twenty steps, f = x² by 128² and 200, not in the one it was at the first."""
    small = ModelConfig(width=16, layers=1, heads=2, hidden=32, context=16)
    config = TrainingConfig(steps=2, warm_steps=1, aged_steps=1, batch=2, evaluation=1, model=small)
    none, growing = (
        predict(config, Run("relu2/torch", "fp32", 0, ageing), ("current",)) for ageing in ("none", "growing")
    )
    assert growing["risk"]["current"] > 2 * none["risk"]["current"]
    assert (none["growth"], growing["growth"]) == (1.0, pytest.approx((128.0**2 * 200) ** (1 / 20)))


def test_ranks_and_correlation() -> None:
    assert prediction.ranks(np.array([3.0, 1.0, 3.0, math.inf])).tolist() == [1.5, 0.0, 1.5, 3.0]
    up = [cell(i, i**3) for i in range(10)]
    assert prediction.rank_correlation(up).value == pytest.approx(1)
    assert prediction.rank_correlation([cell(c.risk, -c.gap) for c in up]).value == pytest.approx(-1)
    assert prediction.rank_correlation([cell(c.risk, -c.gap) for c in up], "distance").value == pytest.approx(
        1
    )
    # Spearman's own formula, without ties: 1 − 6Σd²/(n(n²−1)).
    gaps = [3.0, 1, 2, 5, 4, 9, 7, 8, 6, 0]
    d = sum((i - g) ** 2 for i, g in enumerate(gaps))
    found = prediction.rank_correlation([cell(i, g) for i, g in enumerate(gaps)])
    assert found.value == pytest.approx(1 - 6 * d / 990)
    assert found.low < found.value < found.high
    worst, foretold, measured = prediction.failures([*up, cell(9.5, -1.0)], 1)[0]
    assert (worst.risk, foretold, measured) == (9.5, 1.0, 0.0)
    with pytest.raises(ValueError, match="cells=2"):
        prediction.rank_correlation(up[:2])
    with pytest.raises(ValueError, match="measure='loss'"):
        prediction.rank_correlation(up, "loss")


def test_intervals_are_students() -> None:
    found = prediction.mean([1.0, 2.0, 3.0])
    assert (found.mean, found.n) == (2.0, 3)
    assert found.half == pytest.approx(4.302652729911275 / 3**0.5, rel=1e-9)
    assert math.isnan(prediction.mean([1.0]).half)


def run(recipe: str, seed: int, losses, validation, diverged=None, ageing="none"):
    return {
        "run": {"subject": "a/b", "recipe": recipe, "seed": seed, "ageing": ageing, "remedy": "none"},
        "record": {"losses": losses, "validation_loss": validation, "diverged_at": diverged},
    }


def test_gaps_are_to_the_same_seed_and_age() -> None:
    found = {
        "runs": [
            run("fp32", 0, [3.0, 2.0], 2.0), run("bf16", 0, [3.5, 1.0], 2.5),
            run("fp32", 1, [3.0, 2.0], 3.0), run("bf16", 1, [3.0, 2.0], 2.9),
            run("current", 0, [None], None, 1), run("current", 1, [3.0, 2.0], 3.0),
            run("bf16", 2, [3.0, 2.0], 9.0),
        ],
        "predictions": [
            {"run": {"subject": "a/b", "ageing": "none"}, "risk": {"bf16": 0.1, "current": 0.5, "nvfp4": 1.0}}
        ],
    }  # fmt: skip
    gaps = prediction.gaps_to_fp32(found)
    assert gaps["a/b", "bf16", "none", "none"] == {0: 0.5, 1: pytest.approx(-0.1)}
    bf16, current = prediction.cells(found)
    assert (bf16.gap, bf16.spread, bf16.distance) == pytest.approx((0.2, 0.6, 0.375))
    assert (current.gap, current.distance) == (math.inf, math.inf)
    found["manifest"] = {"config": {"ablations": {"subjects": [], "recipes": []}}}
    text = json.dumps(prediction.summary({**found, "runs": found["runs"][:4]}))
    assert "NaN" not in text
