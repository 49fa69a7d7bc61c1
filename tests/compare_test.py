"""Tests of the comparison: from systems' files to tables, tests and a page."""

from __future__ import annotations

import csv
import dataclasses

import pytest

from calm_jax import compare, paper, records
from calm_jax.html import winners
from calm_jax.qa import lineage

LANGS = ('en', 'zh', 'fr')


def question(name, lang, dataset='xcsqa'):
  options = (records.Option('A', 'yes'), records.Option('B', 'no'))
  return records.Question(name, dataset, 'test', lang, 'Is it?', options, 'A')


def system(workdir, name, answers, *, trained=(), start='', dataset=None):
  """A system as its stages leave it; `answers` has a string a language."""
  folder = workdir / 'systems' / name
  kind = 'aligned' if trained else 'base'
  names = [f'q{i}' for i in range(len(next(iter(answers.values()))))]
  predictions = [
      records.Prediction(kind, q, lang, '', letter, 'letter', 'A')
      for lang, letters in answers.items()
      for q, letter in zip(names, letters, strict=True)
  ]
  records.write_jsonl(folder / 'evaluate' / kind / '00000.jsonl', predictions)
  if dataset:
    rows = [question(q, 'en', dataset(q)) for q in names]
    records.write_jsonl(folder / 'translate' / 'test.jsonl', rows)
  return lineage.System(
      name, folder, 'xcsqa dev', tuple(answers), tuple(trained), start
  )


def run(systems, workdir, *, table=''):
  return compare.run(
      systems, workdir / 'compare', paper=table, resamples=20, seed=1
  )


def cells(workdir):
  path = workdir / 'compare' / 'table.csv'
  with path.open(encoding='utf-8') as f:
    rows = list(csv.DictReader(f))
  return {(r['setting'], r['system'], r['column']): r for r in rows}


def page(workdir):
  return (workdir / 'compare' / 'report.html').read_text('utf-8')


@pytest.fixture
def three(tmp_path):
  return [
      system(tmp_path, 'base', {'en': 'AABB', 'zh': 'ABBB', 'fr': 'AABB'}),
      system(
          tmp_path,
          'sft',
          {'en': 'AAAB', 'zh': 'AABB', 'fr': 'AABB'},
          trained=LANGS,
      ),
      system(
          tmp_path,
          'calm',
          {'en': 'AAAA', 'zh': 'AAAA', 'fr': 'AAAB'},
          trained=LANGS,
      ),
  ]


def test_ours_stands_beside_the_papers(three, tmp_path):
  counts = run(three, tmp_path, table='table1_llama_xcsqa')
  assert counts['systems'] == 3
  assert (counts['settings'], counts['tests'], counts['votes']) == (1, 12, 0)
  found = cells(tmp_path)
  en = found['xcsqa dev', 'calm', 'en']
  assert (float(en['value']), float(en['paper'])) == (100.0, 74.1)
  assert float(en['difference']) == pytest.approx(25.9)
  consistency = found['xcsqa dev', 'base', 'consistency_2_parsed']
  assert float(consistency['value']) == pytest.approx(100 * 10 / 12)
  assert float(consistency['paper']) == 57.73
  # AC3 with the mean of all languages, here the same three.
  mean = 100 * 5 / 12
  ac3 = 2 * mean * (1000 / 12) / (mean + 1000 / 12)
  assert float(found['xcsqa dev', 'base', 'ac3_2_parsed']['value']) == (
      pytest.approx(ac3)
  )


def test_what_is_not_known_of_the_paper_is_blank(three, tmp_path):
  run(three, tmp_path, table='table1_llama_medqa')
  found = cells(tmp_path)
  assert found['xcsqa dev', 'sft', 'en']['paper'] == '62.4'
  assert found['xcsqa dev', 'sft', 'fr']['paper'] == ''
  assert found['xcsqa dev', 'sft', 'fr']['difference'] == ''
  lines = (tmp_path / 'compare' / 'table.md').read_text('utf-8').splitlines()
  (told,) = (line for line in lines if line.startswith('| sft, paper'))
  assert [c.strip() for c in told.strip('| ').split('|')[1:4]] == [
      '62.4',
      '57.1',
      '–',
  ]


