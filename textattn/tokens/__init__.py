"""From texts to token ids: tokenizers, chemical formulas, word vectors, batches."""
