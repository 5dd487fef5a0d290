"""Energy of the processor's packages, by the counters that Linux shows for Intel and AMD processors (RAPL).

A package is a whole processor: every core, the caches and the memory controller, whatever runs on them. Not counted are
memory modules, GPUs, disks and the losses of the power supply.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, final

COUNTERS = Path("/sys/class/powercap")

_ENERGY, _RANGE, _NAME = "energy_uj", "max_energy_range_uj", "name"
_ZONES = "intel-rapl:*"  # AMD's have the same name
_PACKAGE = "package-"
_MICRO = 1e-6


@final
class EnergyMeter:
    """Measures the energy of calls in a `with` block, in which `counting(call)` is called in place of `call`.

    A counter may wrap around once in the block: it does so after minutes at the highest power.

    Args:
        folder: The counters; None where the calls are computed by another device, whose energy they do not hold.

    Attributes:
        reason: Why the counters cannot be read, and the fix; None if they can.
    """

    def __init__(self, folder: Path | None = COUNTERS) -> None:
        self._packages = [] if folder is None else list(filter(_is_package, sorted(folder.glob(_ZONES))))
        self.reason = _fault(folder, self._packages)
        self._before: list[int] = []
        self._joules = 0.0
        self._calls = 0

    def counting(self, call: Callable[[], object]) -> Callable[[], object]:
        """The call, counted; `call` itself where no energy is measured."""
        if self.reason is not None:
            return call

        def counted() -> object:
            self._calls += 1
            return call()

        return counted

    def __enter__(self) -> "EnergyMeter":
        """Start to measure."""
        self._before = self._read()
        return self

    def __exit__(self, *_: Any) -> None:
        """Stop to measure."""
        pairs = zip(self._packages, self._before, self._read(), strict=False)
        self._joules = sum(_used(package, before, after) for package, before, after in pairs) * _MICRO

    @property
    def joules(self) -> float | None:
        """Joules of a call: the mean of all in the block; None where no energy is measured."""
        return self._joules / self._calls if self._calls and self._joules > 0 else None

    def _read(self) -> list[int]:
        return [] if self.reason is not None else [_number(package / _ENERGY) for package in self._packages]


def energy_source(folder: Path = COUNTERS) -> str:
    """The measured packages, or the reason why there are none."""
    meter = EnergyMeter(folder)
    if meter.reason is not None:
        return f"not readable: {meter.reason}"
    return ", ".join((package / _NAME).read_text().strip() for package in meter._packages)


def _fault(folder: Path | None, packages: list[Path]) -> str | None:
    if folder is None:
        return "another device computes the calls"
    if not folder.is_dir():
        return f"there is no {folder}: no Linux, a virtual machine, or the module intel_rapl_common is not loaded"
    if not packages:
        return f"{folder} has no counter of a processor package"
    try:
        for package in packages:
            _number(package / _ENERGY), _number(package / _RANGE)
    except PermissionError as error:
        return f"{error.filename} is for root; run as root, or sudo chmod a+r {folder}/{_ZONES}/{_ENERGY}"
    except (OSError, ValueError) as error:
        return str(error)
    return None


def _is_package(zone: Path) -> bool:
    try:
        return (zone / _NAME).read_text().startswith(_PACKAGE)
    except OSError:
        return False


def _used(package: Path, before: int, after: int) -> int:
    """Microjoules between two readings; a counter starts again at 0 after its range."""
    return after - before if after >= before else after - before + _number(package / _RANGE)


def _number(path: Path) -> int:
    return int(path.read_text())
