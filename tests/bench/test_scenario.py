"""Scenarios: their forms, their names, and what is timed by default."""

import pytest
from lmtool.bench import Scenario, scenarios_of
from lmtool.bench.scenario import KINDS, chosen_scenarios, streams
from lmtool.runtime import OptionError

FORMS = (
    "single-stream",
    "multi-stream:8",
    "offline:2x5",
    "prefill:1x9",
    "generation:12",
    "suggest",
    "pool:3x4",
    "load",
    "first-step",
    "server:50",
)


@pytest.mark.parametrize("text", FORMS)
def test_a_scenario_is_read_as_it_is_written(text: str) -> None:
    scenario = Scenario.parse(text)
    assert str(scenario) == text
    assert scenario.kind == text.partition(":")[0]
    assert scenario.named().startswith(text.partition(":")[0].replace("first-step", "first step"))


def test_sizes_and_tokens() -> None:
    assert Scenario.parse("offline:2x5") == Scenario("offline", 2, 5)
    assert [Scenario.parse(text).tokens for text in FORMS] == [1, 8, 10, 9, 12, 0, 12, 0, 0, 1]
    assert Scenario.parse("server:50").rate == 50
    assert "batch 2" in Scenario.parse("offline:2x5").named()
    assert streams(1) == Scenario("single-stream")
    assert streams(2) == Scenario.parse("multi-stream:2")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "64",
        "offline",
        "offline:2",
        "offline:0x1",
        "multi-stream:-1",
        "multi-stream:٣",
        "load:1",
        "generation:2x3",
        "suggest:5",
        "pool:64",
        "pool:0x4",
        "server:0",
        "server",
    ],
)
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="has an unknown form|a size below 1|0 requests a second"):
        Scenario.parse(text)


def test_the_default_is_every_kind_but_a_server_without_rates() -> None:
    assert {scenario.kind for scenario in chosen_scenarios(None, None, None, None)} == set(KINDS) - {"server"}
    assert {scenario.kind for scenario in chosen_scenarios(None, None, None, [7])} == set(KINDS)
    chosen = chosen_scenarios(["offline", "multi-stream"], [1, 2, 2], [3], None)
    assert [str(scenario) for scenario in chosen] == ["single-stream", "multi-stream:2", "offline:1x3"]


def test_scenarios_with_sizes_can_be_named() -> None:
    chosen = chosen_scenarios(["prefill:2x7", "multi-stream", "multi-stream:9"], [9], None, None)
    assert [str(scenario) for scenario in chosen] == ["multi-stream:9", "prefill:2x7"]


def test_sizes_without_their_scenario_are_refused() -> None:
    with pytest.raises(OptionError, match="--batch is a size of multi-stream, which is not among the scenarios"):
        chosen_scenarios(["load"], [8], None, None)
    with pytest.raises(OptionError, match="--rate is a size of server"):
        chosen_scenarios(["load"], None, None, [8])


def test_unknown_kinds_and_missing_sizes_are_refused() -> None:
    with pytest.raises(OptionError, match="scenario 'chunked' is not known, expected one of single-stream"):
        scenarios_of(["chunked"], (), (), ())
    with pytest.raises(OptionError, match="the scenario server needs a size.*--rate 500"):
        chosen_scenarios(["server"], None, None, None)
    with pytest.raises(OptionError, match="multi-stream:0 has a size below 1"):
        chosen_scenarios(None, [0], None, None)
    with pytest.raises(OptionError, match="multi-stream:65537 has more tokens in a call than 65,536"):
        chosen_scenarios(None, [65_537], None, None)