def test_a_row_of_the_paper_that_was_not_run_is_shown_alone(three, tmp_path):
  run(three[:1], tmp_path, table='table1_llama_xcsqa')
  found = cells(tmp_path)
  row = found['xcsqa dev', 'calm', 'zh']
  assert (row['value'], row['paper']) == ('', '57.6')
  assert 'calm, difference' not in page(tmp_path)


def test_languages_stand_in_the_papers_order(three, tmp_path):
  run(three, tmp_path)
  header = (tmp_path / 'compare' / 'table.md').read_text('utf-8')
  (line,) = (li for li in header.splitlines() if li.startswith('| system'))
  names = [cell.strip() for cell in line.strip('| ').split('|')]
  assert names[:6] == ['system', 'EN', 'ZH', 'FR', 'mean', 'consistency']


def test_mcnemar_is_of_every_two_systems(three, tmp_path):
  run(three, tmp_path)
  path = tmp_path / 'compare' / 'mcnemar.jsonl'
  found = {
      (c.first, c.second, c.lang): c
      for c in records.read_jsonl(path, records.Contrast)
  }
  pooled = found['base', 'calm', 'all']
  assert (pooled.first_only, pooled.second_only, pooled.n) == (0, 6, 12)
  assert pooled.p_value == 2 / 64
  assert found['base', 'sft', 'fr'].p_value == 1.0
  assert 'base : calm' in page(tmp_path)


def test_a_setting_of_two_data_sets_is_shown_whole_and_in_parts(tmp_path):
  of = lambda name: 'us' if name in ('q0', 'q1') else 'mainland'
  base = system(
      tmp_path,
      'base',
      {'en': 'AABB', 'zh': 'AABB', 'fr': 'AABB'},
      dataset=of,
  )
  run([base], tmp_path, table='table1_llama_medqa')
  found = cells(tmp_path)
  value = lambda setting: float(found[setting, 'base', 'en']['value'])
  assert value('xcsqa dev') == 50.0
  assert value('xcsqa dev: us') == 100.0
  assert value('xcsqa dev: mainland') == 0.0
  # The paper is of the whole.
  assert found['xcsqa dev', 'base', 'en']['paper'] == '60.1'
  assert found['xcsqa dev: us', 'base', 'en']['paper'] == ''


def test_a_table_of_each_country_stands_beside_it_and_not_the_whole(
    tmp_path, monkeypatch
):
  told = {'us': {'base': {'en': 61.5}}, 'mainland': {'base': {'zh': 40.5}}}
  table = paper.Table('Table 9', ('base', 'calm'), parts=told)  # made up
  monkeypatch.setitem(paper.TABLES, 'table9_full_medqa', table)
  base = system(
      tmp_path,
      'base',
      {'en': 'AABB', 'zh': 'AABB', 'fr': 'AABB'},
      dataset=lambda name: 'us' if name in ('q0', 'q1') else 'mainland',
  )
  run([base], tmp_path, table='table9_full_medqa')
  found = cells(tmp_path)
  us, mainland = found['xcsqa dev: us', 'base', 'en'], 'xcsqa dev: mainland'
  assert (us['value'], us['paper']) == ('100.0', '61.5')
  assert float(us['difference']) == pytest.approx(38.5)
  assert found[mainland, 'base', 'zh']['paper'] == '40.5'
  shown = {where: row['paper'] for where, row in found.items() if row['paper']}
  assert len(shown) == 2
  assert ('xcsqa dev', 'calm', 'en') not in found  # not run, and not of these
  assert found[mainland, 'calm', 'en']['value'] == ''
  lines = (tmp_path / 'compare' / 'table.md').read_text('utf-8').splitlines()
  assert [line for line in lines if line.startswith('## ')] == [
      '## xcsqa dev',
      '## Table 9, us',
      '## Table 9, mainland',
  ]


def test_systems_that_were_asked_other_questions_stand_apart(tmp_path):
  one = system(tmp_path, 'one', {'en': 'AA', 'fr': 'AB'})
  two = system(tmp_path, 'two', {'en': 'AAA', 'fr': 'ABA'})
  assert run([one, two], tmp_path)['settings'] == 2
  assert {key[:2] for key in cells(tmp_path)} == {
      ('xcsqa dev', 'one'),
      ('xcsqa dev (2)', 'two'),
  }


