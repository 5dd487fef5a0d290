"""The IREE backend: an ONNX file compiled to machine code, with the interface of an onnxruntime session."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ...runtime.io.files import temporary_folder
from .graph_names import read_names
from .refusal import refusal

_ENTRY_SUFFIX = "$async"


@final
class IreeSession:
    """Inference in IREE on the CPU. Loading compiles the file for this processor.

    Raises:
        BenchError: IREE cannot compile the file.
    """

    def __init__(self, artifact: Path, threads: int) -> None:
        from iree import runtime

        self._names = read_names(artifact)
        if threads > 1:
            runtime.flags.parse_flags(f"--task_topology_group_count={threads}")
        context = runtime.SystemContext(config=runtime.Config("local-task" if threads > 1 else "local-sync"))
        module = runtime.VmModule.copy_buffer(context.instance, _compile(artifact))
        context.add_vm_module(module)
        (entry,) = (name.removesuffix(_ENTRY_SUFFIX) for name in module.function_names if name.endswith(_ENTRY_SUFFIX))
        self._call = context.modules[module.name][entry]

    def run(self, outputs: Sequence[str], feed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs for these inputs, copies: `to_host` gives memory that ends with IREE's array."""
        results = dict(zip(self._names.outputs, self._call(*(feed[name] for name in self._names.inputs)), strict=True))
        return [np.array(results[name].to_host()) for name in outputs]


def _compile(artifact: Path) -> bytes:
    with temporary_folder() as folder:
        imported, compiled = folder / "network.mlir", folder / "network.vmfb"
        _run_tool(artifact, "iree.compiler.tools.import_onnx", str(artifact), "-o", str(imported))
        target = ("--iree-hal-target-device=local", "--iree-hal-local-target-device-backends=llvm-cpu")
        options = (*target, "--iree-llvmcpu-target-cpu=host", str(imported), "-o", str(compiled))
        _run_tool(artifact, "iree.compiler.tools.scripts.iree_compile", *options)
        return compiled.read_bytes()


def _run_tool(artifact: Path, module: str, *options: str) -> None:
    command = [sys.executable, "-m", module, *options]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # IREE's own programs
    if finished.returncode != 0:
        errors = [line for line in finished.stderr.splitlines() if "error:" in line]
        reason = " ".join(errors) or f"{module} ended with {finished.returncode}"
        raise refusal(f"IREE {metadata.version('iree-base-compiler')}", artifact, reason)
