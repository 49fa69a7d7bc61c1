"""French."""

from __future__ import annotations

from calm_jax.qa import language

ROW = language.Language(
    code='fr',
    name='French',
    native='français',
    question='Question',
    explanation='Explication',
    answer='Réponse',
    colon=' : ',
    wording=language.Wording(
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
    vocabulary=language.Vocabulary(
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
    shots=(
        language.Shot(
            stem='Lequel de ces objets garde les aliments au froid ?',
            gold='réfrigérateur',
            others=('four', 'baignoire', 'armoire', 'lampe'),
            explanation=(
                "Un réfrigérateur refroidit ce qu'il contient, ce qui"
                ' conserve les aliments au frais.'
            ),
        ),
        language.Shot(
            stem='Lequel de ces véhicules roule sur des rails ?',
            gold='train',
            others=('bateau', 'vélo', 'hélicoptère', 'tracteur'),
            explanation=(
                'Un train a des roues en acier guidées par les deux rails de'
                ' la voie.'
            ),
        ),
        language.Shot(
            stem=(
                'Quel instrument de musique a des touches noires et blanches'
                ' ?'
            ),
            gold='piano',
            others=('tambour', 'violon', 'trompette', 'flûte'),
            explanation=(
                'On joue du piano en appuyant sur ses touches, dont certaines'
                " sont blanches et d'autres noires."
            ),
        ),
    ),
    codes=language.Codes(
        google='fr',
        nllb='fra_Latn',
        opus=('fra', 'fr'),
        apertium=('fra', 'fr'),
    ),
    spaced=True,
    lexicon=language.Lexicon(
        numbers=(
            'un une premier première',
            'deux deuxième seconde',
            'trois troisième',
            'quatre quatrième',
            'cinq cinquième',
            'six sixième',
            'sept',
            'huit',
            'neuf',
            'dix',
        ),
        units=(
            ('%', 'pour\u00a0cent'),
            ('g', 'gramme grammes'),
            ('kg', 'kilogrammes'),
            ('mg', 'milligrammes'),
            ('µg', 'microgrammes'),
            ('meq', 'méq'),
            ('l', 'litre litres'),
            ('m', 'mètres'),
        ),
        option='choix lettre réponse',
        frequent=(
            'le les des est une du que qui dans pour pas sur au avec'
            ' sont ce il elle par plus ou cette peut être donc et nous'
            ' mais ses aux leur'
        ),
    ),
)
