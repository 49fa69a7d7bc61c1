"""What the prompts and the answer parser know of each language, one row each.

A new language is a new row (and three worked examples in shots.jsonl).
"""

from __future__ import annotations

import dataclasses
import difflib
import string

# How options are shown; letter i stands for options[i].
LETTERS = string.ascii_uppercase


@dataclasses.dataclass(frozen=True)
class Wording:
  """Prompt text. `instruction` has one gap, `{letters}`.

  `passages` stands before passages of a corpus, numbered [1], [2] and so on.
  `comma` and `last_comma` join the letters: 'A, B or C'.
  """

  instruction: str
  your_explanation: str
  letter_and_option: str
  passages: str
  comma: str
  last_comma: str


@dataclasses.dataclass(frozen=True)
class Vocabulary:
  """Words that real answers are written with, in lower case.

  `answer`, `explanation` and `question` are headers; `copula` joins a header
  to its answer ('is'); `lead` may stand between them ('option'); `join` is
  between two answers ('or'); `right` says that an option is correct; `no`
  denies what follows; `choose` is followed by the choice.
  """

  answer: tuple[str, ...]
  explanation: tuple[str, ...]
  question: tuple[str, ...]
  copula: tuple[str, ...]
  lead: tuple[str, ...]
  join: tuple[str, ...]
  right: tuple[str, ...]
  no: tuple[str, ...]
  choose: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Language:
  """One language; `question`, `explanation`, `answer` are prompt headers.

  `colon` is what stands between a header and its text, spaces included.
  """

  code: str
  name: str
  native: str
  question: str
  explanation: str
  answer: str
  colon: str
  wording: Wording
  vocabulary: Vocabulary


_EN = Language(
    code='en',
    name='English',
    native='English',
    question='Question',
    explanation='Explanation',
    answer='Answer',
    colon=': ',
    wording=Wording(
        instruction=(
            'Answer the following multiple-choice question in English. First'
            ' explain briefly, in one to three sentences, which option is'
            ' the best and why. Then give exactly one answer: {letters}. Use'
            ' this format:'
        ),
        your_explanation='<your explanation>',
        letter_and_option='<letter>. <option>',
        passages=(
            'These passages may help. They may also be incomplete, beside the'
            ' point or wrong:'
        ),
        comma=', ',
        last_comma=' or ',
    ),
    vocabulary=Vocabulary(
        answer=(
            'answer',
            'answers',
            'ans',
            'correct option',
            'correct choice',
            'right option',
            'right choice',
            'best option',
            'best choice',
            'final choice',
            'my choice',
            'solution',
        ),
        explanation=(
            'explanation',
            'reasoning',
            'rationale',
            'reason',
            'justification',
        ),
        question=('question',),
        copula=(
            'is',
            'would be',
            'should be',
            'must be',
            'will be',
            'has to be',
        ),
        lead=(
            'option',
            'choice',
            'letter',
            'answer',
            'the',
            'therefore',
            'thus',
            'hence',
            'definitely',
            'clearly',
            'probably',
            'likely',
            'most likely',
            'both',
            'either',
        ),
        join=('and', 'or', 'to', 'and/or', 'as well as'),
        right=(
            'correct',
            'right',
            'the correct',
            'the right',
            'the best',
            'the most likely',
            'the most appropriate',
        ),
        no=('not', 'no', 'none', 'neither', 'nor', 'never', 'except'),
        choose=('choose', 'pick', 'select', 'go with'),
    ),
)

_ZH = Language(
    code='zh',
    name='Chinese',
    native='中文',
    question='问题',
    explanation='解释',
    answer='答案',
    colon='：',
    wording=Wording(
        instruction=(
            '请用中文回答下面的选择题。先用一到三句话简要说明哪个选项最合适'
            '以及原因，然后只给出一个答案：{letters}。请使用以下格式：'
        ),
        your_explanation='<你的解释>',
        letter_and_option='<字母>. <选项内容>',
        passages='以下资料可能有帮助，也可能不完整、不相关或有误：',
        comma='、',
        last_comma=' 或 ',
    ),
    vocabulary=Vocabulary(
        answer=(
            '答案',
            '回答',
            '解答',
            '答',
            '正确选项',
            '正确的选项',
            '正確選項',
            '正確的選項',
            '最佳选项',
            '最合适的选项',
            '正确的',
        ),
        explanation=(
            '解释',
            '解釋',
            '解析',
            '说明',
            '說明',
            '理由',
            '原因',
            '分析',
            '推理',
        ),
        question=('问题', '問題', '题目', '題目'),
        copula=('是', '为', '為', '应该是', '应为', '应是', '就是', '選', '选'),
        lead=('选项', '選項', '选择', '選擇', '选', '選'),
        join=('和', '或', '或者', '与', '及', '以及', '到', '至'),
        right=('正确', '正確', '最合适', '最合適', '最佳', '对的'),
        no=('不是', '不', '没有', '沒有', '无', '非', '除'),
        choose=('选', '選', '选择', '選擇'),
    ),
)

