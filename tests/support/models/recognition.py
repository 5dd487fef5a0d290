"""A program: sherpa-onnx decodes noise with a language model, once for each scale, and prints JSON."""

import json
import sys
from pathlib import Path

import numpy as np
import sherpa_onnx

RATE = 16_000
SECONDS = 0.5


def decode(folder: Path, language_model: str, scale: float) -> dict[str, list | str]:
    """Decode with a beam as wide as the vocabulary, so that the language model decides."""
    tokens = folder / "tokens.txt"
    recognizer = sherpa_onnx.OnlineRecognizer.from_transducer(
        tokens=str(tokens),
        encoder=str(folder / "encoder.onnx"),
        decoder=str(folder / "decoder.onnx"),
        joiner=str(folder / "joiner.onnx"),
        num_threads=1,
        decoding_method="modified_beam_search",
        max_active_paths=len(tokens.read_text(encoding="utf-8").splitlines()),
        lm=language_model,
        lm_scale=scale,
    )
    stream = recognizer.create_stream()
    noise = np.random.default_rng(7).normal(0, 0.1, int(RATE * SECONDS)).astype(np.float32)
    stream.accept_waveform(RATE, noise)
    stream.input_finished()
    while recognizer.is_ready(stream):
        recognizer.decode_stream(stream)
    return {
        "tokens": recognizer.tokens(stream),
        "lm_probs": recognizer.lm_probs(stream),
        "text": recognizer.get_result(stream),
    }


if __name__ == "__main__":
    _, folder, language_model, scales = sys.argv
    json.dump([decode(Path(folder), language_model, scale) for scale in json.loads(scales)], sys.stdout)
