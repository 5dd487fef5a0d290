"""Gather all evidence about lmtool on a machine with a GPU, the most valuable first, within a time limit.

    python bench/studies/gpu --out DIR [--seconds 570] [--data CORPUS] [--device cpu] [--small]

Each part runs in a separate process with a limit: a smoke test, the tests for CUDA, a training, exports and their
verification, a benchmark of the processor and the GPU, differences with TF32 as the positive control, batch invariance,
a stream pool, fp16, trainings in TF32 and bf16, CUDA graphs. A part that fails, crashes or hangs is recorded with the
reason, and the next one begins.

A part that is stopped keeps the facts that it has found. DIR gets `gpu.json`, `gpu.md` and `gpu.log` after each part,
so that a kill loses only the part that runs, and `bench.*.json` with every measured time.

`--device cpu` rehearses all parts without a GPU; `--small` takes tiny networks and few calls. lmtool may be installed,
or be a folder on PYTHONPATH. The corpus is the text of Python's documentation if none is named; the network is
`ptb-200`.
"""