_FR = Language(
    code='fr',
    name='French',
    native='français',
    question='Question',
    explanation='Explication',
    answer='Réponse',
    colon=' : ',
    wording=Wording(
        instruction=(
            'Répondez en français à la question à choix multiples suivante.'
            " Expliquez d'abord brièvement, en une à trois phrases, quelle"
            ' option est la meilleure et pourquoi. Donnez ensuite une seule'
            ' réponse : {letters}. Respectez ce format :'
        ),
        your_explanation='<votre explication>',
        letter_and_option='<lettre>. <option>',
        passages=(
            'Ces passages peuvent aider. Ils peuvent aussi être incomplets,'
            ' hors sujet ou faux :'
        ),
        comma=', ',
        last_comma=' ou ',
    ),
    vocabulary=Vocabulary(
        answer=(
            'réponse',
            'réponses',
            'reponse',
            'option correcte',
            'bonne option',
            'bon choix',
            'choix correct',
            'meilleure option',
            'solution',
        ),
        explanation=('explication', 'raisonnement', 'justification', 'raison'),
        question=('question',),
        copula=('est', 'serait', 'sera', 'doit être'),
        lead=(
            "l'option",
            'option',
            'le choix',
            'la lettre',
            'la réponse',
            'la',
            'le',
            'donc',
            'probablement',
        ),
        join=('et', 'ou', 'à', 'et/ou', 'ou bien'),
        right=(
            'correcte',
            'correct',
            'exacte',
            'juste',
            'la bonne',
            'la meilleure',
            'la plus appropriée',
            'la plus probable',
        ),
        no=('ne', 'pas', 'non', 'aucun', 'aucune', 'ni', 'sauf'),
        choose=('je choisis', 'je choisirais'),
    ),
)

_IT = Language(
    code='it',
    name='Italian',
    native='italiano',
    question='Domanda',
    explanation='Spiegazione',
    answer='Risposta',
    colon=': ',
    wording=Wording(
        instruction=(
            'Rispondi in italiano alla seguente domanda a scelta multipla.'
            ' Prima spiega brevemente, in non più di tre frasi, qual è'
            " l'opzione migliore e perché. Poi dai una sola risposta:"
            ' {letters}. Usa questo formato:'
        ),
        your_explanation='<la tua spiegazione>',
        letter_and_option='<lettera>. <opzione>',
        passages=(
            'Questi brani possono essere utili. Possono anche essere'
            ' incompleti, non pertinenti o sbagliati:'
        ),
        comma=', ',
        last_comma=' o ',
    ),
    vocabulary=Vocabulary(
        answer=(
            'risposta',
            'risposte',
            'opzione corretta',
            'scelta corretta',
            'opzione giusta',
            'scelta giusta',
            'opzione migliore',
            'soluzione',
        ),
        explanation=(
            'spiegazione',
            'ragionamento',
            'motivazione',
            'giustificazione',
            'motivo',
        ),
        question=('domanda',),
        copula=('è', "e'", 'é', 'sarebbe', 'sarà', 'deve essere'),
        lead=(
            "l'opzione",
            'opzione',
            'la scelta',
            'la lettera',
            'lettera',
            'la risposta',
            'la',
            'il',
            'quindi',
            'dunque',
            'probabilmente',
        ),
        join=('e', 'o', 'ed', 'a', 'oppure', 'e/o'),
        right=(
            'corretta',
            'corretto',
            'giusta',
            'esatta',
            'la risposta corretta',
            'la risposta giusta',
            "l'opzione corretta",
            'la scelta corretta',
            'la più probabile',
        ),
        no=('non', 'nessuno', 'nessuna', 'né', 'tranne'),
        choose=('scelgo', 'sceglierei'),
    ),
)

_DE = Language(
    code='de',
    name='German',
    native='Deutsch',
    question='Frage',
    explanation='Erklärung',
    answer='Antwort',
    colon=': ',
    wording=Wording(
        instruction=(
            'Beantworten Sie die folgende Multiple-Choice-Frage auf Deutsch.'
            ' Erklären Sie zuerst kurz, in ein bis drei Sätzen, welche Option'
            ' die beste ist und warum. Geben Sie dann genau eine Antwort:'
            ' {letters}. Verwenden Sie dieses Format:'
        ),
        your_explanation='<Ihre Erklärung>',
        letter_and_option='<Buchstabe>. <Option>',
        passages=(
            'Diese Textstellen können helfen. Sie können auch unvollständig,'
            ' unpassend oder falsch sein:'
        ),
        comma=', ',
        last_comma=' oder ',
    ),
    vocabulary=Vocabulary(
        answer=(
            'antwort',
            'antworten',
            'lösung',
            'loesung',
            'richtige option',
            'korrekte option',
            'richtige wahl',
            'beste option',
            'beste wahl',
            'richtiges ergebnis',
        ),
        explanation=(
            'erklärung',
            'erklaerung',
            'erläuterung',
            'begründung',
            'grund',
            'gründe',
        ),
        question=('frage',),
        copula=('ist', 'lautet', 'wäre', 'muss', 'sollte'),
        lead=(
            'option',
            'buchstabe',
            'die',
            'antwort',
            'daher',
            'also',
            'somit',
            'deshalb',
            'wahrscheinlich',
            'sowohl',
        ),
        join=('und', 'oder', 'bis', 'und/oder', 'sowie'),
        right=(
            'richtig',
            'korrekt',
            'die richtige',
            'die korrekte',
            'die beste',
            'die wahrscheinlichste',
        ),
        no=('nicht', 'kein', 'keine', 'keiner', 'weder', 'außer'),
        choose=('ich wähle', 'ich würde wählen'),
    ),
)