def test_what_was_forgotten_is_on_the_page_with_its_interval(tmp_path):
  systems = [
      system(tmp_path, 'en', {'en': 'AAAA', 'fr': 'BBBB'}, trained=('en',)),
      system(
          tmp_path,
          'then_fr',
          {'en': 'BBBB', 'fr': 'AAAB'},
          trained=('fr',),
          start='en',
      ),
  ]
  run(systems, tmp_path)
  text = page(tmp_path)
  assert 'id="forgetting"' in text
  # Every question was forgotten, in whatever resample.
  assert '0.0 <small>(−100.0; −100.0 to −100.0)</small>' in text


def test_no_chain_has_no_forgetting(three, tmp_path):
  run(three, tmp_path)
  assert 'id="forgetting"' not in page(tmp_path)


def test_more_languages_make_a_curve(tmp_path):
  grown = [
      system(tmp_path, name, {'en': row, 'fr': row}, trained=langs)
      for name, row, langs in (
          ('base', 'BBBB', ()),
          ('en', 'ABBB', ('en',)),
          ('en_fr', 'AABB', ('en', 'fr')),
      )
  ]
  run(grown, tmp_path)
  text = page(tmp_path)
  assert 'mean accuracy, languages 2: 50' in text
  run(grown[:2], tmp_path)
  assert 'id="languages"' not in page(tmp_path)


def vote(folder):
  samples = {'en': {'A': 2, 'B': 1}, 'fr': {'B': 3}, 'zh': {'A': 3}}
  unparsed = {'en': 0, 'fr': 0, 'zh': 0}
  records.write_jsonl(
      folder / 'vote' / 'votes.jsonl',
      [records.Vote('q0', 'A', 5 / 9, samples, unparsed)],
  )
  rows = [question('q0', lang) for lang in LANGS]
  records.write_jsonl(folder / 'translate' / 'train.jsonl', rows)
  pair = records.Pair('q0', 'fr', 'p', 'c', 'r', 'zh', 5 / 9)
  records.write_jsonl(folder / 'pair' / 'train.jsonl', [pair])


def test_votes_that_systems_share_are_shown_once(three, tmp_path):
  vote(three[1].folder)
  calm = three[2].folder
  (calm / 'vote').symlink_to(three[1].folder / 'vote')
  (calm / 'translate').symlink_to(three[1].folder / 'translate')
  assert run(three, tmp_path)['votes'] == 1
  text = page(tmp_path)
  section = text[text.index('id="votes"') :]
  assert '<h3>sft, calm</h3>' in section
  row = section[section.index('<th scope="row">ZH</th>') :].split('</tr>')[0]
  # 3 votes, all for the winner, of its 5; agrees; chosen in the one pair.
  for cell in ('<td>3</td>', '<td>100.0</td>', '<td>60.0</td>'):
    assert cell in row
  french = section[section.index('<th scope="row">FR</th>') :]
  assert '<td>0.0</td>' in french.split('</tr>')[0]
  found = ballots(tmp_path)
  assert {systems for systems, _, _ in found} == {'sft, calm'}
  value = lambda lang, column: found['sft, calm', lang, column]['value']
  assert [value('zh', c) for c in ('won', 'agrees', 'chosen')] == [
      '60.0',
      '100.0',
      '100.0',
  ]
  assert value('fr', 'differs') == '100.0'
  lines = table_lines(tmp_path, 'ZH')
  assert [cells[1:4] for cells in lines] == [['3', '100.0', '60.0']]


def ballots(workdir):
  path = workdir / 'compare' / 'votes.csv'
  with path.open(encoding='utf-8') as f:
    return {
        (row['systems'], row['lang'], row['column']): row
        for row in csv.DictReader(f)
    }


def table_lines(workdir, start):
  """The lines of the Markdown whose first cell starts so, as cells."""
  text = (workdir / 'compare' / 'table.md').read_text('utf-8')
  lines = [line.strip('| ').split('|') for line in text.splitlines()]
  lines = [[cell.strip() for cell in line] for line in lines]
  return [cells for cells in lines if cells[0].startswith(start)]


