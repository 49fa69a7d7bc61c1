"""Held-out questions answered while a tiny model trains, and when it stops."""

from __future__ import annotations

import json
import pathlib

import pytest

from calm_jax import align, datasets, monitor, pipeline, records, settings
from calm_jax.lm import journal as journal_lib
from calm_jax.lm import lora as lora_lib
from configs import base

LANGS = ('en', 'zh')


def _sample(question_id, lang, answer):
  return records.Sample(question_id, lang, 0, '', answer, '', -1.0, 1, 'stop')


def test_answers_are_held_against_the_vote_and_each_other():
  samples = [
      _sample('q1', 'en', 'A'),
      _sample('q1', 'zh', 'A'),
      _sample('q2', 'en', 'B'),
      _sample('q2', 'zh', None),
      _sample('q3', 'en', 'C'),
      _sample('q3', 'zh', 'C'),
      # No winner: nothing to agree with.
      _sample('q4', 'en', 'D'),
      _sample('q4', 'zh', 'E'),
  ]
  winners = {'q1': 'A', 'q2': 'B', 'q3': 'B', 'q4': None}
  assert monitor.summary(samples, winners, LANGS) == {
      'agreement': 50.0,
      'consistency': 50.0,
      'unparsed': 12.5,
  }
  one = monitor.summary(samples[::2], winners, ('en',))
  assert one == {'agreement': pytest.approx(200 / 3), 'unparsed': 0.0}


def test_held_out_questions_are_drawn_by_seed_and_not_by_name():
  names = [f'q{i}' for i in range(100)]
  few = monitor.held_out(names * 2, count=10, seed=1)
  assert len(few) == 10
  assert few == monitor.held_out(names[::-1], count=10, seed=1)
  assert few != monitor.held_out(names, count=10, seed=2)
  assert few < monitor.held_out(names, count=20, seed=1)
  assert few != set(names[:10])
  assert monitor.held_out(names, count=1000, seed=1) == set(names)


def config(model, **train):
  cfg = base.get_config()
  cfg.model, cfg.dtype, cfg.seed = str(model), 'float32', 3
  cfg.languages = LANGS
  cfg.mesh.data = 1
  cfg.mesh.fsdp = -1
  cfg.sample.answer, cfg.sample.slots = 'two_stage', 4
  cfg.evaluate.max_new_tokens = 2
  cfg.train.update(
      {
          'learning_rate': 1e-2,
          'warmup_ratio': 0.0,
          'epochs': 2,
          'accumulation': 1,
          'max_length': 200,
          'eval_every': 1,
          'keep': 1,
          'monitor': 2,
          'monitor_metric': 'agreement',
          **train,
      }
  )
  return cfg


@pytest.fixture
def workdir(tmp_path):
  return _votes_and_pairs(tmp_path / 'run')


def _votes_and_pairs(folder):
  questions, _ = datasets.reader('demo')(pathlib.Path(), 'train', LANGS)
  records.write_jsonl(folder / 'translate' / 'train.jsonl', questions)
  ids = list(dict.fromkeys(q.id for q in questions))
  votes = [records.Vote(i, 'A', 1.0, {}, {}) for i in ids]
  records.write_jsonl(folder / 'vote' / 'votes.jsonl', votes)
  pair = lambda i: records.Pair(i, 'en', 'ask', 'yes', 'no', 'en', 1.0)
  for name, part in (('train', ids[:8]), ('val', ids[8:11])):
    records.write_jsonl(folder / 'pair' / f'{name}.jsonl', map(pair, part))
  return folder


def lines(workdir, split='monitor'):
  text = (workdir / 'align' / 'metrics.jsonl').read_text()
  found = [json.loads(line) for line in text.splitlines()]
  return [line for line in found if line['split'] == split]


def adapter(workdir, name='adapter'):
  return (workdir / 'align' / name / lora_lib.WEIGHTS).read_bytes()


@pytest.mark.slow
def test_held_out_questions_are_answered_at_every_validation(
    tiny_model, workdir
):
  counts = align.run(config(tiny_model, epochs=1, eval_every=2), workdir)
  found = lines(workdir)
  steps = counts['steps']
  assert [x['step'] for x in found] == [*range(2, steps, 2), steps]
  for line in found:
    assert line['unparsed'] == 0.0  # the letter is drawn in two stages
    assert line['agreement'] in (0.0, 25.0, 50.0, 75.0, 100.0)
    assert line['consistency'] in (0.0, 50.0, 100.0)
  assert counts['monitor_agreement'] == found[-1]['agreement']
  best = max(found, key=lambda x: (x['agreement'], -x['step']))
  assert counts['best_step'] == best['step']


