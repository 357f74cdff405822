"""What goes between the lab's process and a kernel's: plans one way, events the other, as lines of JSON."""

from __future__ import annotations

import base64
import pickle
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from precision_lab.results import Examination, Finding, Measurement, NotExamined
from precision_lab.verifying.plan import Begin, Event, Examined, Measured, Plan, Planned


def packed(plan: Plan) -> str:
    """A plan as a line of a job: it may hold a function or a format of the user's own."""
    return base64.b64encode(pickle.dumps(plan)).decode()


def unpacked(text: str) -> Plan:
    """Inverse of `packed`."""
    plan: Plan = pickle.loads(base64.b64decode(text))
    return plan


def encode(event: Event) -> dict[str, Any]:
    if isinstance(event, Planned):
        return {"planned": list(event.outputs), "sets": list(event.parameter_sets)}
    if isinstance(event, Begin):
        return {"begin": event.stage, "blanks": [m.to_json() for m in event.blanks]}
    if isinstance(event, Measured):
        return {"measurement": event.measurement.to_json(), "baseline": event.baseline}
    return {
        "faults": [asdict(f) for f in event.faults],
        "notes": list(event.notes),
        "not_examined": [asdict(g) for g in event.not_examined],
        "examination": None if event.examination is None else asdict(event.examination),
    }


def decode(line: Mapping[str, Any]) -> Event:
    if "planned" in line:
        return Planned(tuple(line["planned"]), tuple(line["sets"]))
    if "begin" in line:
        return Begin(line["begin"], tuple(Measurement.from_json(m) for m in line["blanks"]))
    if "measurement" in line:
        return Measured(Measurement.from_json(line["measurement"]), line["baseline"])
    return Examined(
        tuple(Finding.from_json(f) for f in line["faults"]),
        tuple(line["notes"]),
        tuple(NotExamined.from_json(g) for g in line["not_examined"]),
        None if line["examination"] is None else Examination.from_json(line["examination"]),
    )
