import dataclasses

import pytest
from lmtool.model import PRESETS, ConfigError, TrainConfig, preset_named


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json_and_have_their_own_names(name: str) -> None:
    config = preset_named(name)
    assert config.preset == name
    assert TrainConfig.from_json(config.to_json()) == config


def test_the_tutorial_recipe_is_the_preset() -> None:
    config = preset_named("ptb-200")
    assert (config.layer_sizes, config.embedding_size, config.batch_size, config.steps) == ((200, 200), 200, 30, 20)
    rates = [config.learning_rate_at(epoch) for epoch in range(13)]
    assert rates == [1.0] * 5 + [0.5**power for power in range(1, 9)]
    assert config.learning_rate_at(5.9) == rates[5]


def test_a_cosine_falls_from_the_rate_to_nothing() -> None:
    config = dataclasses.replace(preset_named("quick"), epochs=4)
    rates = [config.learning_rate_at(step / 10) for step in range(41)]
    assert rates[0] == config.learning_rate
    assert rates[20] == pytest.approx(config.learning_rate / 2)
    assert rates[40] == pytest.approx(0)
    assert rates == sorted(rates, reverse=True)


def test_settings_are_parsed_by_the_type_of_their_field() -> None:
    config = preset_named("ptb-200").with_settings(
        {"layer_sizes": "256, 128", "dropout": "0.5", "tied": "true", "embedding_size": "128", "optimizer": "adam"}
    )
    assert config.layer_sizes == (256, 128)
    assert (config.dropout, config.tied, config.embedding_size, config.optimizer) == (0.5, True, 128, "adam")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("layer_size", "3", "there is no setting 'layer_size'; did you mean 'layer_sizes'"),
        ("epochs", "many", "epochs is 'many', expected a whole number"),
        ("epochs", "0", "epochs is 0, expected 1 or more"),
        ("dropout", "1", "dropout is 1.0, expected 0 or more and below 1"),
        ("tied", "maybe", "tied is 'maybe', expected true or false"),
        ("layer_sizes", "2;3", "expected numbers like 256,128"),
        ("layer_sizes", "", "sizes of 1 to 65,536"),
        ("learning_rate", "nan", "learning_rate is nan, expected a positive number"),
        ("optimizer", "lion", "optimizer is 'lion', expected one of sgd, adam"),
        ("cell", "elman", "cell is 'elman', expected one of lstm, gru, rnn"),
        ("seed", "-1", "seed is -1"),
    ],
)
def test_a_wrong_setting_says_what_is_expected(key: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        preset_named("ptb-200").with_settings({key: value})


def test_tied_weights_need_equal_widths() -> None:
    with pytest.raises(ConfigError, match="layer_sizes ends with 128, embedding_size is 200"):
        preset_named("ptb-256-128").with_settings({"tied": "true"})


def test_a_configuration_file_that_is_wrong_is_refused() -> None:
    value = preset_named("quick").to_json()
    with pytest.raises(ConfigError, match="must be an object"):
        TrainConfig.from_json([])
    with pytest.raises(ConfigError, match="lacks dropout, steps"):
        TrainConfig.from_json({key: value[key] for key in value if key not in ("dropout", "steps")})
    with pytest.raises(ConfigError, match="no setting 'momentum'"):
        TrainConfig.from_json({**value, "momentum": 1})
    with pytest.raises(ConfigError, match="steps is 'null'"):
        TrainConfig.from_json({**value, "steps": None})


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="no preset 'ptb', expected one of quick, ptb-200"):
        preset_named("ptb")
