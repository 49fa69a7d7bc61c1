"""A real Apertium, where one is installed, and the routes between languages."""

from __future__ import annotations

import shutil

from ml_collections import ConfigDict
import pytest

from calm_jax import translators
from calm_jax.translators import apertium

INSTALLED = shutil.which('apertium') is not None
NEEDS = 'needs apertium, apertium-eng-spa and apertium-fr-es (apt-get install)'


def test_routes_are_the_shortest_ones():
  modes = ['eng-spa', 'spa-eng', 'es-fr', 'fr-es', 'spa-ita', 'spa-eng_US']
  routes = apertium.routes([*modes, 'eco-es-fr', 'nob-nno'])
  assert routes['en', 'es'] == ['eng-spa']
  assert routes['fr', 'en'] == ['fr-es', 'spa-eng']
  assert routes['en', 'it'] == ['eng-spa', 'spa-ita']
  assert ('it', 'en') not in routes
  assert not any('de' in direction for direction in routes)


def test_spanish_comes_before_catalan():
  routes = apertium.routes(['fra-cat', 'cat-eng', 'fr-es', 'spa-eng'])
  assert routes['fr', 'en'] == ['fr-es', 'spa-eng']
  assert apertium.routes(['fra-cat', 'cat-eng'])['fr', 'en'] == [
      'fra-cat',
      'cat-eng',
  ]


def test_a_missing_program_or_folder_is_a_problem(tmp_path, monkeypatch):
  monkeypatch.setattr(shutil, 'which', lambda name: None)
  assert 'apt-get install apertium' in str(apertium.problem(''))
  assert 'no folder modes' in str(apertium.problem(str(tmp_path)))


@pytest.fixture(scope='module')
def translator():
  if not INSTALLED:
    pytest.skip(NEEDS)
  translator = apertium.Apertium()
  if not translator.supports('fr', 'en'):
    pytest.skip(NEEDS)
  return translator


def test_english_and_spanish(translator):
  texts = ['The dog eats the cat.', 'The house is red', 'red house']
  done = translator.translate(texts, 'en', 'es')
  assert done == ['El perro come el gato.', 'La casa es roja', 'casa roja']
  back = translator.translate(['El gato bebe agua.'], 'es', 'en')
  assert back == ['The cat drinks water.']


def test_french_to_english_by_way_of_spanish(translator):
  done = translator.translate(['Le chat boit 1,5 litre.'], 'fr', 'en')
  assert 'cat drinks' in done[0]
  assert '1,5' in done[0]


def test_texts_do_not_run_into_each_other(translator):
  texts = ['the', 'dog\n\n  The house', '', ' ', 'a [b] ^c$ {d} /e <f> \\ @ *g']
  done = translator.translate(texts, 'en', 'es')
  alone = [translator.translate([text], 'en', 'es')[0] for text in texts]
  assert done == alone
  assert done[:2] == ['el', 'perro\n\nLa casa']
  assert done[2:4] == [None, None]
  assert '[b] ^c$ {d} /e <f> \\ @ *g' in done[4]


def test_what_it_has_no_way_for(translator):
  assert not translator.supports('en', 'ja')
  assert not translator.supports('en', 'en')
  assert translator.translate(['cat'], 'en', 'ja') == [None]


def test_a_line_that_is_lost_loses_its_text_only(translator, monkeypatch):
  run = apertium.Apertium._run

  def broken(self, options, text):
    return '' if 'crash' in text else run(self, options, text)

  monkeypatch.setattr(apertium.Apertium, '_run', broken)
  texts = ['The cat.', 'A line\ncrash', 'The dog.']
  done = translator.translate(texts, 'en', 'es')
  assert done == ['El gato.', None, 'El perro.']


def test_a_program_that_hangs_is_left_to_itself(translator, monkeypatch):
  monkeypatch.setattr(apertium, '_SECONDS', 0.001)
  assert translator.translate(['The cat.', 'a'], 'en', 'es') == [None, None]


def test_build_gives_it_a_cache(translator, tmp_path):
  cfg = ConfigDict({'translate': {'backend': 'apertium', 'path': ''}})
  built = translators.build(cfg, tmp_path)
  assert built.version == translator.version
  assert built.translate(['The cat.'], 'en', 'es') == ['El gato.']
  assert (tmp_path / 'translations' / 'apertium.jsonl').is_file()
  assert apertium.depends(cfg) == {'translator': translator.version}
