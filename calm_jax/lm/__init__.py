"""Language models: decoder, tokenizer, sampler and training. No CALM here."""
