"""`--fix` mends what is mechanical, proves it, and writes nothing that it cannot prove."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from lmtool.export import ParityError
from lmtool.export.doctor.mending import mend
from lmtool.runtime import OptionError, StatefulSession
from onnx import numpy_helper
from support.models.node_tests import node_tests
from support.models.recurrent_files import HIDDEN, recurrent_model
from support.models.seeded_faults import SEEDS, Seed


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.name)
def test_a_seeded_fault_is_mended_or_nothing_is_written(seed: Seed, tmp_path: Path) -> None:
    path, out = tmp_path / "network.onnx", tmp_path / "mended.onnx"
    path.write_bytes(seed.make().SerializeToString())
    before = path.read_bytes()
    mending = mend(path, out)
    left = None if mending.after is None else tuple(fault.kind for fault in mending.after.faults)
    assert left == seed.mended, mending.format()
    assert (mending.path, out.exists()) == ((None, False) if seed.mended is None else (out, True))
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1 + out.exists()


def seed_named(name: str) -> Seed:
    return next(seed for seed in SEEDS if seed.name == name)


@pytest.mark.parametrize("name", ["neither state inputs nor outputs", "zeros as the initial state"])
def test_a_mended_layer_streams_what_the_original_computes_at_once(name: str, tmp_path: Path) -> None:
    path, out = tmp_path / "network.onnx", tmp_path / "mended.onnx"
    path.write_bytes(seed_named(name).make().SerializeToString())
    mend(path, out)
    x = np.random.default_rng(0).normal(size=(5, 2, 4)).astype(np.float32)
    whole = StatefulSession.load(path, {}).run({"x": x})[0]["y"]
    session, state, steps = StatefulSession.load(out), None, []
    assert {pair.input: pair.output for pair in session.pairs} == {
        "hidden_0": "next_hidden_0",
        "cell_0": "next_cell_0",
    }
    for step in x:
        outputs, state = session.run({"x": step[None]}, state)
        steps.append(outputs["y"])
    np.testing.assert_allclose(np.concatenate(steps), whole, atol=1e-6)


def test_a_constant_that_is_not_zero_is_no_state_to_add(tmp_path: Path) -> None:
    path, out = tmp_path / "network.onnx", tmp_path / "mended.onnx"
    model = seed_named("an initial state of the example").make()
    zeros = next(tensor for tensor in model.graph.initializer if tensor.name == "zeros")
    zeros.CopyFrom(numpy_helper.from_array(np.full((1, 2, HIDDEN), 0.5, np.float32), "zeros"))
    onnx.save(model, path)
    with pytest.raises(ParityError, match=r"output 'y' differs by up to 0\.\d; an initial state that is not zero"):
        mend(path, out)
    assert not out.exists()


def test_the_file_itself_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    onnx.save(recurrent_model(), path)
    with pytest.raises(OptionError, match="names .*network.onnx itself, expected another file"):
        mend(path, tmp_path / "." / "network.onnx")


def test_the_node_tests_of_onnx_are_mended_and_keep_their_outputs(tmp_path: Path) -> None:
    """With their weights stored: as inputs they belong to the caller."""
    path, out, mended = tmp_path / "network.onnx", tmp_path / "mended.onnx", 0
    for case in node_tests():
        if not case.name.endswith(("_defaults", "_with_initial_bias")):
            continue
        names = [value.name for value in case.model.graph.input]
        data, expected = case.data_sets[0]
        for value in list(case.model.graph.input)[1:]:
            array = data[names.index(value.name)]
            case.model.graph.initializer.append(numpy_helper.from_array(array, value.name))
            case.model.graph.input.remove(value)
        onnx.save(case.model, path)
        mending = mend(path, out)
        assert mending.after is not None
        assert mending.after.is_sound, mending.format()
        _, state = StatefulSession.load(out).run({"X": data[0]})
        np.testing.assert_allclose(state["hidden_0"], expected[-1], rtol=1e-5)
        mended += 1
    assert mended == 4
