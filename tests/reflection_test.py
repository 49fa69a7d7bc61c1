"""Self-RAG on a tiny random model: what is asked, scored, elected, kept."""

from __future__ import annotations

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calm_jax import asking, datasets, generation, records, reflection
from calm_jax.lm import decoder
from calm_jax.retrieval import selfrag

DECODING = asking.Decoding(
    style='default',
    shots=0,
    two_stage=True,
    samples=2,
    temperature=2.0,  # so that rare tokens are drawn
    top_p=1.0,
    top_k=0,
    max_new_tokens=24,
    slots=4,
    seed=1,
)
SETTINGS = selfrag.Settings(
    mode='always',
    threshold=0.2,
    relevance=1.0,
    support=1.0,
    utility=0.5,
    sequence=0.0,
    scoring='paper',
    keep_tokens=False,
)
SUPPORT = (
    '[Fully supported]',
    '[Partially supported]',
    '[No support / Contradictory]',
)
UTILITY = tuple(f'[Utility:{i}]' for i in (1, 2, 3, 4, 5))


@pytest.fixture(scope='module')
def questions():
  found, _ = datasets.reader('demo')(pathlib.Path(), 'test', ('en', 'fr'))
  return found[:4]


@pytest.fixture(scope='module')
def shown(questions):
  texts = ('The heart pumps blood.', 'Le foie [Relevant] est grand.')
  return {
      (q.id, q.lang): tuple(
          records.Passage(f'en/{q.id}@{i}', 'en/a_book', text)
          for i, text in enumerate(texts)
      )
      for q in questions
  }


@pytest.fixture(scope='module')
def policy(selfrag_model):
  return generation.load(
      str(selfrag_model), 'main', dtype='float32', mesh=(4, 1, 1)
  )


@dataclasses.dataclass
class Run:
  """A run's files, and all that the model was asked and said for it."""

  folder: pathlib.Path
  counts: dict
  asked: list

  @property
  def samples(self):
    found = records.read_all(self.folder, '*.jsonl', records.Sample)
    return {(s.question_id, s.lang, s.index): s for s in found}

  @property
  def reflections(self):
    folder = self.folder / 'reflections'
    return records.read_all(folder, '*.jsonl', records.Reflection)


def run(folder, policy, questions, shown, settings=SETTINGS, **changes):
  asked, draw = [], generation.draw

  def listening(policy, requests, *args, **options):
    found = draw(policy, requests, *args, **options)
    asked.append(list(zip(requests, found, strict=True)))
    return found

  decoding = dataclasses.replace(DECODING, **changes)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(generation, 'draw', listening)
    counts = reflection.answer_all(
        folder,
        policy,
        questions,
        decoding,
        settings=settings,
        shard=2,
        title='test',
        to_record=lambda question, sample: sample,
        shown=shown,
        system='base',
    )
  return Run(folder, counts, asked)


@pytest.fixture(scope='module')
def whole(tmp_path_factory, policy, questions, shown):
  return run(tmp_path_factory.mktemp('whole'), policy, questions, shown)


@functools.partial(jax.jit, static_argnums=0)
def forward(cfg, params, ids):
  positions = jnp.arange(ids.shape[1])[None]
  mask = decoder.causal_mask(cfg, positions, positions)
  hidden, _ = decoder.forward(cfg, params, ids, positions, mask)
  return jax.nn.log_softmax(decoder.unembed(cfg, params, hidden)[0])


def logprobs_after(policy, prompt, tokens):
  """Of every token after each of `prompt`'s end and `tokens`, by one pass."""
  ids = np.zeros((1, 1024), np.int32)  # what stands after them is not seen
  end = len(prompt) + len(tokens)
  ids[0, :end] = [*prompt, *tokens]
  found = forward(policy.base.cfg, policy.base.params, ids)
  return np.asarray(found)[len(prompt) - 1 : end]


