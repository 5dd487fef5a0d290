"""Data: texts, tokenized corpora, batches."""
