"""Spanish."""

from __future__ import annotations

from calm_jax.qa import language

ROW = language.Language(
    code='es',
    name='Spanish',
    native='español',
    question='Pregunta',
    explanation='Explicación',
    answer='Respuesta',
    colon=': ',
    wording=language.Wording(
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
    vocabulary=language.Vocabulary(
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
    shots=(
        language.Shot(
            stem='¿Cuál de estos objetos mantiene fríos los alimentos?',
            gold='frigorífico',
            others=('horno', 'bañera', 'armario', 'lámpara'),
            explanation=(
                'Un frigorífico enfría lo que hay dentro y así conserva'
                ' frescos los alimentos.'
            ),
        ),
        language.Shot(
            stem='¿Cuál de estos vehículos circula sobre raíles?',
            gold='tren',
            others=('barco', 'bicicleta', 'helicóptero', 'tractor'),
            explanation=(
                'Un tren tiene ruedas de acero guiadas por los dos raíles de'
                ' la vía.'
            ),
        ),
        language.Shot(
            stem='¿Qué instrumento musical tiene teclas blancas y negras?',
            gold='piano',
            others=('tambor', 'violín', 'trompeta', 'flauta'),
            explanation=(
                'El piano se toca pulsando sus teclas, de las cuales unas son'
                ' blancas y otras negras.'
            ),
        ),
    ),
    codes=language.Codes(
        google='es',
        nllb='spa_Latn',
        opus=('spa', 'es'),
        apertium=('spa', 'es'),
    ),
    spaced=True,
    lexicon=language.Lexicon(
        numbers=(
            'uno una un primero',
            'dos',
            'tres tercer',
            'cuatro',
            'cinco',
            'seis',
            'siete',
            'ocho',
            'nueve',
            'diez',
        ),
        option='opción respuesta letra',
        frequent=(
            'el los las que y es una del por con para no se su al como'
            ' más pero sus está son puede ser este lo porque muy también'
            ' donde hay'
        ),
    ),
)
