"""The values of the report's template, section by section."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from calm_jax import records
from calm_jax.html import agreement, axes, curves, facts
from calm_jax.html import pairs as pair_counts
from calm_jax.html import samples as sample_counts
from calm_jax.html import scores as arranged
from calm_jax.html import votes as vote_counts


def evaluation(
    answers: Mapping[str, agreement.Answers],
    scores: Iterable[records.Score],
    langs: Sequence[str],
    consistency: agreement.Consistency,
) -> dict[str, Any]:
  """Scores, agreement, moves; of the systems the one before is first."""
  systems = list(answers)
  asked = agreement.languages(answers.values(), langs)
  matrices = {
      name: agreement.pairwise(given, asked, consistency)
      for name, given in answers.items()
  }
  moves = []
  if len(systems) > 1:
    before, after = answers[systems[0]], answers[systems[-1]]
    moves = agreement.moves(before, after, asked)
  return {
      'tables': [_table(t) for t in arranged.arrange(scores, langs)],
      'answered': systems,
      'heat': agreement.figures(matrices, asked),
      'moves': moves,
  }


def _table(table: arranged.Table) -> dict[str, Any]:
  """One setting's rows and figures; a figure is None without rows."""
  accuracy = table.by_language('accuracy')
  consistency = table.consistency()
  return {
      'setting': table.setting,
      'systems': table.systems,
      'series': arranged.series(table.systems),
      'verdict': table.verdict(),
      'tiles': table.tiles(),
      'headline': table.headline(),
      'accuracy': accuracy,
      'accuracy_figure': arranged.figure(
          accuracy,
          table.systems,
          title='Accuracy per language, with 95 % intervals',
          x_label='accuracy, %',
      ),
      'change_figure': arranged.change_figure(
          accuracy,
          table.systems,
          title='Change of accuracy per language, with 95 % intervals',
      ),
      'unparsed': table.by_language('unparsed'),
      'consistency': consistency,
      'consistency_figure': arranged.figure(
          consistency,
          table.systems,
          title='Consistency of s languages, with 95 % intervals',
          x_label='consistency, %, of s languages',
      ),
  }


def samples(rows: Sequence[sample_counts.Language]) -> dict[str, Any]:
  return {
      'samples': rows,
      'stopped': sample_counts.reasons(r.stopped for r in rows),
      'unparsed_by': sample_counts.reasons(r.unparsed_by for r in rows),
  }


def votes(total: vote_counts.Votes | None) -> dict[str, Any]:
  if total is None:
    return {'votes': None}
  return {
      'votes': total,
      'share_legend': vote_counts.share_legend(total),
      'share_figure': vote_counts.share_figure(total),
      'language_legend': vote_counts.language_legend(),
      'language_figure': vote_counts.language_figure(total),
  }


def pairs(
    rows: Sequence[pair_counts.Language] | None,
    stages: Iterable[facts.Stage],
    example: records.Pair | records.Target | None,
    *,
    sft: bool,
) -> dict[str, Any]:
  lengths = pair_counts.lengths(rows or ())
  legend = pair_counts.legend(rows or ())
  counts = next((s.counts for s in stages if s.name == 'pair'), {})
  return {
      'sft': sft,
      'pairs': rows,
      'example': example,
      'lengths': lengths,
      'length_legend': legend,
      'length_figure': pair_counts.length_figure(lengths, len(legend)),
      'pair_counts': counts,
  }


def training(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
  return {'charts': curves.charts(rows), 'number': axes.number}


def run(
    stages: Sequence[facts.Stage],
    unfinished: Sequence[str],
    config: Mapping[str, Any],
) -> dict[str, Any]:
  """What ran; `config` fills in the settings that no stage has stated."""
  stated = [(s.name, s.config) for s in stages]
  known = {name for _, values in stated for name in values}
  rest = {k: v for k, v in facts.flatten(config).items() if k not in known}
  versions = facts.fields([(s.name, s.versions) for s in stages])
  return {
      'stages': stages,
      'unfinished': unfinished,
      'settings': facts.fields([*stated, ('', rest)]),
      'inputs': facts.fields([(s.name, s.inputs) for s in stages]),
      'versions': versions,
      'mixed': facts.repeated(versions),
      'plain': facts.plain,
  }
