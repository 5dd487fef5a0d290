"""The tokens of rule `bpe` as Hugging Face's tokenizers reads them: the file, and the proof that both agree."""
