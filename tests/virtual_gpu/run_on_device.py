"""Runs the tests of a file in this process, which becomes an emulated device's; writes a JSON line for each.

python run_on_device.py sm_90 FILE
"""

import json
import os
import runpy
import sys
import traceback

from precision_lab.virtual_gpu.install import install


def main() -> None:
    target, path = sys.argv[1:]
    install(target)
    for name, test in runpy.run_path(path, run_name="on_device").items():
        if name.startswith("test_"):
            try:
                test()
                why = ""
            except Exception:
                why = traceback.format_exc()
            print(json.dumps({"test": name, "why": why}), flush=True)
    print(json.dumps({"test": "", "why": ""}), flush=True)


main()
os._exit(0)  # as the lab's own processes: what ends torch's threads sometimes aborts
