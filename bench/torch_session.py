"""A PyTorch network, called as an onnxruntime session over its artifact is called."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from numpy.typing import NDArray

from ..model.network import state_from_tensors, state_tensors
from ..runtime.artifact import LOGITS, NEXT, TOKEN_IDS


@final
class TorchSession:
    """Names and arrays outside, tensors on a device inside."""

    def __init__(self, network: Callable[..., Any], device: str) -> None:
        """Call `network`, a LanguageModel or what became of one, on its device."""
        self._network = network
        self._device = device

    def run(self, outputs: Sequence[str], feed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs for these inputs, in host memory."""
        import torch

        # torch warns of arrays that nobody may write to
        tensors = {name: torch.from_numpy(array.copy()).to(self._device) for name, array in feed.items()}
        token_ids = tensors.pop(TOKEN_IDS)
        with torch.inference_mode():
            logits, state = self._network(token_ids, state_from_tensors(tensors))
        found = {LOGITS: logits} | {f"{NEXT}{name}": tensor for name, tensor in state_tensors(state).items()}
        return [found[name].cpu().numpy() for name in outputs]

    def get_overridable_initializers(self) -> list[Any]:
        """None: all logits are computed."""
        return []
