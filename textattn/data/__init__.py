"""From files or the Hub to texts, labels, tokens and batches. No torch in here."""
