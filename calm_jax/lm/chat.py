"""Chat templates, rendered so that a message can never pass for template.

Every character of a message but white space is rendered as a stand-in from a
private area of Unicode. So special tokens found in the result were written by
the template, a template's `trim` still trims, and its tests for words such as
'</think>' never see a message's text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import datetime
import json
import re
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

# What Llama-3.1's own template falls back to where it cannot ask for today.
DATE = datetime.date(2024, 7, 26)

# Self-RAG ships no template; this is the form of its authors' prompts.
SELFRAG = r"""
{{- bos_token }}
{%- for message in messages %}
  {%- if message['role'] == 'user' %}
    {{- '### Instruction:\n' + message['content'] + '\n\n### Response:\n' }}
  {%- else %}
    {{- message['content'] + eos_token }}
  {%- endif %}
{%- endfor -%}
"""

# By the name that a setting gives them.
TEMPLATES = {'selfrag': SELFRAG}

_ROLES = ('system', 'user', 'assistant')
_FIRST_STAND_IN = 0xF0000
_LAST_STAND_IN = 0x10FFFD


class Disguise:
  """Swaps the characters of some texts for stand-ins, one for one."""

  def __init__(self, texts: Iterable[str], *, marks: Sequence[str] = ()):
    """Args:
    texts: what is to be hidden.
    marks: special tokens that an answer may hold; see `hide_answer`.
    """
    self._marks = re.compile('|'.join(map(re.escape, marks)) or '(?!)')
    characters = sorted({c for text in texts for c in text if not c.isspace()})
    if len(characters) > _LAST_STAND_IN - _FIRST_STAND_IN:
      raise ValueError(f'a chat has {len(characters)} different characters')
    self._hide = {ord(c): _FIRST_STAND_IN + i for i, c in enumerate(characters)}
    self._reveal = {v: k for k, v in self._hide.items()}

  def hide(self, text: str) -> str:
    return text.translate(self._hide)

  def hide_answer(self, text: str) -> str:
    """As `hide`, but for the marks."""
    hidden, start = '', 0
    for mark in self._marks.finditer(text):
      hidden += self.hide(text[start : mark.start()]) + mark.group()
      start = mark.end()
    return hidden + self.hide(text[start:])

  def reveal(self, text: str) -> str:
    return text.translate(self._reveal)


UNDISGUISED = Disguise(())


@dataclasses.dataclass(frozen=True)
class Rendered:
  """A chat as text; the texts of its messages are stand-ins in `hidden`."""

  hidden: str
  revealed: str

  def after(self, start: int) -> Rendered:
    return Rendered(self.hidden[start:], self.revealed[start:])


class _Generation(jinja2.ext.Extension):
  """Reads `{% generation %}` ... `{% endgeneration %}` as its content."""

  tags = {'generation'}  # noqa: RUF012

  def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
    line = next(parser.stream).lineno
    body = parser.parse_statements(('name:endgeneration',), drop_needle=True)
    return jinja2.nodes.Scope(body, lineno=line)


class Template:
  """A chat template; `where` names it in errors."""

  def __init__(
      self,
      source: str,
      where: str,
      *,
      tokens: Mapping[str, str],
      date: datetime.date,
  ):
    self._where, self._tokens = where, dict(tokens)
    try:
      self._template = _environment(date).from_string(source)
    except jinja2.TemplateError as e:
      raise ValueError(f'{where}: not a chat template: {e}') from e

  def render(
      self,
      messages: Sequence[Mapping[str, str]],
      disguise: Disguise,
      *,
      add_generation_prompt: bool,
  ) -> Rendered:
    """Renders messages of a `role` and a `content`."""
    try:
      hidden = self._template.render(
          messages=[_hidden(message, disguise) for message in messages],
          tools=None,
          documents=None,
          add_generation_prompt=add_generation_prompt,
          **self._tokens,
      )
    # A template is a program: it may fail in any of these ways.
    except (
        jinja2.TemplateError,
        ArithmeticError,
        LookupError,
        TypeError,
        ValueError,
    ) as e:
      roles = [message['role'] for message in messages]
      raise ValueError(
          f'{self._where}: the chat template fails on the roles {roles}: {e};'
          ' load the tokenizer with a `template` of your own'
      ) from e
    return Rendered(hidden, disguise.reveal(hidden))


def _hidden(message: Mapping[str, str], disguise: Disguise) -> dict[str, str]:
  if message.keys() != {'role', 'content'} or message['role'] not in _ROLES:
    raise ValueError(
        f'a message needs a role of {_ROLES} and a content, nothing else:'
        f' {dict(message)!r}'
    )
  role, content = message['role'], message['content']
  hide = disguise.hide_answer if role == 'assistant' else disguise.hide
  return {'role': role, 'content': hide(content)}


def _environment(date: datetime.date) -> jinja2.Environment:
  """The dialect that Hugging Face's templates are written in."""
  env = jinja2.sandbox.ImmutableSandboxedEnvironment(
      trim_blocks=True,
      lstrip_blocks=True,
      extensions=[_Generation, jinja2.ext.loopcontrols],
  )
  env.filters['tojson'] = _to_json
  env.globals['raise_exception'] = _fail
  env.globals['strftime_now'] = date.strftime
  return env


def _fail(message: str) -> str:
  raise jinja2.TemplateError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
  # jinja2's own filter escapes HTML, which no model was trained on.
  return json.dumps(
      value,
      ensure_ascii=ensure_ascii,
      indent=indent,
      separators=separators,
      sort_keys=sort_keys,
  )
