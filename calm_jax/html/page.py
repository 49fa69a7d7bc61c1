"""Renders the templates; every value is escaped unless it is our own SVG."""

from __future__ import annotations

import base64
from collections.abc import Mapping
import hashlib
import json
import math
import pathlib
from typing import Any

import jinja2
from markupsafe import Markup

_FOLDER = pathlib.Path(__file__).parent


def render(template: str, values: Mapping[str, Any]) -> str:
  """A whole page from `template`, a file of this folder."""
  text = _environment().get_template(template).render(values)
  # A lone surrogate, which JSON can carry and UTF-8 cannot, becomes '?'.
  return text.encode('utf-8', 'replace').decode('utf-8')


def embed(value: Any) -> Markup:
  """JSON for a <script> element: no text in it can end the element."""
  text = json.dumps(value, ensure_ascii=False, separators=(',', ':'))
  for char in '<>&\u2028\u2029':
    text = text.replace(char, f'\\u{ord(char):04x}')
  return Markup(text)


def script(name: str) -> tuple[Markup, str]:
  """A script of this folder, and the policy source that allows only it."""
  text = (_FOLDER / name).read_text(encoding='utf-8')
  digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
  return Markup(text), f"'sha256-{digest}'"


def count(value: float) -> str:
  """Whole numbers with thousands separators, others to three digits."""
  if float(value).is_integer():
    return f'{value:,.0f}'.replace('-', '−')
  return f'{value:,.3g}'.replace('-', '−')


def percent(value: float | None) -> str:
  return '–' if value is None or math.isnan(value) else f'{value:.1f}'


def points(value: float | None) -> str:
  """A signed difference; what rounds to nothing has no sign."""
  text = '–' if value is None or math.isnan(value) else f'{value:+.1f}'
  return '0.0' if text in ('+0.0', '-0.0') else text.replace('-', '−')


def duration(seconds: float) -> str:
  if seconds < 60:
    return f'{seconds:.1f} s'
  minutes, rest = divmod(round(seconds), 60)
  if minutes < 60:
    return f'{minutes} min {rest:02d} s'
  return f'{minutes // 60} h {minutes % 60:02d} min'


def _environment() -> jinja2.Environment:
  environment = jinja2.Environment(
      loader=jinja2.FileSystemLoader(_FOLDER),
      autoescape=True,
      undefined=jinja2.StrictUndefined,
      trim_blocks=True,
      lstrip_blocks=True,
      keep_trailing_newline=True,
  )
  for function in (count, percent, points, duration, embed):
    environment.filters[function.__name__] = function
  return environment
