"""Numbers, units and option letters that a translation changed."""

from __future__ import annotations

import json

import pytest

from calm_jax.translators import guards


@pytest.mark.parametrize(
    ('source', 'translated'),
    [
        ('Take 1.5 mg of vitamin C.', 'Prendre 1,5 mg de vitamine C.'),
        ('1,000 people', '1\u202f000 personnes'),
        ('1,000 people', '1.000 Leute'),
        ('1,234,567.50 USD', '1.234.567,5 USD'),
        ('10 000 IU', '10.000 UI'),
        ('5 mg/dL', '5 毫克/分升'),
        ('50％ of 3 l', '50 % von 3 Liter'),
        ('120/80 mmHg at 38.5°C', '120/80 mm Hg à 38,5 °C'),
        ('5 µg', '5 \u03bcg'),
        ('Option A is right; (B) is not.', '选项A正确；（B）不对。'),
        ('A man has a dog.', 'Un homme a un chien.'),
        ('E poi vai. A me piace.', 'And then go. I like it.'),
        ('Cancer', 'Cáncer'),
        ('3 men for 2 weeks', 'trois hommes pendant deux semaines'),
        ('2 weeks', '两周'),
        ('a 4-cm mass, BMI 25 kg/m²', '4厘米肿块，体重指数25公斤/平方米'),
        ('5,000/mm3', '5000/立方毫米'),
        ('Answer: E', 'Réponse : E'),
        ('A 45-year-old man', '一名45岁男子'),
        ('In 2020 100 cats', 'En 2020, 100 chats'),
        ('', ''),
    ],
)
def test_what_only_looks_different(source, translated):
  assert guards.changed_facts(source, translated) == []
  assert guards.changed_facts(translated, source) == []


@pytest.mark.parametrize(
    ('source', 'translated', 'changes'),
    [
        ('1.5 mg', '15 mg', ['number 1.5 is lost', 'number 15 is new']),
        ('0.500 mg', '500 mg', ['number 0.500 is lost', 'number 500 is new']),
        ('5 mg', '5 g', ['unit mg is lost', 'unit g is new']),
        ('5 mg/dL', '5 mg', ['unit mg/dl is lost', 'unit mg is new']),
        ('5 to 7 days', '5 jours', ['number 7 is lost']),
        ('2 and 2', '2', ['number 2 is lost']),
        ('B is right', 'C est juste', ['letter B is lost', 'letter C is new']),
        ('(A) or (D)', '(D)', ['letter A is lost']),
        ('答案是E。', 'The answer is', ['letter E is lost']),
        ('3 men', 'quatre hommes', ['number 3 is lost']),
        ('12 men', 'douze hommes', ['number 12 is lost']),
    ],
)
def test_what_changed(source, translated, changes):
  assert guards.changed_facts(source, translated) == changes


@pytest.mark.parametrize(
    'text',
    [
        'Give 12 345 units, 0.5 mg/kg/day, at 37 °C (98.6 °F); option C.',
        '患者口服阿莫西林500毫克，每日3次。选A还是（E）？',
        '1.2.3, 4,5,6 and 007: E. coli, D-dimer, vitamin B12',
    ],
)
def test_a_text_agrees_with_itself(text):
  assert guards.changed_facts(text, text) == []


def test_changed_rows_are_listed_and_counted(tmp_path):
  done = {
      ('5 mg', 'en', 'fr'): '5 g',
      ('6 mg', 'en', 'fr'): '6 mg',
      ('7 mg', 'en', 'fr'): None,
  }
  changed = guards.flagged(done)
  assert changed.keys() == {('5 mg', 'en', 'fr')}
  questions = {('5 mg', 'en', 'fr'): ['q2', 'q1', 'q2']}
  counts = guards.write(tmp_path, changed, done, questions)
  assert counts == {'changed_facts': 1}
  path = tmp_path / 'changed_facts.jsonl'
  assert [json.loads(line) for line in path.read_text().splitlines()] == [
      {
          'question_ids': ['q1', 'q2'],
          'source': 'en',
          'target': 'fr',
          'changes': ['unit mg is lost', 'unit g is new'],
          'text': '5 mg',
          'translation': '5 g',
      }
  ]
  assert guards.write(tmp_path, {}, done, questions) == {}
  assert not path.exists()


def test_the_flag_names_each_kind_once():
  changes = guards.changed_facts('5 mg of B12 (C)', '6 g, 7 kg de B12 (D)')
  assert guards.kinds(changes) == ('letters', 'numbers', 'units')
  assert guards.kinds([]) == ()
