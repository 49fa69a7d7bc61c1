"""Cross-lingual self-alignment of language models in JAX (CALM)."""

__version__ = '0.1.0'
