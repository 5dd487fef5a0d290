"""onnxruntime's npm packages: where they are looked for, which versions are there, and why one cannot be used.

node looks for a package as it always does: in the `node_modules` of a folder, then of the folders above it. That folder
is the current one, or the one that the environment variable LMTOOL_NODE_FOLDER names; the harness names it to its
processes, which run in folders of their own.
"""

import os
from contextlib import suppress
from pathlib import Path

from .errors import BenchError
from .node_process import NodeProcess

NODE_FOLDER = "LMTOOL_NODE_FOLDER"
"""The environment variable."""

NODE_PACKAGE = "onnxruntime-node"
WEB_PACKAGE = "onnxruntime-web"
_TRIED = {NODE_PACKAGE: "1.30.0", WEB_PACKAGE: "1.30.0"}


def node_folder() -> Path:
    """Where the search for packages begins, absolute."""
    return Path(os.environ.get(NODE_FOLDER) or ".").resolve()


def start(package: str) -> NodeProcess:
    """A node process that has loaded a package.

    Raises:
        BenchError: There is no node, or it cannot load the package.
    """
    folder = node_folder()
    try:
        return NodeProcess(package, folder)
    except BenchError as error:
        # Its scripts would fetch libraries for GPUs.
        install = f"npm install --ignore-scripts {package}@{_TRIED[package]}"
        raise BenchError(f"{error}; {install} in {folder} or above, or name a folder in {NODE_FOLDER}") from error


def why_missing(package: str) -> str | None:
    """Why node cannot load a package, with the remedy; None where it can."""
    try:
        start(package).close()
    except BenchError as error:
        return str(error)
    return None


def versions() -> dict[str, str]:
    """The versions of node and of those packages that it can load, by name."""
    found: dict[str, str] = {}
    for package in _TRIED:
        with suppress(BenchError):
            process = start(package)
            process.close()
            found |= process.versions
    return found