def by_hand(policy, request, completion):
  """Relevance, support, utility of an answer, from the paper's formulas."""
  tok = policy.base.tokenizer
  steps = np.exp(logprobs_after(policy, request.prompt, completion.tokens))

  def share(at, names, weights):
    p = np.array([steps[at][tok.id_of(name)] for name in names])
    return float((p * np.array(weights)).sum() / p.sum())

  def first(names):
    ids = [tok.id_of(name) for name in names]
    return next((i for i, t in enumerate(completion.tokens) if t in ids), None)

  at = first(SUPPORT)
  support = None if at is None else share(at, SUPPORT, (1, 0.5, 0))
  at = first(UTILITY)
  utility = None if at is None else share(at, UTILITY, (-1, -0.5, 0, 0.5, 1))
  return share(0, ('[Relevant]', '[Irrelevant]'), (1, 0)), support, utility


def test_a_prompt_goes_on_with_one_passage(whole, policy, questions, shown):
  tok = policy.base.tokenizer
  where = whole.reflections[0].question_id, whole.reflections[0].lang
  (first,) = (q for q in questions if (q.id, q.lang) == where)
  bare = asking.work_list(policy.base, [first], DECODING, {})[0].request
  for (request, _), passage in zip(
      whole.asked[0][:2], shown[first.id, first.lang], strict=True
  ):
    after = list(request.prompt[len(bare.prompt) :])
    assert request.prompt[: len(bare.prompt)] == bare.prompt
    text = f'a book\n{passage.text}'
    assert after == [
        tok.id_of('[Retrieval]'),
        tok.id_of('<paragraph>'),
        *tok.encode(text),  # where [Relevant] is no token
        tok.id_of('</paragraph>'),
    ]


def test_every_score_is_what_one_pass_over_the_text_says(whole, policy):
  drawn = [
      (request, group[index], index)
      for part in whole.asked
      for request, group in part
      for index in (0, 1)
  ]
  written = {}
  for r in whole.reflections:
    written.setdefault((r.passage, r.lang, r.index), r)
  assert len(written) == len(whole.reflections) == len(drawn) == 16
  texts = {}
  for request, completion, index in drawn:
    texts[request.digests[index]] = by_hand(policy, request, completion)
  found = [texts[r.digests[i]] for r, _, i in drawn]
  # Requests come passage by passage, reflections sample by sample.
  ordered = [
      found[4 * question + 2 * passage + index]
      for question in range(4)
      for index in (0, 1)
      for passage in (0, 1)
  ]
  for r, (relevance, support, utility) in zip(
      whole.reflections, ordered, strict=True
  ):
    assert r.relevance == pytest.approx(relevance, abs=1e-4)
    assert (r.support is None) == (support is None)
    assert (r.utility is None) == (utility is None)
    assert r.support == pytest.approx(support, abs=1e-4)
    assert r.utility == pytest.approx(utility, abs=1e-4)
    total = relevance + (support or 0) + 0.5 * (utility or 0)
    assert r.score == pytest.approx(total, abs=1e-4)
    assert (r.system, r.retrieve) == ('base', None)
  # Or nothing was tested.
  assert any(r.support is not None for r in whole.reflections)
  assert any(r.utility is not None for r in whole.reflections)


def test_a_sample_is_the_best_answer_of_the_option_with_most(whole):
  groups = {}
  for r in whole.reflections:
    groups.setdefault((r.question_id, r.lang, r.index), []).append(r)
  assert groups.keys() == whole.samples.keys()
  for where, group in groups.items():
    (elected,) = (r for r in group if r.elected)
    sums = {
        option: sum(r.score for r in group if r.answer == option)
        for option in {r.answer for r in group}
    }
    assert sums[elected.answer] == max(sums.values())
    mine = [r.score for r in group if r.answer == elected.answer]
    assert elected.score == max(mine)
    sample = whole.samples[where]
    assert sample.answer == elected.answer
    assert sample.parse == 'two_stage'


def test_reflection_tokens_are_in_the_reflections_alone(whole):
  texts = ''.join(s.text for s in whole.samples.values())
  assert not any(name in texts for name in selfrag.TOKENS)
  texts = ''.join(r.text for r in whole.reflections)
  assert any(name in texts for name in SUPPORT)


def test_what_is_counted(whole):
  assert whole.counts['answers'] == 8
  assert whole.counts['answers_scored'] == 16
  assert whole.counts['samples_with_passage'] == 8
  assert whole.counts['samples_without_passage'] == 0
  lacking = sum(r.support is None for r in whole.reflections)
  assert whole.counts['without_support_token'] == lacking
  lacking = sum(r.utility is None for r in whole.reflections)
  assert whole.counts['without_utility_token'] == lacking


