import dataclasses

import pytest
import torch
from lmtool.model import PRESETS, ConfigError, TrainConfig, TrainOptions, preset_named
from lmtool.runtime import ProviderError


@pytest.mark.parametrize("name", PRESETS)
def test_presets_round_trip_through_json_under_their_names(name: str) -> None:
    config = preset_named(name)
    assert config.preset == name
    assert TrainConfig.from_json(config.to_json()) == config


def test_ptb_200_is_the_tutorial_recipe() -> None:
    config = preset_named("ptb-200")
    assert (config.layer_sizes, config.embedding_size, config.batch_size, config.steps) == ((200, 200), 200, 30, 20)
    rates = [config.learning_rate_at(epoch) for epoch in range(13)]
    assert rates == [1.0] * 5 + [0.5**power for power in range(1, 9)]
    assert config.learning_rate_at(5.9) == rates[5]


def test_cosine_schedule_falls_from_the_learning_rate_to_zero() -> None:
    config = dataclasses.replace(preset_named("quick"), epochs=4).adapted_to(10**6)
    rates = [config.learning_rate_at(step / 10) for step in range(41)]
    assert rates[0] == config.initial_rate
    assert rates[20] == pytest.approx(config.initial_rate / 2)
    assert rates[40] == pytest.approx(0)
    assert rates == sorted(rates, reverse=True)


