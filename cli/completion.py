"""Values that a shell completes. They are written here because reading them from the rooms would load torch."""

from collections.abc import Callable

VALUES = {
    "preset": (
        *("quick", "keyboard", "ptb-200", "ptb-256-128", "ptb-best-cpu", "ptb-night"),
        *("wikitext2-cpu", "char-128", "zaremba-medium", "zaremba-large", "awd"),
    ),
    "precision": ("fp32", "fp16", "int8"),
    "provider": ("cpu", "cuda", "tensorrt", "openvino", "coreml", "directml"),
    "split": ("train", "valid", "test", "all"),
    "device": ("cpu", "cuda"),
    "layout": ("word_language_model", "awd-lstm-lm", "fastai", "icefall", "pytorch", "keras"),
}
"""Option -> its values; a test compares them with those of the rooms."""


def completes(name: str) -> Callable[[str], list[str]]:
    """The completion of an option: its values that begin with what is typed."""

    def complete(incomplete: str) -> list[str]:
        return [value for value in VALUES[name] if value.startswith(incomplete)]

    return complete
