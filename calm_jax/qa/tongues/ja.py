"""Japanese."""

from __future__ import annotations

from calm_jax.qa import language

ROW = language.Language(
    code='ja',
    name='Japanese',
    native='日本語',
    question='質問',
    explanation='説明',
    answer='答え',
    colon='：',
    wording=language.Wording(
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
    vocabulary=language.Vocabulary(
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
    shots=(
        language.Shot(
            stem='食べ物を冷たく保つものはどれですか？',
            gold='冷蔵庫',
            others=('オーブン', '浴槽', '洋服だんす', '電気スタンド'),
            explanation='冷蔵庫は中に入れたものを冷やすので、食べ物を新鮮に保てます。',
        ),
        language.Shot(
            stem='レールの上を走る乗り物はどれですか？',
            gold='電車',
            others=('船', '自転車', 'ヘリコプター', 'トラクター'),
            explanation='電車には鋼の車輪があり、線路の二本のレールに沿って走ります。',
        ),
        language.Shot(
            stem='黒と白の鍵盤がある楽器はどれですか？',
            gold='ピアノ',
            others=('太鼓', 'バイオリン', 'トランペット', 'フルート'),
            explanation='ピアノは鍵盤を押して弾く楽器で、鍵盤には白いものと黒いものがあります。',
        ),
    ),
    codes=language.Codes(
        google='ja',
        nllb='jpn_Jpan',
        opus=('jpn', 'ja'),
        apertium=(),
    ),
    spaced=False,
    lexicon=language.Lexicon(
        numbers=(
            '一',
            '二',
            '三',
            '四',
            '五',
            '六',
            '七',
            '八',
            '九',
            '十',
        ),
        units=(
            ('g', 'グラム'),
            ('kg', 'キログラム'),
            ('mg', 'ミリグラム'),
            ('µg', 'マイクログラム'),
            ('ng', 'ナノグラム'),
            ('l', 'リットル'),
            ('dl', 'デシリットル'),
            ('ml', 'ミリリットル'),
            ('m', 'メートル'),
            ('cm', 'センチメートル'),
            ('mm', 'ミリメートル'),
            ('km', 'キロメートル'),
        ),
        option='答え 選択肢',
    ),
)