def test_settings_are_parsed_by_field_type() -> None:
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
        ("batch_size", "0", "batch_size is 0, expected 1 or more"),
        ("learning_rate", "0", "learning_rate is 0.0, expected a positive number"),
        ("adamw_factor", "0", "adamw_factor is 0.0, expected a positive number"),
        ("dropout", "1", "dropout is 1.0, expected 0 or more and below 1"),
        ("tied", "maybe", "tied is 'maybe', expected true or false"),
        ("layer_sizes", "2;3", "expected numbers like 256,128"),
        ("layer_sizes", "", "sizes of 1 to 65,536"),
        ("learning_rate", "nan", "learning_rate is nan, expected a positive number"),
        ("learning_rate", "1e308", r"learning_rate is 1e\+308, expected a positive number of 1.2e-38 to 1.2e\+18"),
        ("init_range", "1e39", r"init_range is 1e\+39, expected"),
        ("clip_norm", "1e-320", "clip_norm is 1e-320, expected"),
        ("dropout", "1e-320", "dropout is 1e-320, expected 0 or more and below 1"),
        ("weight_decay", "1e-320", "weight_decay is 1e-320, expected 0 or more"),
        ("decay", "1.5", "decay is 1.5, expected 1.2e-38 to 1"),
        ("epochs", "10001", "epochs is 10001, expected 1 or more, 10,000 at most"),
        ("batch_size", str(2**31), "batch_size is 2147483648, expected 1 or more, 2,147,483,647 at most"),
        ("decay_after", "9" * 400, r"decay_after is 9{18}\.\.\.9{19}, expected 0 or more, 2,147,483,647 at most"),
        ("layer_sizes", ",".join(["1"] * 1001), "sizes of 1 to 65,536, 1,000 at most"),
        ("batch_size", "9" * 5000, r"^batch_size is '9{12}\.\.\.9{13}', expected a whole number$"),
        ("optimizer", "x" * 5000, r"^optimizer is 'x{12}\.\.\.x{13}', expected one of sgd, adam, adamw, muon$"),
        ("x" * 5000, "1", r"^there is no setting 'x{12}\.\.\.x{13}' \(all of them"),
        ("optimizer", "lion", "optimizer is 'lion', expected one of sgd, adam"),
        ("cell", "elman", "cell is 'elman', expected one of lstm, gru, rnn"),
        ("seed", "-1", "seed is -1"),
        ("beta1", "1", "beta1 is 1.0, expected 0 or more and below 1"),
        ("early_stopping", "-1", "early_stopping is -1, expected 0 or more"),
        ("averaging", "swa", "averaging is 'swa', expected one of none, uniform, triggered, exponential"),
        ("precision", "int8", "precision is 'int8', expected one of auto, fp32, tf32, bf16"),
    ],
)
def test_error_for_an_invalid_setting_states_what_is_expected(key: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        preset_named("ptb-200").with_settings({key: value})


def test_ends_of_the_ranges_are_valid() -> None:
    ends = {"learning_rate": "1.2e-38", "clip_norm": "1e18", "init_range": "1e18", "decay": "1", "epochs": "10000"}
    config = preset_named("ptb-200").with_settings({**ends, "dropout": "0", "schedule": "cosine"})
    assert TrainConfig.from_json(config.to_json()) == config
    assert config.learning_rate_at(5000.0) == pytest.approx(0.6e-38)


def test_missing_dropouts_default_to_the_general_one() -> None:
    config = preset_named("ptb-200").with_settings({"dropout": "0.5", "output_dropout": "0.2"})
    assert (config.dropouts.input, config.dropouts.hidden, config.dropouts.output) == (0.5, 0.5, 0.2)
    again = config.with_settings({"output_dropout": "none"})
    assert again.dropouts.output == 0.5


def test_learning_rate_warms_up_and_falls_at_plateaus() -> None:
    config = preset_named("ptb-200").with_settings({"warmup_epochs": "0.5", "schedule": "plateau", "decay": "0.25"})
    assert [config.learning_rate_at(progress) for progress in (0.0, 0.25, 0.5, 3.0)] == [0, 0.5, 1, 1]
    assert config.learning_rate_at(3.0, drops=2) == 0.0625


def test_the_learning_rate_of_a_step_schedule_may_fall_from_the_first_epoch_on() -> None:
    settings = {"learning_rate": "0.002", "decay": "0.97", "decay_after": "0"}
    characters = preset_named("ptb-200").with_settings(settings)
    assert [characters.learning_rate_at(epoch) for epoch in (0, 1, 24)] == pytest.approx(
        [0.002, 0.002 * 0.97, 0.002 * 0.97**24]
    )


def test_presets_are_the_published_recipes() -> None:
    medium, large = (preset_named(name) for name in ("zaremba-medium", "zaremba-large"))
    assert [medium.learning_rate_at(epoch) for epoch in (0, 5, 6)] == pytest.approx([1, 1, 1 / 1.2])
    assert [large.learning_rate_at(epoch) for epoch in (0, 13, 14)] == pytest.approx([1, 1, 1 / 1.15])
    assert preset_named("awd").learning_rate_at(499) == 30


def test_tied_weights_need_equal_widths() -> None:
    with pytest.raises(ConfigError, match="layer_sizes ends with 128, embedding_size is 200"):
        preset_named("ptb-256-128").with_settings({"tied": "true"})


def test_a_configuration_of_an_older_version_has_the_same_step_for_all_parameters() -> None:
    value = preset_named("quick").to_json()
    assert TrainConfig.from_json({key: value[key] for key in value if key != "adamw_factor"}).adamw_factor == 1


def test_invalid_configuration_files_are_refused() -> None:
    value = preset_named("quick").to_json()
    with pytest.raises(ConfigError, match="must be an object"):
        TrainConfig.from_json([])
    with pytest.raises(ConfigError, match="lacks dropout, steps"):
        TrainConfig.from_json({key: value[key] for key in value if key not in ("dropout", "steps")})
    with pytest.raises(ConfigError, match="no setting 'momentum'"):
        TrainConfig.from_json({**value, "momentum": 1})
    with pytest.raises(ConfigError, match="steps is 'null'"):
        TrainConfig.from_json({**value, "steps": None})


def test_error_for_an_unknown_preset_lists_the_presets() -> None:
    with pytest.raises(ConfigError, match="no preset 'ptb'.* .all of them: lmtool presets."):
        preset_named("ptb")


@pytest.mark.parametrize(("built_for", "fault", "message"), [
    (None, "", "finds no CUDA device; it is built without CUDA; install a CUDA build"),
    ("13.0", "the NVIDIA driver is missing", "finds no CUDA device; the NVIDIA driver is missing"),
    ("13.0", "", r"finds no CUDA device; update the NVIDIA driver, it may be too old for CUDA 13\.0"),
])  # fmt: skip
def test_a_missing_gpu_has_the_fix_that_is_needed(
    monkeypatch: pytest.MonkeyPatch, built_for: str | None, fault: str, message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built_for)
    monkeypatch.setattr("lmtool.model.training.device.driver_fault", lambda: fault)
    with pytest.raises(ProviderError, match=message):
        TrainOptions(device="cuda")