def test_a_file_that_is_missing_is_made_again_the_same(
    tmp_path, whole, policy, questions, shown
):
  for name in ('00000.jsonl', 'reflections/00000.jsonl'):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes((whole.folder / name).read_bytes())
  again = run(tmp_path, policy, questions, shown)
  assert len(again.asked) == 1
  assert again.samples == whole.samples
  assert again.reflections == whole.reflections


def test_tokens_are_kept_where_that_is_asked(
    tmp_path, whole, policy, questions, shown
):
  keep = dataclasses.replace(SETTINGS, keep_tokens=True)
  kept = run(tmp_path, policy, questions, shown, keep)
  assert kept.reflections == whole.reflections
  elected = {
      (r.question_id, r.lang, r.index): r for r in kept.reflections if r.elected
  }
  changed = 0
  for where, sample in kept.samples.items():
    assert sample.text.startswith(elected[where].text)
    assert sample.answer == whole.samples[where].answer
    changed += sample.text != whole.samples[where].text
  assert changed


@pytest.fixture(scope='module')
def wishes(policy, questions):
  """How much the model wants passages for each question, by each rule."""
  tok, found = policy.base.tokenizer, {'paper': {}, 'released': {}}
  for work in asking.work_list(policy.base, questions, DECODING, {}):
    step = logprobs_after(policy, work.request.prompt, [])[0]
    logs = [step[tok.id_of(n)] for n in ('[Retrieval]', '[No Retrieval]')]
    for rule, (yes, no) in (('paper', np.exp(logs)), ('released', logs)):
      where = work.question.id, work.question.lang
      found[rule][where] = float(yes / (yes + no))
  assert len(set(found['paper'].values())) == 4
  return found


@pytest.mark.slow
@pytest.mark.parametrize('scoring', ['paper', 'released'])
def test_passages_are_retrieved_above_the_threshold(
    tmp_path, policy, questions, shown, wishes, scoring
):
  mine = wishes[scoring]
  threshold = sum(sorted(mine.values())[1:3]) / 2
  settings = dataclasses.replace(
      SETTINGS, mode='adaptive', threshold=threshold, scoring=scoring
  )
  # One question has no passages: then there is nothing to retrieve.
  where = max(mine, key=mine.__getitem__)
  found = run(tmp_path, policy, questions, {**shown, where: ()}, settings)
  for r in found.reflections:
    asked = r.question_id, r.lang
    assert r.retrieve == pytest.approx(mine[asked], abs=1e-4)
    retrieved = mine[asked] > threshold and asked != where
    assert (r.passage is not None) == retrieved
    assert (r.relevance is None) == (r.passage is None)
  # One question beside two passages, three alone; two samples each.
  assert len(found.reflections) == 1 * 2 * 2 + 3 * 2
  assert found.counts['samples_without_passage'] == 6


def test_an_answer_without_passages_says_so_first(
    tmp_path, policy, questions, shown
):
  never = dataclasses.replace(SETTINGS, mode='never')
  found = run(tmp_path, policy, questions[:1], shown, never, samples=1)
  ((request, _),) = found.asked[0]
  assert request.prompt[-1] == policy.base.tokenizer.id_of('[No Retrieval]')
  (r,) = found.reflections
  assert (r.passage, r.relevance, r.elected) == (None, None, True)


def test_a_model_without_the_tokens_is_refused(
    tmp_path, tiny_model, questions, shown
):
  plain = generation.load(
      str(tiny_model), 'main', dtype='float32', mesh=(4, 1, 1)
  )
  with pytest.raises(ValueError, match=r'is no special token.*\n?.*selfrag\.m'):
    run(tmp_path, plain, questions, shown)


def test_a_passage_that_does_not_fit_names_its_question(
    tmp_path, policy, questions, shown
):
  long = records.Passage('en/x@0', 'en/x', 'word ' * 400)
  where = questions[0].id, questions[0].lang
  with pytest.raises(ValueError, match=rf'{questions[0].id}.*needs \d+ tokens'):
    run(tmp_path, policy, questions, {**shown, where: (long,)})
