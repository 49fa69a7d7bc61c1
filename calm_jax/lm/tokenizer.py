"""A model's tokenizer and chat template, read from its Hugging Face folder.

Text given to a Tokenizer is data: whatever it says, it never becomes a special
token. Only the model's chat template writes those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
import datetime
import difflib
import pathlib
from typing import SupportsInt

from calm_jax.lm import chat, codec, json_codec, piece_codec, tokenizer_files

Place = codec.Place
Message = Mapping[str, str]

# Ordinary text with all that a template might change in ordinary text.
_PROBE = ' 1. A "plain"\n\n\n  \\text, isn\'t it?  Été, 漢字 & more;\n- x\t'


class Tokenizer:
  """Text to ids and back; build it with `load`.

  `eos_ids` are all ids that end an answer, the tokenizer's own first; `pad_id`
  is one of them where the folder names no padding; `vocab_size` is one more
  than the largest id (a model's embedding may have more rows); an equal
  `fingerprint` means equal ids, of chats too.
  """

  def __init__(
      self,
      files: tokenizer_files.Files,
      vocabulary: codec.Codec,
      template: chat.Template | None,
  ):
    self._files, self._codec, self._template = files, vocabulary, template
    self._specials = vocabulary.specials
    self._finder = codec.Finder(vocabulary.specials)
    special_ids = {special.id for special in vocabulary.specials.values()}
    self._forbidden = special_ids - {vocabulary.unknown}
    self.vocab_size = vocabulary.size
    self.fingerprint = files.fingerprint
    self.bos_id = self._named('bos_token')
    end_of_turn = None if template is None else self._end_of_turn()
    stops = (self._named('eos_token'), *files.stop_ids, end_of_turn)
    self.eos_ids = tuple(dict.fromkeys(i for i in stops if i is not None))
    if not self.eos_ids:
      raise ValueError(
          f'{files.vocabulary.parent}: no eos_token in tokenizer_config.json'
          ' and no eos_token_id in generation_config.json; add one of them'
      )
    self.pad_id = self._padding()

  def encode(self, text: str) -> list[int]:
    """Ids of a text by itself, without BOS."""
    return self._plain(text, Place.START)

  def continuation(self, text: str) -> list[int]:
    """Ids of a text that follows other text directly."""
    return self._plain(text, Place.AFTER_TEXT)

  def decode(
      self, ids: Iterable[SupportsInt], *, continuation: bool = False
  ) -> str:
    """Text without special tokens; inverts `encode` or `continuation`."""
    place = Place.AFTER_TEXT if continuation else Place.START
    return self._codec.decode([int(i) for i in ids], place)

  def chat(
      self, messages: Sequence[Message], *, add_generation_prompt: bool
  ) -> list[int]:
    """Ids of a chat of messages with a `role` and a `content`."""
    disguise = chat.Disguise(message['content'] for message in messages)
    rendered = self._render(messages, disguise, add_generation_prompt)
    return self._once(self._chat_ids(rendered, Place.START))

  def chat_prompt(self, user: str) -> list[int]:
    """Ids that ask the model to answer one message."""
    return self.chat([_user(user)], add_generation_prompt=True)

  def pieces(self, texts: Iterable[str]) -> list[int]:
    """Ids of what follows a prompt, piece by piece.

    A piece that is a special token is that token; no other piece holds one.
    """
    ids, place = [], Place.AFTER_TEXT
    for text in texts:
      special = self._specials.get(text)
      ids += self._plain(text, place) if special is None else [special.id]
      place = Place.AFTER_TEXT if special is None else Place.AFTER_SPECIAL
    return ids

  def chat_completion(
      self,
      user: str,
      answer: str,
      *,
      opening: Sequence[str] = (),
      marks: Sequence[str] = (),
  ) -> tuple[list[int], list[int]]:
    """`chat_prompt(user)` and the ids that should follow it.

    `opening` are `pieces` of the answer that are given and count to the prompt;
    `marks` are special tokens that stay special in the answer.

    These are what the template writes after the prompt, up to the stop token
    after the answer, for that is what a model must learn to say: the newline
    that ChatML writes after its <|im_end|> is left out. Where the template
    writes no stop token the tokenizer's own is added. The prompt keeps its ids
    where the template's text would merge its end with the answer's start.
    """
    disguise = chat.Disguise((user, answer), marks=marks)
    messages = [_user(user), _assistant(answer)]
    prompt = self._render(messages[:1], disguise, True)
    whole = self._render(messages, disguise, False)
    start = len(prompt.hidden)
    if not whole.hidden.startswith(prompt.hidden):
      # Prompts of reasoning models end in more than the template keeps of an
      # earlier answer: the answer itself is then all there is to learn.
      start = whole.hidden.rindex(disguise.hide_answer(answer.strip()))
    ids = self._chat_ids(prompt, Place.START) + self.pieces(opening)
    in_special = ids and ids[-1] in self._forbidden
    place = Place.AFTER_SPECIAL if in_special else Place.AFTER_TEXT
    completion = self._chat_ids(whole.after(start), place)
    return self._once(ids), self._until_stop(completion)

  def id_of(self, special: str) -> int:
    """The id of a special token by its text."""
    if special in self._specials:
      return self._specials[special].id
    near = difflib.get_close_matches(special, self._specials, cutoff=0.5)
    raise ValueError(
        f'{self._files.vocabulary}: {special!r} is no special token'
        + (f'; the nearest are {near}' if near else '')
    )

  def _named(self, name: str) -> int | None:
    text = self._files.named.get(name)
    return None if text is None else self.id_of(text)

  def _padding(self) -> int:
    text = self._files.named.get('pad_token')
    if special := self._specials.get(text or ''):
      return special.id
    pad = self._files.pad_id
    return pad if pad is not None and pad >= 0 else self.eos_ids[0]

  def _plain(self, text: str, place: Place) -> list[int]:
    try:
      text.encode()
    except UnicodeEncodeError as e:
      raise ValueError(
          f'the text holds half a surrogate pair, {text[e.start]!r} at'
          f' {e.start}: {text[:80]!r}; repair the file that it is from'
      ) from e
    ids = self._codec.encode(text, place)
    if self._forbidden.isdisjoint(ids):
      return ids
    # Some vocabularies find special tokens in any text. Parts of it hold
    # none, at worst its single characters.
    if len(text) < 2:
      raise ValueError(
          f'{self._files.vocabulary}: the text {text!r} is a special token'
      )
    half = len(text) // 2
    left, right = text[:half], text[half:]
    return self._plain(left, place) + self._plain(right, Place.AFTER_TEXT)

  def _render(
      self,
      messages: Sequence[Message],
      disguise: chat.Disguise,
      add_generation_prompt: bool,
  ) -> chat.Rendered:
    if self._template is None:
      raise ValueError(
          f'{self._files.template_source} is missing, as in models that were'
          ' not trained to chat; load the tokenizer with a `template`'
      )
    return self._template.render(
        messages, disguise, add_generation_prompt=add_generation_prompt
    )

  def _chat_ids(self, rendered: chat.Rendered, place: Place) -> list[int]:
    """Ids of a rendered chat, or of a part of one that starts at `place`."""
    ids = []
    pieces = self._finder.split(rendered.hidden, rendered.revealed)
    for piece, special in pieces:
      if special is None:
        ids += self._plain(rendered.revealed[piece], place)
      else:
        ids.append(special.id)
        place = Place.AFTER_SPECIAL
    return ids

  def _once(self, ids: list[int]) -> list[int]:
    """`ids` with one BOS at the start where there are several."""
    while len(ids) > 1 and ids[0] == ids[1] == self.bos_id:
      ids = ids[1:]
    return ids

  def _until_stop(self, ids: list[int]) -> list[int]:
    stops = [n for n, i in enumerate(ids, 1) if i in self.eos_ids]
    return ids[: stops[0]] if stops else [*ids, self.eos_ids[0]]

  def _end_of_turn(self) -> int | None:
    """The special token that the template writes after an answer, if any."""
    messages = [_user(_PROBE), _assistant(_PROBE)]
    self._prove(messages[:1], True)
    whole = self._prove(messages, False)
    said = _PROBE.strip()
    rest = whole.after(whole.revealed.rindex(said) + len(said))
    for _, special in self._finder.split(rest.hidden, rest.revealed):
      if special is not None and special.id != self.bos_id:
        return special.id
    return None

  def _prove(
      self, messages: Sequence[Message], add_generation_prompt: bool
  ) -> chat.Rendered:
    """Renders ordinary messages; fails where our way of it changes an id."""
    plain = self._render(messages, chat.UNDISGUISED, add_generation_prompt)
    disguise = chat.Disguise((_PROBE,))
    rendered = self._render(messages, disguise, add_generation_prompt)
    kept = rendered.revealed.count(_PROBE.strip())
    if rendered.revealed != plain.revealed or kept < len(messages):
      raise ValueError(
          f'{self._files.template_source} changes or drops the text of'
          ' messages, which cannot be kept apart from special tokens then;'
          ' load the tokenizer with a `template` that only trims it'
      )
    whole = self._codec.whole(plain.revealed)
    if whole not in (None, self._chat_ids(rendered, Place.START)):
      raise ValueError(
          f'{self._files.vocabulary} finds other special tokens in'
          f' {plain.revealed!r} than those that it lists; load the tokenizer'
          ' with a `template` of other ones'
      )
    return rendered


def load(
    folder: pathlib.Path,
    *,
    template: str | None = None,
    date: datetime.date = chat.DATE,
) -> Tokenizer:
  """Reads the tokenizer of a Hugging Face folder.

  `template` is a chat template (jinja2) to use instead of the folder's. `date`
  is today to templates that tell it, fixed so that runs can be repeated.
  """
  files = tokenizer_files.read(folder, template=template, date=date)
  if files.vocabulary.suffix == '.json':
    vocabulary = json_codec.JsonCodec(files.vocabulary, files.added)
  else:
    vocabulary = piece_codec.PieceCodec(files.vocabulary, files.added)
  if files.template is None:
    return Tokenizer(files, vocabulary, None)
  compiled = chat.Template(
      files.template, files.template_source, tokens=files.named, date=date
  )
  return Tokenizer(files, vocabulary, compiled)


def _user(content: str) -> Message:
  return {'role': 'user', 'content': content}


def _assistant(content: str) -> Message:
  return {'role': 'assistant', 'content': content}
