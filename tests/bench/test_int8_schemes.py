"""The comparison of int8 schemes: the graphs are those of one network, and the table says what was measured."""

import sys

import int8_schemes
import numpy as np
import onnx
import pytest
from lmtool.export import BuildOptions, build_model
from lmtool.runtime import Architecture
from support.models.networks import network_of


def test_the_graphs_compute_the_same_network() -> None:
    architecture = Architecture("lstm", 7, (7, 5), False)
    sessions = int8_schemes.make_sessions(architecture, 50)
    assert list(sessions) == ["fp32", "dynamic", "static"]
    feeds = int8_schemes.inputs_of(architecture, 50, 2, 3, 0)
    fp32, *others = (session.run(None, feeds)[0] for session in sessions.values())
    for logits in others:
        assert 0 < np.abs(logits - fp32).max() < 0.02
    (batch, kept, _) = sessions["static"].run(None, int8_schemes.inputs_of(architecture, 50, 2, 3, 1))[0].shape
    assert (batch, kept) == (2, 1)


def test_dynamic_scales_are_those_of_onnxruntime() -> None:
    model = build_model(network_of((7, 3)), BuildOptions())
    for unsigned, kind in ((False, np.int8), (True, np.uint8)):
        quantized = int8_schemes.dynamic_int8(model, unsigned=unsigned)
        operators = [node.op_type for node in quantized.graph.node]
        assert (operators.count("DynamicQuantizeLSTM"), operators.count("MatMulInteger")) == (2, 1)
        weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer}
        assert weights["projection.weight_quantized"].dtype == kind


def test_a_ratio_is_the_median_of_those_of_the_rounds() -> None:
    medians = {"fp32": [4.0, 9.0, 8.0], "static": [2.0, 3.0, 2.0], "dynamic": [2.0, 1.0, 1.0]}
    row = int8_schemes.row_of((1, 512, 1), medians)
    assert row[0] == "1 x 512, last"
    assert row[-2:] == ("3.00 (2.00 to 4.00)", "2.00 (1.00 to 3.00)")


def test_the_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8_schemes, "CALLS", ((1, 1, 0), (2, 3, 1)))
    monkeypatch.setattr(int8_schemes, "_SECONDS_A_ROUND", 0.0)
    arguments = ["--sizes", "4,3", "--vocabulary", "20", "--cell", "gru", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["int8_schemes.py", *arguments])
    int8_schemes.main()
    first, _, *rows = capsys.readouterr().out.splitlines()
    assert first.endswith("one thread, gru 4,3, 20 tokens")
    assert [row[:12].strip() for row in rows] == ["1 x 1", "2 x 3, last"]
    assert all(row.split()[-1] == "-" for row in rows)
