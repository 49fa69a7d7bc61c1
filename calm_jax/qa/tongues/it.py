"""Italian."""

from __future__ import annotations

from calm_jax.qa import language

ROW = language.Language(
    code='it',
    name='Italian',
    native='italiano',
    question='Domanda',
    explanation='Spiegazione',
    answer='Risposta',
    colon=': ',
    wording=language.Wording(
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
    vocabulary=language.Vocabulary(
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
    shots=(
        language.Shot(
            stem='Quale di questi oggetti mantiene freddi gli alimenti?',
            gold='frigorifero',
            others=('forno', 'vasca da bagno', 'armadio', 'lampada'),
            explanation=(
                'Un frigorifero raffredda ciò che contiene e così conserva'
                ' freschi gli alimenti.'
            ),
        ),
        language.Shot(
            stem='Quale di questi veicoli viaggia su rotaie?',
            gold='treno',
            others=('barca', 'bicicletta', 'elicottero', 'trattore'),
            explanation=(
                "Un treno ha ruote d'acciaio guidate dalle due rotaie del"
                ' binario.'
            ),
        ),
        language.Shot(
            stem='Quale strumento musicale ha tasti bianchi e neri?',
            gold='pianoforte',
            others=('tamburo', 'violino', 'tromba', 'flauto'),
            explanation=(
                'Il pianoforte si suona premendo i tasti, alcuni dei quali'
                ' sono bianchi e altri neri.'
            ),
        ),
    ),
    codes=language.Codes(
        google='it',
        nllb='ita_Latn',
        opus=('ita', 'it'),
        apertium=('ita', 'it'),
    ),
    spaced=True,
    lexicon=language.Lexicon(
        numbers=(
            'uno una un primo prima',
            'due',
            'tre terzo',
            'quattro',
            'cinque',
            'sei',
            'sette',
            'otto',
            'nove',
            'dieci',
        ),
        units=(
            ('%', 'per\u00a0cento'),
            ('g', 'grammi'),
            ('l', 'litri'),
            ('m', 'metri'),
        ),
        option='opzione risposta lettera',
        frequent=(
            'il che di è per non sono con una del della gli nel alla'
            ' dei più come questo anche delle ha nella può essere perché'
            ' e lo si i ma dalla'
        ),
    ),
)
