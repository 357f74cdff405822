#!/usr/bin/env bash
# Verifies a Triton kernel as compiled for three GPUs, on a machine that has none: for a job of CI.
#   verify_without_gpu.sh TARGET FUNCTION [more of `precision-lab verify`]
# PRECISION_LAB says what pip installs: a clone of the lab or a wheel built from it, with its extra, such as
# '/path/to/clone[emulated]'. A C++ compiler is needed.
set -euo pipefail
target=$1 function=$2
: "${PRECISION_LAB:?says what pip installs: a clone of the lab with its extra, such as /path/to/clone[emulated]}"
shift 2
environment=$(mktemp -d)
trap 'rm -rf "$environment"' EXIT
python3 -m venv "$environment"
# Torch's build for CPUs, where the machine has a choice: the one for CUDA is gigabytes of what is not used.
"$environment/bin/pip" install --quiet --no-compile "${TORCH:-torch}" "$PRECISION_LAB"
failed=0
for device in sm_80 sm_90 sm_100; do
    echo "== $device"
    "$environment/bin/precision-lab" verify "$target" --function "$function" --device "$device" \
        --junit "precision-$device.xml" "$@" || failed=1
done
exit $failed