def _told(monkeypatch, *agreements):
  """Validations find these; the adapter is not asked."""
  rest = list(agreements)

  def build(cfg, workdir, policy):
    return lambda lora: {'agreement': rest.pop(0), 'unparsed': 0.0}

  monkeypatch.setattr(monitor, 'build', build)
  return rest


@pytest.mark.slow
def test_without_a_gain_training_stops_and_gives_the_best(
    tiny_model, workdir, monkeypatch, capsys
):
  rest = _told(monkeypatch, 10.0, 30.0, 30.0, 20.0, 90.0, 90.0)
  cfg = config(tiny_model, patience=2, epochs=6)
  counts = align.run(cfg, workdir)
  assert [x['agreement'] for x in lines(workdir)] == [10.0, 30.0, 30.0, 20.0]
  assert rest == [90.0, 90.0]
  assert (counts['steps'], counts['best_step']) == (4, 2)
  assert counts['steps_planned'] > 4
  assert adapter(workdir) == adapter(workdir, 'adapter_best')
  assert 'agreement has not improved' in capsys.readouterr().out
  # Whoever starts it again finds the same end, and trains no more.
  before = adapter(workdir)
  assert align.run(cfg, workdir) == counts
  assert adapter(workdir) == before
  assert rest == [90.0, 90.0]


@pytest.mark.slow
def test_a_killed_run_stops_where_it_would_have(
    tiny_model, workdir, tmp_path, monkeypatch
):
  cfg = config(tiny_model, patience=2, epochs=6)
  heard = (10.0, 30.0, 20.0, 25.0)
  _told(monkeypatch, *heard)
  align.run(cfg, workdir)
  other = _votes_and_pairs(tmp_path / 'other')
  write = journal_lib.Journal.write

  def killed(self, at, split, metrics):
    write(self, at, split, metrics)
    if (at, split) == (4, 'train'):
      raise KeyError('killed')

  with monkeypatch.context() as patch:
    patch.setattr(journal_lib.Journal, 'write', killed)
    _told(patch, *heard)
    with pytest.raises(KeyError, match='killed'):
      align.run(cfg, other)
  # keep=1: the checkpoints of steps 1 and 2 but the best are gone.
  _told(monkeypatch, *heard[3:])
  counts = align.run(cfg, other)
  assert (counts['steps'], counts['best_step']) == (4, 2)
  assert lines(other) == lines(workdir)
  assert adapter(other) == adapter(workdir)


def test_nothing_held_out_is_named(tiny_model, workdir):
  (workdir / 'pair' / 'val.jsonl').write_text('')
  with pytest.raises(ValueError, match=r'raise config\.pair\.val_size'):
    align.run(config(tiny_model), workdir)


@pytest.mark.parametrize(
    'field',
    [
        'prompt.style',
        'prompt.shots',
        'sample.answer',
        'sample.slots',
        'evaluate.max_new_tokens',
        'selfrag.threshold',
    ],
)
def test_what_is_asked_counts_only_where_it_is_asked(field):
  (stage,) = (s for s in pipeline.STAGES if s.name == 'align')
  values = {'sample.answer': 'two_stage', 'prompt.style': 'paper'}
  values['selfrag.threshold'] = 0.7
  for count in (0, 5):
    cfg = base.get_config()
    cfg.train.monitor = count
    now = stage.inputs(cfg)
    flat = settings.flatten(cfg)
    value = values.get(field, 7)
    assert flat[field] != value
    cfg.update_from_flattened_dict({field: value})
    assert (stage.inputs(cfg) == now) == (count == 0)


@pytest.mark.parametrize(
    ('fields', 'told'),
    [
        ({'train.monitor_metric': 'agreement'}, 'set config.train.monitor'),
        ({'train.monitor': 5, 'pair.file': __file__}, 'has no votes'),
        (
            {
                'train.monitor': 5,
                'train.monitor_metric': 'consistency',
                'languages': ('en',),
            },
            'needs two languages',
        ),
        ({'train.patience': 1, 'pair.val_size': 0.0}, 'config.pair.val_size'),
    ],
)
def test_settings_that_cannot_be_together(fields, told):
  cfg = base.get_config()
  cfg.data.name, cfg.model = 'demo', 'org/name'
  cfg.update_from_flattened_dict(fields)
  assert told in '\n'.join(settings.problems(cfg))
