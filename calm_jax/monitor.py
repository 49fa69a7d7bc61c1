"""Label-free validation: do held-out answers agree, with the vote and at all?

The questions of the pairs that were held out are answered greedily in every
language that voted, by the model as it stands. No gold label is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
import hashlib
import json
import pathlib

from jax.sharding import Mesh
from ml_collections import ConfigDict

from calm_jax import asking, generation, records, reflection
from calm_jax.lm import decoder, hosts, sharding
from calm_jax.lm import lora as lora_lib
from calm_jax.lm import policy as policy_lib
from calm_jax.qa import metrics
from calm_jax.retrieval import evidence, selfrag

# What `train.monitor_metric` may name: percentages but for the loss.
METRICS = ('loss', 'agreement', 'consistency')

Monitor = Callable[[decoder.Params], dict[str, float]]


def build(
    cfg: ConfigDict, workdir: pathlib.Path, policy: generation.Policy
) -> Monitor:
  """What measures a run's adapter; `policy` is the model it is trained on.

  Raises:
    ValueError: no pair is held out.
  """
  langs = tuple(cfg.sample.languages or cfg.languages)
  path = workdir / 'pair' / 'val.jsonl'
  kind = records.Target if cfg.train.method == 'sft' else records.Pair
  ids = held_out(
      (row.question_id for row in records.read_jsonl(path, kind)),
      count=cfg.train.monitor,
      seed=cfg.seed,
  )
  if not ids:
    raise ValueError(
        f'{path}: no question is held out for config.train.monitor ='
        f' {cfg.train.monitor}; raise config.pair.val_size, or set it to 0'
    )
  questions = [
      q
      for q in records.read_jsonl(
          workdir / 'translate' / 'train.jsonl', records.Question
      )
      if q.id in ids and q.lang in langs
  ]
  votes = records.read_jsonl(workdir / 'vote' / 'votes.jsonl', records.Vote)
  winners = {v.question_id: v.winner for v in votes if v.question_id in ids}
  decoding = asking.Decoding(
      style=cfg.prompt.style,
      shots=cfg.prompt.shots,
      two_stage=cfg.sample.answer == 'two_stage',
      samples=1,
      temperature=0.0,
      top_p=1.0,
      top_k=0,
      max_new_tokens=cfg.evaluate.max_new_tokens,
      slots=cfg.sample.slots,
      seed=cfg.seed,
  )
  answer = _answerer(cfg, workdir, policy, questions, decoding)
  scale = cfg.lora.alpha / cfg.lora.rank

  def measure(lora: decoder.Params) -> dict[str, float]:
    scaled = lora_lib.scaled(sharding.fetch(lora), scale)
    tuned = policy._replace(lora=sharding.place_tree(policy.mesh, scaled))
    found = json.dumps(summary(answer(tuned), winners, langs))
    # One decision for all, should two kinds of device round differently.
    return json.loads(hosts.from_leader('monitor', found))

  return measure


def _answerer(
    cfg: ConfigDict,
    workdir: pathlib.Path,
    policy: generation.Policy,
    questions: Sequence[records.Question],
    decoding: asking.Decoding,
) -> Callable[[generation.Policy], list[records.Sample]]:
  """Asks the questions as evaluation would, any number of times."""
  shown = evidence.read(workdir, 'train')
  folder = workdir / 'align' / 'monitor'
  if cfg.selfrag.mode != 'off':
    settings = selfrag.Settings(**cfg.selfrag)
    return reflection.answerer(
        folder, policy, questions, decoding, settings=settings, shown=shown
    )
  work = asking.work_list(policy.base, questions, decoding, shown)
  requests = [[w.request for w in work]]
  settled, _ = generation.settle(folder, policy, decoding, requests)
  return lambda tuned: [
      sample for _, sample in generation.answer(tuned, work, settled)
  ]


def load(
    cfg: ConfigDict, policy: policy_lib.Policy, mesh: Mesh
) -> generation.Policy:
  """The model in training, or of several processes a copy for each.

  Answers are drawn by each process on devices of its own.
  """
  if hosts.process_count() == 1:
    return generation.Policy(policy, None, cfg.dtype, mesh)
  return generation.load(
      cfg.model,
      cfg.revision,
      dtype=cfg.dtype,
      mesh=(cfg.mesh.data, cfg.mesh.fsdp, cfg.mesh.tensor),
      template=cfg.prompt.template,
  )


def held_out(ids: Iterable[str], *, count: int, seed: int) -> frozenset[str]:
  """`count` of the questions, drawn by a hash of seed and id."""
  rank = lambda name: hashlib.sha256(f'{seed}|{name}'.encode()).digest()
  return frozenset(sorted(set(ids), key=rank)[:count])


def summary(
    samples: Iterable[records.Sample],
    winners: Mapping[str, str | None],
    languages: tuple[str, ...],
) -> dict[str, float]:
  """Percentages: of pairs of languages that answer alike, and of answers.

  `agreement` is the part of answers that are the vote's winner, over the
  questions that have one; an unparsed answer agrees with nothing.
  """
  samples = list(samples)
  voted = [s for s in samples if winners.get(s.question_id) is not None]
  won = sum(s.answer == winners[s.question_id] for s in voted)
  unparsed = sum(s.answer is None for s in samples)
  found = {
      'agreement': 100.0 * won / max(len(voted), 1),
      'unparsed': 100.0 * unparsed / max(len(samples), 1),
  }
  if len(languages) > 1:
    rows = [
        records.Prediction(
            'monitor', s.question_id, s.lang, s.text, s.answer, s.parse, None
        )
        for s in samples
    ]
    codes = metrics.collect(rows, languages).codes
    found['consistency'] = metrics.consistency(codes)
  return found
