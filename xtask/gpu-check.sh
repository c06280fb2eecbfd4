#!/bin/sh
# A check of fifteen minutes on a machine with an NVIDIA GPU, without Rust or a network.
#
#   xtask/gpu-check.sh pack FOLDER            where Rust is: builds programs and tests, and packs them
#   FOLDER/gpu-check.sh first  OUT [PYTHON]   where the GPU is: device tests, and 100 steps of gpt2 in bf16 (7 minutes)
#   FOLDER/gpu-check.sh second OUT [PYTHON]   the recipe `gpu` to its end, and speeds beside PyTorch (8 minutes)
#
# PYTHON needs torch: its programs are compiled by torch.compile, with flash attention. OUT receives the output of each
# part and `summary.txt`. Each part has a time limit, and a part that fails does not stop the others.
set -u

usage() {
    sed -n '2,10s/^# \{0,1\}//p' "$0"
    exit 2
}

[ $# -ge 2 ] || usage
part=$1

if [ "$part" = pack ]; then
    set -e
    cargo xtask device-check pack --features cuda --release --output "$2"
    cp "$0" "$2/gpu-check.sh"
    exit
fi

pack=$(cd "$(dirname "$0")" && pwd)
python=${3:-}
mkdir -p "$2"
out=$(cd "$2" && pwd)
# Compiled kernels stay beside the results, so that both parts share them.
export XDG_CACHE_HOME="$out/cache"

# NVRTC and the headers: CUDA_PATH, an installed toolkit, or the packages that come with torch.
if [ -z "${CUDA_PATH:-}" ] && [ ! -d /usr/local/cuda ] && [ -n "$python" ]; then
    CUDA_PATH=$("$python" -c 'import glob, nvidia; print(glob.glob(list(nvidia.__path__)[0] + "/cu[0-9]*")[0])') &&
        export CUDA_PATH
fi
if [ -n "${CUDA_PATH:-}" ] && [ -d "$CUDA_PATH/lib" ]; then
    libraries="$out/libraries"
    mkdir -p "$libraries"
    # NVIDIA's Python packages have the name with a version alone.
    for library in "$CUDA_PATH"/lib/libnvrtc.so.[0-9]*; do ln -sf "$library" "$libraries/libnvrtc.so"; done
    export LD_LIBRARY_PATH="$libraries:$CUDA_PATH/lib:${LD_LIBRARY_PATH:-}"
fi

# run NAME SECONDS COMMAND.. : runs the command with a time limit, and adds its result to the summary.
run() {
    name=$1
    limit=$2
    shift 2
    started=$(date +%s)
    timeout --kill-after 10 "$limit" "$@" >"$out/$name.txt" 2>&1
    status=$?
    echo "$name: exit $status after $(($(date +%s) - started)) s" | tee -a "$out/summary.txt"
    tail -n 12 "$out/$name.txt" | tee -a "$out/summary.txt"
}

kindling="$pack/kindling"
cd "$out" || exit 1
case $part in
first)
    run gpu 10 nvidia-smi
    run tests-kernels 150 "$pack/xtask" device-check run "$pack" --device cuda --only kernels
    run tests-model 60 "$pack/xtask" device-check run "$pack" --device cuda --only model
    run gpt2 150 "$kindling" train gpt2 --device cuda --run gpt2 --no-tui --set run.precision=bf16 \
        --set optimizer.grad_accumulation=1 --set schedule.max_steps=100 --set schedule.eval_windows=24
    ;;
second)
    run train-gpu 240 "$kindling" train gpu --device cuda --run gpu --no-tui
    # Ours, eager and compiled PyTorch, one after the other.
    run gpt2-speed 220 "$pack/xtask" bench train --config B --precision bf16 --device cuda --rounds 1 \
        --kindling "$kindling" --reference "$pack/reference" --folder "$out" ${python:+--python "$python"}
    ;;
*) usage ;;
esac
# The kernels that were compiled are of no further use to the caller.
[ "$part" = first ] || rm -rf "$out/cache"
