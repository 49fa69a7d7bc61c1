"""Questions as prompts: one user message, no chat template."""

from __future__ import annotations

from collections.abc import Sequence
import functools
from typing import NamedTuple

from calm_jax import records
from calm_jax.qa import language, languages

STYLES = ('default', 'paper')


class _Paper(NamedTuple):
  """The authors' instruction and what they put around the question."""

  instruction: str
  before: str = ''
  after: str = ''


# Typos, the four letters and the English 'Answer:' are theirs: a replay needs
# the same tokens.
_PAPER = {
    'en': _Paper(
        'Answer the multiple choice question. Your anwer should include an'
        ' explanation and ONE correct answer A or B or C or D. Keep your answer'
        ' concise. Use English to answer the question. Output'
        ' format:\nExplanation:<your explanation>\nAnswer:<correct option>'
    ),
    'zh': _Paper(
        '回答多项选择题。您的答案应包括解释和一个正确答案 A 或 B 或 C 或 D。'
        '保持答案简洁。使用中文回答问题。输出格式:\n解释:<您的解释>\n'
        '答案:<正确选项>'
    ),
    'fr': _Paper(
        'Répondez à la question à choix multiples. Votre réponse doit inclure'
        ' une explication et UNE bonne réponse A ou B ou C ou D. Gardez votre'
        ' réponse concise. Utilisez le français pour répondre à la question.'
        ' Format de sortie:\nExplication:<votre explication>\n'
        'Réponse:<option correcte>'
    ),
    'it': _Paper(
        'Rispondi alla domanda a scelta multipla. La tua risposta dovrebbe'
        ' includere una spiegazione e UNA risposta corretta A o B o C o D.'
        " Mantieni la tua risposta concisa. Usa l'italiano per rispondere alla"
        ' domanda. Formato di output:\nSpiegazione:<la tua spiegazione>\n'
        'Risposta:<opzione corretta>',
        before='Domanda: ',
        after='\nAnswer:\nRisposta:',
    ),
    'de': _Paper(
        'Beantworten Sie die Multiple-Choice-Frage. Ihre Antwort sollte eine'
        ' Erklärung und EINE richtige Antwort A oder B oder C oder D enthalten.'
        ' Halten Sie Ihre Antwort knapp. Verwenden Sie Deutsch, um die Frage zu'
        ' beantworten. Ausgabeformat:\nErklärung:<Ihre Erklärung>\n'
        'Antwort:<richtige Option>',
        before='Frage: ',
        after='\nAnswer:\nAntwort:',
    ),
    'ja': _Paper(
        '多肢選択問題に答えてください。あなたの答えには説明と正しい回答Aまたは'
        'BまたはCまたはDが含まれている必要があります。回答を簡潔に保ちます。'
        '質問に回答するために日本語を使用してください。出力形式:\n'
        '説明:<あなたの説明>\n答え:<正しい選択肢>',
        before='質問: ',
        after='\n答え:',
    ),
}


# Theirs for MEDQA; the French one has no-break spaces.
_PAPER_MEDQA = {
    'en': (
        'Please think step by step and select the most suitable choice. Output'
        ' format:\nExplanation:<your reasoning>\nAnswer:<correct choice>'
    ),
    'zh': (
        '逐步思考选出你认为最正确的选项。解释控制在三句话以内并保持简洁。\n'
        '输出格式：\n解释:<你的解释>\n答案:<正确选项>'
    ),
    'fr': (
        'Veuillez réfléchir étape par étape et sélectionner le choix le plus'
        ' approprié. Format de sortie\xa0:\nExplication\xa0:<votre'
        ' raisonnement>\nRéponse\xa0:<bon choix>'
    ),
}


def render(
    question: records.Question,
    *,
    style: str,
    shots: int,
    passages: Sequence[records.Passage] = (),
) -> str:
  """The message that asks for a short explanation and then one answer.

  Passages stand before the question, in their order; style=paper has no words
  of its own for them.

  Raises:
    ValueError: an unknown style, `shots` outside 0-3, fewer than 2 or more than
      26 options, or a style that cannot do what is asked.
  """
  if style not in STYLES:
    raise ValueError(f'prompt style {style!r} is not one of {STYLES}')
  if not 2 <= len(question.options) <= len(languages.LETTERS):
    raise ValueError(
        f'question {question.id!r} ({question.lang}) has'
        f' {len(question.options)} options; a prompt needs 2 to 26'
    )
  if style == 'paper':
    return _render_paper(question, shots, passages)
  examples = languages.get(question.lang).shots
  if not 0 <= shots <= len(examples):
    raise ValueError(f'shots={shots} is not between 0 and {len(examples)}')
  count = len(question.options)
  parts = [_instruction(question.lang, count)]
  parts += [
      _worked(question.lang, example, i, count)
      for i, example in enumerate(examples[:shots])
  ]
  parts += _evidence(question.lang, passages)
  texts = [option.text for option in question.options]
  parts.append(_asked(question.lang, question.stem, texts))
  return '\n\n'.join(parts)