_JA = Language(
    code='ja',
    name='Japanese',
    native='日本語',
    question='質問',
    explanation='説明',
    answer='答え',
    colon='：',
    wording=Wording(
        instruction=(
            '次の選択問題に日本語で答えてください。まず、どの選択肢が最も適切'
            'か、その理由を1～3文で簡潔に説明してください。そのあと、{letters}'
            'のうち一つだけを答えとして選んでください。次の形式で書いてくださ'
            'い。'
        ),
        your_explanation='<あなたの説明>',
        letter_and_option='<記号>. <選択肢の内容>',
        passages=(
            '次の文章は参考になるかもしれませんが、不完全なもの、無関係なもの、'
            '誤ったものもありえます。'
        ),
        comma='、',
        last_comma='、',
    ),
    vocabulary=Vocabulary(
        answer=(
            '答え',
            '答',
            '正解',
            '回答',
            '解答',
            '正答',
            '正しい選択肢',
            '最も適切な選択肢',
            '正しいの',
            '最も適切なの',
        ),
        explanation=('説明', '解説', '理由', '根拠', '推論'),
        question=('質問', '問題', '設問', '問い'),
        copula=('は', 'が'),
        lead=('選択肢', 'オプション', '記号', 'おそらく', '答えは'),
        join=('と', 'や', 'か', 'または', '及び', 'および', 'もしくは', 'から'),
        right=('正しい', '正解', '最も適切', '最適', '正答', '答え'),
        no=('ではなく', 'ない', 'ません', 'なし', '以外'),
        choose=(),
    ),
)

_ES = Language(
    code='es',
    name='Spanish',
    native='español',
    question='Pregunta',
    explanation='Explicación',
    answer='Respuesta',
    colon=': ',
    wording=Wording(
        instruction=(
            'Responde en español a la siguiente pregunta de opción múltiple.'
            ' Primero explica brevemente, en una a tres frases, qué opción es'
            ' la mejor y por qué. Después da una sola respuesta: {letters}.'
            ' Usa este formato:'
        ),
        your_explanation='<tu explicación>',
        letter_and_option='<letra>. <opción>',
        passages=(
            'Estos pasajes pueden ayudar. También pueden ser incompletos,'
            ' ajenos al tema o erróneos:'
        ),
        comma=', ',
        last_comma=' o ',
    ),
    vocabulary=Vocabulary(
        answer=(
            'respuesta',
            'respuestas',
            'opción correcta',
            'opcion correcta',
            'mejor opción',
            'solución',
        ),
        explanation=(
            'explicación',
            'explicacion',
            'razonamiento',
            'justificación',
            'razón',
        ),
        question=('pregunta',),
        copula=('es', 'sería', 'seria', 'debe ser'),
        lead=(
            'la opción',
            'opción',
            'la letra',
            'letra',
            'la respuesta',
            'la',
            'el',
            'por lo tanto',
            'probablemente',
        ),
        join=('y', 'o', 'e', 'u', 'a', 'y/o'),
        right=(
            'correcta',
            'correcto',
            'la correcta',
            'la respuesta correcta',
            'la opción correcta',
            'la mejor',
            'la más probable',
            'la más adecuada',
        ),
        no=('no', 'ningún', 'ninguno', 'ninguna', 'ni', 'excepto'),
        choose=('elijo', 'elegiría'),
    ),
)

LANGUAGES: dict[str, Language] = {
    row.code: row for row in (_EN, _ZH, _FR, _IT, _DE, _JA, _ES)
}


def get(code: str) -> Language:
  """The row of a language; raises ValueError on an unknown code."""
  if code in LANGUAGES:
    return LANGUAGES[code]
  # Country codes are the usual mistake, and no spelling distance finds them.
  names = {'cn': 'zh', 'jp': 'ja', 'sp': 'es'}
  for row in LANGUAGES.values():
    names |= {row.code: row.code, row.name.lower(): row.code}
    names |= {row.native.lower(): row.code}
  near = difflib.get_close_matches(str(code).lower(), names, n=1, cutoff=0.0)
  raise ValueError(
      f'unknown language {code!r}; the languages are {", ".join(LANGUAGES)}.'
      f' Did you mean {names[near[0]]!r}?'
  )
