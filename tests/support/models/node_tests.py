"""The tests of LSTM and GRU that the package onnx brings."""

import copy
import importlib
from typing import Any

_CASES = "onnx.backend.test.case.node"


def node_tests() -> list[Any]:
    """Test cases with `name`, `model` and `data_sets`; copies, which may be changed."""
    for operator in ("lstm", "gru"):  # the import fills the list
        importlib.import_module(f"{_CASES}.{operator}")
    found = importlib.import_module(_CASES)._NodeTestCases
    return copy.deepcopy([case for case in found if case.name.startswith(("test_lstm_", "test_gru_"))])
