"""English."""

from __future__ import annotations

from calm_jax.qa import language

ROW = language.Language(
    code='en',
    name='English',
    native='English',
    question='Question',
    explanation='Explanation',
    answer='Answer',
    colon=': ',
    wording=language.Wording(
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
    vocabulary=language.Vocabulary(
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
    shots=(
        language.Shot(
            stem='Which of these keeps food cold?',
            gold='refrigerator',
            others=('oven', 'bathtub', 'wardrobe', 'lamp'),
            explanation=(
                'A refrigerator is built to cool what is inside it, so that'
                ' food stays fresh.'
            ),
        ),
        language.Shot(
            stem='Which of these vehicles runs on rails?',
            gold='train',
            others=('boat', 'bicycle', 'helicopter', 'tractor'),
            explanation=(
                'A train has steel wheels that are guided by the two rails of'
                ' a track.'
            ),
        ),
        language.Shot(
            stem='Which musical instrument has black and white keys?',
            gold='piano',
            others=('drum', 'violin', 'trumpet', 'flute'),
            explanation=(
                'A piano is played by pressing its keys, some of which are'
                ' white and some black.'
            ),
        ),
    ),
    codes=language.Codes(
        google='en',
        nllb='eng_Latn',
        opus=('eng', 'en'),
        apertium=('eng', 'en'),
    ),
    spaced=True,
    lexicon=language.Lexicon(
        numbers=(
            'one first once',
            'two second twice',
            'three third',
            'four fourth',
            'five fifth',
            'six sixth',
            'seven seventh',
            'eight eighth',
            'nine ninth',
            'ten tenth',
        ),
        units=(
            ('%', 'percent per\u00a0cent'),
            ('g', 'gram grams'),
            ('kg', 'kilogram kilograms'),
            ('mg', 'milligram milligrams'),
            ('µg', 'microgram micrograms'),
            ('l', 'liter liters litre litres'),
            ('ml', 'milliliter milliliters millilitres'),
            ('m', 'meter meters metre metres'),
            ('cm', 'centimeter centimeters centimetres'),
            ('mm', 'millimeter millimeters millimetres'),
            ('km', 'kilometer kilometers kilometres'),
        ),
        option='option options choice choices answer letter',
        frequent=(
            'the of and to is that it for was are with as be this have'
            ' from by not or which an they their would can been has its'
            ' who more when there'
        ),
    ),
)
