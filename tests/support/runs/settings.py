"""Settings of a training that takes a second: sizes are unequal, so that a swapped axis fails."""

SETTINGS = {
    "embedding_size": "5",
    "layer_sizes": "7,3",
    "batch_size": "4",
    "steps": "6",
    "epochs": "2",
    "learning_rate": "0.02",
    "optimizer": "adam",
}
DROPOUT_SETTINGS = {**SETTINGS, "dropout": "0.2"}
