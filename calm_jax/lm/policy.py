"""A model as the stages use it: everything of one folder, loaded together."""

from __future__ import annotations

import pathlib
from typing import NamedTuple

import jax
import numpy as np

from calm_jax import console
from calm_jax.lm import chat, decoder, hub, weights
from calm_jax.lm import tokenizer as tokenizer_lib


class Policy(NamedTuple):
  """A model and its tokenizer; `identity` is `hub.identity` of `folder`."""

  cfg: decoder.DecoderConfig
  params: decoder.Params
  tokenizer: tokenizer_lib.Tokenizer
  identity: str
  folder: pathlib.Path


def load(
    model: str,
    revision: str,
    *,
    dtype: str,
    template: str = '',
    place: weights.Place | None = None,
) -> Policy:
  """Loads a local folder or a model of the hub, showing progress.

  `template` names one of `chat.TEMPLATES` to use instead of the model's own.
  `place` puts each parameter on its devices, as in `weights.load`.

  Raises:
    ValueError: the model is not found, or is not one that can be used.
  """
  folder = hub.resolve(model, revision)
  cfg = weights.read_config(folder)
  tokenizer = tokenizer_lib.load(folder, template=chat.TEMPLATES.get(template))
  if tokenizer.vocab_size > cfg.vocab_size:
    raise ValueError(
        f'{folder}: the tokenizer has {tokenizer.vocab_size} ids but the model'
        f' an embedding of {cfg.vocab_size}: they are not of the same model'
    )
  put = place or (lambda path, array: jax.numpy.asarray(array))
  with console.progress('load', weights.count(cfg)) as bar:

    def counted(path: str, array: np.ndarray) -> jax.Array:
      placed = put(path, array)
      bar.advance()
      return placed

    params = weights.load(folder, cfg, dtype=dtype, place=counted)
  return Policy(cfg, params, tokenizer, hub.identity(folder), folder)
