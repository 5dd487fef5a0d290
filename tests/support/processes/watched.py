"""Commands in a fresh process with an empty HOME: files that they write elsewhere, and addresses that they contact."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from support.processes import sequence

_CALLS = "%network,open,openat,openat2,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,symlink,symlinkat"
_OPENED = re.compile(r"\bO_(?:WRONLY|RDWR|CREAT)\b.* = \d+<(/[^>]*)>")
_MADE = re.compile(r'^ *(?:creat|mkdir|rename|link|symlink)\w*\(.*"(/[^"]*)"')
_ADDRESS = re.compile(r'(?:inet_addr\(|inet_pton\(AF_INET6, )"([^"]*)"')
_NAME_SERVICE = re.compile(r'"(/etc/(?:resolv\.conf|hosts))"')


class Watched:
    """What commands did.

    Attributes:
        outcomes: By the command's name: `code`, `errors`, and `new`, the new files under HOME.
    """

    def __init__(self, folder: Path, commands: Mapping[str, list[str]], traced: bool, **variables: str) -> None:
        """Run the commands in `folder`/work, with strace if `traced`, and these environment variables."""
        self._log = folder / "strace.log"
        self._own = [folder / "work", folder / "temporary"]
        home, temporary = folder / "home", self._own[1]
        for path in (home, *self._own):
            path.mkdir(parents=True, exist_ok=True)
        (temporary / "commands.json").write_text(json.dumps(commands))
        kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT") if name in os.environ}
        own = {"HOME": str(home), "TMPDIR": str(temporary), "PYTHONPATH": str(Path(__file__).parents[2])}
        quick = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        strace = (
            ["strace", "-f", "--seccomp-bpf", "-y", "-o", str(self._log), "-e", f"trace={_CALLS}"] if traced else []
        )
        done = subprocess.run(
            [*strace, sys.executable, sequence.__file__, str(temporary)],
            cwd=self._own[0],
            env={**kept, **own, **quick, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        self.outcomes: dict[str, dict[str, Any]] = json.loads((temporary / "outcomes.json").read_text())

    def written_elsewhere(self) -> set[str]:
        """Files outside the working and the temporary folder that were opened for writing or made."""
        matches = [_OPENED.search(line) or _MADE.search(line) for line in self._calls()]
        own = tuple(f"{path}{os.sep}" for path in self._own)
        return {match[1] for match in matches if match and not match[1].startswith((*own, "/dev/", "/proc/"))}

    def contacted(self) -> set[str]:
        """Files of the name service that were read, and addresses of other machines."""
        lines = list(self._calls())
        addresses = {address for line in lines for address in _ADDRESS.findall(line)}
        names = {name for line in lines for name in _NAME_SERVICE.findall(line)}
        return names | {address for address in addresses if not address.startswith("127.") and address != "::1"}

    def _calls(self) -> Iterator[str]:
        """Each system call on one line; strace splits those that other threads interrupt."""
        begun: dict[str, str] = {}
        for line in self._log.read_text().splitlines():
            process, _, call = line.partition(" ")
            if call.endswith("<unfinished ...>"):
                begun[process] = call.removesuffix("<unfinished ...>")
            yield begun.pop(process, "") + call if "resumed>" in call else call