def completion(
    explanation: str, option_letter: str, option_text: str, lang: str
) -> str:
  """The canonical answer: 'Explanation: ...', then 'Answer: B. text'."""
  row = languages.get(lang)
  reason = f'{row.explanation}{row.colon}{explanation.strip()}'
  choice = f'{option_letter}. {_one_line(option_text)}'
  return f'{reason}\n{row.answer}{row.colon}{choice}'


def answer_header(lang: str) -> str:
  """What stands before the letter in a completion, without a last space."""
  row = languages.get(lang)
  return (row.answer + row.colon).rstrip()


def translation(text: str, source: str, target: str) -> str:
  """The message that asks a model to translate."""
  source, target = languages.get(source).name, languages.get(target).name
  return (
      f'Translate the following text from {source} into {target}. Keep its'
      ' meaning and its line breaks. Write the translation only, with no'
      f' comment.\n\n{text}'
  )


@functools.cache
def _instruction(lang: str, count: int) -> str:
  row = languages.get(lang)
  wording = row.wording
  return '\n'.join(
      [
          wording.instruction.format(letters=_letters(wording, count)),
          f'{row.explanation}{row.colon}{wording.your_explanation}',
          f'{row.answer}{row.colon}{wording.letter_and_option}',
      ]
  )


def _letters(wording: languages.Wording, count: int) -> str:
  *first, last = languages.LETTERS[:count]
  return wording.comma.join(first) + wording.last_comma + last


def _asked(lang: str, stem: str, texts: list[str]) -> str:
  row = languages.get(lang)
  return f'{row.question}{row.colon}{stem.strip()}\n{_options(texts)}'


def _evidence(lang: str, passages: Sequence[records.Passage]) -> list[str]:
  """The passages as one part of the prompt, or no part."""
  if not passages:
    return []
  lines = [f'[{i}] {_one_line(p.text)}' for i, p in enumerate(passages, 1)]
  return ['\n'.join([languages.get(lang).wording.passages, *lines])]


def _options(texts: list[str]) -> str:
  shown = zip(languages.LETTERS, map(_one_line, texts), strict=False)
  return '\n'.join([f'{letter}. {text}' for letter, text in shown])


def _one_line(text: str) -> str:
  return ' '.join(text.split())


def _worked(lang: str, shot: language.Shot, index: int, count: int) -> str:
  """An example with as many options as the question, as far as they go."""
  texts = [*shot.others[: count - 1]]
  # Second, last, first: examples that share a letter would teach that letter.
  position = (1, len(texts), 0)[index]
  texts.insert(position, shot.gold)
  letter = languages.LETTERS[position]
  answer = completion(shot.explanation, letter, shot.gold, lang)
  return f'{_asked(lang, shot.stem, texts)}\n{answer}'


def _render_paper(
    question: records.Question,
    shots: int,
    passages: Sequence[records.Passage],
) -> str:
  if shots:
    raise ValueError(
        f'style=paper has no worked examples: set shots to 0, not {shots}, or'
        ' use style=default'
    )
  medqa = question.dataset.startswith('medqa')
  wordings = _PAPER_MEDQA if medqa else _PAPER
  if question.lang not in wordings:
    raise ValueError(
        f'style=paper has no wording for {question.lang!r} in'
        f' {question.dataset}, only for {", ".join(wordings)}; use'
        ' style=default'
    )
  if medqa:
    instruction, asked = _PAPER_MEDQA[question.lang], _asked_medqa(question)
  else:
    paper = _PAPER[question.lang]
    lines = _options([option.text for option in question.options])
    stem = question.stem.strip()
    instruction = paper.instruction
    asked = f'{paper.before}{stem}\n{lines}{paper.after}'
  return '\n'.join([instruction, *_evidence(question.lang, passages), asked])


def _asked_medqa(question: records.Question) -> str:
  """As in their files: a line an option for the US, one line for Mainland."""
  gap = ' ' if 'mainland' in question.dataset else '\n'
  texts = [_one_line(option.text) for option in question.options]
  shown = zip(languages.LETTERS, texts, strict=False)
  parts = [question.stem.strip(), *(f'({key}) {text}' for key, text in shown)]
  # Originals, unlike translations, have the gap once more at their end.
  return gap.join(parts) + ('' if question.translated_from else gap)
