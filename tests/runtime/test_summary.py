"""The layer table: the numbers of a published model summary, and of the network."""

import pytest
from lmtool.runtime import Architecture, LayerRow, Summary, Tokenization, Vocabulary, layer_table
from support.models.networks import network_of


def summary_of(architecture: Architecture) -> Summary:
    vocabulary = Vocabulary(["<eos>", "<unk>", *(f"word{index}" for index in range(9))], Tokenization())
    return Summary("a model", architecture, vocabulary, {})


def test_the_table_of_the_classic_recipe() -> None:
    """The numbers of the recipe's summary, which has both LSTM layers in one row and prints 3,955,088."""
    rows = layer_table(Architecture("lstm", 200, (256, 128), tied=False), 10_000)
    assert rows == [
        LayerRow("embedding", "Embedding", "[batch, time, 200]", 2_000_000),
        LayerRow("lstm 0", "LSTM", "[batch, time, 256]", 467_968),
        LayerRow("lstm 1", "LSTM", "[batch, time, 128]", 197_120),
        LayerRow("projection", "Linear", "[batch, time, 10000]", 1_290_000),
    ]
    assert sum(row.parameters for row in rows) == 3_955_088


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize(("sizes", "tied"), [((7, 3), False), ((7, 5), True)])
def test_the_total_is_what_the_network_trains(cell: str, sizes: tuple[int, ...], tied: bool) -> None:
    network = network_of(sizes, tied=tied, cell=cell)
    summary = summary_of(network.architecture)
    trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    assert summary.parameters == trained
    assert f"trainable parameters  {trained:,}" in summary.format()
    assert [row.type for row in summary.layers] == ["Embedding", cell.upper(), cell.upper(), "Linear"]


def test_shared_weights_are_counted_once_and_the_summary_says_so() -> None:
    apart, tied = (summary_of(Architecture("lstm", 5, (7, 5), tied)) for tied in (False, True))
    assert tied.parameters == apart.parameters - 11 * 5
    assert tied.layers[-1].parameters == 11
    assert "shares the embedding's matrix, which is counted once" in tied.format()
    assert "counted once" not in apart.format()
