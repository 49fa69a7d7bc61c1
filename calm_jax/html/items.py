"""All that belongs to one question, as the JSON that its page shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

# A question and one of its samples, both plain: the answer as the vote read it.
ReadAnswer = Callable[[Mapping[str, Any], Mapping[str, Any]], str | None]


def build(
    texts: Sequence[Mapping[str, Any]],
    own: Mapping[str, Sequence[Mapping[str, Any]]],
    read_answer: ReadAnswer,
) -> dict[str, Any]:
  """One question in all its languages; `own` holds its lines by kind."""
  vote = own['votes'][0] if own['votes'] else None
  by_lang = {text['lang']: text for text in texts}
  samples = [
      _sample(s, read_answer(by_lang[s['lang']], s), vote)
      for s in sorted(own['samples'], key=lambda s: s['index'])
      if s['lang'] in by_lang
  ]
  samples.sort(key=lambda s: list(by_lang).index(s['lang']))
  return {
      'gold': texts[0].get('gold') if texts else None,
      'texts': [_text(text) for text in texts],
      'samples': samples,
      'vote': vote,
      'pairs': [
          _pair(pair, part)
          for part, name in (('train', 'pairs'), ('validation', 'val_pairs'))
          for pair in own[name]
      ],
      'prompts': {
          pair['lang']: pair['prompt']
          for name in ('val_pairs', 'pairs')
          for pair in own[name]
      },
      'answers': [_answer(p) for p in own['predictions']],
      'evidence': [_evidence(e) for e in own['evidence']],
      'reflections': [
          _reflection(r)
          for r in (*own['reflections'], *own['test_reflections'])
      ],
  }


def _text(question: Mapping[str, Any]) -> dict[str, Any]:
  return {
      'lang': question['lang'],
      'stem': question['stem'],
      'options': [[o['key'], o['text']] for o in question['options']],
      'from': question.get('translated_from'),
      'changed': question.get('changed', ()),
  }


def _sample(
    sample: Mapping[str, Any],
    answer: str | None,
    vote: Mapping[str, Any] | None,
) -> dict[str, Any]:
  return {
      'lang': sample['lang'],
      'index': sample['index'],
      'text': sample['text'],
      'answer': answer,
      'parse': sample['parse'],
      'state': state(answer, vote['winner'] if vote else None),
      'tokens': sample['tokens'],
      'stop': sample['stop_reason'],
  }


def state(answer: str | None, winner: str | None) -> str:
  """What became of a sample in the vote."""
  if answer is None:
    return 'unparsed'
  if winner is None:
    return 'undecided'
  return 'won' if answer == winner else 'lost'


def _pair(pair: Mapping[str, Any], part: str) -> dict[str, Any]:
  return {
      'part': part,
      'lang': pair['lang'],
      'chosen_lang': pair.get('chosen_lang', pair['lang']),
      'chosen': pair.get('chosen', pair.get('completion')),
      'rejected': pair.get('rejected'),
      'share': pair['vote_share'],
      'opening': ''.join(pair.get('opening', ())),
      'changed': pair.get('changed', ()),
  }


def _evidence(evidence: Mapping[str, Any]) -> dict[str, Any]:
  names = ('id', 'source', 'text', 'score', 'kind')
  return {
      'lang': evidence['lang'],
      'passages': [
          {name: passage[name] for name in names}
          for passage in evidence['passages']
      ],
  }


def _reflection(reflection: Mapping[str, Any]) -> dict[str, Any]:
  names = (
      'lang',
      'index',
      'system',
      'retrieve',
      'passage',
      'text',
      'answer',
      'relevance',
      'support',
      'utility',
      'sequence',
      'score',
      'elected',
  )
  return {name: reflection[name] for name in names}


def _answer(prediction: Mapping[str, Any]) -> dict[str, Any]:
  gold, answer = prediction['gold'], prediction['answer']
  if answer is None:
    became = 'unparsed'
  elif gold is None:
    became = 'undecided'
  else:
    became = 'right' if answer == gold else 'wrong'
  return {
      'system': prediction['system'],
      'lang': prediction['lang'],
      'text': prediction['text'],
      'answer': answer,
      'parse': prediction['parse'],
      'state': became,
  }
