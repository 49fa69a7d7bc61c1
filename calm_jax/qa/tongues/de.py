"""German."""

from __future__ import annotations

from calm_jax.qa import language

ROW = language.Language(
    code='de',
    name='German',
    native='Deutsch',
    question='Frage',
    explanation='Erklärung',
    answer='Antwort',
    colon=': ',
    wording=language.Wording(
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
    vocabulary=language.Vocabulary(
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
    shots=(
        language.Shot(
            stem='Was hält Lebensmittel kalt?',
            gold='Kühlschrank',
            others=('Backofen', 'Badewanne', 'Kleiderschrank', 'Lampe'),
            explanation=(
                'Ein Kühlschrank kühlt alles, was darin liegt, und hält so'
                ' Lebensmittel frisch.'
            ),
        ),
        language.Shot(
            stem='Welches Fahrzeug fährt auf Schienen?',
            gold='Zug',
            others=('Boot', 'Fahrrad', 'Hubschrauber', 'Traktor'),
            explanation=(
                'Ein Zug hat Räder aus Stahl, die von den zwei Schienen des'
                ' Gleises geführt werden.'
            ),
        ),
        language.Shot(
            stem='Welches Musikinstrument hat schwarze und weiße Tasten?',
            gold='Klavier',
            others=('Trommel', 'Geige', 'Trompete', 'Flöte'),
            explanation=(
                'Man spielt Klavier, indem man die Tasten drückt, von denen'
                ' einige weiß und einige schwarz sind.'
            ),
        ),
    ),
    codes=language.Codes(
        google='de',
        nllb='deu_Latn',
        opus=('deu', 'de'),
        apertium=('deu', 'de'),
    ),
    spaced=True,
    lexicon=language.Lexicon(
        numbers=(
            'ein eine einem einen einer',
            'zwei',
            'drei dritte',
            'vier',
            'fünf',
            'sechs',
            'sieben',
            'acht',
            'neun',
            'zehn',
        ),
        units=(
            ('%', 'prozent'),
            ('g', 'gramm'),
            ('kg', 'kilogramm'),
            ('mg', 'milligramm'),
        ),
        option='antwort buchstabe',
        frequent=(
            'der die und ist nicht das den mit von zu sich ein eine auf'
            ' dem für im es auch als wird sind kann oder werden einen'
            ' einer bei daher wenn'
        ),
    ),
)