def test_votes_stand_beside_the_papers(tmp_path, monkeypatch):
  told = {'xcsqa': {'won_zh': 50.5}}  # made up: the paper's is not known
  table = paper.Table('Tables 7 and 8', ('xcsqa',), told, of_votes=True)
  monkeypatch.setitem(paper.TABLES, 'table7_8_votes', table)
  systems = [
      lineage.System(name, tmp_path / name, 'xcsqa dev', LANGS, LANGS)
      for name in ('xcsqa', 'mine')
  ]
  for own in systems:
    vote(own.folder)
  run(systems, tmp_path, table='table7_8_votes')
  found = ballots(tmp_path)
  chinese = found['xcsqa', 'zh', 'won']
  assert (chinese['value'], chinese['paper']) == ('60.0', '50.5')
  assert float(chinese['difference']) == pytest.approx(9.5)
  blank = [row for row in found.values() if row is not chinese]
  assert len(blank) == 2 * 3 * 6 - 1
  assert {(row['paper'], row['difference']) for row in blank} == {('', '')}
  # The paper has the first only.
  lines = [cells[:4] for cells in table_lines(tmp_path, 'ZH')]
  assert lines == [
      ['ZH', '3', '100.0', '60.0'],
      ['ZH, paper', '–', '–', '50.5'],
      ['ZH, difference', '–', '–', '+9.5'],
      ['ZH', '3', '100.0', '60.0'],
  ]
  assert page(tmp_path).count('ZH, paper') == 1


def test_nothing_evaluated_is_said(tmp_path):
  none = lineage.System('calm', tmp_path, 'xcsqa dev', LANGS, LANGS)
  counts = run([none], tmp_path, table='table1_llama_xcsqa')
  assert counts['settings'] == 0
  text = (tmp_path / 'compare' / 'table.md').read_text()
  assert text == 'No system is evaluated yet.\n'
  assert 'no system is evaluated' in page(tmp_path)


def test_the_page_runs_no_script_and_escapes(tmp_path):
  odd = system(tmp_path, 'a<b', {'en': 'AB', 'fr': 'AB'})
  run([odd], tmp_path)
  text = page(tmp_path)
  assert 'a<b' not in text
  assert '<script' not in text


def test_the_papers_numbers_are_those_of_its_table_1():
  rows = paper.TABLES['table1_llama_xcsqa'].rows
  assert rows['base']['ja'] == 49.2
  assert rows['sft'][paper.AC3] == 60.82
  assert rows['calm'][paper.CONSISTENCY] == 61.13


ALL = ('en', 'zh', 'fr', 'it', 'de', 'ja')


@pytest.mark.parametrize('name', paper.TABLES)
def test_every_number_that_the_paper_may_have_finds_its_cell(
    name, tmp_path, monkeypatch
):
  table = paper.TABLES[name]
  langs, columns = ALL, [*ALL, paper.CONSISTENCY, paper.AC3]
  if table.of_votes:
    langs = LANGS  # that vote has
    columns = [f'{c}_{lang}' for c in winners.COLUMNS for lang in langs]
  for rows in (table.rows, *table.parts.values()):
    assert set(rows) <= set(table.reported)
    assert {c for row in rows.values() for c in row} <= set(columns)
  made_up = {s: dict.fromkeys(columns, 12.25) for s in table.reported}
  parts = dict.fromkeys(table.parts, made_up)
  injected = {'parts': parts} if parts else {'rows': made_up}
  filled = dataclasses.replace(table, **injected)
  monkeypatch.setitem(paper.TABLES, name, filled)
  kinds = [*table.parts, *table.parts] or ['xcsqa', 'xcsqa']
  answers = dict.fromkeys(langs, 'A' * len(kinds))
  systems = [
      system(tmp_path, s, answers, dataset=lambda q: kinds[int(q[1:])])
      for s in table.reported
  ]
  if table.of_votes:
    for own in systems:
      vote(own.folder)
  run(systems, tmp_path, table=name)
  found = ballots(tmp_path) if table.of_votes else cells(tmp_path)
  shown = [row['paper'] for row in found.values() if row['paper']]
  most = len(table.reported) * len(columns) * max(len(parts), 1)
  assert shown == ['12.25'] * most
