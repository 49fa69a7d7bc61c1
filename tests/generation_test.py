"""Answers on disk: what is asked, drawn, read back, and made again."""

from __future__ import annotations

import dataclasses
import pathlib

import pytest

from calm_jax import asking, datasets, generation, records
from calm_jax.qa import answers

DECODING = asking.Decoding(
    style='default',
    shots=0,
    two_stage=True,
    samples=2,
    temperature=1.0,
    top_p=0.9,
    top_k=0,
    max_new_tokens=6,
    slots=4,
    seed=1,
)


@pytest.fixture(scope='module')
def questions():
  found, _ = datasets.reader('demo')(pathlib.Path(), 'test', ('en', 'zh'))
  return found[:6]


@pytest.fixture(scope='module')
def policy(tiny_model):
  return generation.load(
      str(tiny_model), 'main', dtype='float32', mesh=(1, 1, 4)
  )


def answer(folder, policy, questions, **changes):
  shard = changes.pop('shard', 4)
  counts = generation.answer_all(
      folder,
      policy,
      questions,
      dataclasses.replace(DECODING, **changes),
      shard=shard,
      title='test',
      to_record=lambda question, sample: sample,
  )
  samples = records.read_all(folder, '*.jsonl', records.Sample)
  return counts, {(s.question_id, s.lang, s.index): s for s in samples}


@pytest.fixture(scope='module')
def whole(tmp_path_factory, policy, questions):
  folder = tmp_path_factory.mktemp('whole')
  return folder, *answer(folder, policy, questions)


def test_every_question_has_its_samples(whole, questions):
  _, counts, samples = whole
  assert counts['answers'] == len(samples) == 12
  assert {s.index for s in samples.values()} == {0, 1}
  assert {(s.question_id, s.lang) for s in samples.values()} == {
      (q.id, q.lang) for q in questions
  }


def test_a_second_stage_names_an_option_and_says_so_in_the_text(whole):
  for sample in whole[2].values():
    header = '答案：' if sample.lang == 'zh' else 'Answer: '
    assert sample.text.endswith(f'\n{header}{sample.answer}')
    assert sample.parse == 'two_stage'
    assert sample.logprob < 0


def test_a_shard_that_is_missing_is_made_again_the_same(
    tmp_path, whole, policy, questions
):
  folder, _, samples = whole
  kept = (folder / '00000.jsonl').read_bytes()
  (tmp_path / '00000.jsonl').write_bytes(kept)
  counts, again = answer(tmp_path, policy, questions)
  assert again == samples
  drawn = sum(s.tokens for s in samples.values())
  assert 0 < counts['tokens_drawn_now'] < drawn


def test_samples_do_not_depend_on_slots_shards_or_order(
    tmp_path, whole, policy, questions
):
  _, other = answer(tmp_path, policy, questions[::-1], slots=7, shard=100)
  assert {k: (s.text, s.tokens) for k, s in other.items()} == {
      k: (s.text, s.tokens) for k, s in whole[2].items()
  }


def test_automatic_slots_are_counted_and_kept(tmp_path, policy, questions):
  """As many as there are answers; a larger part does not change them."""
  counts, few = answer(tmp_path, policy, questions[:2], slots='auto')
  assert (counts['slots'], counts['programs']) == (4, 2)
  (tmp_path / '00000.jsonl').unlink()
  counts, more = answer(tmp_path, policy, questions, slots='auto')
  assert counts['slots'] == 4
  assert few.items() <= more.items()


def test_samples_do_not_depend_on_the_mesh(
    tmp_path, whole, tiny_model, questions
):
  spread = generation.load(
      str(tiny_model), 'main', dtype='float32', mesh=(2, 2, 1)
  )
  _, other = answer(tmp_path, spread, questions)
  assert {k: s.text for k, s in other.items()} == {
      k: s.text for k, s in whole[2].items()
  }


def test_another_seed_gives_other_samples(tmp_path, whole, policy, questions):
  _, other = answer(tmp_path, policy, questions, seed=2)
  assert {k: s.text for k, s in other.items()} != {
      k: s.text for k, s in whole[2].items()
  }


def test_free_answers_are_what_the_parser_reads(tmp_path, policy, questions):
  _, samples = answer(tmp_path, policy, questions[:2], two_stage=False)
  of = {(q.id, q.lang): q for q in questions}
  for (question_id, lang, _), sample in samples.items():
    parsed = answers.parse(sample.text, of[question_id, lang])
    assert (sample.answer, sample.parse) == (parsed.answer, parsed.reason)


def test_an_ending_is_the_header_then_one_letter(policy, questions):
  tokenizer = policy.base.tokenizer
  ending = asking.ending(tokenizer, questions[0])
  assert tokenizer.decode(ending.suffix, continuation=True) == '\nAnswer: '
  letters = [tokenizer.decode([i], continuation=True) for i in ending.choices]
  assert letters == ['A', 'B', 'C', 'D', 'E']


def test_a_prompt_that_does_not_fit_names_its_question(
    tmp_path, policy, questions
):
  with pytest.raises(ValueError, match=r"'demo-test-\d+' \(en\) needs .* 2048"):
    answer(tmp_path, policy, questions, max_new_tokens=2000)
